import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy import stats

from metrics.coverage import coverage_profile
from metrics.intervals import (
    Interval,
    auc_interval,
    bootstrap_interval,
    coverage_profile_interval,
    interval_over_shared_prompts,
    mean_interval,
    paired_difference_interval,
    proportion_interval,
    stratified_mean_interval,
    stratified_proportion_interval,
)


def ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def test_mean_interval_against_the_printed_t_table() -> None:
    interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.776445 * math.sqrt(2.5 / 5)  # t_{4, 0.975}
    assert interval.estimate == 3
    assert ends(interval) == pytest.approx([3 - half, 3 + half], abs=1e-6)
    narrow = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), confidence=0.9)
    assert narrow.high == pytest.approx(3 + 2.131847 * math.sqrt(0.5), abs=1e-6)


def test_paired_difference_removes_what_a_seed_shares() -> None:
    shared, change = np.array([0.0, 100.0, -50.0]), np.array([1.0, 1.1, 0.9])
    paired = paired_difference_interval(shared + change, shared)
    assert ends(paired) == pytest.approx(ends(mean_interval(change)))
    assert paired.low > 0


def test_an_interval_over_shared_prompts_adds_the_width_over_the_prompts_to_that_over_the_seeds() -> None:
    found = interval_over_shared_prompts([Interval(0.4, 0.3, 0.6), Interval(0.6, 0.5, 0.6)])
    half = math.hypot(12.7062047 * 0.1, 0.1)  # t_{1, 0.975} s / sqrt(2), and the mean of .15 and .05
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    equal = interval_over_shared_prompts([Interval(0.5, 0.4, 0.6)] * 5)
    assert (equal.estimate, equal.low, equal.high) == pytest.approx((0.5, 0.4, 0.6))
    assert interval_over_shared_prompts([Interval(0.5, 0.4, 0.7)]).low == pytest.approx(0.35)
    with pytest.raises(ValueError, match="intervals: none"):
        interval_over_shared_prompts([])


def test_one_seed_that_differs_shows_in_an_interval_over_shared_prompts() -> None:
    """AUCs of .5, .5, .5 and .64, each +- .01, are no evidence for an AUC within .05 of .5."""
    found = interval_over_shared_prompts(
        [Interval(auc, auc - 0.01, auc + 0.01) for auc in (0.5, 0.5, 0.5, 0.64)]
    )
    assert found.high > 0.64
    assert found.low < 0.43


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_seed_intervals_refuse(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^values: .*; valid: "):
        mean_interval(np.array(values))


def test_pairs_and_confidence_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^second: 3 values"):
        paired_difference_interval(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"^confidence: 95"):
        mean_interval(np.zeros(2), confidence=95)


def test_percentile_bootstrap_has_the_quantiles_of_the_known_resampling_law() -> None:
    # The resampled sum of n zeros and ones is binomial.
    values = np.repeat([0.0, 1.0], [30, 10])
    interval = bootstrap_interval(values, np.random.default_rng(0), num_resamples=4000, method="percentile")
    expected = stats.binom.ppf([0.025, 0.975], 40, 0.25) / 40
    assert interval.estimate == 0.25
    assert ends(interval) == pytest.approx(expected, abs=0.026)
    assert stats.binom.cdf([interval.low * 40, interval.high * 40], 40, 0.25) == pytest.approx(
        stats.binom.cdf(expected * 40, 40, 0.25), abs=0.03
    )


def test_bca_bootstrap_agrees_with_scipy_where_it_differs_from_percentile() -> None:
    values = np.random.default_rng(1).lognormal(0, 1.2, size=30)
    ours = bootstrap_interval(values, np.random.default_rng(2), num_resamples=6000)
    plain = bootstrap_interval(values, np.random.default_rng(2), num_resamples=6000, method="percentile")
    scipy = stats.bootstrap((values,), np.mean, n_resamples=6000, method="BCa", rng=np.random.default_rng(3))
    width = ours.high - ours.low
    expected = [scipy.confidence_interval.low, scipy.confidence_interval.high]
    assert ends(ours) == pytest.approx(expected, abs=0.04 * width)
    assert plain.high < ours.high - 0.08 * width


def test_bootstrap_resamples_rows_together_and_takes_a_constant_sample() -> None:
    rows = np.column_stack([np.arange(20.0), 2 * np.arange(20.0)])
    ratio = bootstrap_interval(rows, np.random.default_rng(0), lambda r: r[:, 1].sum() / r[:, 0].sum(), 200)
    assert (ratio.estimate, *ends(ratio)) == pytest.approx((2, 2, 2))
    constant = bootstrap_interval(np.ones(5), np.random.default_rng(0), num_resamples=50)
    assert constant == Interval(1.0, 1.0, 1.0)


def test_bootstrap_refuses() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^values"):
        bootstrap_interval(np.ones(1), rng)
    with pytest.raises(ValueError, match=r"^num_resamples"):
        bootstrap_interval(np.ones(3), rng, num_resamples=0)
    with pytest.raises(ValueError, match=r"^method: 'basic'"):
        bootstrap_interval(np.ones(3), rng, method="basic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^statistic of a resample"):
        bootstrap_interval(np.ones(3), rng, lambda _: math.nan)


def test_stratified_mean_is_student_for_one_class_and_welch_for_two() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(1, 1, size=12), rng.normal(5, 3, size=7)
    alone = stratified_mean_interval(one, np.zeros(12, int), (1.0,))
    assert ends(alone) == pytest.approx(ends(mean_interval(one)))
    both = stratified_mean_interval(np.append(one, -two), np.repeat([0, 1], [12, 7]), (0.5, 0.5))
    welch = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    assert ends(both) == pytest.approx([welch.low / 2, welch.high / 2])
    assert both.estimate == pytest.approx((one.mean() - two.mean()) / 2)


def test_stratified_mean_ignores_absent_classes_and_says_when_nothing_varies() -> None:
    values, groups = np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 2, 2])
    assert stratified_mean_interval(values, groups, (0.75, 0.0, 0.25)) == Interval(1.5, 1.5, 1.5)


@pytest.mark.parametrize(
    ("groups", "probabilities", "field"),
    [
        ([0, 0, 0, 1], (0.5, 0.5), "groups: class 1 has 1 examples"),
        ([0, 0, 1, 2], (0.5, 0.5), "groups: from 0 to 2"),
        ([0, 0, 1, -1], (0.5, 0.5), "groups: from -1 to 1"),
        ([0, 0, 1], (0.5, 0.5), "groups: int64 of shape"),
        ([0, 0, 1, 1], (0.5, 0.4), "class_probabilities"),
        ([0, 0, 1, 1], (1.5, -0.5), "class_probabilities"),
    ],
)
def test_strata_are_checked(groups: list[int], probabilities: tuple[float, ...], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}.*; valid: "):
        stratified_mean_interval(np.arange(4.0), np.array(groups, np.int64), probabilities)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (1, 1), (40, 4000)])
def test_proportion_interval_is_the_exact_one(successes: int, trials: int) -> None:
    exact = stats.binomtest(successes, trials).proportion_ci(method="exact")
    interval = proportion_interval(successes, trials)
    assert ends(interval) == pytest.approx([exact.low, exact.high], abs=1e-9)
    assert interval.estimate == successes / trials


def test_proportion_interval_refuses() -> None:
    with pytest.raises(ValueError, match=r"^num_trials: 0"):
        proportion_interval(0, 0)
    with pytest.raises(ValueError, match=r"^num_successes: 4"):
        proportion_interval(4, 3)


def test_stratified_proportion_is_exact_for_one_class_and_never_collapses() -> None:
    one = stratified_proportion_interval(np.arange(9) < 4, np.zeros(9, int), (1.0,))
    assert ends(one) == pytest.approx(ends(proportion_interval(4, 9)))
    groups = np.repeat([0, 1], 20)
    none = stratified_proportion_interval(np.zeros(40, bool), groups, (0.9, 0.1))
    both = math.hypot(0.9, 0.1) * (1 - 0.025 ** (1 / 20))
    assert (none.estimate, *ends(none)) == pytest.approx((0, 0, both))
    pure = stratified_proportion_interval(groups == 1, groups, (0.9, 0.1))
    assert pure.estimate == pytest.approx(0.1)
    assert pure.low < 0.1 < pure.high


def test_stratified_proportion_covers_the_truth_at_least_as_often_as_it_says() -> None:
    sizes, probabilities = (9, 6), (0.7, 0.3)
    groups = np.repeat([0, 1], sizes)
    intervals = {}
    for counts in itertools.product(range(10), range(7)):
        successes = np.concatenate([np.arange(n) < c for n, c in zip(sizes, counts, strict=True)])
        intervals[counts] = stratified_proportion_interval(successes, groups, probabilities)
    for rates in itertools.product((0.02, 0.1, 0.3, 0.5, 0.8, 0.97), repeat=2):
        truth = float(np.dot(probabilities, rates))
        pmfs = [stats.binom.pmf(range(n + 1), n, r) for n, r in zip(sizes, rates, strict=True)]
        covered = sum(
            pmfs[0][a] * pmfs[1][b]
            for (a, b), i in intervals.items()
            if i.low - 1e-12 <= truth <= i.high + 1e-12
        )
        assert covered >= 0.95


def test_stratified_proportion_refuses_what_is_not_boolean() -> None:
    with pytest.raises(ValueError, match=r"^successes: float64"):
        stratified_proportion_interval(np.zeros(3), np.zeros(3, int), (1.0,))


def test_coverage_profile_interval_estimates_the_stratified_profile() -> None:
    rng = np.random.default_rng(0)
    log_ratio, groups, ns = rng.normal(1, 1, size=60), np.repeat([0, 1], [40, 20]), (1, 2, 5.7, 1e6)
    log_ratio[0] = np.inf
    weights = np.where(groups == 0, 0.9 / 40, 0.1 / 20)
    intervals = coverage_profile_interval(log_ratio, ns, groups, (0.9, 0.1))
    np.testing.assert_allclose([i.estimate for i in intervals], coverage_profile(log_ratio, ns, weights))
    assert all(i.low <= i.estimate <= i.high and i.low < i.high for i in intervals)
    plain = coverage_profile_interval(np.full(10, np.log(2) - 5e-6), (2,))[0]
    assert ends(plain) == pytest.approx(ends(proportion_interval(10, 10)))


@pytest.mark.parametrize("seed", range(4))
def test_auc_and_its_variance_equal_loops_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = rng.integers(0, 5, size=13) + 0.5, rng.integers(0, 5, size=8) + 0.0
    positive[:4] -= 0.5
    wins = [[(x > y) + (x == y) / 2 for y in negative] for x in positive]
    auc = float(np.mean(wins))
    variance = np.var(np.mean(wins, axis=1), ddof=1) / 13 + np.var(np.mean(wins, axis=0), ddof=1) / 8
    interval = auc_interval(positive, negative)
    half = 1.959964 * math.sqrt(variance) / (auc * (1 - auc))
    logits = [math.log(auc / (1 - auc)) + sign * half for sign in (-1, 1)]
    assert interval.estimate == pytest.approx(auc)
    assert ends(interval) == pytest.approx([1 / (1 + math.exp(-x)) for x in logits], rel=1e-6)


def test_auc_interval_does_not_collapse_when_the_classes_are_apart_or_all_is_tied() -> None:
    apart = auc_interval(np.array([2.0, np.inf, 3.0]), np.array([-np.inf, 1.0, 0.0, 1.0]))
    wilson = stats.binomtest(3, 3).proportion_ci(method="wilson")
    assert (apart.estimate, *ends(apart)) == pytest.approx((1, wilson.low, 1))
    tied = auc_interval(np.zeros(4), np.zeros(6))
    wilson = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert (tied.estimate, *ends(tied)) == pytest.approx((0.5, wilson.low, wilson.high))


def test_auc_refuses() -> None:
    with pytest.raises(ValueError, match=r"^positive_scores"):
        auc_interval(np.array([1.0]), np.zeros(3))
    with pytest.raises(ValueError, match=r"^negative_scores"):
        auc_interval(np.zeros(3), np.array([1.0, math.nan]))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_is_its_formula_on_the_same_resamples(method: str, confidence: float) -> None:
    """Ties of resamples with the estimate count half; the acceleration is that of the jackknife."""
    normal = NormalDist()
    for values, bins in ((np.array([0.0, 0, 1, 1, 1, 5]), 40), (np.array([3.0, -1, 2]), 7)):
        found = bootstrap_interval(
            values,
            np.random.default_rng(7),
            np.mean,
            bins,
            method,
            confidence,  # type: ignore[arg-type]
        )
        rng, size = np.random.default_rng(7), len(values)
        draws = sorted(values[rng.integers(size, size=size)].mean() for _ in range(bins))
        levels = [(1 - confidence) / 2, (1 + confidence) / 2]
        if method == "bca":
            mean = values.mean()
            assert any(each == mean for each in draws)
            bias = normal.inv_cdf(sum((each < mean) + (each == mean) / 2 for each in draws) / bins)
            left_out = [(values.sum() - each) / (size - 1) for each in values]
            off = [sum(left_out) / size - each for each in left_out]
            acceleration = sum(each**3 for each in off) / (6 * sum(each**2 for each in off) ** 1.5)
            shifted = [bias + normal.inv_cdf(level) for level in levels]
            levels = [normal.cdf(bias + each / (1 - acceleration * each)) for each in shifted]
        for level, end in zip(levels, ends(found), strict=True):
            place = level * (bins - 1)
            below, above = draws[math.floor(place)], draws[math.ceil(place)]
            assert end == pytest.approx(below + (place % 1) * (above - below), abs=1e-9)
        assert found.estimate == values.mean()


def test_a_bias_that_no_resample_shows_is_half_a_resample() -> None:
    """An estimate above or below all resamples; no acceleration, as the two examples are symmetric."""
    normal = NormalDist()
    for sign in (1, -1):
        calls = iter([10.0 * sign])

        def statistic(sample: np.ndarray, calls: Any = calls) -> float:
            return next(calls, sample.mean())

        found = bootstrap_interval(np.array([1.0, 2.0]), np.random.default_rng(0), statistic, 20)
        bias = normal.inv_cdf(0.5 + sign * (0.5 - 0.5 / 20))
        levels = [normal.cdf(2 * bias + sign_of_end * normal.inv_cdf(0.975)) for sign_of_end in (-1, 1)]
        rng = np.random.default_rng(0)
        draws = [np.array([1.0, 2.0])[rng.integers(2, size=2)].mean() for _ in range(20)]
        assert ends(found) == pytest.approx(np.quantile(draws, levels))


def test_the_fewest_values_of_each_interval() -> None:
    two = np.array([1.0, 3.0])
    half = 12.706205 * math.sqrt(2) / math.sqrt(2)
    assert ends(mean_interval(two)) == pytest.approx([2 - half, 2 + half], rel=1e-6)
    assert ends(paired_difference_interval(two, np.zeros(2))) == pytest.approx([2 - half, 2 + half], rel=1e-6)
    for first, second in ((np.zeros(1), np.zeros(2)), (np.zeros(2), np.zeros(1))):
        with pytest.raises(ValueError, match=r"shape \(1,\); valid: one axis of at least 2"):
            paired_difference_interval(first, second)
    assert bootstrap_interval(two, np.random.default_rng(0), num_resamples=1).estimate == 2
    assert stratified_mean_interval(two, np.zeros(2, int), (1.0,)).estimate == 2
    one = stratified_proportion_interval(np.array([True, False]), np.array([0, 1]), (0.5, 0.5))
    assert one.estimate == 0.5
    assert auc_interval(two, np.array([0.0, 2.0])).estimate == 0.75
    assert proportion_interval(1, 1).high == 1
    assert (proportion_interval(0, 1).low, proportion_interval(0, 1).high) == pytest.approx((0, 0.975))


@pytest.mark.parametrize("size", range(2, 40))
def test_an_interval_of_separated_classes_stays_in_0_to_1(size: int) -> None:
    above, below = np.arange(size) + 100.0, np.arange(50.0)
    least = size
    wilson = stats.binomtest(least, least).proportion_ci(method="wilson")
    apart = auc_interval(above, below)
    assert apart.low == pytest.approx(wilson.low)
    assert 1 - 1e-12 <= apart.high <= 1
    reverse = auc_interval(below, above)
    assert reverse.estimate == 0
    assert reverse.high == pytest.approx(1 - wilson.low)
    assert 0 <= reverse.low <= 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc_interval(np.zeros((2, 2)), np.zeros(3)), "positive_scores"),
        (lambda: auc_interval(np.zeros(3), np.zeros(1)), "negative_scores"),
        (lambda: bootstrap_interval(np.float64(1.0), np.random.default_rng(0)), "values"),
        (lambda: proportion_interval(-1, 3), "num_successes: -1"),
        (
            lambda: stratified_proportion_interval(np.zeros((2, 2), bool), np.zeros((2, 2), int), (1.0,)),
            "successes: bool",
        ),
        (lambda: stratified_mean_interval(np.zeros(2), np.zeros(2), (1.0,)), "groups: float64"),
        (lambda: stratified_mean_interval(np.zeros(2), np.zeros(2, int), 1.0), "class_probabilities"),  # type: ignore[arg-type]
        (lambda: stratified_mean_interval(np.array([0.0, np.nan]), np.zeros(2, int), (1.0,)), "values"),
        (lambda: mean_interval(np.zeros(2), confidence=0.0), "confidence: 0"),
        (lambda: mean_interval(np.zeros(2), confidence=1.0), "confidence: 1"),
    ],
)
def test_what_else_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
