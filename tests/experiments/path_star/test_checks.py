"""Path-star's checks on hand-made measurements: what each reads off them, and where its target lies."""

import math
from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import T2, Case, Known, bound, known_answers

from experiments.path_star import checks as path_star_checks
from experiments.path_star.checks import checks, interval, worst_pass
from experiments.path_star.measure import ArmScores, Measurements, Run
from metrics import Interval, proportion_interval

PROMPTS = 1024
LN2 = math.log(2)
INSIDE, OUTSIDE = math.log(1.6), math.log(2.5)
"""Ratios at which a prompt begins to count for Cov_N, with two arms and a factor of 1.25."""
BIT = 1 + 1e-10
"""Rounding: an edge at a number that is not a float is approached from inside."""


def scores(right: Any, wrong: Any = -math.inf, correct: int = 0) -> ArmScores:
    """Prompts with two arms of three tokens each, of which the second arm is right.

    Args:
        right, wrong: ln pi_hat of the arms' tokens; for all prompts, or for each.
        correct: the number of prompts whose right arm greedy decoding writes; it writes the other one else.
    """
    tokens = np.empty((PROMPTS, 2, 3))
    tokens[:, 1] = np.broadcast_to(np.asarray(right, float), (PROMPTS, 3))
    tokens[:, 0] = np.broadcast_to(np.asarray(wrong, float), (PROMPTS, 3))
    writes = np.arange(PROMPTS) < correct
    return ArmScores(tokens, np.stack([~writes, writes], axis=1), np.array([[False, True]] * PROMPTS))


def mixed(count: int, one: tuple[float, ...], other: tuple[float, ...]) -> np.ndarray:
    """Tokens of `count` prompts, and of all others."""
    return np.where(np.arange(PROMPTS)[:, None] < count, one, other)


HANS = (-0.02, -LN2 - 0.014, -0.01)
"""Clever Hans, but for .044 nats."""
OTHER = (-0.03, -LN2, -5.0)
DEFAULT = {
    "forward": (scores(HANS, OTHER, 520),) * 2,
    "reversed": (scores((-0.01, -0.02, -0.03), correct=PROMPTS),) * 2,
    "teacherless": (scores((-1.0, -2.0, -3.0)),) * 2,
    "multi_token": (scores(HANS, OTHER, 520),) * 2,
    "recurrent": (scores(HANS, OTHER, 520),) * 2,
}


def made(pass_ns: tuple[int, ...] = (1, 2), excess: float = -0.25, **last: Any) -> Measurements:
    """Both seeds of a run are alike where one is given."""
    runs = {}
    for name, own in zip(DEFAULT, (-0.5, excess, -0.75, -0.6, -0.7), strict=True):
        seeds = last.get(name, DEFAULT[name])
        seeds = seeds if isinstance(seeds, tuple) else (seeds, seeds)
        unused = cast(Any, None)
        runs[name] = Run(unused, {}, (), np.zeros((2, 1, 3)), seeds, own)
    return Measurements(2, 1.25, pass_ns, (1, 2), (), runs)


def forward(right: Any, wrong: Any = OTHER, correct: int = 520) -> dict[str, Any]:
    return {"forward": scores(right, wrong, correct)}


def backward(right: Any, correct: int = PROMPTS) -> dict[str, Any]:
    return {"reversed": scores(right, correct=correct)}


def of(run: str, right: Any, correct: int = 520) -> dict[str, Any]:
    return {run: scores(right, OTHER, correct)}


def chooses_no_better(run: str) -> dict[str, Known]:
    """The two one-sided checks of a run that may fail the look-up."""
    return {
        f"{run}: loss of the choice over ln d": Known(
            "lower end of the interval >= 0.95",
            Case({}, 1 + 0.014 / LN2, 0, True),
            Case(of(run, (-1, -0.9 * LN2, -1)), 0.9, 0, False),
            Case(of(run, (0, -0.95 * LN2 * BIT, 0)), 0.95, 0, True),
        ),
        f"{run}: accuracy minus 1/d": Known(
            "upper end of the interval <= 0.05",
            Case({}, 8 / 1024, around(520, 0.5), True),
            Case(of(run, HANS, correct=532), 20 / 1024, around(532, 0.5), False),
            Case(of(run, HANS, correct=531), 19 / 1024, around(531, 0.5), True),
        ),
    }


def around(count: int, shift: float = 0.0) -> tuple[float, float]:
    """The interval of a share of the prompts, from Clopper and Pearson's width, within [0, 1]."""
    own = proportion_interval(count, PROMPTS)
    half = (own.high - own.low) / 2
    return max(count / PROMPTS - half, 0) - shift, min(count / PROMPTS + half, 1) - shift


FOLLOWS = math.exp(-0.034) / 2 + math.exp(-0.03) / 2
# 1 - (1 - p)^2 - 3/4 with p = exp(-.044)/2 is farther from 0 than p - 1/2.
PASS = 0.25 - (1 - math.exp(-0.044) / 2) ** 2
TWICE = scores((-0.02, -LN2, -0.01)), scores((-0.04, -LN2, -0.01))
"""Two seeds: .02 and .04 nats for the first token."""
CHECKS = {
    "forward: mass of responses along an arm, last token left out": Known(
        "lower end of the interval >= 0.95",
        Case({}, FOLLOWS, 0, True),
        Case(forward((math.log(0.45), 0, 0), (math.log(0.49), 0, 0)), 0.94, 0, False),
        Case(forward((math.log(0.5), 0, -9), (math.log(0.45) * (2 - BIT), 0, -9)), 0.95, 0, True),
    ),
    "forward: loss of the costliest token but the choice (nats)": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.02, 0, True),
        # The mean is low enough, the seeds are too far apart.
        Case({"forward": TWICE}, 0.03, 0.01, False),
        Case(forward((-0.01, -9, -0.05 / BIT)), 0.05, 0, True),
    ),
    "forward: loss of the choice over ln d, from below": Known(
        "lower end of the interval >= 0.95",
        Case({}, 1 + 0.014 / LN2, 0, True),
        Case(forward((-1, -0.9 * LN2, -1)), 0.9, 0, False),
        Case(forward((0, -0.95 * LN2 * BIT, 0)), 0.95, 0, True),
    ),
    "forward: loss of the choice over ln d, from above": Known(
        "upper end of the interval <= 1.1",
        Case({}, 1 + 0.014 / LN2, 0, True),
        Case(forward((0, -1.2 * LN2, 0)), 1.2, 0, False),
        Case(forward((-1, -1.1 * LN2 / BIT, -1)), 1.1, 0, True),
    ),
    "forward: accuracy minus 1/d, from below": Known(
        "lower end of the interval >= -0.05",
        Case({}, 8 / 1024, around(520, 0.5), True),
        Case(forward(HANS, correct=492), -20 / 1024, around(492, 0.5), False),
        Case(forward(HANS, correct=493), -19 / 1024, around(493, 0.5), True),
    ),
    "forward: accuracy minus 1/d, from above": Known(
        "upper end of the interval <= 0.05",
        Case({}, 8 / 1024, around(520, 0.5), True),
        Case(forward(HANS, correct=532), 20 / 1024, around(532, 0.5), False),
        Case(forward(HANS, correct=531), 19 / 1024, around(531, 0.5), True),
    ),
    "forward: cross-entropy over ln d, from below": Known(
        "lower end of the interval >= 0.95",
        Case({}, 1 + 0.044 / LN2, 0, True),
        Case(forward((0, -0.8 * LN2, -0.1 * LN2)), 0.9, 0, False),
        Case(forward((-0.5 * LN2, -0.45 * LN2 * BIT, 0)), 0.95, 0, True),
    ),
    "forward: cross-entropy over ln d, from above": Known(
        "upper end of the interval <= 1.15",
        Case({}, 1 + 0.044 / LN2, 0, True),
        Case(forward((0, -LN2, -0.2 * LN2)), 1.2, 0, False),
        Case(forward((-0.15 * LN2, -LN2 / BIT, 0)), 1.15, 0, True),
    ),
    "forward: Cov_1.6, at N = d/1.25": Known(
        "lower end of the interval >= 0.95",
        Case({}, 1.0, around(PROMPTS), True),
        Case(forward(mixed(983, HANS, (-0.1, -0.1, -0.1))), 983 / 1024, around(983), False),
        Case(forward((0, -INSIDE, 0)), 1.0, around(PROMPTS), True),
    ),
    "forward: Cov_2.5, at N = 1.25 d": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.0, around(0), True),
        Case(forward(mixed(41, (0, -2 * LN2, 0), HANS)), 41 / 1024, around(41), False),
        Case(forward((0, -OUTSIDE, 0)), 1.0, around(PROMPTS), False),
    ),
    "forward: Pass@N minus the closed form, where farthest, from below": Known(
        "lower end of the interval >= -0.05",
        Case({}, PASS, 0, True),
        # p = .4: -.1 at N = 1 and 1 - .36 - .75 = -.11 at N = 2.
        Case(forward((0, math.log(0.4), 0)), -0.11, 0, False),
        Case(forward((0, math.log(0.45) / BIT, 0)) | {"pass_ns": (1,)}, -0.05, 0, True),
    ),
    "forward: Pass@N minus the closed form, where farthest, from above": Known(
        "upper end of the interval <= 0.05",
        Case({}, PASS, 0, True),
        # p = .6: .1 at N = 1 and 1 - .16 - .75 = .09 at N = 2.
        Case(forward((0, math.log(0.6), 0)), 0.1, 0, False),
        Case(forward((0, math.log(0.55) * BIT, 0)), 0.05, 0, True),
    ),
    "reversed: accuracy": Known(
        "lower end of the interval >= 0.95",
        Case({}, 1.0, around(PROMPTS), True),
        Case(backward((-0.01, 0, 0), correct=985), 985 / 1024, around(985), False),
        Case(backward((-0.01, 0, 0), correct=986), 986 / 1024, around(986), True),
    ),
    "reversed: KL (nats)": Known(
        "upper end of the interval <= 0.1",
        Case({}, 0.06, 0, True),
        Case(backward((-0.01, -0.09, -0.02)), 0.12, 0, False),
        Case(backward((-0.1 / BIT, 0, 0)), 0.1, 0, True),
    ),
    "reversed: Cov_1.6": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.0, around(0), True),
        Case(backward(mixed(41, (0, -LN2, 0), (0, -0.01, 0))), 41 / 1024, around(41), False),
        Case(backward((0, -INSIDE, 0)), 1.0, around(PROMPTS), False),
    ),
    **chooses_no_better("multi_token"),
    **chooses_no_better("recurrent"),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_seeds_and_prompts_widen_the_interval_together() -> None:
    # Half of the prompts cost 0 and half 2, then 1 and 3: the standard error of a mean is the root of 1/1023.
    halves = [scores(mixed(512, (0, -low, 0), (0, -low - 2, 0))) for low in (0.0, 1.0)]
    found = interval(made(forward=tuple(halves)), "forward", lambda each: each.log_ratio)
    of_prompts = 1.9622817 / math.sqrt(1023)  # Student's t with 1023 degrees of freedom
    assert found.estimate == pytest.approx(1.5)
    assert found.high - 1.5 == pytest.approx(math.hypot(T2 / 2, of_prompts), rel=1e-6)
    assert 1.5 - found.low == pytest.approx(found.high - 1.5)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_farthest_end_of_an_interval_decides_which_deviation_is_judged(sign: int) -> None:
    def interval(near: float, far: float) -> Interval:
        ends = sorted((sign * near, sign * far))
        return Interval(sum(ends) / 2, *ends)

    with pytest.MonkeyPatch.context() as patch:
        found = {1: interval(0.15, 0.2), 2: interval(-0.1, 0.3), 4: interval(0.0, 0.25)}
        patch.setattr(path_star_checks, "pass_deviations", lambda measured: found)
        assert worst_pass(made()) == found[2]


def test_one_number_that_is_not_finite_leaves_no_interval() -> None:
    found = made(forward=scores(mixed(1, (0.0, math.nan, 0.0), HANS), OTHER, 520))
    of_ratio = interval(found, "forward", lambda each: each.log_ratio)
    assert np.isnan([of_ratio.estimate, of_ratio.low, of_ratio.high]).all()
