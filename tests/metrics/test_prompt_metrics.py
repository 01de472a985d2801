"""Metrics of the probability of a right response against closed forms and plain Python."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import special

from metrics.coverage_ratio import coverage_ratio
from metrics.pass_rates import pass_all_n, pass_at_n
from metrics.prompt_metrics import PromptMetrics, covered_at, likelihood_quantile

TINY = 1e-300


def logs(values: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(values, np.float64))


def test_pass_all_n_is_a_power_of_p() -> None:
    found = pass_all_n(logs([0, 0.25, 1, TINY]), (1, 2, 8))
    np.testing.assert_allclose(found[:3], [[0, 0, 0], [0.25, 0.0625, 0.25**8], [1, 1, 1]], rtol=1e-14)
    assert found[3, 0] == pytest.approx(TINY)
    assert found[3, 1] == 0
    # One response is right, or all of one are.
    p = logs(np.random.default_rng(0).random(20))
    np.testing.assert_allclose(pass_all_n(p, (1,)), pass_at_n(p, (1,)), rtol=1e-12)
    # Rounding above 1 counts as 1.
    assert pass_all_n(np.array([5e-5]), (1000,)).tolist() == [[1.0]]
    for wrong in (math.nan, 0.1):
        with pytest.raises(ValueError, match=r"^log_prob_correct: contains"):
            pass_all_n(np.array([wrong]), (2,))


def test_cover_at_tau_counts_prompts_at_the_threshold() -> None:
    p = logs([0, 0.1, 0.5, 0.5000001, 1])
    assert covered_at(p, (0.1, 0.5, 1)).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]
    # Rounding of float32 does not take a prompt from its threshold; a hundred times more does.
    for tau in (0.1, 1.0):
        assert covered_at(np.array([math.log(tau) - 5e-6, math.log(tau) - 1e-3]), (tau,)).tolist() == [
            [1],
            [0],
        ]
    for wrong in (0, -0.1, 1.01, math.nan, True):
        with pytest.raises(ValueError, match=r"^tau: .* is not a number in \(0, 1\]$"):
            covered_at(p, (wrong,))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_pass_at_n_is_the_mean_of_cover_over_a_beta_law(n: int) -> None:
    """Between neighbouring p, Cover@tau is constant: the integral is a sum over the Beta(1, N) law."""
    rng = np.random.default_rng(n)
    p = np.sort(np.concatenate([[0, 1], rng.random(9) ** 2]))
    edges = np.unique(p)
    middle = (edges[:-1] + edges[1:]) / 2
    mass = np.diff(special.betainc(1, n, edges))
    cover = covered_at(logs(p), middle.tolist()).mean(axis=0)
    assert cover @ mass == pytest.approx(pass_at_n(logs(p), (n,)).mean(), rel=1e-9)


def plain_quantile(likelihoods: list[float], weights: list[Fraction], eps: Fraction) -> float:
    """sup{a: P[L < a] <= eps}, which some likelihood attains, by trying each."""
    total = sum(weights)
    fulfilled = [
        a
        for a in likelihoods
        if sum(w for each, w in zip(likelihoods, weights, strict=True) if each < a) <= eps * total
    ]
    return max(fulfilled)


def test_the_likelihood_quantile_is_the_largest_threshold_with_few_below() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = int(rng.integers(1, 7))
        # Ties, and shares that equal eps.
        likelihoods = (rng.integers(1, 5, size) / 8).tolist()
        weights = [Fraction(int(w), 10) for w in rng.integers(1, 4, size)]
        for eps in (Fraction(0), Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)):
            found = likelihood_quantile(
                logs(likelihoods), (float(eps),), np.array([float(w) for w in weights])
            )
            expected = plain_quantile(likelihoods, weights, eps)
            assert math.exp(found[0]) == pytest.approx(expected), (likelihoods, weights, eps)


def test_the_likelihood_quantile_at_the_edges() -> None:
    # One prompt: its likelihood for every eps.
    assert likelihood_quantile(logs([0.3]), (0, 0.5, 0.999)).tolist() == [math.log(0.3)] * 3
    # A class of exactly the share eps may be lost, whatever the rounding of .9 + .1.
    weights = np.array([0.1 / 3] * 3 + [0.9 / 3] * 3)
    found = likelihood_quantile(logs([1e-9] * 3 + [0.5] * 3), (0.1, 0.099), weights)
    assert found.tolist() == pytest.approx([math.log(0.5), math.log(1e-9)])
    # p = 0 for a fifth.
    assert likelihood_quantile(logs([0, 0.5, 0.5, 0.5, 1]), (0.1, 0.2, 0.9)).tolist() == [
        -math.inf,
        math.log(0.5),
        0,
    ]
    # Long responses: the likelihood underflows, its logarithm does not.
    assert likelihood_quantile(np.array([-5000.0, -4000.0]), (0, 0.5)).tolist() == [-5000, -4000]
    # Seeds in front; weights of 0 do not count.
    both = likelihood_quantile(logs([[0.1, 0.2, 0.9], [0.5, 0.4, 0]]), (0,), np.array([1.0, 2.0, 0.0]))
    assert both.tolist() == [[math.log(0.1)], [math.log(0.4)]]
    for wrong in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match=r"^eps: .* is not a number in \[0, 1\)$"):
            likelihood_quantile(logs([0.5]), (wrong,))


def test_a_power_law_of_likelihoods_has_its_quantile() -> None:
    """P[alpha <= q] = q^b has Q(eps) = eps^(1/b)."""
    tail, size = 0.25, 100_000
    likelihoods = ((np.arange(size) + 0.5) / size) ** (1 / tail)
    found = likelihood_quantile(logs(likelihoods), (0.01, 0.1, 0.5))
    assert np.exp(found) == pytest.approx([0.01**4, 0.1**4, 0.5**4], rel=1e-2)


def test_weights_of_the_coverage_ratio_are_repetitions() -> None:
    start, end = np.array([0.5, 0.4, 0.02, 0.2, 0.6]), np.array([0.2, 0.6, 1.0, 0.7, 0.6])
    times = np.array([3, 1, 2, 0, 4])
    weighted = coverage_ratio(start, end, times.astype(float))
    repeated = coverage_ratio(np.repeat(start, times), np.repeat(end, times))
    assert weighted == repeated
    assert (weighted.ratio.estimate, weighted.prompts) == (pytest.approx(0.9 / 0.2), 8)
    # Only proportions matter to the ratio.
    assert coverage_ratio(start, end, times / 7).ratio.estimate == pytest.approx(4.5)


def of(metrics: PromptMetrics, start: Any, now: Any, weights: Any = None) -> dict[str, float]:
    weights = np.ones(len(now)) if weights is None else weights
    return dict(metrics.ratios(logs(start), logs(now), weights))


def test_the_ratio_counts_prompts_that_the_start_left_undecided() -> None:
    """K = 2: Pass@2 of 1/2 is 3/4, of 1/4 7/16, of .9 .99: the third prompt does not count."""
    metrics = PromptMetrics(ratio_ns=(2,))
    found = of(metrics, [0.5, 0.25, 0.9], [0.25, 0.5, 0.1])
    assert found == {"coverage_ratio/2": pytest.approx(1)}
    assert of(metrics, [0.5, 0.25], [0, 0.25]) == {"coverage_ratio/2": math.inf}
    assert of(metrics, [0.5, 0.25], [0.5, 1]) == {"coverage_ratio/2": 0}
    # Nothing changed; no prompt undecided; one prompt.
    assert math.isnan(of(metrics, [0.5, 0.25], [0.5, 0.25])["coverage_ratio/2"])
    assert math.isnan(of(metrics, [0, 1], [1, 0])["coverage_ratio/2"])
    assert of(metrics, [0.5], [1]) == {"coverage_ratio/2": 0}
    # (.75 - 0) w_1 lost and (.9375 - .4375) w_2 gained.
    weighted = of(metrics, [0.5, 0.25], [0, 0.75], np.array([0.9, 0.1]))
    assert weighted == {"coverage_ratio/2": pytest.approx(0.75 * 0.9 / (0.5 * 0.1))}


def test_names_and_values_by_prompt() -> None:
    metrics = PromptMetrics(pass_all_ns=[1, 3], taus=[0.5, 1], eps=[0, 0.05], ratio_ns=[4])
    found = {name: values.tolist() for name, values in metrics.by_prompt(logs([0.5, 1]))}
    assert list(found) == ["pass_all/1", "pass_all/3", "cover/0.5", "cover/1"]
    assert found["pass_all/3"] == pytest.approx([0.125, 1])
    assert found["cover/1"] == [0, 1]
    right = np.array([[0.5, 0.0], [0.25, 0.25]])
    likelihoods = dict(metrics.likelihoods(logs([[0.9, 0.01], [0.1, 0.2]]), right))
    assert likelihoods == {"likelihood/0": math.log(0.1), "likelihood/0.05": math.log(0.1)}
    # No right response: undefined.
    none = dict(metrics.likelihoods(logs([[0.9]]), np.zeros((1, 1))))
    assert list(none) == ["likelihood/0", "likelihood/0.05"]
    assert all(map(math.isnan, none.values()))
    assert not list(PromptMetrics().by_prompt(logs([0.5])))
    assert not list(PromptMetrics().likelihoods(logs([[0.5]]), np.ones((1, 1))))
    assert not of(PromptMetrics(), [0.5], [0.2])


@pytest.mark.parametrize(
    ("field", "value", "valid"),
    [
        ("pass_all_ns", [0], "whole numbers N >= 1"),
        ("pass_all_ns", [1.5], "whole numbers N >= 1"),
        ("ratio_ns", ["few"], "whole numbers K >= 1"),
        ("taus", [0.5, 0], "numbers in (0, 1]"),
        ("taus", [1.01], "numbers in (0, 1]"),
        ("eps", [1], "numbers in [0, 1)"),
        ("eps", [math.nan], "numbers in [0, 1)"),
        ("eps", [True], "numbers in [0, 1)"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(field: str, value: list[Any], valid: str) -> None:
    line = f"evaluation.{field}: {value}; valid: {valid}, or none"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        PromptMetrics(**{field: value})
