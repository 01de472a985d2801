"""`python -m experiments.train` from the outside: complete, killed, stopped, resumed, misused."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch.runs import train_run
from experiments import train
from tracking import read_records, read_status
from tracking.array_log import recorded_names

pytestmark = pytest.mark.long

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
LIMIT = 300
"""Seconds that no run of these tests comes near to, on the busiest machine."""


@pytest.fixture(scope="session")
def start(tiny: tuple[str, ...], command_line: Callable[..., tuple[list[str], dict[str, str]]]) -> Start:
    """Start a tiny training run below a directory, in a process of its own."""

    def started(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        # Hydra's parser takes flags before all overrides or after them, not among them.
        flags = [argument for argument in arguments if argument.startswith("--")]
        overrides = [argument for argument in arguments if argument not in flags]
        line, variables = command_line("train", [*flags, *tiny, "tracking.figures=false", *overrides])
        return subprocess.Popen(
            line,
            cwd=folder,
            env=variables | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return started


@pytest.fixture(scope="session")
def run(start: Start) -> Run:
    """Start a tiny training run and wait for its end."""

    def ran(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start(folder, *arguments, **environment)
        out, err = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return ran


@pytest.fixture(scope="module")
def reference(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run. Read only."""
    folder = tmp_path_factory.mktemp("reference")
    ended = run(folder, "name=reference", "tracking.figures=true")
    assert ended.returncode == 0, ended.stderr
    assert "complete in" in ended.stdout
    return folder / "runs" / "train" / "reference"


def interrupt(process: subprocess.Popen[str], path: Path, step: int, number: int) -> str:
    """Send a signal as soon as the scores of `step` are on disk; the standard error."""
    deadline = time.monotonic() + LIMIT
    while (
        f"train_{step:08d}" not in recorded_names(path)
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=LIMIT)[1]


def metrics(path: Path) -> bytes:
    return (path / "metrics.jsonl").read_bytes()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_complete_run_leaves_what_it_promises(reference: Path) -> None:
    assert read_status(reference).state == "complete"
    config = yaml.safe_load((reference / "config.yaml").read_text())
    assert (config["steps"], config["task"]["depth"], config["model"]["width"]) == (40, 2, 16)
    records = read_records(reference / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(0, 41, 5))
    keys = {
        "eval/kl",
        "eval/ce",
        "eval/cov/5.7",
        "eval/pass/8",
        "eval/G2/cov/4",
        "eval/accuracy",
        "eval/validity",
    }
    assert all(keys <= set(record) for record in records)
    assert all(("train/loss" in record) == (record["step"] > 0) for record in records)
    there = files(reference)
    evaluated = [f"train_{step:08d}" for step in range(0, 41, 5)]
    assert recorded_names(reference) == ["train_held_out", "train_start", *evaluated]
    assert {name for name in there if name.startswith("log_probs/")} == {"log_probs/evaluations.npy"}
    assert {"timings.jsonl", "figures/train.png"} <= there
    assert {name for name in there if name.startswith("checkpoints/parameters/")} == {
        "checkpoints/parameters/train",
        "checkpoints/parameters/train/00000040.npz",
    }
    assert any(name.startswith("checkpoints/state/") for name in there)
    assert any(name.startswith("tables/samples_40") for name in there)
    assert all(record["eval/bound_excess"] <= 1e-9 for record in records)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(reference: Path, run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, "name=again").returncode == 0
    assert metrics(tmp_path / "runs" / "train" / "again") == metrics(reference)


def kill_and_resume(reference: Path, start: Start, run: Run, folder: Path, step: int) -> None:
    path = folder / "runs" / "train" / "killed"
    process = start(folder, "name=killed", "checkpoint.every_seconds=0")
    interrupt(process, path, step, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run ended before the signal"
    assert read_status(path).state == "running"
    assert metrics(path) != metrics(reference)
    ended = run(folder, "name=killed", "checkpoint.every_seconds=0")
    assert ended.returncode == 0, ended.stderr
    assert metrics(path) == metrics(reference)
    assert read_status(path).state == "complete"


def test_killed_and_resumed_gives_the_same_bytes(
    reference: Path, start: Start, run: Run, tmp_path: Path
) -> None:
    kill_and_resume(reference, start, run, tmp_path, 15)


@pytest.mark.slow
def test_killed_anywhere_and_resumed_gives_the_same_bytes(
    reference: Path, start: Start, run: Run, tmp_path: Path
) -> None:
    for index, step in enumerate(random.Random(0).sample(range(0, 30, 5), 3)):
        folder = tmp_path / str(index)
        folder.mkdir()
        kill_and_resume(reference, start, run, folder, step)


@pytest.mark.slow
def test_stopped_saves_and_resumes_to_the_same_bytes(
    reference: Path, start: Start, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "runs" / "train" / "stopped"
    # Saving at every boundary slows the run down enough for the signal to find it running.
    process = start(tmp_path, "name=stopped", "checkpoint.every_seconds=0")
    errors = interrupt(process, path, 5, signal.SIGTERM)
    assert process.returncode == 130, errors
    assert "SIGTERM: saving at the next boundary" in errors
    status = read_status(path)
    assert (status.state, status.reason) == ("stopped", "SIGTERM")
    assert any((path / "checkpoints" / "state").iterdir())
    assert run(tmp_path, "name=stopped").returncode == 0
    assert metrics(path) == metrics(reference)


@pytest.fixture
def tiny_train(tiny: tuple[str, ...], call: Callable[..., object]) -> Callable[..., object]:
    """Call the command in this process: for what ends before anything is compiled."""
    return lambda *arguments: call(train.main, *tiny, *arguments)


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    """A copy of the reference run in the directory that `call` works in."""
    return Path(shutil.copytree(reference, tmp_path / "runs" / "train" / "reference"))


def test_a_complete_run_is_left_as_it_is(
    copy: Path, tiny_train: Callable[..., object], tmp_path: Path
) -> None:
    before = metrics(copy)
    ended = tiny_train("name=reference", "tracking.figures=false")
    assert (ended.status, ended.err) == (0, "")
    assert "complete already" in ended.out
    assert metrics(copy) == before


def test_another_configuration_cannot_take_the_name(
    copy: Path, tiny_train: Callable[..., object], tmp_path: Path
) -> None:
    before = {name: (copy / name).read_bytes() for name in ("config.yaml", "metrics.jsonl", "status.json")}
    ended = tiny_train("name=reference", "seed=5")
    assert ended.status == 2
    assert "holds a run with another configuration: seed was 0, is now 5" in ended.err
    assert ended.err.count("\n") == 1
    assert {name: (copy / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["task.dpeth=3"], ["task.dpeth: no such key; valid are", "depth", "did you mean depth?"]),
        (["task.num_ids=4"], ["task.num_ids: 4 ids are too few for 6 nodes"]),
        (["evaluation.coverage_ns=[0.5]"], ["evaluation.coverage_ns: [0.5]; valid: numbers N >= 1"]),
        (["task.mixture.G1=0.5"], ["task.mixture: probabilities", "sum to 0.6, not to 1"]),
        (["seeds=0"], ["seeds: 0 is not an integer >= 1"]),
        (["seed=-1"], ["seed: -1 is not an integer from 0 to 2147483647"]),
        (["steps=many"], ["steps: 'many' is not an integer >= 0"]),
        (["batch_size=0"], ["batch_size: 0 is not an integer >= 1"]),
        (["dataset_size=0"], ["dataset_size: 0 is neither null nor an integer >= 1"]),
        (["evaluation.num_examples=0"], ["num_examples: 0 is not an integer >= 1"]),
        (["model=gpt_huge"], ["gpt_huge", "gpt_tiny"]),
        (["name=a/b"], ["name: 'a/b' is not a directory name"]),
        (["devices=0"], ["devices: 0 is neither auto nor an integer >= 1"]),
        (["checkpoint.keep=0"], ["checkpoint.keep: 0 is not an integer >= 1"]),
        (["tracking.wandb=maybe"], ["tracking.wandb: 'maybe' is not one of auto, online, offline, disabled"]),
        (["resume=must", "name=x"], ["no run to resume"]),
        (["root=a_file"], ["a_file", "Not a directory"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], messages: Sequence[str], tiny_train: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "a_file").write_text("")
    ended = tiny_train(*arguments)
    assert ended.status == 2, ended.err
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    for message in messages:
        assert message in ended.err
    assert files(tmp_path) == {"a_file"}


@pytest.mark.slow
def test_divergence_names_the_step_and_keeps_the_last_good_state(
    compose_config: Callable[..., DictConfig], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    config = compose_config(
        "train", *tiny, "optimizer=sgd", "optimizer.learning_rate=1e30", "tracking.progress=false",
        "checkpoint.every_seconds=0",
    )  # fmt: skip
    finished = train_run(config, tmp_path / "run")
    assert finished.state == "failed"
    assert "loss or gradient is not finite: seed 0 at step" in finished.reason
    assert "lower optimizer.learning_rate" in finished.reason
    assert read_status(tmp_path / "run").state == "failed"
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records] == [0]
    assert any((tmp_path / "run" / "checkpoints" / "state").iterdir())


@pytest.mark.slow
def test_an_unreachable_wandb_costs_one_warning(reference: Path, run: Run, tmp_path: Path) -> None:
    ended = run(
        tmp_path, "name=online", "tracking.wandb=online",
        WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9", HOME=str(tmp_path),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    path = tmp_path / "runs" / "train" / "online"
    assert metrics(path) == metrics(reference)
    assert "Traceback" not in ended.stderr
    warned = [line for line in ended.stderr.splitlines() if line.startswith("W&B: ")]
    assert len(warned) == 1, ended.stderr
    assert "the run goes on without W&B" in warned[0]


@pytest.mark.slow
def test_multirun_trains_every_combination(reference: Path, run: Run, tmp_path: Path) -> None:
    ended = run(tmp_path, "--multirun", "seed=0,1")
    assert ended.returncode == 0, ended.stderr
    paths = sorted((tmp_path / "runs" / "train").glob("[!.]*"))
    assert len(paths) == 2
    assert [read_status(path).state for path in paths] == ["complete", "complete"]
    assert metrics(paths[0]) == metrics(reference)
    assert json.loads(metrics(paths[1]).splitlines()[0])["seed"] == 1
    assert metrics(paths[1]) != metrics(paths[0])


def test_phases_follow_one_another(tiny_run: Path) -> None:
    records = read_records(tiny_run / "metrics.jsonl")
    order = list(
        dict.fromkeys((record["phase"], record["step"], record["global_step"]) for record in records)
    )
    expected = [("pretrain", step, step) for step in range(0, 21, 5)]
    assert order == expected + [("finetune", step, 20 + step) for step in range(0, 21, 5)]
    held = {phase: next(r for r in records if r["phase"] == phase) for phase in ("pretrain", "finetune")}
    assert "eval/G3/kl" in held["finetune"]
    assert "eval/G3/kl" not in held["pretrain"]
