"""Path-star's checks on hand-made measurements: what each reads off them, and where its target lies."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import T2, Case, Known, bound, known_answers
from scipy import optimize, stats

from experiments.path_star import checks as path_star_checks
from experiments.path_star.checks import (
    checks,
    follows_edges,
    interval,
    no_better,
    notes,
    share_of_seeds,
    worst_pass,
)
from experiments.path_star.measure import ArmScores, Measurements, Run
from metrics import Interval, proportion_interval

PROMPTS, SEEDS = 1024, 12
LN2 = math.log(2)
INSIDE, OUTSIDE = math.log(1.6), math.log(2.5)
"""Ratios at which a prompt begins to count for Cov_N, with two arms and a factor of 1.25."""
BIT = 1 + 1e-10
"""Rounding: an edge at a number that is not a float is approached from inside."""


def scores(right: Any, wrong: Any = -math.inf, correct: int = 0, crossing: Any = -math.inf) -> ArmScores:
    """Prompts with two arms of three tokens each, of which the second arm is right.

    Args:
        right, wrong: ln pi_hat of the arms' tokens; for all prompts, or for each.
        crossing: ln pi_hat of the right arm's tokens after the wrong arm's.
        correct: the number of prompts whose right arm greedy decoding writes; it writes the other one else.
    """
    tokens = np.empty((PROMPTS, 2, 3))
    tokens[:, 1] = np.broadcast_to(np.asarray(right, float), (PROMPTS, 3))
    tokens[:, 0] = np.broadcast_to(np.asarray(wrong, float), (PROMPTS, 3))
    across = tokens.copy()
    across[:, 0] = np.broadcast_to(np.asarray(crossing, float), (PROMPTS, 3))
    writes = np.arange(PROMPTS) < correct
    return ArmScores(tokens, across, np.stack([~writes, writes], axis=1), np.array([[False, True]] * PROMPTS))


def mixed(count: int, one: tuple[float, ...], other: tuple[float, ...]) -> np.ndarray:
    """Tokens of `count` prompts, and of all others."""
    return np.where(np.arange(PROMPTS)[:, None] < count, one, other)


HANS = (-0.02, -LN2 - 0.014, -0.01)
"""Clever Hans, but for .044 nats."""
OTHER = (-0.03, -LN2, -5.0)
DEFAULT = {
    "forward": (scores(HANS, OTHER, 520),) * SEEDS,
    "reversed": (scores((-0.01, -0.02, -0.03), correct=PROMPTS),) * SEEDS,
    "teacherless": (scores((-1.0, -2.0, -3.0)),) * SEEDS,
    "multi_token": (scores(HANS, OTHER, 520),) * SEEDS,
    "recurrent": (scores(HANS, OTHER, 520),) * SEEDS,
}


def made(pass_ns: tuple[int, ...] = (1, 2), excess: float = -0.25, **last: Any) -> Measurements:
    """All seeds of a run are alike where one is given."""
    runs = {}
    for name, own in zip(DEFAULT, (-0.5, excess, -0.75, -0.6, -0.7), strict=True):
        seeds = last.get(name, DEFAULT[name])
        seeds = seeds if isinstance(seeds, tuple) else (seeds,) * SEEDS
        unused = cast(Any, None)
        runs[name] = Run(unused, {}, (), np.zeros((SEEDS, 1, 3)), seeds, own)
    return Measurements(2, 1.25, pass_ns, tuple(range(SEEDS)), (), runs)


def forward(right: Any, wrong: Any = OTHER, correct: int = 520) -> dict[str, Any]:
    return {"forward": scores(right, wrong, correct)}


def backward(right: Any, correct: int = PROMPTS) -> dict[str, Any]:
    return {"reversed": scores(right, correct=correct)}


def seeds(run: str, kinds: tuple[ArmScores, ArmScores], count: int) -> dict[str, Any]:
    """`count` seeds of the first kind, all others of the second."""
    return {run: tuple(kinds[0] if seed < count else kinds[1] for seed in range(SEEDS))}


def exact(count: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of the seeds, by the tails that define it."""

    def root(tail: Callable[[float], float]) -> float:
        return float(optimize.brentq(lambda p: tail(p) - 0.025, 0, 1, xtol=1e-14))

    low = root(lambda p: stats.binom.sf(count - 1, SEEDS, p)) if count else 0.0
    high = root(lambda p: stats.binom.cdf(count, SEEDS, p)) if count < SEEDS else 1.0
    return low, high


def most(run: str, kinds: tuple[ArmScores, ArmScores]) -> Known:
    """All of twelve seeds decide and ten are enough; with six the lower end is far below one half."""
    return Known(
        "lower end of the interval > 0.5",
        Case(seeds(run, kinds, SEEDS), 1.0, exact(12), True),
        Case(seeds(run, kinds, 6), 0.5, exact(6), False),
        Case(seeds(run, kinds, 10), 10 / 12, exact(10), True),
    )


def chooses(loss: float, correct: int) -> ArmScores:
    """A seed whose choice costs `loss` times ln d, and that is greedily right on `correct` prompts."""
    return scores((-3, -loss * LN2, -1), OTHER, correct)


def around(count: int, shift: float = 0.0) -> tuple[float, float]:
    """The interval of a share of the prompts, from Clopper and Pearson's width, within [0, 1]."""
    own = proportion_interval(count, PROMPTS)
    half = (own.high - own.low) / 2
    return max(count / PROMPTS - half, 0) - shift, min(count / PROMPTS + half, 1) - shift


FOLLOWS = math.exp(-0.034) / 2 + math.exp(-0.03) / 2
# 1 - (1 - p)^2 - 3/4 with p = exp(-.044)/2 is farther from 0 than p - 1/2.
PASS = 0.25 - (1 - math.exp(-0.044) / 2) ** 2
APART = tuple(scores((-loss, -LN2, -0.01)) for loss in np.linspace(0.0, 0.09, SEEDS))
"""Seeds of 0 to .09 nats for the first token."""
APART_HALF = stats.t.ppf(0.975, SEEDS - 1) * np.linspace(0.0, 0.09, SEEDS).std(ddof=1) / math.sqrt(SEEDS)
FOLLOWING = scores((math.log(0.5), 0, -9), (math.log(0.45) * (2 - BIT), 0, -9))
"""Mass .95 along an arm, which is just enough."""
UNFOLLOWING = scores((math.log(0.5), 0, -9), (math.log(0.449), 0, -9))
"""Mass .949, and Clever Hans on the right arm."""
CHECKS = {
    "forward: share of seeds with mass >= 0.95 along an arm, last token left out": most(
        "forward", (FOLLOWING, UNFOLLOWING)
    ),
    "forward: loss of the costliest token but the choice (nats)": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.02, 0, True),
        # The mean is low enough, the seeds are too far apart.
        Case({"forward": APART}, 0.045, (0.045 - APART_HALF, 0.045 + APART_HALF), False),
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
    **{
        f"{run}: share of seeds that choose no better than a random arm": most(
            run, (chooses(0.95 * BIT, 563), chooses(0.95 / BIT, 563))
        )
        for run in ("multi_token", "recurrent")
    },
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


@pytest.mark.parametrize("run", ["multi_token", "recurrent"])
def test_a_seed_that_chooses_better_in_loss_or_in_accuracy_does_not_count(run: str) -> None:
    judge = no_better(made())
    # 1/2 + .05 of 1,024 prompts are 563.2.
    assert judge(chooses(0.95 * BIT, 563))
    assert not judge(chooses(0.95 / BIT, 563))
    assert not judge(chooses(0.95 * BIT, 564))
    # Far worse than a random arm, on five of twelve seeds: the mean's interval would hold anything.
    worse = seeds(run, (chooses(1.01, 512), chooses(9.0, 0)), 7)
    assert share_of_seeds(made(**worse), run, judge).estimate == 1


def test_a_number_that_is_not_finite_counts_against_its_seed() -> None:
    broken = scores(mixed(1, (math.nan, math.nan, 0.0), HANS), OTHER, 520)
    assert not follows_edges(broken)
    assert not no_better(made())(broken)


def test_what_follows_a_wrong_choice_is_the_wrong_arm_or_the_right_one() -> None:
    follower = scores(HANS, OTHER, 520, crossing=(0, -9, -9.0))
    looks_back = scores(HANS, (-0.03, -LN2, -9.0), 520, crossing=(0, -9, math.log(0.75)))
    assert follower.crosses == pytest.approx(math.exp(-9))
    assert looks_back.crosses == pytest.approx(0.75)
    # Three arms: the mean over the two wrong ones, and none of the right arm's own token.
    crossing = np.log(np.broadcast_to([[0.9] * 3, [0.2] * 3, [0.4] * 3], (2, 3, 3)))
    right = np.array([[True, False, False]] * 2)
    assert ArmScores(crossing, crossing, right, right).crosses == pytest.approx(0.3)
    one = seeds("forward", (follower, looks_back), 11)
    (said,) = [note for note in notes(made(**one)) if "mass along an arm" in note]
    assert said.count("0.000") == 11
    assert "0.750" in said
    assert "mean of the 12 with at least 0.95: " in said


@pytest.mark.parametrize(("count", "said"), [(11, "the 11 with at least 0.95: 0.950"), (0, "0.95: none")])
def test_the_mean_beside_the_share_is_that_of_the_seeds_that_follow(count: int, said: str) -> None:
    found = made(**seeds("forward", (FOLLOWING, UNFOLLOWING), count))
    (note,) = [note for note in notes(found) if "mass along an arm" in note]
    assert f"{said}. " in note


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
