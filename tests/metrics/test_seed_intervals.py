"""Intervals over seeds that Student's interval does not serve, against closed forms and plain Python."""

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from metrics.intervals import mean_interval, proportion_interval
from metrics.seed_intervals import seeds_and_prompts_interval, sign_flip_interval, stuck_seeds_interval


def test_stuck_seeds_are_a_share_and_the_others_a_mean() -> None:
    stuck = np.array([False, True, False, False, False, True])
    found = stuck_seeds_interval(np.array([1.0, 50.0, 2.0, 3.0, 4.0, math.nan]), stuck)
    assert found.others == mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.stuck == proportion_interval(2, 6)
    assert found.stuck.estimate == pytest.approx(1 / 3)
    none = stuck_seeds_interval(np.array([1.0, 2.0]), np.zeros(2, bool), confidence=0.9)
    assert none.others == mean_interval(np.array([1.0, 2.0]), 0.9)
    # No stuck seed of two at 90 %: the upper end solves (1 - p)^2 = .05.
    assert (none.stuck.low, none.stuck.high) == pytest.approx((0, 1 - math.sqrt(0.05)))


@pytest.mark.parametrize(
    ("values", "stuck", "message"),
    [
        ([1.0, 2.0, 3.0], [0, 0, 1], r"stuck: int64 of shape \(3,\); valid: booleans, \(3,\)"),
        ([1.0, 2.0, 3.0], [False, True], r"stuck: bool of shape \(2,\); valid: booleans, \(3,\)"),
        ([1.0, 2.0], [False, True], "values of seeds that are not stuck: shape .* at least 2 values"),
        ([], [], "stuck|values of seeds that are not stuck"),
        ([1.0, 2.0, math.inf], [False, False, False], "values of seeds that are not stuck: contains NaN"),
    ],
)
def test_what_is_no_division_into_stuck_seeds_and_others(
    values: list[float], stuck: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stuck_seeds_interval(np.array(values), np.array(stuck))


def test_a_sign_flip_interval_by_hand() -> None:
    """Of six seeds at 95 %, k is 1: .025 x 64 = 1.6. The smallest mean of a subset is the smallest value."""
    found = sign_flip_interval(np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.5]))
    assert (found.estimate, found.low, found.high) == (3.5, 1.0, 9.0)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_a_sign_flip_interval_holds_what_the_test_does_not_reject(confidence: float) -> None:
    """Against the test written out: flip the signs of the deviations from a centre, compare the sums."""
    values = np.random.default_rng(3).normal(size=8)
    found = sign_flip_interval(values, confidence)

    def rejected(centre: float) -> bool:
        deviations = [float(value) - centre for value in values]
        flipped = [sum(s * d for s, d in zip(signs, deviations, strict=True)) for signs in SIGNS]
        # One-sided shares of arrangements at least as extreme, the observed one among them.
        above = sum(each >= sum(deviations) - 1e-12 for each in flipped) / len(flipped)
        below = sum(each <= sum(deviations) + 1e-12 for each in flipped) / len(flipped)
        return min(above, below) <= (1 - confidence) / 2

    for end, step in ((found.low, -1e-6), (found.high, 1e-6)):
        assert rejected(end + step)
        assert not rejected(end - step)


SIGNS = list(itertools.product((1, -1), repeat=8))


@pytest.mark.parametrize(("count", "confidence"), [(5, 0.95), (21, 0.95), (4, 0.9), (6, 0.975)])
def test_a_sign_flip_interval_needs_enough_seeds_and_not_too_many(count: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=rf"values: {count}; valid: \d to 20 at confidence"):
        sign_flip_interval(np.arange(count, dtype=float), confidence)


def test_the_least_numbers_of_seeds() -> None:
    """2/2^S <= 1 - confidence: six at .95 (1/32), five at .9 and at .9375 = 1 - 2/32."""
    for count, confidence in ((6, 0.95), (5, 0.9), (5, 0.9375)):
        values = np.arange(count, dtype=float)
        found = sign_flip_interval(values, confidence)
        assert (found.low, found.high) == (0, count - 1)


def test_seeds_and_prompts_by_hand() -> None:
    """Two seeds, two prompts: means of the seeds 2 and 4, of the prompts 2 and 4, so 2/2 + 2/2 = 2 with
    1/(.25/1 + .25/1) = 2 degrees of freedom."""
    found = seeds_and_prompts_interval(np.array([[1.0, 3.0], [3.0, 5.0]]))
    half = float(stats.t.ppf(0.975, 2)) * math.sqrt(2)
    assert (found.estimate, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))
    constant = seeds_and_prompts_interval(np.full((3, 4), 0.5))
    assert (constant.estimate, constant.low, constant.high) == (0.5, 0.5, 0.5)


def test_seeds_and_prompts_become_students_interval_where_one_of_them_is_constant() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0])
    expected = mean_interval(values, 0.9)
    for array in (np.tile(values[:, None], (1, 9)), np.tile(values, (9, 1))):
        found = seeds_and_prompts_interval(array, confidence=0.9)
        assert (found.estimate, found.low, found.high) == pytest.approx(
            (expected.estimate, expected.low, expected.high)
        )


def test_weights_of_prompts() -> None:
    """Plain Python for three prompts of weights 1/2, 1/4, 1/4."""
    values, weights = [[1.0, 2.0, 6.0], [2.0, 5.0, 7.0]], [0.5, 0.25, 0.25]
    seeds = [sum(w * v for w, v in zip(weights, row, strict=True)) for row in values]
    prompts = [statistics.fmean(column) for column in zip(*values, strict=True)]
    mean = statistics.fmean(seeds)
    first = statistics.variance(seeds) / 2
    second = 1.5 * sum((w * (p - mean)) ** 2 for w, p in zip(weights, prompts, strict=True))
    freedom = (first + second) ** 2 / (first**2 / 1 + second**2 / 2)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(first + second)
    found = seeds_and_prompts_interval(np.array(values), np.array(weights))
    assert (found.estimate, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([[1.0, 2.0]], None, "at least 2 of each"),
        ([[1.0], [2.0]], None, "at least 2 of each"),
        ([[1.0, math.nan], [1.0, 2.0]], None, "values: contains NaN"),
        ([[1.0, 2.0], [1.0, 2.0]], [0.5, 0.6], "weights: shape .* 2 numbers >= 0 that sum to 1"),
        ([[1.0, 2.0], [1.0, 2.0]], [1.5, -0.5], "weights"),
        ([[1.0, 2.0], [1.0, 2.0]], [1.0], "weights"),
    ],
)
def test_what_is_not_measured_on_seeds_and_prompts(
    values: list[list[float]], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        seeds_and_prompts_interval(np.array(values), None if weights is None else np.array(weights))
