"""TailSFT in a phase that is interrupted."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask

from metrics.evaluators import HeldOut, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    Outcome,
    Phase,
    TailSFT,
    Trainer,
)
from training.optimizers import adam

pytestmark = pytest.mark.long

TASK, TOY = ToyTask(), TabularModel()
PRETRAIN = Phase("pretrain", TASK, CrossEntropy(), adam(steps=4), 4, 4, None, EvaluationSchedule(0), 4)
TUNE = Phase(
    "tune", TASK, TailSFT(schedule="ramp"), adam(steps=24, learning_rate=0.05), 24, 8, 16,
    EvaluationSchedule(0), 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return make_held_out(TASK, 6, 6, 0)


def run(held_out: HeldOut, sink: ListSink, directory: Path | None = None, most: int = 99) -> Outcome:
    kept = None if directory is None else Checkpoints(directory, CheckpointPolicy(every_seconds=0.0))
    calls = iter(range(1, 100))
    trainer = Trainer(
        TOY, (PRETRAIN, TUNE), (0, 1), (), [held_out] * 2, sink, kept,
        lambda: "asked to" if next(calls) >= most else None,
    )  # fmt: skip
    return trainer.run()


def test_an_interrupted_phase_ends_in_the_same_bits(held_out: HeldOut, tmp_path: Path) -> None:
    """The parameters at the start of the phase are saved with the state."""
    sink, pieces, stops = ListSink(), ListSink(), 0
    whole = run(held_out, sink)
    while (outcome := run(held_out, pieces, tmp_path, 4)).stopped is not None:
        stops += 1
    assert stops >= 2
    jax.tree.map(np.testing.assert_array_equal, outcome.params, whole.params)
    assert pieces.records == sink.records
