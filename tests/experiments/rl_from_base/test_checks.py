"""The checks on reinforcement learning from the base, on hand-made measurements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, known_answers, two

from experiments.rl_from_base.checks import as_derived, checks, notes
from experiments.rl_from_base.measure import DISTIL, RL, TUNED_RL, Measurements, Route, ratio_ranks

STARTS = 5
Value = float | tuple[float, float]


def table(*values: Value) -> np.ndarray:
    """(2 seeds, starts): each value is a number, or (mean, spread) of the seeds."""
    return np.stack([two(*v) if isinstance(v, tuple) else two(v) for v in values], axis=1)


def route(before: np.ndarray, after: np.ndarray, many: np.ndarray, later: np.ndarray, cov: Any) -> Route:
    shape = before.shape
    covered = np.stack([np.broadcast_to(cov, shape), np.full(shape, 0.2)], axis=-1)
    ones, ends = np.stack([before, after], axis=-1), np.stack([many, later], axis=-1)
    return Route(np.array([0, 10]), ones, ends, covered, np.ones((*shape, 2)))


def made(**changes: Any) -> Measurements:
    """Two seeds, five starts. From the base Pass@32 rises at the first four starts, where it was below .8,
    and falls at the last. After fine-tuning it falls everywhere. Cov_32 orders all ten starts as Pass@1 after
    does."""
    given: dict[str, Any] = {
        "rise": (0.1, 0.001),
        "tuned_1": (0.1, 0.002),
        "tuned_k": (-0.1, 0.003),
        "top": (0.8, 0.001),
        "distil_1": (0.05, 0.002),
        "distil_k": (-0.2, 0.004),
        "early": None,
        "cov": 1.0,
        "cov_tuned": 1.0,
        "before": (0.2, 0.15, 0.1, 0.05, 0.0),
        "lost": (0.1, 0.2, 0.3, 0.4, 0.5),
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    mean, spread = given["rise"] if isinstance(given["rise"], tuple) else (given["rise"], 0.0)
    ends = table(0.3, 0.35, 0.4, 0.45, 0.5)
    before = table(*given["before"])
    many = table(0.1, 0.3, 0.5, 0.7, 0.95)
    shifts = np.array([0.2, 0.2, 0.1, 0.1, -0.6]) if given["early"] is None else given["early"]
    # The shifts sum to 0, so that the mean change is `rise`.
    later = many + table(*[(float(shift) + mean, spread) for shift in shifts])
    base = route(before, ends, many, later, given["cov"] * table(0.9, 0.8, 0.7, 0.6, 0.5))
    after = table(0.55, 0.6, 0.65, 0.7, given["top"])
    # The sum of the moves is 5 times `tuned_1`, whatever the ends.
    moves = table(*[given["tuned_1"]] * STARTS)
    tuned_many = table(*[0.95] * STARTS)
    tuned = route(
        after - moves, after, tuned_many, tuned_many + table(*[given["tuned_k"]] * STARTS),
        given["cov_tuned"] * table(0.4, 0.3, 0.2, 0.1, 0.0),
    )  # fmt: skip
    more = table(*[given["distil_1"]] * STARTS)
    last = table(0, 0, 0, 0, given["distil_k"])
    distil = route(before, ends + more, many, many + last, 0.5)
    return Measurements(
        (1, 2), (1, 2, 3, 4, 5), (0.01, 0.1, 0.3, 0.5, 1.0), 32, 32.0, 0.8,
        {RL: base, TUNED_RL: tuned, DISTIL: distil}, table(*given["lost"]), table(*[0.1] * STARTS),
        given["excess"],
    )  # fmt: skip


PERFECT = (0.01, 0.02, 0.03, 0.04, 0.05)
"""Pass@1 of the base's starts in the order of Pass@1 after."""
TIED = 0.8876253645985944
"""Rank correlation of ten starts with Pass@32 before, whose last six are tied: ranks 1 to 4, then 7.5."""
CHECKS = {
    "RL from the base: change of Pass@32, mean over the starts": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.001, True),
        Case({"rise": (0.01, 0.001)}, 0.01, 0.001, False),
        Case({"rise": 0.0}, 0.0, 0, False),
    ),
    "fine-tuning, then RL: change of Pass@1 by RL, mean over the starts": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.002, True),
        Case({"tuned_1": (0.01, 0.001)}, 0.01, 0.001, False),
        Case({"tuned_1": 0.0}, 0.0, 0, False),
    ),
    "fine-tuning, then RL: change of Pass@32 by RL, mean over the starts": Known(
        "upper end of the interval <= 0",
        Case({}, -0.1, 0.003, True),
        Case({"tuned_k": (-0.01, 0.001)}, -0.01, 0.001, False),
        Case({"tuned_k": 0.0}, 0.0, 0, True),
    ),
    "the same: RL from the base minus fine-tuning, then RL": Known(
        "lower end of the interval > 0",
        Case({"tuned_k": (-0.1, 0.001)}, 0.2, 0, True),
        Case({"tuned_k": (0.09, 0.002)}, 0.01, 0.001, False),
        Case({"tuned_k": (0.1 + 1e-6, 0.001)}, -1e-6, 0, False),
    ),
    "share of runs that expand below, and sharpen above, Pass@32 = 0.8 before RL": Known(
        "lower end of the interval >= 0.9",
        Case({}, 1.0, 0, True),
        # The five starts after fine-tuning expand from .95.
        Case({"tuned_k": 0.01}, 0.5, 0, False),
        # One of ten starts falls from .7.
        Case({"early": (0.2, 0.2, 0.1, -0.15, -0.35)}, 0.9, 0, True),
    ),
    "Pass@1 after a route minus the best without telling classes apart, largest": Known(
        "upper end of the interval <= 0.03",
        Case({}, 0.0, 0.001, True),
        Case({"top": (0.82, 0.001)}, 0.02, 0.001, False),
        Case({"top": 0.83}, 0.03, 0, True),
    ),
    "on-policy distillation minus RL from the base: Pass@1 after, mean over the starts": Known(
        "lower end of the interval > 0",
        Case({}, 0.05, 0.002, True),
        Case({"distil_1": (0.01, 0.001)}, 0.01, 0.001, False),
        Case({"distil_1": 0.0}, 0.0, 0, False),
    ),
    "on-policy distillation from the last start: fall of Pass@32": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.004, True),
        Case({"distil_k": (-0.01, 0.001)}, 0.01, 0.001, False),
        Case({"distil_k": 0.0}, 0.0, 0, False),
    ),
    "rank correlation of a lower Cov_32 before RL with a higher Pass@1 after it": Known(
        "lower end of the interval > 0",
        Case({}, 1.0, 0, True),
        Case({"cov": -1.0, "cov_tuned": -1.0}, -1.0, 0, False),
        # Constant coverage orders nothing.
        Case({"cov": 0.0, "cov_tuned": 0.0}, 0.0, 0, False),
    ),
    "the same minus that of Pass@1 before RL": Known(
        "lower end of the interval > 0",
        Case({}, 1 - 25 / 33, (0.04474986393323655, 0.7632177552610673), True),
        Case({"cov": 0.0, "cov_tuned": 0.0}, -25 / 33, (-0.9552501360667635, -0.23678224473893272), False),
        Case({"before": PERFECT}, 0.0, 0, False),
    ),
    # Half of the starts share a Pass@32 of .95.
    "the same minus that of Pass@32 before RL": Known(
        "lower end of the interval >= -0.1",
        Case({}, 1 - TIED, (0.028714137642735782, 0.3274182667372275), True),
        Case({"cov": 0.0, "cov_tuned": 0.0}, -TIED, (-0.9712858623572642, -0.6725817332627725), False),
        # Coverage that ties where Pass@32 does: the least resample is a difference of 0.
        Case({"cov_tuned": 0.0}, 0.9374368665611612 - TIED, (0.0, 0.20401341783247817), True),
    ),
    "after fine-tuning: that of Cov_32 minus that of rho_32": Known(
        "lower end of the interval > 0",
        Case({}, 2.0, 0, True),
        Case({"cov_tuned": 0.0, "lost": (0.5, 0.4, 0.3, 0.2, 0.1)}, -1.0, 0, False),
        Case({"lost": (0.5, 0.4, 0.3, 0.2, 0.1)}, 0.0, 0, False),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_runs_that_decide_nothing_are_not_counted() -> None:
    """Stuck starts, and starts next to the threshold; a seed without any has no number, and leaves the check
    open where fewer than two seeds have one."""
    ones = np.array([[0.0, 0.5, 0.04], [0.0, 0.5, 0.04]])
    many = np.array([[0.1, 0.5, 0.9], [0.1, 0.77, 0.9]])
    base = route(0 * ones, ones, many, many - 0.01, 0.5)
    routes = {RL: base, TUNED_RL: base, DISTIL: base}
    sure = Measurements(
        (1, 2), (1, 2, 3), (0.1, 0.5, 1.0), 32, 32.0, 0.8, routes, many, many, 0.0
    )  # fmt: skip
    found = as_derived(sure)
    assert found[0] == 0
    assert math.isnan(found[1])
    (check,) = [each for each in checks(sure) if each.name.startswith("share of runs")]
    assert (check.measured, check.state) == (None, "open")


def test_the_order_of_the_coverage_ratio() -> None:
    lost, gained = np.array([0.0, 1.0, 0.0, 3.0]), np.array([0.0, 0.0, 2.0, 1.0])
    np.testing.assert_allclose(ratio_ranks(lost, gained), [0.5, 1.0, 0.0, 0.75])


def test_notes_name_starts_and_predictors() -> None:
    written = notes(made())
    assert "1 %: Pass@1 +0.100 [+0.100, +0.100], Pass@32 +0.300" in written[0]
    assert written[-2].startswith("Rank correlation with Pass@1 after it, fine-tuning, then RL: Pass@1 +1.00")
    assert "rho_32 -1.00" in written[-2]
    assert "change of Pass@1, on-policy distillation: Pass@1 -1.00" in written[-1]
