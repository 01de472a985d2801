"""Reading the runs of a comparison and cutting them to one phase; unusable runs are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.launch.found_runs import Head, Problem, read_all
from covlab.launch.healthy import every_seed_diverged
from tracking.quick import Columns, read_columns
from tracking.run_directory import RunStatus


@dataclasses.dataclass(frozen=True)
class Run:
    """One run's records of the compared phase, checkpoints in the order of training.

    Attributes:
        head: name, configuration, state.
        phase: the phase, or "all".
        seeds: the seeds with records.
        diverged: seeds that stopped before the others.
        step, global_step: steps of the checkpoints.
        values: metric -> (seeds, checkpoints), NaN where there is no record.
    """

    head: Head
    phase: str
    seeds: tuple[int, ...]
    diverged: frozenset[int]
    step: Int[np.ndarray, " checkpoints"]
    global_step: Int[np.ndarray, " checkpoints"]
    values: dict[str, Float[np.ndarray, "seeds checkpoints"]]


def read_runs(
    heads: Sequence[Head], metrics: Sequence[str], phase: str | None, show: bool = True
) -> tuple[list[Run], list[Problem]]:
    """The columns `metrics` of every run.

    Args:
        heads: the runs.
        metrics: columns of `metrics.jsonl`.
        phase: a phase's name; None for the last phase of each run's configuration; "all" for all phases.
        show: True to show progress if it takes longer than a few seconds.
    """

    def read(head: Head) -> Run | Problem:
        try:
            return _run(head, read_columns(head.path / "metrics.jsonl", metrics), phase)
        except ValueError as error:
            return Problem(head.name, str(error))

    return read_all(read, heads, "metrics", show)


def _run(head: Head, columns: Columns, phase: str | None) -> Run | Problem:
    if not columns.phase:
        return Problem(head.name, f"no metrics yet ({head.state})")
    order = {name: index for index, name in enumerate(dict.fromkeys(columns.phase))}
    wanted = (_last_phase(head.config) or columns.phase[-1]) if phase is None else phase
    if wanted != "all" and wanted not in order:
        return Problem(head.name, f"no record of phase {wanted} ({head.state}); it has {', '.join(order)}")
    ended = every_seed_diverged(RunStatus(head.state, head.reason))
    if ended and wanted in ("all", columns.phase[-1]):
        return Problem(head.name, f"every seed diverged in phase {columns.phase[-1]}")
    index = np.array([order[name] for name in columns.phase])
    kept: Bool[np.ndarray, " lines"] = (
        np.full(len(index), True) if wanted == "all" else index == order[wanted]
    )
    # Two phases share a global step at their seam, so a checkpoint is a phase and its step.
    place = np.stack([index, columns.step, columns.global_step])[:, kept]
    checkpoints, column = np.unique(place, axis=1, return_inverse=True)
    seeds, row = np.unique(columns.seed[kept], return_inverse=True)
    there = np.zeros((len(seeds), checkpoints.shape[1]), bool)
    there[row, column.reshape(-1)] = True
    values = {}
    for key, value in columns.values.items():
        values[key] = np.full(there.shape, np.nan)
        values[key][row, column.reshape(-1)] = value[kept]
    return Run(
        head,
        wanted,
        tuple(int(seed) for seed in seeds),
        frozenset(int(seed) for seed in seeds[_stopped_early(there, head.state)]),
        checkpoints[1],
        checkpoints[2],
        values,
    )


def _stopped_early(there: Bool[np.ndarray, "seeds checkpoints"], state: str) -> Bool[np.ndarray, " seeds"]:
    """Mask of the seeds that lack the last record; in a run in progress, which may be writing that line, the
    last two.
    """
    depth = 1 if state in ("complete", "stopped", "failed") else 2
    return np.asarray(~there[:, -depth:].any(axis=1))


def _last_phase(config: Mapping[str, Any]) -> str | None:
    """The last phase of a flat configuration; None if it has no phases."""
    if config.get("phases", {}) in ({}, None) and "phases" in config:
        return "train"
    names = [key.split(".")[1] for key in config if key.startswith("phases.")]
    return names[-1] if names else None
