"""Closed forms and quadratures of judged regressions against draws and against integrals."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from theory.judged_regression import (
    Predictive,
    best_of_k,
    best_temperature,
    far_sampling_error,
    leading_coefficient,
    mean_over_prompts,
    predictive,
    softmax_error,
    teacher_errors,
    teacher_exponent,
)

CASES = [(0.3, 0.0, 1.0), (0.5, -0.4, 2.0), (-1.5, 1.0, 0.3)]


def drawn(delta: float, spread: float, k: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return delta + math.sqrt(spread) * rng.normal(size=(100_000, k))


@pytest.mark.parametrize(("delta", "rho", "spread"), CASES)
def test_the_best_of_k_is_that_of_draws(delta: float, rho: float, spread: float) -> None:
    found = best_of_k(np.array([delta]), np.array([rho]), spread, (1, 8))[0]
    assert found[0] == pytest.approx(delta**2 + spread, rel=1e-6)
    y = drawn(delta, spread, 8)
    kept = np.take_along_axis(y, np.abs(y - rho).argmin(axis=1)[:, None], axis=1)[:, 0] ** 2
    assert abs(found[1] - kept.mean()) < 5 * kept.std() / math.sqrt(len(kept))


def test_the_best_of_k_is_a_survival_integral() -> None:
    """With the teacher as judge E min_i y_i^2 = int 2 r P[all |y_i| > r] dr."""
    law = stats.norm(0.7, 1.3)
    exact = integrate.quad(lambda r: 2 * r * (1 - law.cdf(r) + law.cdf(-r)) ** 50, 0, 3, epsabs=1e-13)[0]
    found = best_of_k(np.array([0.7]), np.array([0.0]), 1.3**2, (50,))[0, 0]
    assert found == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("delta", "rho", "spread"), CASES)
def test_the_softmax_is_that_of_draws(delta: float, rho: float, spread: float) -> None:
    y = drawn(delta, spread, 8)
    for temperature in (0.2, 3.0):
        weight = np.exp(-((y - rho) ** 2) / temperature)
        kept = (weight * y**2).sum(axis=1) / weight.sum(axis=1)
        found = softmax_error(np.array([delta]), np.array([rho]), spread, 8, temperature)[0]
        assert abs(found - kept.mean()) < 5 * kept.std() / math.sqrt(len(kept))


def test_doubt_is_the_posterior_variance_of_a_large_regression() -> None:
    rng = np.random.default_rng(3)
    for alpha, noise, prior in ((2.0, 0.5, 1.0), (0.5, 1.0, 2.0)):
        d = 400
        x = rng.normal(size=(round(alpha * d), d)) / math.sqrt(d)
        covariance = np.linalg.inv(x.T @ x / noise**2 + np.eye(d) / prior**2)
        law = predictive(alpha, noise, prior)
        assert np.trace(covariance) / d == pytest.approx(law.doubt, rel=0.03)
        assert law.spread == pytest.approx(law.doubt + noise**2)
        assert law.doubt == pytest.approx(1 / (1 / prior**2 + alpha / law.spread))


def test_the_coefficient_and_the_exponents() -> None:
    law = Predictive(0.1, 0.5)
    assert leading_coefficient(law) == pytest.approx(math.pi * 0.5 / math.sqrt(0.6))
    errors = teacher_errors(law, (10**4, 10**5))
    assert errors[1] * 10**10 == pytest.approx(leading_coefficient(law), rel=1e-3)
    assert np.log10(errors[1] / errors[0]) == pytest.approx(-2, abs=1e-3)
    assert leading_coefficient(Predictive(0.3, 0.5)) == math.inf
    assert (teacher_exponent(law), teacher_exponent(Predictive(0.4, 0.5))) == (-2, -1.25)
    slow = teacher_errors(Predictive(0.4, 0.5), (10**5, 10**6))
    assert -1.45 < np.log10(slow[1] / slow[0]) < -1.25


def test_the_best_temperature_is_where_the_closed_form_is_least() -> None:
    law = Predictive(0.1, 0.5)
    best = best_temperature(law, 0.6)
    grid = np.geomspace(best / 100, 100 * best, 4001)
    errors = [far_sampling_error(law, 0.6, t) for t in grid]
    assert grid[int(np.argmin(errors))] == pytest.approx(best, rel=0.01)
    assert best_temperature(law, 0.25) == 0.0
    assert best_temperature(law, 0.26) > 0.0
    # One prompt: the tilted predictive law, from many draws.
    y = drawn(0.0, 0.5, 1)[:, 0]
    weight = np.exp(-(y**2) / best)
    assert far_sampling_error(Predictive(0.0, 0.5), 0.0, best) == pytest.approx(
        (weight * y**2).sum() / weight.sum(), rel=0.02
    )


def test_means_over_prompts() -> None:
    delta, rho, weights = mean_over_prompts(Predictive(0.3, 1.0), 0.2, 12)
    assert weights.sum() == pytest.approx(1)
    assert (weights @ delta**2, weights @ rho**2) == pytest.approx((0.3, 0.2))
    assert weights @ (delta * rho) == pytest.approx(0)
    assert mean_over_prompts(Predictive(0.3, 1.0), 0.0)[1].max() == 0
