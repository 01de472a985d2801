"""Checks of experiments.early_warning, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from covlab.report.verdict import Check, above, at_least, check_interval
from experiments.early_warning.judging import interval
from experiments.early_warning.measure import Measurements

LEAST_TASKS = 3
"""Tasks in which the event must happen: of fewer nothing can be said about others."""
SENSITIVITY, FALSE_ALARMS = 0.5, 0.1


def checks(results: Measurements) -> list[Check]:
    """The claim's checks, written down before the seeds of the verdict were drawn. Thresholds for a task come
    from its quiet runs at other seeds: the share of lost responses when nothing is wrong differs from task to
    task, and thresholds from other tasks, which were judged before, do not carry over.

    1. The event happens in some tasks and not in all runs: else nothing is judged.
    2. An alarm says more than chance: precision above the base rate, the whole interval.
    3. At least half of the evaluations with an event raise an alarm.
    4. At most a tenth of those without do: twice what thresholds allow on the quiet runs, because a
       threshold from other seeds and settings carries over only roughly.
    5. The usual watch, an alarm where cross-entropy rises above its lowest, misses these: sensitivity beyond
       its own at the same rate of false alarms, the whole interval. (The areas under the curve are in the
       table and no check: a cross-entropy that has stopped falling ranks late evaluations first, where the
       events are, though no watch over it would alarm.)
    """
    rates = results.rule.rates
    precision = interval(rates.precision - rates.base_rate)
    beyond = interval(rates.sensitivity - results.baseline.rates.sensitivity)
    false = interval(rates.false_alarm_rate)
    return [
        at_least("tasks in which the event happens", float(len(event_tasks(results))), LEAST_TASKS),
        at_least("runs without an event", float(quiet_runs(results)), len(results.pool.tasks)),
        above("precision minus base rate", precision, 0),
        check_interval("sensitivity", interval(rates.sensitivity), ">=", SENSITIVITY),
        check_interval("false-alarm rate", false, "<=", FALSE_ALARMS),
        above("sensitivity minus that of a rise of the cross-entropy", beyond, 0),
    ]


def event_tasks(results: Measurements) -> list[str]:
    """Tasks with an event in some run."""
    pool = results.pool
    return [name for i, name in enumerate(pool.tasks) if pool.event[pool.task == i].any()]


def quiet_runs(results: Measurements) -> int:
    """Seeds of runs without an event."""
    return sum(outcome.event is None for outcome in results.outcomes)


def leads(results: Measurements) -> Float[np.ndarray, " runs"]:
    """Evaluations by which the alarm was before the event, of the runs with both."""
    return np.array([outcome.lead for outcome in results.outcomes if outcome.lead is not None], np.float64)


def notes(results: Measurements) -> list[str]:
    """Sentences on the limits of the verdict."""
    truth, rule = results.truth, results.statistics[results.judged]
    outcomes = results.outcomes
    both = leads(results)
    happened = [item for item in outcomes if item.event is not None]
    said = [
        f"Event at an evaluation: some earlier one has a higher cross-entropy and a lower Cov_N, N in "
        f"{', '.join(f'{n:g}' for n in truth.ns)}, each difference less {truth.z:g} paired "
        f"standard errors beyond its margin ({truth.kl_margin:g} nats, {truth.coverage_margin:g}).",
        f"The judged statistic is {rule}, chosen on other seeds; thresholds, each from the quiet runs of the "
        f"task, all seeds together: "
        + ", ".join(f"{name} {value:.4g}" for name, value in results.rule.thresholds.items())
        + ".",
        "Every evaluation is judged by quiet runs of other seeds than its own. Every task counts the same. "
        "Intervals: bootstrap over tasks and, within tasks, runs, thresholds chosen anew; with few tasks "
        "they are rough.",
        f"Runs (seeds counted one by one): {len(happened)} of {len(outcomes)} have an event, "
        f"{sum(outcome.alarm is not None for outcome in happened)} of these an alarm; of the "
        f"{len(outcomes) - len(happened)} others "
        f"{sum(item.alarm is not None for item in outcomes if item.event is None)} have one.",
    ]
    if both.size:
        said.append(
            f"Where both happen, the first alarm is {np.median(both):g} evaluations before the first event "
            f"(median; {int((both < 0).sum())} of {both.size} come after it)."
        )
    if results.recorded is not None:
        number = len({run.run for run in results.recorded.watched})
        said.append(
            f"{number} recorded runs are judged beside the zoo, by its thresholds; no check rests on them."
        )
    if results.left_out:
        listed = "; ".join(f"{name} ({why})" for name, why in results.left_out.items())
        said.append(f"Recorded runs left out: {listed}.")
    return said
