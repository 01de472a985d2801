"""The comparison with another commit: ratios, what is left out, and the step that both compile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from benchmarks import before, common
from benchmarks.common import TINY
from benchmarks.lowered import lowered
from covlab.plan import target

OLD = {"cycles": 400, "bytes": 100.0, "temporary_bytes": 60, "code_bytes": 0, "compile_cpu_seconds": 8.0}
NEW = {"cycles": 100, "bytes": 50.0, "temporary_bytes": 30, "code_bytes": 0, "compile_cpu_seconds": 2.0}


def test_both_are_measured_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, "_is_installed", lambda module: True)
    other = tmp_path / "other"

    def measured(checkout: Path, *_: Any) -> dict[str, Any]:
        return dict(OLD if checkout == other else NEW)

    monkeypatch.setattr(before, "measured", measured)
    before.main([str(other), "--targets", "v5e", "--steps", "step", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "before.json").read_text())["results"]["steps"]["v5e:1x1"]["step"]
    assert (found["before"], found["now"]) == (OLD, NEW)
    assert found["ratio"] == {
        "cycles": 0.25, "bytes": 0.5, "temporary_bytes": 0.5, "compile_cpu_seconds": 0.25,
    }  # fmt: skip
    assert "v5e:1x1 step ratio" in capsys.readouterr().out


def test_a_missing_compiler_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, "_is_installed", lambda module: False)
    before.main([str(tmp_path), "--targets", "v5e", "--out", str(tmp_path)])
    assert capsys.readouterr().out.startswith("left out: target: v5e:1x1 needs the compiler")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("targets", [["v7"], ["v5e:0"]])
def test_a_bad_target_is_one_line(targets: list[str]) -> None:
    with pytest.raises(common.UsageError, match=r"^target: "):
        before.main([".", "--targets", *targets])


@pytest.mark.long
def test_the_step_is_that_of_the_run() -> None:
    """The program of described devices, lowered: a loop of steps with a donated state."""
    text = lowered(jax.devices("cpu")[0], 0, list(TINY)).as_text()
    assert "stablehlo.while" in text
    assert "tf.aliasing_output" in text
