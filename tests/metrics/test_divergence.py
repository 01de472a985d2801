import math

import numpy as np
import pytest

from metrics.coverage import coverage_profile
from metrics.divergence import (
    bound_violations,
    check_coverage_bound,
    coverage_bound,
    coverage_supremum,
    cross_entropy,
    f_divergence_part,
    hellinger_bound,
    kl,
    kl_converse_bound,
    squared_hellinger,
)

NS = (1, 1.001, 2, 4, 5.7, 100)


def random_pair(seed: int, size: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pi_D and pi_hat over `size` responses, and X; pi_D puts nothing on the last response."""
    rng = np.random.default_rng(seed)
    data = np.append(rng.dirichlet(np.full(size - 1, 0.7)), 0.0)
    model = rng.dirichlet(np.full(size, 0.7))
    return data, model, np.log(data[:-1]) - np.log(model[:-1])


@pytest.mark.parametrize("seed", range(10))
def test_divergences_equal_their_sums_over_an_enumeration(seed: int) -> None:
    data, model, log_ratio = random_pair(seed)
    weights = data[:-1]
    pairs = list(zip(data.tolist(), model.tolist(), strict=True))
    kl_sum = sum(p * math.log(p / q) for p, q in pairs if p > 0)
    ce_sum = -sum(p * math.log(q) for p, q in pairs if p > 0)
    assert kl(log_ratio, weights) == pytest.approx(kl_sum, abs=1e-12)
    assert cross_entropy(np.log(model), data) == pytest.approx(ce_sum, abs=1e-12)
    assert f_divergence_part(log_ratio, weights) == pytest.approx(kl_sum - model[-1], abs=1e-12)
    hellinger = sum((math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in pairs) / 2
    assert squared_hellinger(log_ratio, weights) == pytest.approx(hellinger, abs=1e-12)
    tails = coverage_profile(log_ratio, NS, weights, tolerance=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        full = [2 * n / (math.sqrt(n) - 1) ** 2 * hellinger if n > 1 else 1.0 for n in NS]
    on_support = hellinger_bound(log_ratio, NS, weights)
    assert (tails <= on_support + 1e-12).all()
    assert (on_support <= np.array(full) + 1e-12).all()


def test_an_impossible_response_makes_kl_infinite_and_leaves_coverage_finite() -> None:
    log_ratio = np.array([0.0, np.inf])
    assert kl(log_ratio) == np.inf
    assert f_divergence_part(log_ratio) == np.inf
    assert squared_hellinger(log_ratio) == 0.5
    assert coverage_supremum(log_ratio) == np.inf
    assert kl_converse_bound(log_ratio) == np.inf
    assert coverage_bound(log_ratio, (1, 2)).tolist() == [1.0, np.inf]
    assert check_coverage_bound(log_ratio, (1, 2)) <= 0
    assert cross_entropy(np.array([-1.0, -np.inf])) == np.inf


def test_a_response_outside_the_data_is_refused() -> None:
    for function in (kl, f_divergence_part, squared_hellinger, coverage_supremum, kl_converse_bound):
        with pytest.raises(ValueError, match=r"^log_ratio: contains -inf; valid: "):
            function(np.array([0.0, -np.inf]))
        assert np.isfinite(function(np.array([0.0, -np.inf]), np.array([1.0, 0.0])))
    with pytest.raises(ValueError, match=r"^log_prob_model"):
        cross_entropy(np.array([-1.0, np.inf]))


def test_f_divergence_part_keeps_its_precision_near_zero_and_does_not_overflow_silently() -> None:
    tiny = 1e-4
    assert f_divergence_part(np.array([tiny])) == pytest.approx(tiny**2 / 2 - tiny**3 / 6, rel=1e-8)
    assert f_divergence_part(np.array([-1e4])) == np.inf


def test_coverage_bound_formula_and_its_value_at_one() -> None:
    log_ratio = np.array([[0.3, 2.0, -1.0]])
    part = np.mean([x + math.exp(-x) - 1 for x in log_ratio[0]])
    expected = [1.0, *(part / (math.log(n) - 1 + 1 / n) for n in (2, 5.7))]
    np.testing.assert_allclose(coverage_bound(log_ratio, (1, 2, 5.7)), [expected])


def test_bound_is_tight_where_every_ratio_is_n_and_the_tolerance_is_shared() -> None:
    for n in (1.0001, 2, 5.7, 1e6):
        at_n = np.full(3, math.log(n))
        assert abs(bound_violations(at_n, (n,), tolerance=0.0)[0]) <= 1e-12
        assert abs(bound_violations(at_n - 1e-5, (n,), tolerance=1e-5)[0]) <= 1e-12
    # A profile with a tolerance and a bound without it disagree by far more than rounding.
    just_below = np.full(3, math.log(2) - 1e-5)
    assert coverage_profile(just_below, (2,))[0] > coverage_bound(just_below, (2,))[0] + 1e-6


def test_check_reports_the_largest_excess_of_the_batch() -> None:
    log_ratio = np.array([[0.0, 3.0], [0.1, 0.2]])
    violations = bound_violations(log_ratio, (2, 3))
    assert check_coverage_bound(log_ratio, (2, 3)) == violations.max()
    np.testing.assert_allclose(
        violations, coverage_profile(log_ratio, (2, 3)) - coverage_bound(log_ratio, (2, 3), tolerance=1e-5)
    )


@pytest.mark.parametrize("seed", range(10))
def test_supremum_is_never_beaten_by_a_fine_grid_and_is_reached(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_ratio, weights = rng.normal(0, 2, size=12), rng.random(12)
    supremum = coverage_supremum(log_ratio, weights)
    grid = np.append(np.linspace(0, log_ratio.max() + 1, 5000), log_ratio[log_ratio > 0])
    profile = [weights[log_ratio >= t].sum() / weights.sum() * t for t in grid]
    assert supremum == pytest.approx(max(profile), abs=1e-12)


def test_supremum_counts_repeated_ratios_together() -> None:
    assert coverage_supremum(np.array([1.0, 1.0, 1.0, 0.0])) == 0.75
    assert coverage_supremum(np.array([-1.0, -2.0])) == 0
    assert kl_converse_bound(np.array([-1.0, -2.0])) == 0


def test_converse_bounds_kl_and_is_reached_when_all_ratios_are_equal() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0):
        log_ratio = rng.normal(0, scale, size=(500, 9))
        weights = rng.random(9)
        assert (kl(log_ratio, weights) <= kl_converse_bound(log_ratio, weights) + 1e-12).all()
    assert kl_converse_bound(np.full(4, 2.0)) == pytest.approx(2.0)
    # C = 1 (from either ratio), W_max = e^2: the bound is 1 (1 + ln 2), the KL 1.5.
    assert kl_converse_bound(np.array([1.0, 2.0])) == pytest.approx(1 + math.log(2))
