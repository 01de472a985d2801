"""The record of compiled programs: what grew is named, and what is not installed is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common, compiled
from covlab.plan import target
from covlab.plan.target import NotInstalledError, target_of

VALUES = {"cycles": 1000, "bytes": 100.0, "temporary_bytes": 50, "code_bytes": 0, "compile_seconds": 9.0}
BEFORE = {"v5e:1x1": {"step": VALUES, "samples": VALUES}}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"cycles": 1020}, []),
        ({"cycles": 1021}, ["v5e:1x1, step: cycles 1000 -> 1021"]),
        ({"cycles": 500, "temporary_bytes": 52}, ["v5e:1x1, step: temporary_bytes 50 -> 52"]),
        ({"compile_seconds": 900.0}, []),
    ],
)
def test_only_what_grew_is_named(changes: dict[str, Any], lines: list[str]) -> None:
    assert compiled.grown(BEFORE, {"v5e:1x1": {"step": VALUES | changes}}) == lines


def test_a_program_that_the_record_lacks_has_not_grown() -> None:
    assert compiled.grown(BEFORE, {"h100:1": {"step": VALUES}, "v5e:1x1": {"new": VALUES}}) == []


def write(path: Path, compilers: dict[str, str]) -> Path:
    path.write_text(json.dumps({"results": {"compilers": compilers, "programs": BEFORE}}))
    return path


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program takes twice the cycles of the record."""
    monkeypatch.setattr(target, "_is_installed", lambda module: True)
    monkeypatch.setattr(compiled, "begin", lambda *_: lambda: VALUES | {"cycles": 2000})


@pytest.mark.usefixtures("doubled")
def test_what_grew_ends_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = write(tmp_path / "record.json", compiled.versions())
    arguments = ["--targets", "v5e", "--programs", "step", "--check", str(record), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        compiled.main(arguments)
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "grown: v5e:1x1, step: cycles 1000 -> 2000\n"
    written = json.loads((tmp_path / "compiled.json").read_text())["results"]
    assert written["programs"]["v5e:1x1"]["step"]["cycles"] == 2000


@pytest.mark.usefixtures("doubled")
def test_other_compilers_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = write(tmp_path / "record.json", {"jax": "0.0.1"})
    compiled.main(["--targets", "v5e", "--programs", "step", "--check", str(record), "--out", str(tmp_path)])
    assert "not compared with" in capsys.readouterr().out


@pytest.mark.usefixtures("doubled")
def test_a_record_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "none" / "compiled.json"
    compiled.main(["--targets", "v5e", "--programs", "step", "--check", str(record), "--out", str(tmp_path)])
    last = capsys.readouterr().out.splitlines()
    assert f"not compared: there is no {record}; --out {record.parent} makes it" in last


def test_compilers_that_are_missing_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_is_installed", lambda module: False)
    compiled.main(["--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" needs")[0] for line in lines] == [
        "left out: target: v5e:1x1", "left out: target: h100:1",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--targets", "v7"], ["--programs", "all"], ["--cores", "99999"]])
def test_a_bad_argument_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        common.run(compiled.main, arguments)
    assert exit_.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("text", compiled.TARGETS)
def test_the_smallest_programs_compile_where_the_compiler_is_installed(text: str) -> None:
    where = target_of(text)
    try:
        where.require_compiler()
    except NotInstalledError as error:
        pytest.skip(str(error))
    found = compiled.begin(compiled.PROGRAMS["step"], where, compiled.Compiler(where), tiny=True)()
    assert found["bytes"] > 0
    assert found["gflop"] > 0
    assert (found["cycles"] > 0) == (text == "v5e")
