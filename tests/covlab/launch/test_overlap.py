"""Held-out prompts that are training prompts too: counted, estimated, said once and kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from omegaconf import DictConfig
from oracles.toy import TabularModel, ToyTask, fuse_step

from covlab.launch.build import build
from covlab.launch.overlap import MOST, among, note_overlap, overlap, training_prompts
from experiments import evaluate
from metrics.evaluators import make_held_out
from tracking import load_log_probs
from tracking.array_log import ARRAYS, ArrayLog
from training import CrossEntropy, EvaluationSchedule, Phase
from training.feed import batch_of_step

TASK = ToyTask()


def phase_of(dataset_size: int | None, steps: int = 6) -> Phase:
    schedule = EvaluationSchedule(every=2)
    return Phase("toy", TASK, CrossEntropy(), fuse_step(0.1), steps, 4, dataset_size, schedule, 3)


def test_prompts_are_compared_whole() -> None:
    rows = np.array([[0, 1, 2], [0, 2, 1], [3, 1, 2]])
    assert among(rows, np.array([[0, 2, 1], [9, 9, 9]])).tolist() == [False, True, False]
    assert among(rows, np.zeros((4, 2), int)).tolist() == [False] * 3


@pytest.mark.long
@pytest.mark.parametrize("dataset_size", [None, 7])
def test_the_prompts_are_those_of_training(dataset_size: int | None) -> None:
    phase = phase_of(dataset_size)
    trained = np.concatenate([np.asarray(batch_of_step(phase, 3, step).prompt) for step in range(6)])
    count = 7 if dataset_size else 24
    found = training_prompts(phase, 3, count, 64)
    for rows in (1, 5, count):
        np.testing.assert_array_equal(training_prompts(phase, 3, count, rows), found)
    if dataset_size is None:
        np.testing.assert_array_equal(found, trained)
    else:
        assert len(found) == 7
        assert among(trained, found).all()


@pytest.mark.parametrize("dataset_size", [None, 1])
def test_the_share_is_counted_by_plain_python(dataset_size: int | None) -> None:
    phase, held_out = phase_of(dataset_size), make_held_out(TASK, 6, 5, 0)
    found = overlap(phase, held_out, 0)
    n = dataset_size or 24
    trained = {tuple(row) for row in training_prompts(phase, 0, n, 64).tolist()}
    own = [tuple(row) for row in held_out.flat(held_out.batches.example.prompt).tolist()]
    share = sum(w for w, row in zip(held_out.weights, own, strict=True) if row in trained)
    assert found["share"] == pytest.approx(share / held_out.weights.sum(), abs=1e-4)
    met = np.array([row in trained for row in own])
    by_class = [met[held_out.groups == group].mean() for group in range(2)]
    assert [*found["classes"].values()] == pytest.approx(by_class, abs=1e-4)
    assert found["counted"]
    assert (found["held_out"], found["different"], found["training"]) == (12, len(set(own)), n)


@pytest.mark.long
def test_a_share_of_more_prompts_than_are_drawn_is_estimated(
    compose_config: Callable[..., DictConfig],
) -> None:
    """Six ids for six nodes: the share of 6,400 prompts is that of an exact count, and enough of them meet
    every held-out prompt."""
    small = ("task.depth=2", "task.width=2", "task.num_ids=6", "task.mixture={G1:1.0,G2:0.0,G3:0.0}")
    setup = build(compose_config("train", *small, "evaluation.num_examples=256", "steps=200"))
    (held_out,) = setup.held_out()
    shares = []
    for steps in (MOST // 64, 100, 10_000_000):
        found = overlap(dataclasses.replace(setup.phases[0], steps=steps), held_out, 0)
        assert found["counted"] == (steps == MOST // 64)
        shares.append(found["share"])
    assert 0 <= shares[0] <= shares[1] + 0.05
    assert shares[2] == pytest.approx(1.0, abs=0.05)
    # Of the exact share of 100 batches, which are drawn here.
    theirs = training_prompts(setup.phases[0], 0, 6400, 64)
    exact = among(held_out.flat(held_out.batches.example.prompt), theirs).mean()
    assert shares[1] == pytest.approx(exact, abs=0.08)


def test_large_spaces_cost_nothing(compose_config: Callable[..., DictConfig]) -> None:
    setup = build(compose_config("train", "task.depth=8", "task.num_ids=60"))
    (phase,) = setup.phases
    held_out = make_held_out(TASK, 6, 5, 0)
    found = overlap(phase, dataclasses.replace(held_out), 0)
    assert (found["drawn"], found["share"]) == (0, 0.0)


def test_it_is_said_once_and_kept(compose_config: Callable[..., DictConfig], tmp_path: Path) -> None:
    setup = dataclasses.replace(
        build(compose_config("train")), phases=(phase_of(None, steps=200),), model=TabularModel()
    )
    held_out = (make_held_out(TASK, 6, 5, 0),)
    said: list[str] = []
    found = note_overlap(tmp_path, setup, held_out, said.append)
    assert json.loads((tmp_path / "overlap.json").read_text())["overlap"] == found
    share = found["toy"]["share"]
    assert share == pytest.approx(1, abs=0.005)
    (line,) = said
    assert line.startswith("phase toy: ")
    assert "100 % of the held-out prompts" in line
    assert note_overlap(tmp_path, setup, held_out, said.append) == found
    assert len(said) == 1
    longer = dataclasses.replace(setup, phases=(phase_of(None, steps=300),))
    assert note_overlap(tmp_path, longer, held_out, said.append)["toy"]["training"] == 1200


@pytest.mark.long
def test_classes_that_are_never_trained_on_are_told_apart(
    compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Every pair of class train is drawn 150 times, no pair of class held_out."""
    config = compose_config("train", "task=modular_addition", "task.modulus=7", "steps=60")
    setup = build(config)
    said: list[str] = []
    found = note_overlap(tmp_path, setup, setup.held_out(), said.append)["train"]
    assert found["classes"] == {"train": 1.0, "held_out": 0.0}
    assert said[0].startswith("phase train: about 100 % of the held-out prompts are among its 3840 training")
    assert "(class train: 100 %, class held_out: 0 %): its numbers are" in said[0]


@pytest.mark.long
def test_evaluate_counts_prompts_that_the_run_knows(
    tiny_run: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    path = Path(shutil.copytree(tiny_run, tmp_path / "known"))
    small = ("num_examples=2", "num_samples=0", "seeds=[0]", "out=x")
    arrays = load_log_probs(path, "finetune_held_out")["finetune_held_out"]
    run = evaluate.trained.open_run(path)
    asked = make_held_out(run.task("finetune", {}), 2, 64, 1, "asked")
    fresh = asked.flat(asked.batches.example.prompt)
    arrays["prompt"] = np.concatenate([np.asarray(jax.device_get(fresh))[:3], arrays["prompt"]])
    ArrayLog(path / ARRAYS).append("finetune_held_out", arrays)
    ended = call(evaluate.main, f"run={path}", *small)
    assert (ended.status, ended.err) == (0, "")
    assert "finetune: 3 of 6 fresh prompts are in the run's own held-out set too" in ended.out
    content = json.loads((path / "evaluations" / "x.json").read_text())
    assert content["checkpoints"][0]["repeated_prompts"] == 3
