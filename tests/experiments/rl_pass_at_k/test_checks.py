"""Every check of `rl_pass_at_k` on measurements made by hand: right, wrong and at its threshold.

Two seeds: Student's interval is the mean +- t |difference|/2, t the .975 quantile of one degree of freedom.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Ends, Known, known_answers
from experiments.rl_pass_at_k.checks import checks
from experiments.rl_pass_at_k.measure import NS, Arm, Measurements

T = 12.706204736432095
PROBS, SMALL, LARGE = (0.2, 0.8), 2, 4
PLACES = {k: NS.index(k) for k in (SMALL, LARGE)}


def student(first: float, second: float, plus: float = 0.0) -> tuple[float, Ends]:
    mean, half = (first + second) / 2, T * abs(first - second) / 2
    return mean + plus, (mean - half + plus, mean + half + plus)


def arm() -> Arm:
    """Checkpoints 0, 1 and 2 of two seeds; the middle one would fail every check. Pass@k is below the base
    model's from k = 3 on in one seed, from 4 on in the other."""
    passes = np.zeros((len(NS), 2, 3))
    passes[:, :, 0] = [0.5, 0.6]
    passes[:, :, 1] = [0.4, 0.7]
    passes[:, :, 2] = [0.5, 0.6]
    passes[PLACES[2]] = [[0.70, 0.1, 0.795], [0.71, 0.9, 0.797]]
    passes[PLACES[4]] = [[0.94, 0.99, 0.80], [0.93, 0.01, 0.791]]
    passes[NS.index(3)] = [[0.8, 0.7, 0.79], [0.8, 0.7, 0.8]]
    coverage = np.full((5, 2, 3), 0.3)
    coverage[-1] = [[0.01, 0.9, 0.2], [0.02, 0.1, 0.211]]
    ones = np.ones((2, 3))
    return Arm((1, 2), np.array([0, 10, 20]), passes, coverage, ones, ones, 0.0)


def opened(small: float = 0.8, large: Any = 0.99, base: float = 0.9) -> Arm:
    """Pass@2 from .5 to `small` and Pass@4 from `base` to `large`, a number or one for each seed; the middle
    checkpoint would fail every check."""
    passes = np.zeros((len(NS), 2, 3))
    passes[PLACES[2]] = [0.5, 0.1, small]
    passes[PLACES[4]] = [base, 0.1, 0.0]
    passes[PLACES[4], :, 2] = large
    return dataclasses.replace(arm(), passes=passes, majority=None)


RIGHT = Measurements(
    {"grpo": arm(), "other": arm()},
    opened(),
    (0.5, 0.9),
    (),
    PROBS,
    SMALL,
    LARGE,
    {"grpo": None, "other": None},
)


def judged(**changes: Any) -> Measurements:
    return dataclasses.replace(RIGHT, arms={**RIGHT.arms, "grpo": dataclasses.replace(arm(), **changes)})


def pass_at(k: int, before: float, after: float) -> Measurements:
    passes = arm().passes
    passes[PLACES[k]] = [before, 0.5, after]
    return judged(passes=passes)


def crossing(k: int) -> Measurements:
    """One seed crosses at 3, the other at k."""
    passes = np.full((len(NS), 2, 3), 0.5)
    passes[NS.index(3) :, 0, 2] = 0.4
    passes[NS.index(k) :, 1, 2] = 0.4
    return judged(passes=passes)


def covered(value: float) -> Measurements:
    coverage = arm().coverage
    coverage[-1] = [0.0, 0.5, value]
    return judged(coverage=coverage)


def open_arm(**values: Any) -> Measurements:
    return dataclasses.replace(RIGHT, open=opened(**values))


# The calibrated base model has Pass@2 = .2 (1 - .8^2) + .8 (1 - .2^2) = .84, and Pass@4 = .2 (1 - .8^4)
# + .8 (1 - .2^4) = .9168. The best rule has .8: half of .8 - .84, of .9168 - .8 and of 1 - .8.
TABLE = {
    "Pass@2: rise by reinforcement learning": Known(
        "lower end of the interval >= -0.02",
        *student(0.095, 0.087),
        lambda value: pass_at(2, 0.5, 0.5 + value),
        -0.5,
    ),
    "Pass@2 at the end minus the best without telling classes apart": Known(
        "upper end of the interval <= 0.03",
        *student(0.795, 0.797, -0.8),
        lambda value: pass_at(2, 0.5, 0.8 + value),
        0.2,
    ),
    "Pass@4: fall below the base model's": Known(
        "lower end of the interval >= 0.0584",
        *student(0.14, 0.139),
        lambda value: pass_at(4, 0.5 + value, 0.5),
        0.01,
    ),
    "least k at which Pass@k is below the base model's, worst seed": Known(
        "<= 8", 4.0, None, crossing, 64, ((8, True), (9, False))
    ),
    "Cov_4: rise by reinforcement learning": Known(
        "lower end of the interval >= 0.1", *student(0.19, 0.191), covered, 0.0
    ),
    "open: Pass@4 of the base model": Known(
        "upper end of the interval <= 0.95", 0.9, (0.9, 0.9), lambda value: open_arm(base=value), 0.96
    ),
    "open: Pass@2: share gained of what the base model misses": Known(
        "lower end of the interval >= 0.5",
        0.6,
        (0.6, 0.6),
        lambda value: open_arm(small=0.5 + value / 2),
        0.4,
    ),
    "open: Pass@4: rise by reinforcement learning": Known(
        "lower end of the interval > 0", 0.09, (0.09, 0.09), lambda value: open_arm(large=0.9 + value), -0.01
    ),
    # The blind arm falls by .14 and .139, the open one rises by .09.
    "Pass@4: blind fall and open rise together": Known(
        "lower end of the interval >= 0.0584",
        *student(0.14, 0.139, 0.09),
        lambda value: open_arm(large=0.9 + value - np.array([0.14, 0.139])),
        0.05,
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_curves_that_never_cross_count_as_beyond_the_last_k() -> None:
    passes = np.full((len(NS), 2, 3), 0.5)
    passes[NS.index(3) :, 0, 2] = 0.4
    found = {check.name: check for check in checks(judged(passes=passes))}
    check = found["least k at which Pass@k is below the base model's, worst seed"]
    assert (check.measured, check.passed) == (4097.0, False)


def test_the_open_arm_is_paired_with_the_blind_arm_of_its_own_seeds() -> None:
    """Of three seeds the second has no start: the blind falls of the first and the third are .14 and .3."""
    passes = np.concatenate([arm().passes, arm().passes[:, :1]], axis=1)
    passes[PLACES[4]] = [[0.94, 0.99, 0.80], [0.9, 0.9, 0.0], [0.9, 0.9, 0.6]]
    coverage, ones = np.full((5, 3, 3), 0.3), np.ones((3, 3))
    blind = dataclasses.replace(
        arm(), seeds=(1, 2, 3), passes=passes, coverage=coverage, kl=ones, majority=ones
    )
    started = dataclasses.replace(opened(), seeds=(1, 3))
    found = dataclasses.replace(RIGHT, arms={"grpo": blind}, open=started, outside=(2,))
    (check,) = (check for check in checks(found) if check.name.startswith("Pass@4: blind fall and open"))
    assert check.measured == pytest.approx((0.14 + 0.3) / 2 + 0.09)


def test_targets_follow_the_classes_and_the_k() -> None:
    """One path of .6 and one of .4: Pass@1 is .52 calibrated and .6 at best, Pass@2 is .4 (1 - .36) + .6 (1 -
    .16) = .76."""
    found = dataclasses.replace(RIGHT, probs=(0.6, 0.4), small_k=1, large_k=2)
    made = checks(found)
    assert [check.name.split(":")[0] for check in made[:5:2]] == ["Pass@1", "Pass@2", "Cov_2"]
    assert [check.target for check in made[:5:2]] == [
        "lower end of the interval >= 0.04",
        "lower end of the interval >= 0.08",
        "lower end of the interval >= 0.2",
    ]


def test_targets_have_four_digits() -> None:
    """With .65432 and .34568 Pass@3 is .87613 calibrated and Pass@4 .92729."""
    found = dataclasses.replace(RIGHT, probs=(0.65432, 0.34568), small_k=3, large_k=4)
    made = checks(found)
    assert [check.target.split()[-1] for check in made[:5:2]] == ["-0.1109", "0.1365", "0.1728"]
    assert made[-1].target.split()[-1] == "0.1365"
