"""The checks on early warnings, on hand-made measurements: what each reads off them, where a target lies."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import Case, Known, known_answers

from experiments.early_warning.checks import checks, event_tasks
from experiments.early_warning.judging import Judgement, Pool
from experiments.early_warning.measure import Measurements
from metrics.alarms import Rates
from metrics.early_warning import BASELINE, Statistic

TASKS = ("a", "b", "c", "d")
LOUD = (1, 0, 1, 0, 1, 0, 0, 0)
"""Runs that have an event, two of each task."""


def rows(estimate: float, low: float, high: float) -> np.ndarray:
    """An estimate and 41 resamples from low to high, of which the 2.5 % quantile is the second: it lies a
    fortieth of the way from the least to the largest."""
    return np.array([estimate, *np.linspace(low, high, 41)])


def made(**changes: Any) -> Measurements:
    """Eight runs with three judged evaluations each; the second statistic is judged, the third is the
    baseline."""
    given: dict[str, Any] = {
        "loud": LOUD,
        "precision": rows(0.7, 0.4, 0.8),
        "base_rate": rows(0.2, 0.1, 0.3),
        "sensitivity": rows(0.8, 0.5, 0.9),
        "false_alarms": rows(0.05, 0.01, 0.09),
        "baseline": rows(0.5, 0.1, 0.3),
    }
    assert changes.keys() <= given.keys()
    given |= changes
    event = np.zeros((8, 3), bool)
    event[:, 1] = event[:, 2] = np.array(given["loud"]) > 0
    run = np.repeat(np.arange(8), 3)
    watched = cast(Any, tuple(SimpleNamespace(run=i) for i in range(8)))
    nowhere = np.zeros(24, bool)
    pool = Pool(
        TASKS,
        run // 2,
        run,
        np.tile([1, 2, 3], 8),
        np.zeros((3, 24)),
        event.reshape(-1),
        watched,
        run % 2,
        nowhere,
    )
    other = rows(0.99, 0.98, 1.0)
    # All evaluations of the last two runs raise an alarm.
    alarms, area = run >= 6, rows(0.5, 0.4, 0.6)
    rule = Rates(given["sensitivity"], given["false_alarms"], given["precision"], given["base_rate"])
    judgements = (
        Judgement({}, alarms, Rates(other, other, other, other), area),
        Judgement({}, alarms, rule, area),
        Judgement({}, alarms, Rates(given["baseline"], other, other, other), area),
    )
    statistics = (Statistic("net_tournament", 4), Statistic("tournament", 4), Statistic(BASELINE))
    return Measurements(pool, None, {}, statistics, 1, judgements, cast(Any, None), 0.05)


CHECKS = {
    "tasks in which the event happens": Known(
        ">= 3",
        Case({"loud": (1, 1, 1, 1, 1, 1, 1, 0)}, 4, None, True),
        Case({"loud": (1, 1, 1, 1, 0, 0, 0, 0)}, 2, None, False),
        Case({}, 3, None, True),
    ),
    "runs without an event": Known(
        ">= 4",
        Case({}, 5, None, True),
        Case({"loud": (1, 1, 1, 1, 1, 0, 0, 0)}, 3, None, False),
        Case({"loud": (1, 1, 1, 0, 1, 0, 0, 0)}, 4, None, True),
    ),
    "precision minus base rate": Known(
        "lower end of the interval > 0",
        Case({}, 0.5, (0.305, 0.495), True),
        Case({"base_rate": rows(0.2, 0.6, 0.8)}, 0.5, (-0.195, -0.005), False),
        Case({"base_rate": rows(0.5, 0.4, 0.8)}, 0.2, (0.0, 0.0), False),
    ),
    "sensitivity": Known(
        ">= 0.5",
        Case({}, 0.8, (0.51, 0.89), True),
        Case({"sensitivity": rows(0.49, 0.5, 0.9)}, 0.49, (0.51, 0.89), False),
        Case({"sensitivity": rows(0.5, 0.1, 0.9)}, 0.5, (0.12, 0.88), True),
    ),
    "false-alarm rate": Known(
        "<= 0.1",
        Case({}, 0.05, (0.012, 0.088), True),
        Case({"false_alarms": rows(0.11, 0.01, 0.09)}, 0.11, (0.012, 0.088), False),
        Case({"false_alarms": rows(0.1, 0.05, 0.25)}, 0.1, (0.055, 0.245), True),
    ),
    "sensitivity minus that of a rise of the cross-entropy": Known(
        "lower end of the interval > 0",
        Case({}, 0.3, (0.405, 0.595), True),
        Case({"baseline": rows(0.1, 0.6, 1.0)}, 0.7, (-0.1, -0.1), False),
        Case({"baseline": rows(0.8, 0.5, 0.9)}, 0.0, (0.0, 0.0), False),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_resamples_without_the_number_do_not_count() -> None:
    some = np.array([0.7, np.nan, *np.linspace(0.4, 0.8, 41), np.nan])
    base = np.full(44, 0.2)
    (check,) = [each for each in checks(made(precision=some, base_rate=base)) if "precision" in each.name]
    assert check.interval == pytest.approx((0.21, 0.59))
    none = np.array([0.7, np.nan, np.nan])
    (check,) = [each for each in checks(made(precision=none, base_rate=base[:3])) if "prec" in each.name]
    assert check.interval is None
    assert not check.passed


def test_tasks_with_an_event_are_named() -> None:
    assert event_tasks(made(loud=(0, 1, 0, 0, 0, 0, 1, 0))) == ["a", "d"]
