"""Judging early warnings by thresholds from quiet runs of the same task, at other seeds than the judged one.

A task without a quiet run is judged by thresholds from the evaluations without an event of the other tasks.
Every task counts the same: an evaluation weighs 1 over the number of its task's evaluations. Intervals are a
bootstrap of two levels: tasks are drawn with replacement, and within each task its runs; every resample
chooses its thresholds anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.early_warning.watching import Watched
from metrics import Interval
from metrics.alarms import Rates, area_under_curve, rates, thresholds
from tasks import numpy_stream


@dataclasses.dataclass(frozen=True)
class Pool:
    """Evaluations of many runs, each run's first one left out: it has none before it.

    Attributes:
        tasks: names, in alphabetical order; task: index of each evaluation's.
        run: index into `watched` of each evaluation's.
        at: index of the evaluation within its run.
        scores: of every statistic.
        event: at any N.
        watched: seeds of runs.
        seed: of training, of each evaluation's run.
        quiet: evaluations of quiet runs.
    """

    tasks: tuple[str, ...]
    task: Int[np.ndarray, " evaluations"]
    run: Int[np.ndarray, " evaluations"]
    at: Int[np.ndarray, " evaluations"]
    scores: Float[np.ndarray, "statistics evaluations"]
    event: Bool[np.ndarray, " evaluations"]
    watched: tuple[Watched, ...]
    seed: Int[np.ndarray, " evaluations"]
    quiet: Bool[np.ndarray, " evaluations"]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """One statistic, each task judged by its quiet runs; the first of each row of numbers is the estimate,
    the others are resamples.

    Attributes:
        thresholds: task -> what a score must exceed by the quiet runs of all seeds.
        alarms: of the estimate, an evaluation each.
        rates: over all tasks.
        area: under the curve, over all tasks.
    """

    thresholds: dict[str, float]
    alarms: Bool[np.ndarray, " evaluations"]
    rates: Rates
    area: Float[np.ndarray, " rows"]


def pool_of(watched: Sequence[Watched]) -> Pool:
    """All evaluations but the runs' first ones."""
    tasks = tuple(sorted({run.task for run in watched}))
    sizes = [len(run.steps) - 1 for run in watched]
    return Pool(
        tasks,
        np.repeat([tasks.index(run.task) for run in watched], sizes),
        np.repeat(np.arange(len(watched)), sizes),
        np.concatenate([np.arange(1, size + 1) for size in sizes]),
        np.concatenate([run.scores[:, 1:] for run in watched], axis=1),
        np.concatenate([run.event[1:] for run in watched]),
        tuple(watched),
        np.repeat([run.seed for run in watched], sizes),
        np.repeat([run.quiet for run in watched], sizes),
    )


def balanced(pool: Pool, counts: Float[np.ndarray, "rows runs"]) -> Float[np.ndarray, "rows evaluations"]:
    """Weights under which every task that is there counts the same, given how often each run is there."""
    weights = counts[:, pool.run].astype(np.float64)
    for index in range(len(pool.tasks)):
        of_task = pool.task == index
        total = weights[:, of_task].sum(axis=1, keepdims=True)
        weights[:, of_task] /= np.where(total > 0, total, 1.0)
    return weights


def resampled(pool: Pool, resamples: int) -> Float[np.ndarray, "rows evaluations"]:
    """Weights of the pool itself, then of its resamples.

    A task that is drawn k times weighs k-fold, with one draw of its runs; draws of one task alone are drawn
    again. Stream: (0, "early_warning", "bootstrap").
    """
    rng = numpy_stream(0, "early_warning", "bootstrap")
    counts = np.ones((resamples + 1, len(pool.watched)))
    times = np.ones((resamples + 1, len(pool.tasks)))
    size = len(pool.tasks)
    for row in range(1, resamples + 1):
        times[row] = 0
        # A single task has no other one to choose its threshold on.
        while np.count_nonzero(times[row]) < 2:
            times[row] = rng.multinomial(size, np.full(size, 1 / size))
    for name in pool.tasks:
        of_task = np.flatnonzero([run.task == name for run in pool.watched])
        counts[1:, of_task] = rng.multinomial(
            of_task.size, np.full(of_task.size, 1 / of_task.size), size=resamples
        )
    return balanced(pool, counts) * times[:, pool.task]


def judge(
    pool: Pool, scores: Float[np.ndarray, " evaluations"], weights: Float[np.ndarray, "rows evaluations"],
    rate: float,
) -> Judgement:  # fmt: skip
    """Alarms of every task by thresholds that keep alarms of its quiet runs, of other seeds than the judged
    one, at `rate` or less. Whether an evaluation of a quiet run has an event is not asked: who sets a
    threshold does not know."""
    alarms = np.zeros(weights.shape, bool)
    first_limits = {}
    for index, name in enumerate(pool.tasks):
        of_task = pool.task == index
        own = of_task & pool.quiet
        sources = [(of_task & (pool.seed == seed), own & (pool.seed != seed)) for seed in set(pool.seed)]
        if not own.any():
            own = ~of_task & ~pool.event
            sources = [(of_task, own)]
        for at, source in sources:
            limits = thresholds(scores[source], weights[:, source], rate)
            alarms[:, at] = scores[at] > limits[:, None]
        first_limits[name] = float(thresholds(scores[own], weights[:1, own], rate)[0])
    area = area_under_curve(scores, pool.event, weights)
    return Judgement(first_limits, alarms[0], rates(alarms, pool.event, weights), area)


def interval(rows: Float[np.ndarray, " rows"]) -> Interval:
    """The first number with the 95 % percentile interval of the others; resamples without an event or without
    an alarm, which have no such number, do not count."""
    kept = rows[1:][np.isfinite(rows[1:])]
    if not kept.size:
        return Interval(float(rows[0]), float("nan"), float("nan"))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(float(rows[0]), float(low), float(high))


@dataclasses.dataclass(frozen=True)
class RunOutcome:
    """A run's first event and first alarm, indices of evaluations; None where there is none."""

    watched: Watched
    event: int | None
    alarm: int | None

    @property
    def lead(self) -> int | None:
        """Number of evaluations from the alarm to the event; negative if the alarm is later."""
        return None if self.event is None or self.alarm is None else self.event - self.alarm


def outcomes(pool: Pool, alarms: Bool[np.ndarray, " evaluations"]) -> list[RunOutcome]:
    """One for each seed of each run."""

    def first(index: int, marks: np.ndarray) -> int | None:
        at = pool.at[(pool.run == index) & marks]
        return int(at[0]) if at.size else None

    return [RunOutcome(run, first(i, pool.event), first(i, alarms)) for i, run in enumerate(pool.watched)]


def with_limits(
    pool: Pool, scores: Float[np.ndarray, " evaluations"], limits: dict[str, float], default: float
) -> Bool[np.ndarray, " evaluations"]:
    """Alarms of other runs by thresholds that are given, `default` for a task that has none."""
    of_task = np.array([limits.get(name, default) for name in pool.tasks])
    return np.asarray(scores > of_task[pool.task])
