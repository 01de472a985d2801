"""Packages of the user's own: entry points, `--config-dir`, and what is refused. Nothing is trained."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from covlab.claims import running
from covlab.launch import outside
from experiments import train

TASK = """
import dataclasses
from tasks import Dyck
from tasks.checks import whole

@dataclasses.dataclass(frozen=True)
class Mine(Dyck):
    extra: int = 3

    def __post_init__(self):
        super().__post_init__()
        whole("task.extra", self.extra, 1)
"""
CLAIM = """
import types
from covlab.claims.claim import Claim
own = {"SCALES": {"cpu": {}}, "Settings": None, "measure": None}
measure = types.SimpleNamespace(__name__="outside_lab.late.measure", **own)
judge = types.SimpleNamespace(checks=None, notes=None, drawings=None, tables=None)
CLAIM = Claim.of((measure, judge, judge), name="late", source="", title="", introduction=())
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `outside_lab` that Python finds, with a task, its YAML file and a claim."""
    root = tmp_path / "site" / "outside_lab"
    for name, text in {
        "__init__.py": "",
        "task.py": TASK,
        "wanting.py": "import no_such_library",
        "late/__init__.py": CLAIM,
        "conf/task/mine.yaml": "defaults: [/schema/outside_lab.task.Mine@_here_]\n",
        "conf/task/missing.yaml": "defaults: [/schema/outside_lab.task.Missing@_here_]\n",
        "conf/task/wanting.yaml": "defaults: [/schema/outside_lab.wanting.Task@_here_]\n",
        "conf/experiment/late_tiny.yaml": "# @package _global_\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(str(root.parent))
    importlib.invalidate_caches()
    yield root
    for name in [each for each in sys.modules if each.partition(".")[0] == "outside_lab"]:
        del sys.modules[name]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`install(("covlab.configs", name, value), ...)`: entry points of installed packages."""

    def installed(*entries: tuple[str, str, str]) -> None:
        points = {
            group: tuple(EntryPoint(name, value, group) for where, name, value in entries if where == group)
            for group in (outside.CONFIGS, outside.CLAIMS)
        }
        monkeypatch.setattr(outside, "_entry_points", points.__getitem__)

    return installed


OPTIONS = (outside.CONFIGS, "lab", "outside_lab.conf")
LATE = (outside.CLAIMS, "late", "outside_lab.late:CLAIM")


@pytest.mark.long
@pytest.mark.parametrize("how", ["--config-dir", "entry point", "hydra.searchpath"])
def test_a_folder_of_ones_own_has_options(
    how: str, lab: Path, install: Callable[..., None], call: Callable[..., Any]
) -> None:
    install(*([OPTIONS] if how == "entry point" else []))
    named = {
        "--config-dir": ["--config-dir", str(lab / "conf")],
        "hydra.searchpath": [f"hydra.searchpath=[file://{lab / 'conf'}]"],
    }.get(how, [])
    shown = call(train.main, *named, "task=mine", "task.extra=5", "--cfg", "job")
    assert shown.status == 0, shown.err
    assert "_target_: outside_lab.task.Mine" in shown.out
    assert "extra: 5" in shown.out
    assert "max_depth: " in shown.out
    if how != "entry point":
        return
    for override, line in {
        "task.extr=5": "task.extr: no such key; valid are extra, ",
        "task.extra=0": "task.extra: 0 is not an integer >= 1",
        "task=min": "task: no option min; valid are ",
    }.items():
        ended = call(train.main, *([] if override == "task=min" else ["task=mine"]), override)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert line in ended.err
    assert " mine, " in ended.err
    for name, line in {
        "missing": "/schema/outside_lab.task.Missing: there is no 'outside_lab.task.Missing'; valid: ",
        "wanting": "/schema/outside_lab.wanting.Task: 'outside_lab.wanting.Task' cannot be imported: "
        "No module named 'no_such_library'",
    }.items():
        assert call(train.main, f"task={name}").err.startswith(f"error: {line}")


def test_a_file_that_would_never_be_read_is_refused(
    lab: Path, install: Callable[..., None], call: Callable[..., Any]
) -> None:
    file = lab / "conf" / "task" / "dyck.yaml"
    file.write_text("length: 4\n")
    said = f"error: {file}: conf has a task/dyck.yaml too, which is read instead; valid: another name\n"
    assert call(train.main, "--config-dir", str(lab / "conf"), "--cfg", "job").err == said
    install(OPTIONS)
    assert call(train.main, "--cfg", "job").err == said
    file.write_bytes(
        (Path(str(importlib.import_module("conf").__path__[0])) / "task" / "dyck.yaml").read_bytes()
    )
    assert call(train.main, "--cfg", "job").status == 0


@pytest.mark.parametrize("value", ["outside_lab.no_conf", "no_such_lab.conf", "sys"])
def test_an_entry_point_without_a_folder_is_refused(
    value: str, lab: Path, install: Callable[..., None], call: Callable[..., Any]
) -> None:
    install((outside.CONFIGS, "lab", value))
    said = f"error: covlab.configs: lab = '{value}' is not a folder of an installed package; valid: "
    ended = call(train.main, "--cfg", "job")
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1


def test_the_ledger_knows_claims_of_installed_packages(
    lab: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(LATE, OPTIONS)
    monkeypatch.setattr(running, "claims", dict)
    assert running.known_claims("cpu") == running.known_claims("tiny") == ("late",)
    ran = []
    monkeypatch.setattr(running.subprocess, "run", lambda command, **_: ran.append(command))
    with pytest.raises(AttributeError):
        running.run_claims(["late"], "cpu", tmp_path, None)
    assert ran == [[sys.executable, "-m", "covlab", "outside_lab.late", "scale=cpu", f"root={tmp_path}"]]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("late", "outside_lab.late", "does not name a claim; valid: <package>:CLAIM"),
        ("late", "outside_lab.nothing:CLAIM", "cannot be imported: No module named 'outside_lab.nothing'"),
        ("late", "outside_lab.task:CLAIM", "cannot be imported: "),
        ("early", "outside_lab.late:CLAIM", "is not a Claim of this name and package"),
        ("figure1", "outside_lab.late:CLAIM", "experiments.figure1 exists already; valid: another name"),
    ],
)
def test_an_entry_point_that_is_no_claim_is_refused(
    name: str, value: str, line: str, lab: Path, install: Callable[..., None]
) -> None:
    install((outside.CLAIMS, name, value))
    with pytest.raises(ValueError, match=f"^covlab.claims: {name} = '{value}'") as error:
        running.outside_claims()
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_of_installed_packages_are_messages(install: Callable[..., None]) -> None:
    install(OPTIONS, LATE)
    assert outside.packages() == {"outside_lab"}
