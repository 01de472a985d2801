"""Reinforcement learning through the trainer: after another phase, from fixed parameters, interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, class_blind_params

from metrics.evaluators import DistributionEvaluator, HeldOut, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    OnPolicy,
    Outcome,
    Phase,
    PolicyGradient,
    Trainer,
)
from training.optimizers import adam

pytestmark = pytest.mark.long

TASK, MODEL = ToyTask(), TabularModel()
PRETRAIN = Phase("pretrain", TASK, CrossEntropy(), adam(steps=2), 2, 4, None, EvaluationSchedule(0), 2)
RL = Phase(
    "rl",
    TASK,
    PolicyGradient(kl_weight=0.05),
    adam(steps=60, learning_rate=0.05),
    30,
    8,
    None,
    EvaluationSchedule(every=15),
    10,
    source=OnPolicy(per_prompt=4, updates_per_batch=2),
)
EVALUATORS = (DistributionEvaluator(coverage_ns=(2,), pass_ns=(1,)),)


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return make_held_out(TASK, 6, 6, 0)


def train(
    held_out: HeldOut,
    sink: ListSink,
    phases: tuple[Phase, ...],
    directory: Path | None = None,
    stop: Callable[[], str | None] = lambda: None,
    fixed: Any = None,
) -> Outcome:
    kept = None if directory is None else Checkpoints(directory, CheckpointPolicy(every_seconds=0.0))
    trainer = Trainer(
        MODEL, phases, (0, 1), EVALUATORS, [held_out] * len(phases), sink, kept, stop, fixed=fixed,
        start_from_fixed=fixed is not None,
    )  # fmt: skip
    return trainer.run()


def stop_after(boundaries: int) -> Callable[[], str | None]:
    calls = iter(range(1, 100))
    return lambda: "asked to" if next(calls) >= boundaries else None


@pytest.mark.slow
def test_a_second_phase_of_it_is_the_same_bits_however_often_it_is_stopped(
    held_out: HeldOut, tmp_path: Path
) -> None:
    """The reference of the divergence, the parameters after pre-training, is saved with the state."""
    phases, sink = (PRETRAIN, RL), ListSink()
    whole = train(held_out, sink, phases)
    pieces, stops = ListSink(), 0
    while True:
        outcome = train(held_out, pieces, phases, tmp_path, stop_after(4))
        if outcome.stopped is None:
            break
        stops += 1
    assert stops >= 1
    jax.tree.map(np.testing.assert_array_equal, outcome.params, whole.params)
    assert pieces.records == sink.records
    rewards = {r["step"]: r["train/reward"] for r in sink.records if r["seed"] == 0 and "train/reward" in r}
    assert set(rewards) == {10, 15, 20, 30}
    assert all("train/reward" not in r for r in sink.records if r["phase"] == "pretrain")
    found = [r for r in sink.records if r["phase"] == "rl" and "eval/pass/1" in r]
    exact, other = ({r["step"]: r["eval/pass/1"] for r in found if r["seed"] == seed} for seed in (0, 1))
    assert exact[30] > exact[0] + 0.2
    assert exact[30] != other[30]


def test_from_fixed_parameters_they_are_start_and_reference(held_out: HeldOut) -> None:
    """A strong pull towards the fixed parameters keeps the model there; the phase above moves it by .2."""
    fixed = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), class_blind_params(0.3, 0.4, MODEL))
    source = OnPolicy(MODEL, per_prompt=4, updates_per_batch=2)
    near = dataclasses.replace(RL, objective=PolicyGradient(kl_weight=50.0), source=source)
    sink = ListSink()
    train(held_out, sink, (near,), fixed=fixed)
    exact = {r["step"]: r["eval/pass/1"] for r in sink.records if r["seed"] == 0 and "eval/pass/1" in r}
    assert exact[0] == pytest.approx(0.9 * 0.3 + 0.1 * 0.4, abs=1e-4)
    assert 0 < abs(exact[30] - exact[0]) < 0.1
