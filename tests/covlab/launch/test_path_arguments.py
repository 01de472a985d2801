"""Paths on the command line: default names with `=`, folders with brackets, blanks and commas, sweeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from covlab.launch.path_arguments import quoted_paths
from covlab.launch.run_names import run_name
from experiments import compare, evaluate, select, train_rl
from tracking import load_runs

NAMES = (
    "task=dyck__seed=0", "optimizer=sgd__steps=4,x", "my runs [v1]", "it's {odd}", "a(b)=c:d", "é=1", "null",
    "1e3",
)  # fmt: skip


def value_of(argument: str) -> Any:
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_path_arrives_as_it_was_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = name if name in ("null", "1e3") else f"runs/train/{name}"
    Path(path).mkdir(parents=True)
    for several in (False, True):
        for key in ("run", "value", "file", "out", "root", "+run"):
            (argument,) = quoted_paths([f"{key}={path}"], several)
            assert argument.startswith(f"{key}=")
            assert value_of(argument) == path


def test_default_names_of_the_program_are_paths_where_nothing_lies() -> None:
    path = f"runs/train/{run_name('+phases.a={},seed=1,task=dyck')}"
    assert value_of(quoted_paths([f"run={path}"], False)[0]) == path


@pytest.mark.parametrize(
    "argument",
    [
        "run=runs/train/demo", "run=null", "run='runs/a=b'", 'run="runs/a=b"', "run=[a,b]", "run={a: b}",
        "run=", "run=glob(*)", "value=exact", "steps=3", "task.run=a=b", "--multirun", "runs=[a=b]",
        "run=${root}/a",
    ],
)  # fmt: skip
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quoted_paths([argument], False) == [argument]


def test_a_sweep_over_runs_stays_one() -> None:
    found = quoted_paths(["run=runs/a=1,runs/b,runs/c=2"], True)
    assert found == ["run='runs/a=1',runs/b,'runs/c=2'"]
    sweep = OverridesParser.create().parse_override(found[0])
    assert sweep.is_sweep_override()
    assert [str(each) for each in sweep.sweep_string_iterator()] == ["'runs/a=1'", "runs/b", "'runs/c=2'"]
    # Without a sweep, a comma is a part of the name.
    assert value_of(quoted_paths(["run=runs/a,b"], False)[0]) == "runs/a,b"


@pytest.mark.long
def test_commands_take_the_names_that_the_program_gives(
    tiny_run: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    path = shutil.copytree(tiny_run, tmp_path / "runs" / "train" / "task=tiny,x__seed=0")
    named = f"run={path.relative_to(tmp_path)}"
    ended = call(evaluate.main, named, "num_examples=2", "num_samples=0", "out=x")
    assert (ended.status, ended.err) == (0, "")
    assert (path / "evaluations" / "x.json").exists()
    assert call(select.main, named, "rules=[last]").status == 0
    # Read as that run: what is wrong is the checkpoint.
    assert (
        "checkpoints: finetune:3 asked of runs/train/task=tiny,x__seed=0"
        in call(train_rl.main, named, "checkpoint_of=finetune:3").err
    )


@pytest.mark.long
def test_patterns_look_into_folders_with_brackets(
    tiny_run: Path, tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my runs [v1]"
    for name in ("a", "b"):
        shutil.copytree(tiny_run, folder / name, ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "my runs v").mkdir()
    ended = call(compare.main, "my runs [v1]/*", "metric=eval/kl", "tournament.max_runs=0")
    assert (ended.status, ended.err) == (0, "")
    assert "2 runs" in ended.out or " 2 " in ended.out
    monkeypatch.chdir(tmp_path)
    for pattern in ("my runs [v1]/*", f"{folder}/[ab]", "./my runs [v1]/**", "m* [[]v1]/*", "*/[ab]"):
        assert set(load_runs(pattern)["run"]) == {"a", "b"}, pattern
    assert set(load_runs("my runs [v1]/a")["run"]) == {"a"}
