"""Runs that go on beyond their first end: longer phases, more phases, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch.build import build, plain
from covlab.launch.longer import GROWING, longer
from covlab.launch.runs import train_run
from tracking import RunDirectory, read_status
from training import CheckpointPolicy, Checkpoints
from training.checkpoints import Position

Compose = Callable[..., DictConfig]
QUICK = (
    "steps=20", "batch_size=4", "log_every=5", "evaluation.num_examples=4", "evaluation.schedule.every=10",
    "evaluation.table_prompts=0", "tracking.wandb=disabled", "tracking.figures=false",
    "tracking.progress=false", "checkpoint.every_seconds=0",
)  # fmt: skip
COSINE = "optimizer.schedule=cosine"
PHASES = ("+phases.a={}", "+phases.b={batch_size:2}")


@pytest.fixture
def recorded(
    compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> Callable[..., tuple[str, ...]]:
    """`recorded(first, now)`: `longer` of a run that began with the overrides `first`, asked with `now`."""

    def found(first: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
        before = plain(compose_config("train", *tiny, *QUICK, *first))
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
        config = compose_config("train", *tiny, *QUICK, *now)
        return longer(tmp_path, plain(config), build(config))

    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "now", "grows"),
    [
        ((), (), False),
        ((), ("steps=30",), True),
        ((), ("steps=10",), False),
        ((), ("steps=30", "seed=1"), True),  # the seed is refused when the directory is opened
        (("optimizer.warmup=5",), ("optimizer.warmup=5", "steps=30"), True),
        (("optimizer=muon",), ("optimizer=muon", "steps=30"), True),
        ((), ("+phases.train={}", "+phases.more={}"), True),
        ((), ("+phases.other={}", "+phases.more={}"), False),
        (PHASES, (*PHASES, "+phases.c={steps:3}"), True),
        (PHASES, PHASES[:1], False),
        (PHASES, (PHASES[0], "+phases.b={batch_size:4}", "+phases.c={}"), False),
        (PHASES, (PHASES[0], "+phases.b={batch_size:2,steps:30}"), True),
        # Both phases take the run's steps: the first would become longer under the second.
        (PHASES, (*PHASES, "steps=30"), False),
        (
            ("optimizer.schedule=cosine",),
            ("optimizer.schedule=cosine", "+phases.train={}", "+phases.c={}"),
            True,
        ),
    ],
)
def test_what_a_run_may_grow_by(
    first: tuple[str, ...], now: tuple[str, ...], grows: bool, recorded: Callable[..., Any]
) -> None:
    assert recorded(first, now) == (GROWING if grows else ())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_schedule_that_depends_on_the_length_is_refused_in_one_line(
    optimizer: str, recorded: Callable[..., Any]
) -> None:
    first = (f"optimizer={optimizer}", "optimizer.schedule=cosine")
    with pytest.raises(ValueError, match=r"^steps: phase train of .* is 20 steps long, and its") as error:
        recorded(first, (*first, "steps=30"))
    assert "\n" not in str(error.value)


def test_a_complete_directory_that_goes_on_is_running_before_it_has_its_new_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory.open(tmp_path, {"steps": 1}) as run:
        run.mark("complete")
    written = []
    monkeypatch.setattr(
        "tracking.run_directory.atomic_write", lambda file, content: written.append((file.name, content))
    )
    RunDirectory.open(tmp_path, {"steps": 2}, volatile=("steps",), goes_on=True).close()
    assert [name for name, _ in written] == ["status.json", "config.yaml"]
    assert json.loads(written[0][1])["state"] == "running"


@pytest.mark.parametrize(("state", "steps"), [("complete", 30), ("stopped", 20)])
def test_a_run_of_other_draws_is_refused_as_it_stands(
    state: str, steps: int, compose_config: Compose, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    first = plain(compose_config("train", *tiny, *QUICK))
    with RunDirectory.open(path, first) as run:
        run.mark(state)
    checkpoints = Checkpoints(path / "checkpoints", CheckpointPolicy())
    checkpoints.save(20, Position(0, 20, 0, draws=1), {"weights": np.zeros(2, np.float32)})
    checkpoints.close()
    kept = {name: (path / name).read_bytes() for name in ("config.yaml", "status.json")}
    with pytest.raises(ValueError, match="the run began with random draws of version 1"):
        train_run(compose_config("train", *tiny, *QUICK, f"steps={steps}"), path)
    assert {name: (path / name).read_bytes() for name in kept} == kept


@pytest.fixture(scope="module")
def train(compose_config: Compose, tiny: tuple[str, ...]) -> Callable[..., str]:
    """`train(path, overrides, boundaries)`: train, stopped after so many boundaries; the state."""

    def trained(path: Path, overrides: tuple[str, ...], boundaries: int = 10**6) -> str:
        calls = iter(range(1, 10**6))
        config = compose_config("train", *tiny, *QUICK, *overrides)
        return train_run(config, path, lambda: "asked to" if next(calls) >= boundaries else None).state

    return trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "boundaries", "now"),
    [
        ((), 10**6, ("steps=40",)),
        ((), 3, ("steps=40",)),
        ((), 10**6, ("+phases.train={}", "+phases.more={steps:10,batch_size:2}")),
        ((), 10**6, ("+phases.train={steps:30}", "+phases.more={steps:10}")),
    ],
    ids=["longer", "interrupted", "another phase", "both"],
)
def test_a_run_that_goes_on_is_the_longer_run_byte_for_byte(
    first: tuple[str, ...], boundaries: int, now: tuple[str, ...], train: Callable[..., str], tmp_path: Path
) -> None:
    whole, path = tmp_path / "whole", tmp_path / "path"
    assert train(whole, now) == "complete"
    assert train(path, first, boundaries) == ("complete" if boundaries > 3 else "stopped")
    assert train(path, now) == "complete"
    assert (path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (path / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()
    assert {file.name for file in (path / "log_probs").iterdir()} == {
        file.name for file in (whole / "log_probs").iterdir()
    }


@pytest.mark.slow
def test_an_end_off_the_grid_stays_as_a_boundary_of_its_own(
    train: Callable[..., str], tmp_path: Path
) -> None:
    whole, path = tmp_path / "whole", tmp_path / "path"
    assert train(whole, ("steps=30",)) == "complete"
    assert train(path, ("steps=17",)) == "complete"
    assert train(path, ("steps=30",)) == "complete"
    mine, theirs = (
        {r["step"]: r for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())}
        for folder in (path, whole)
    )
    assert sorted(set(mine) - set(theirs)) == [17]
    # What step 20 says of the training batches is a mean since step 17 instead of 15; all else is the same.
    assert [step for step in theirs if mine[step] != theirs[step]] == [20]
    different = {key for key in theirs[20] if mine[20][key] != theirs[20][key]}
    assert {"train/loss", "train/gradient_norm", "train/kl"} <= different
    assert all(key.startswith("train/") for key in different)


@pytest.mark.slow
def test_what_is_refused_leaves_the_finished_run_as_it_is(train: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "path"
    assert train(path, ("optimizer.schedule=cosine", "steps=10")) == "complete"
    kept = shutil.copytree(path, tmp_path / "kept")
    with pytest.raises(ValueError, match="its learning rate depends on that length"):
        train(path, ("optimizer.schedule=cosine", "steps=20"))
    with pytest.raises(ValueError, match="seed was 0, is now 1"):
        train(path, ("optimizer.schedule=cosine", "steps=10", "seed=1"))
    for name in ("config.yaml", "status.json", "metrics.jsonl"):
        assert (path / name).read_bytes() == (kept / name).read_bytes()
    assert read_status(path).state == "complete"
