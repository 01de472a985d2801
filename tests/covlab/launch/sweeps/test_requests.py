"""A sweep is the same sweep however it is asked for, and its jobs have names that tell them apart."""

from __future__ import annotations

import importlib.resources
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from covlab.launch import cli
from covlab.launch.cli import StopRequest
from covlab.launch.sweeps.jobs import JOB_VARIABLE, Plan, read_outcome
from covlab.launch.sweeps.requests import as_sweep
from experiments import train

pytestmark = pytest.mark.long

Sweep = Callable[..., Any]
TESTS = Path(__file__).parents[3]
PARAMS = "hydra:\n  sweeper:\n    params:\n      seed: 0,5\n"
MODE = "hydra:\n  mode: MULTIRUN\n"


@pytest.fixture
def sweep(call: Sweep, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Call the command in this process, with `oracles.toy_job` in place of a sweep's jobs."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    main = cli.command("train", train.train, module="oracles.toy_job")
    return lambda *arguments: call(main, *arguments)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], list[str]]:
    """`own(text)`: arguments that choose an experiment of the user's own, `text`."""

    def written(text: str) -> list[str]:
        folder = tmp_path / "own" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(f"# @package _global_\n{text}")
        return ["--config-dir", "own", "experiment=mine"]

    return written


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (PARAMS, []),
        (MODE, ["seed=0,5"]),
        ("", ["+hydra.sweeper.params.seed=0,5"]),
        (PARAMS.replace("0,5", "1,2"), ["hydra.sweeper.params.seed=0,5"]),
        pytest.param(PARAMS, ["--multirun"], marks=pytest.mark.slow),
        pytest.param(PARAMS, ["hydra.mode=MULTIRUN"], marks=pytest.mark.slow),
        pytest.param(PARAMS.replace("hydra:\n", MODE), [], marks=pytest.mark.slow),
        pytest.param("", ["+hydra.sweeper.params.seed='0,5'", "-m"], marks=pytest.mark.slow),
    ],
)
def test_a_sweep_is_the_same_however_it_is_asked_for(
    text: str, arguments: list[str], sweep: Sweep, own: Callable[[str], list[str]], tmp_path: Path
) -> None:
    ended = sweep(*own(text), "steps=10", *arguments)
    assert ended.status == 0, ended.err
    table = ended.out.splitlines()[-3:]
    assert table[0] == "sweep of 2 jobs: 2 complete"
    assert [line.split()[-1] for line in table[1:]] == ["(seed=0)", "(seed=5)"]
    [folder] = (tmp_path / "runs" / "train" / ".sweeps").iterdir()
    plan = Plan.read(folder)
    assert plan.command[1:] == ("-m", "covlab", "oracles.toy_job", "--config-dir", str(tmp_path / "own"))
    assert [set(job) for job in plan.jobs] == [
        {"experiment=mine", "steps=10", f"seed={seed}"} for seed in (0, 5)
    ]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (PARAMS.replace("0,5", "5"), []),
        ("", ["-m"]),
        pytest.param(MODE, [], marks=pytest.mark.slow),
        pytest.param("", ["hydra.mode=MULTIRUN"], marks=pytest.mark.slow),
    ],
)
def test_a_comma_parts_paths_however_a_sweep_is_asked_for(
    text: str, arguments: list[str], sweep: Sweep, own: Callable[[str], list[str]]
) -> None:
    ended = sweep(*own(text), "root=a=1,b", "seed=5", *arguments)
    assert ended.status == 0, ended.err
    table = [line.split() for line in ended.out.splitlines()[-3:]]
    assert " ".join(table[0]) == "sweep of 2 jobs: 2 complete"
    assert [row[2].split("/")[0] for row in table[1:]] == ["a=1", "b"]


@pytest.mark.slow
def test_the_command_line_wins_over_a_file(
    sweep: Sweep, own: Callable[[str], list[str]], tmp_path: Path
) -> None:
    ended = sweep(*own(PARAMS), "--multirun", "seed=6,7")
    assert "sweep of 2 jobs: 2 complete" in ended.out
    assert sorted(path.name for path in tmp_path.glob("seen-*")) == ["seen-6.json", "seen-7.json"]


def test_no_file_of_ours_says_the_mode() -> None:
    """So that a command line without files of the user's own says it all."""
    folder = Path(str(importlib.resources.files("conf")))
    for file in folder.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        own = content if "hydra" in file.relative_to(folder).parts else content.get("hydra", {})
        assert not {"mode", "searchpath", "sweeper"} & set(own), file


@pytest.mark.parametrize("mode", ["hydra.mode=RUN", "--run"])
@pytest.mark.parametrize("text", [PARAMS, MODE])
def test_one_run_of_a_file_with_a_sweep(
    text: str, mode: str, sweep: Sweep, own: Callable[[str], list[str]]
) -> None:
    if (text, mode) == (MODE, "--run"):
        pytest.skip("Hydra: the mode in a file wins over --run")
    ended = sweep(*own(text), mode, "steps=many")
    assert ended.err == "error: phases.train.steps: 'many' is not an integer >= 0\n"


def test_a_job_of_a_sweep_is_one_run_whatever_the_files_say(
    sweep: Sweep, own: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest, "_listen", lambda self: None)
    monkeypatch.setenv(JOB_VARIABLE, str(tmp_path / "job.json"))
    assert as_sweep(["steps=3"]) == ["hydra.mode=RUN", "steps=3"]
    for text in (PARAMS, MODE):
        monkeypatch.setenv(JOB_VARIABLE, str(tmp_path / "job.json"))
        assert sweep(*own(text), "seed=0", "steps=many").status == 2
        outcome = read_outcome(tmp_path / "job.json")
        assert outcome is not None
        assert outcome.reason == "phases.train.steps: 'many' is not an integer >= 0"
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_stops_a_sweep_that_a_file_asks_for(
    sweep: Sweep, own: Callable[[str], list[str]], tmp_path: Path
) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 120
        while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    ended = sweep(*own(MODE + "  sweeper:\n    params:\n      seed: 3,5\n"))
    other.join()
    assert ended.status == 130, ended.err
    assert "sweep of 2 jobs: 2 stopped" in ended.out
    assert ended.out.splitlines()[-1].endswith("(seed=5) not started")
    assert not (tmp_path / "seen-5.json").exists()


def test_a_name_may_say_which_options_were_chosen(sweep: Sweep) -> None:
    ended = sweep("-m", "optimizer=sgd,adamw", "seed=5", "name=x-${hydra:runtime.choices.optimizer}")
    assert ended.status == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()[-2:]]
    assert [row[2:] for row in rows] == [
        ["runs/train/x-sgd", "(optimizer=sgd)"],
        ["runs/train/x-adamw", "(optimizer=adamw)"],
    ]


def test_jobs_with_many_shared_overrides_begin_with_what_is_swept(sweep: Sweep, tmp_path: Path) -> None:
    shared = [
        f"evaluation.{key}=4"
        for key in ("num_examples", "batch_size", "num_samples", "seed", "table_prompts", "schedule.every")
    ]
    ended = sweep("-m", *shared, "checkpoint.keep=2", "optimizer=sgd,adamw", "seed=0,5")
    assert ended.status == 0, ended.err
    paths = [line.split()[2] for line in ended.out.splitlines()[-4:]]
    starts = [f"optimizer={kind}__seed={seed}__" for kind in ("sgd", "adamw") for seed in (0, 5)]
    for path, start in zip(paths, starts, strict=True):
        name = Path(path).name
        assert name.startswith(start)
        assert len(name) <= 120
    # The job is told, because its own overrides do not say what is swept.
    told = json.loads((tmp_path / "seen-5.json").read_text())["arguments"]
    assert told[-1] == f"name='{Path(paths[3]).name}'" or told[-1] == f"name='{Path(paths[1]).name}'"


def test_values_that_clean_to_one_name_have_a_directory_each(sweep: Sweep, tmp_path: Path) -> None:
    ended = sweep("-m", "task=fixed_dyck", "task.prefix='( [','[ ('", "seed=5")
    assert ended.status == 0, ended.err
    paths = {line.split()[2] for line in ended.out.splitlines()[-2:]}
    assert len(paths) == 2
