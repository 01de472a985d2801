"""What the claim on early warnings asks, and the numbers that answer it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from covlab.report.verdict import Check, check_interval, check_value
from experiments.early_warning.judging import (
    Judgement,
    Pool,
    RunOutcome,
    interval,
    judge,
    outcomes,
    pool_of,
    resampled,
)
from experiments.early_warning.watching import Truth, Watched
from metrics.early_warning import BASELINE, Statistic

LEAST_TASKS = 3
"""Tasks in which the event must happen: fewer leave nothing to choose thresholds on."""
SENSITIVITY, FALSE_ALARMS = 0.5, 0.1


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        pool: evaluations of the runs that were trained for this, or of the recorded ones where none were.
        recorded: of other runs, judged by thresholds of the pool; None without any.
        left_out: recorded runs that could not be judged, and why.
        statistics, judged: all, and the index of the one that the checks are about.
        judgements: of every statistic on the pool, each task left out.
        truth, rate: as they were set.
    """

    pool: Pool
    recorded: Pool | None
    left_out: Mapping[str, str]
    statistics: tuple[Statistic, ...]
    judged: int
    judgements: tuple[Judgement, ...]
    truth: Truth
    rate: float

    @property
    def rule(self) -> Judgement:
        """Of the judged statistic."""
        return self.judgements[self.judged]

    @property
    def baseline(self) -> Judgement:
        """Of the watch over cross-entropy."""
        return self.judgements[[each.kind for each in self.statistics].index(BASELINE)]

    @property
    def outcomes(self) -> list[RunOutcome]:
        """Of the judged statistic, a seed of a run each."""
        return outcomes(self.pool, self.rule.alarms)


def measure(
    trained: Sequence[Watched],
    recorded: Sequence[Watched],
    left_out: Mapping[str, str],
    statistics: tuple[Statistic, ...],
    judged: int,
    truth: Truth,
    rate: float,
    resamples: int,
) -> Found:
    """Judge every statistic.

    Raises:
        ValueError: fewer than two tasks, of which none can be left out.
    """
    first, second = (trained, recorded) if trained else (recorded, ())
    if len({each.task for each in first}) < 2:
        raise ValueError(
            f"runs: {len(first)} seeds of {len({each.task for each in first})} tasks; valid: two tasks or "
            f"more, because thresholds for a task come from the others"
        )
    pool = pool_of(first)
    weights = resampled(pool, resamples)
    judgements = tuple(judge(pool, scores, weights, rate) for scores in pool.scores)
    others = pool_of(second) if second else None
    return Found(pool, others, left_out, statistics, judged, judgements, truth, rate)


def checks(found: Found) -> list[Check]:
    """Written down before the seeds of the verdict were drawn.

    1. The event happens in some tasks and not in all runs: else nothing is judged.
    2. An alarm says more than chance: precision above the base rate, the whole interval.
    3. At least half of the evaluations with an event raise an alarm.
    4. At most a tenth of those without do: twice what thresholds allow on the other tasks, because a
       threshold from other tasks carries over only roughly.
    5. The usual watch, an alarm where cross-entropy rises above its lowest, misses these: sensitivity beyond
       its own at the same rate of false alarms, the whole interval. (The areas under the curve are in the
       table and no check: a cross-entropy that has stopped falling ranks late evaluations first, where the
       events are, though no watch over it would alarm.)
    """
    rates, baseline = found.rule.rates, found.baseline
    return [
        check_value("tasks in which the event happens", float(len(event_tasks(found))), ">=", LEAST_TASKS),
        check_value("runs without an event", float(quiet_runs(found)), ">=", len(found.pool.tasks)),
        check_interval(
            "precision minus base rate, each task left out", interval(rates.precision - rates.base_rate),
            ">", 0, on="low",
        ),
        check_interval("sensitivity, each task left out", interval(rates.sensitivity), ">=", SENSITIVITY),
        check_interval(
            "false-alarm rate, each task left out", interval(rates.false_alarm_rate), "<=", FALSE_ALARMS
        ),
        check_interval(
            "sensitivity minus that of a rise of the cross-entropy",
            interval(rates.sensitivity - baseline.rates.sensitivity),
            ">",
            0,
            on="low",
        ),
    ]  # fmt: skip


def event_tasks(found: Found) -> list[str]:
    """Tasks with an event in some run."""
    pool = found.pool
    return [name for i, name in enumerate(pool.tasks) if pool.event[pool.task == i].any()]


def quiet_runs(found: Found) -> int:
    """Seeds of runs without an event."""
    return sum(each.event is None for each in found.outcomes)


def leads(found: Found) -> Float[np.ndarray, " runs"]:
    """Evaluations by which the alarm was before the event, of the runs with both."""
    return np.array([each.lead for each in found.outcomes if each.lead is not None], np.float64)


def notes(found: Found, worked: float) -> list[str]:
    """What to keep in mind."""
    truth, rule = found.truth, found.statistics[found.judged]
    own = found.outcomes
    both = leads(found)
    happened = [each for each in own if each.event is not None]
    said = [
        f"Event at an evaluation: some earlier one has a higher cross-entropy and a lower Cov_N, N in "
        f"{', '.join(f'{n:g}' for n in truth.ns)}, each difference less {truth.z:g} paired "
        f"standard errors beyond its margin ({truth.kl_margin:g} nats, {truth.coverage_margin:g}).",
        f"The judged statistic is {rule}, chosen on other seeds; thresholds, each from the other tasks: "
        + ", ".join(f"{name} {value:.4g}" for name, value in found.rule.thresholds.items())
        + ".",
        "Every task counts the same. Intervals: bootstrap over tasks and, within tasks, runs, thresholds "
        "chosen anew; with few tasks they are rough.",
        f"Runs (seeds counted one by one): {len(happened)} of {len(own)} have an event, "
        f"{sum(each.alarm is not None for each in happened)} of these an alarm; of the "
        f"{len(own) - len(happened)} others "
        f"{sum(each.alarm is not None for each in own if each.event is None)} have one.",
    ]
    if both.size:
        said.append(
            f"Where both happen, the first alarm is {np.median(both):g} evaluations before the first event "
            f"(median; {int((both < 0).sum())} of {both.size} come after it)."
        )
    if found.recorded is not None:
        said.append(
            f"{len({each.run for each in found.recorded.watched})} recorded runs are judged beside the zoo, "
            f"by its thresholds; no check rests on them."
        )
    if found.left_out:
        said.append(
            "Recorded runs left out: "
            + "; ".join(f"{name} ({why})" for name, why in found.left_out.items())
            + "."
        )
    said.append(f"Training and evaluation took {worked:.0f} s.")
    return said
