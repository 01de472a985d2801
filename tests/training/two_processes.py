"""One of two processes of tests/training/test_devices_processes.py: trains; the first writes results.

Arguments: index of the process, port of the first process, folder. The folder holds `one/` and `one.json`,
the checkpoint and the records of a stopped run of a single process.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from oracles.toy import TabularModel, ToyTask, fuse_step

from covlab.launch.processes import Place, start
from metrics.evaluators import DistributionEvaluator, HeldOut, SamplingEvaluator, make_held_out
from tracking import ListSink
from training import (
    CheckpointPolicy,
    Checkpoints,
    CrossEntropy,
    EvaluationSchedule,
    Layout,
    Phase,
    Trainer,
    TrainingDiverged,
)
from training.follower import SilentCheckpoints, SilentSink
from training.processes import end, leads, share

# What an average gets wrong when it is a sum: momentum, and clipping at a norm that is reached.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.5, momentum=0.9))
PHASE = Phase("p", ToyTask(), CrossEntropy(), OPTIMIZER, 20, 8, None, EvaluationSchedule(every=10), 5)
EVALUATORS = (
    DistributionEvaluator(coverage_ns=(2,), pass_ns=(1,)),
    SamplingEvaluator(num_samples=4, pass_ns=(1, 4)),
)
POLICY = CheckpointPolicy(every_seconds=0.0)


def held_out() -> HeldOut:
    """Ten examples in four batches, the last one half padding."""
    return make_held_out(PHASE.task, 5, 3, 0)


def run(
    seeds: tuple[int, ...],
    layout: Layout,
    directory: Path | None = None,
    stop_at: int = 99,
    phase: Phase = PHASE,
    model: TabularModel = TabularModel(),  # noqa: B008
    asked: bool = True,
    before: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Train after the records `before`, and stop at boundary `stop_at` if `asked`.

    Returns the output of the sink and the outcome.
    """
    calls = iter(range(1, 100))
    sink = ListSink()
    sink.metrics(before)
    checkpoints = SilentCheckpoints(POLICY) if directory is None or not leads() else None
    if checkpoints is None and directory is not None:
        checkpoints = Checkpoints(directory, POLICY)
    trainer = Trainer(
        model, (phase,), seeds, EVALUATORS, (held_out(),), sink if leads() else SilentSink(), checkpoints,
        lambda: "asked to" if next(calls) >= stop_at and asked else None, table_prompts=2, layout=layout,
    )  # fmt: skip
    stopped = diverged = None
    try:
        stopped = trainer.run().stopped
    except TrainingDiverged as error:
        diverged = str(error)
    scores = {name: arrays["log_prob"].tolist() for name, arrays in sink.log_probs.items()}
    return {
        "records": sink.records,
        "messages": sink.messages,
        "tables": sink.tables,
        "scores": scores,
        "stopped": stopped,
        "diverged": diverged,
        "failed": {str(seed): list(where) for seed, where in trainer.failed.items()},
    }


def both(process: int, folder: Path) -> dict[str, Any]:
    """All commands of the two processes."""
    poison = dataclasses.replace(PHASE, optimizer=fuse_step(0.5))
    seeds, data = Layout(2, 1), Layout(1, 2)
    # Only the second process is asked to stop.
    stopped = run((3, 4), seeds, folder / "two", stop_at=3, asked=process == 1)
    alone = json.loads((folder / "one.json").read_text())
    return {
        "shared": share([process, "word"]),
        "seeds": run((3, 4), seeds),
        "data": run((3,), data),
        "diverged": run((3, 4), seeds, phase=poison, model=TabularModel(poisoned=(4,))),
        "all diverged": run((3,), data, phase=poison, model=TabularModel(poisoned=(3,))),
        "stopped": stopped,
        "resumed": run((3, 4), seeds, folder / "two", before=stopped["records"]),
        "continued": run((3, 4), seeds, folder / "one", before=alone["records"]),
    }


if __name__ == "__main__":
    number, port, place = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jax.config.update("jax_platforms", "cpu")
    start(Place(f"localhost:{port}", 2, number, None), {})
    found = both(number, place)
    assert np.asarray(jax.process_count()) == 2
    if leads():
        (place / "found.json").write_text(json.dumps(found))
    assert end(0, 60.0)
