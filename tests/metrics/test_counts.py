"""Pass@N, pass^N, Cover@tau, the coverage ratio and power from counts, against enumeration."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from metrics import mean_interval, proportion_interval
from metrics.counts import (
    changed_examples,
    compare_pass_at_n,
    pass_all_n_of_counts,
    pass_at_n_of_counts,
    sampling_variance,
    share_interval,
)
from metrics.cover_at_tau import cover_at_tau
from metrics.coverage_ratio import _by_prompt, coverage_ratio, coverage_ratio_of_counts


def by_subsets(n: int, c: int, size: int, judge: Any) -> float:
    """Share of the subsets of `size` of n responses, c of them right, that `judge` (any, all) accepts."""
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), size))
    return sum(map(judge, subsets)) / len(subsets)


def test_pass_at_n_and_pass_all_n_are_shares_of_subsets() -> None:
    n = np.array([[5, 7, 5], [6, 5, 5]])
    c = np.array([[0, 3, 5], [2, 1, 4]])
    ns = (1, 2, 5)
    for estimate, judge in ((pass_at_n_of_counts, any), (pass_all_n_of_counts, all)):
        expected = [
            [[by_subsets(i, j, k, judge) for k in ns] for i, j in zip(*row, strict=True)]
            for row in zip(n, c, strict=True)
        ]
        np.testing.assert_allclose(estimate(n, c, ns), expected, atol=1e-13)


def test_both_are_unbiased() -> None:
    p, n, k = 0.3, 6, 4
    law = np.array([math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])
    sizes, outcomes = np.full(n + 1, n), np.arange(n + 1)
    assert law @ pass_at_n_of_counts(sizes, outcomes, (k,))[:, 0] == pytest.approx(
        1 - (1 - p) ** k, abs=1e-14
    )
    assert law @ pass_all_n_of_counts(sizes, outcomes, (k,))[:, 0] == pytest.approx(p**k, abs=1e-14)


@pytest.mark.parametrize(
    ("n", "c", "ns", "message"),
    [
        ([4, 3], [1, 1], (4,), "ns: contains 4; valid: at most the smallest num_samples, 3"),
        ([4], [5], (1,), "valid: n >= 1 and 0 <= c <= n"),
        ([0], [0], (1,), "valid: n >= 1"),
        ([4.0], [1], (1,), "num_samples: float64; valid: whole numbers"),
        ([4, 4], [1], (1,), r"shapes \(2,\), \(1,\)"),
        ([4], [1], (1.5,), "ns: contains 1.5"),
    ],
)
def test_bad_counts(n: Any, c: Any, ns: Any, message: str) -> None:
    for function in (pass_at_n_of_counts, pass_all_n_of_counts):
        with pytest.raises(ValueError, match=message):
            function(np.array(n), np.array(c), ns)


def test_an_interval_of_shares_has_a_width_also_where_all_are_equal() -> None:
    assert share_interval(np.zeros(10)).high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert share_interval(np.ones(10)).low == pytest.approx(0.025 ** (1 / 10))
    # 1/2 + D/2 with D the weight of the added value, P[D > d] = (1 - d)^10.
    middle = share_interval(np.full(10, 0.5))
    assert (middle.low, middle.high) == pytest.approx((0.025**0.1 / 2, 1 - 0.025**0.1 / 2))
    spread = share_interval(np.array([0.0, 0.0, 0.9]))
    assert spread.estimate == pytest.approx(0.3)
    assert 0 <= spread.low < 0.01
    assert 0.8 < spread.high <= 1
    for values in ([0.5, 1.5], [0.5], [0.5, math.nan]):
        with pytest.raises(ValueError, match="valid: two or more numbers from 0 to 1"):
            share_interval(np.array(values))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("right", "size"), [(1, 2), (3, 20), (199, 200), (30, 60), (400, 100_000)])
def test_an_interval_of_zeros_and_ones_is_clopper_and_pearsons(
    right: int, size: int, confidence: float
) -> None:
    found = share_interval(np.repeat([1.0, 0.0], [right, size - right]), confidence)
    exact = proportion_interval(right, size, confidence)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (right / size, exact.low, exact.high), rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.45, 0.5, 0.9], [0.9, 0.97, 0.98, 0.99], [0.2, 0.5]])
def test_the_ends_of_an_interval_of_shares_are_quantiles_of_a_sum_of_dirichlet_weights(
    values: list[float],
) -> None:
    """P[sum_i D_i z_i > t] is the sum over z_i > t of (z_i - t)^n / prod_(j != i) (z_i - z_j)."""

    def exceeds(points: list[float], t: float) -> float:
        n = len(points) - 1
        return sum(
            (z - t) ** n / math.prod(z - other for other in points if other != z) for z in points if z > t
        )

    found = share_interval(np.array(values))
    assert exceeds([*values, 1.0], found.high) == pytest.approx(0.025, abs=1e-7)
    assert exceeds([*(1 - value for value in values), 1.0], 1 - found.low) == pytest.approx(0.025, abs=1e-7)


def test_an_interval_of_shares_is_hardly_wider_than_students_where_that_is_right() -> None:
    p = np.random.default_rng(4).beta(0.3, 0.3, 400)
    values = np.random.default_rng(5).binomial(16, p) / 16
    found, student = share_interval(values), mean_interval(values)
    assert 0.95 < (found.high - found.low) / (student.high - student.low) < 1.05


def test_the_sampling_variance_is_enumerated() -> None:
    n, c, k = 4, 1, 2
    p = Fraction(3, 10)
    outcomes = [
        (
            math.comb(n, j) * p**j * (1 - p) ** (n - j),
            Fraction(by_subsets(n, j, k, any)).limit_denominator(100),
        )
        for j in range(n + 1)
    ]
    mean = sum(w * v for w, v in outcomes)
    expected = sum(w * (v - mean) ** 2 for w, v in outcomes)
    assert sampling_variance(np.array([n]), np.array([c]), k)[0] == pytest.approx(float(expected), rel=1e-12)


def test_power_of_a_comparison() -> None:
    n = np.full(400, 16)
    rng = np.random.default_rng(0)
    p = rng.beta(1, 3, 400)
    first = (n, rng.binomial(16, p))
    same = compare_pass_at_n(first, (n, rng.binomial(16, p)), 4)
    assert not same.told_apart
    better = compare_pass_at_n(first, (n, rng.binomial(16, np.minimum(p + 0.2, 1))), 4)
    assert better.told_apart
    gaps = pass_at_n_of_counts(n, first[1], (4,))[:, 0]
    other = compare_pass_at_n(first, (n, np.full(400, 16)), 4)
    error = (1 - gaps).std(ddof=1) / 20
    assert other.difference.estimate == pytest.approx((1 - gaps).mean())
    assert other.detectable == pytest.approx((1.959963984540054 + 0.8416212335729143) * error, rel=1e-12)
    assert other.examples_needed == pytest.approx(
        400 * (other.detectable / (1 - gaps).mean()) ** 2, rel=1e-12
    )
    # Two draws of one model differ by sampling alone: its share of the variance is about 1.
    assert same.sampling_share > 0.8
    nothing = compare_pass_at_n(first, first, 4)
    assert not nothing.told_apart
    assert nothing.difference.high > 0
    assert nothing.examples_needed == math.inf


def fisher(n1: int, c1: int, n2: int, c2: int) -> float:
    """Two-sided p-value by enumerating the tables with equal margins."""
    total = c1 + c2
    law = {
        a: Fraction(math.comb(n1, a) * math.comb(n2, total - a), math.comb(n1 + n2, total))
        for a in range(total + 1)
    }
    return float(sum(p for p in law.values() if p <= law[c1]))


def test_changed_examples_are_fishers_under_benjamini_and_hochberg() -> None:
    n = np.full(6, 16)
    first, second = np.array([16, 8, 8, 0, 8, 5]), np.array([1, 7, 9, 12, 8, 0])
    p_values = np.array([fisher(16, a, 16, b) for a, b in zip(first, second, strict=True)])
    for level in (0.01, 0.05, 0.2):
        order = np.argsort(p_values)
        passing = [rank for rank, i in enumerate(order, start=1) if p_values[i] <= level * rank / 6]
        counted = set(order[: max(passing, default=0)].tolist())
        expected = [np.sign(second[i] - first[i]) if i in counted else 0 for i in range(6)]
        assert changed_examples((n, first), (n, second), level).tolist() == expected
    assert changed_examples((n, first), (n, first)).tolist() == [0] * 6


def test_the_coverage_ratio_of_exact_probabilities() -> None:
    start, end = np.array([0.5, 0.5, 0.05, 0.95, 0.2]), np.array([0.2, 0.6, 1.0, 0.0, 0.7])
    found = coverage_ratio(start, end)
    assert (found.lost, found.gained, found.prompts) == (pytest.approx(0.3), pytest.approx(0.6), 3)
    assert found.ratio.estimate == pytest.approx(0.5)
    assert coverage_ratio(np.array([0.5]), np.array([0.2])).ratio.estimate == math.inf
    assert math.isnan(coverage_ratio(np.array([0.5]), np.array([0.5])).ratio.estimate)
    with pytest.raises(ValueError, match=r"pass_end: from -0\.1 to 0\.5; valid: 0 to 1"):
        coverage_ratio(np.array([0.5, 0.5]), np.array([0.5, -0.1]))


def test_the_coverage_ratio_of_counts_is_the_mean_over_halves() -> None:
    """Every half of the start's responses decides once whether a prompt counts; the others measure."""
    start, end = [(9, 2), (8, 1), (8, 5), (7, 3)], [(4, 1), (3, 2), (5, 1), (6, 6)]
    k, expected = 2, np.zeros(3)
    for (n, c), (later, right) in zip(start, end, strict=True):
        after = by_subsets(later, right, k, any)
        halves = list(itertools.combinations(range(n), n // 2))
        for half in halves:
            inside = sum(i < c for i in half)
            if 0.05 < by_subsets(n // 2, inside, k, any) < 0.95:
                change = after - by_subsets(n - n // 2, c - inside, k, any)
                expected += np.array([max(-change, 0), max(change, 0), 1]) / len(halves)
    counts = [tuple(np.array(each).T) for each in (start, end)]
    found = coverage_ratio_of_counts(counts[0], counts[1], k, np.random.default_rng(0), 20)
    assert [found.lost, found.gained, found.prompts] == pytest.approx(expected.tolist())
    assert found.ratio.estimate == pytest.approx(expected[0] / expected[1])


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.02), (0.05, 0.3), (0.4, 0.1)])
def test_lost_minus_gained_is_unbiased_and_the_noise_bounds_both(p: float, q: float) -> None:
    """Over all outcomes D is w (f_start - f_end), and the sums exceed w (...)_+ by at most `noise`."""
    size, k = 8, 2
    right = np.arange(size + 1)
    shape = (size + 1, size + 1)
    laws = [
        np.array([math.comb(size, c) * x**c * (1 - x) ** (size - c) for c in right.tolist()]) for x in (p, q)
    ]
    n = np.full((size + 1) ** 2, size)
    c1, c2 = (np.broadcast_to(each, shape).reshape(-1) for each in (right[:, None], right))
    mean = np.outer(*laws).reshape(-1) @ _by_prompt(n, c1, n, c2, k)[0]
    before, after = 1 - (1 - p) ** k, 1 - (1 - q) ** k
    # 1 or 2 right of a half of 4: the estimate of Pass@2 is .5 or 5/6, within .05 and .95; with 3 it is 1.
    weight = sum(math.comb(4, c) * p**c * (1 - p) ** (4 - c) for c in (1, 2))
    lost, gained, noise, share = mean
    assert share == pytest.approx(weight)
    assert lost - gained == pytest.approx(weight * (before - after))
    for total, exact in ((lost, before - after), (gained, after - before)):
        assert -1e-12 < total - weight * max(exact, 0) < noise


def test_the_interval_of_the_coverage_ratio() -> None:
    n = np.full(300, 64)
    rng = np.random.default_rng(1)
    p = rng.beta(1, 3, 300)
    start, end = (n, rng.binomial(64, p)), (n, rng.binomial(64, np.clip(p - 0.15, 0, 1)))
    found = coverage_ratio_of_counts(start, end, 4, rng)
    assert 1 < found.ratio.low <= found.ratio.estimate <= found.ratio.high
    again = coverage_ratio_of_counts(start, (n, rng.binomial(64, p)), 4, rng)
    assert again.lost < again.noise
    assert again.ratio.low < 1 < again.ratio.high
    assert again.noise < found.lost
    few = coverage_ratio_of_counts((n[:5], start[1][:5]), (n[:5], end[1][:5]), 4, rng)
    assert (few.ratio.low, few.ratio.high) == (0, math.inf)
    with pytest.raises(ValueError, match="end: 2 prompts; valid: as many as start has, 300"):
        coverage_ratio_of_counts(start, (n[:2], end[1][:2]), 4, rng)
    with pytest.raises(
        ValueError, match="k: 32; valid: less than half the smallest num_samples at the start, 64"
    ):
        coverage_ratio_of_counts(start, end, 32, rng)


def test_one_sample_determines_the_mean_of_p_alone() -> None:
    """With n = 1 and mean m, P[p >= tau] can be anything from (m - tau)/(1 - tau) to m/tau."""
    n = np.ones(400_000, int)
    c = np.zeros(400_000, int)
    c[:240_000] = 1
    (cover,) = cover_at_tau(n, c, (0.5,))
    band = math.sqrt(math.log(2 / 0.05) / 800_000)
    assert cover.naive == 0.6
    # The grid has no point just below tau: its last one is 0.495.
    assert cover.deconvolved.low == pytest.approx((0.6 - band - 0.495) / (1 - 0.495), abs=2e-4)
    assert cover.deconvolved.high == pytest.approx(min(1, (0.6 + band) / 0.5), abs=2e-4)


def test_cover_at_tau_takes_the_noise_out_and_holds_the_truth() -> None:
    rng = np.random.default_rng(3)
    # Half of the examples have p = .3 and half p = .7: c/n crosses .5 by noise.
    p = np.where(np.arange(2000) % 2, 0.3, 0.7)
    n = np.where(np.arange(2000) % 3, 12, 8)
    low, middle, high = cover_at_tau(n, rng.binomial(n, p), (0.15, 0.5, 0.85))
    assert middle.deconvolved.low <= 0.5 <= middle.deconvolved.high
    assert (low.deconvolved.high, high.deconvolved.low) == (
        pytest.approx(1, abs=1e-6),
        pytest.approx(0, abs=1e-6),
    )
    assert high.naive > 0.05 > high.deconvolved.estimate
    assert abs(middle.deconvolved.estimate - 0.5) < 0.05
    with pytest.raises(ValueError, match="tau: 0 is not"):
        cover_at_tau(n, np.zeros(2000, int), (0,))
    with pytest.raises(ValueError, match="taus: none"):
        cover_at_tau(n, np.zeros(2000, int), ())
