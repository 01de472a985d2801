"""Maximum likelihood against closed forms and SciPy's constrained optimiser."""

import itertools

import numpy as np
import pytest
from scipy import optimize, special

from theory.maximum_likelihood.fitting import best_of_class, fit_categorical_in_box, fit_logistic_on_ball


def log_likelihood(ones: np.ndarray, trials: np.ndarray, log_odds: np.ndarray) -> float:
    return float(np.sum(ones * log_odds - trials * np.logaddexp(0, log_odds)))


def by_scipy(ones: np.ndarray, trials: np.ndarray, radius: float) -> float:
    """Largest log-likelihood in the ball by SLSQP."""
    ball = {"type": "ineq", "fun": lambda u: radius**2 - u @ u, "jac": lambda u: -2 * u}
    found = optimize.minimize(
        lambda u: -log_likelihood(ones, trials, u),
        np.zeros(len(ones)),
        jac=lambda u: trials * special.expit(u) - ones,
        constraints=[ball],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return -float(found.fun)


@pytest.mark.parametrize("radius", [0.3, 2.0, 20.0])
def test_logistic_on_ball_is_at_least_as_likely_as_what_scipy_finds(radius: float) -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(0, 7, (10, 5))
    ones = rng.binomial(trials, 0.7)
    fit = fit_logistic_on_ball(ones, trials, radius)
    norms = np.linalg.norm(fit.log_odds, axis=1)
    assert (norms <= radius * (1 + 1e-9)).all()
    for k, m, u in zip(ones, trials, fit.log_odds, strict=True):
        best = by_scipy(k, m, radius)
        assert log_likelihood(k, m, u) >= best - 1e-7
        assert log_likelihood(k, m, u) <= best + 1e-4 * max(1.0, abs(best)), "SciPy is inside the ball too"


def test_logistic_conditions_hold_and_the_multiplier_is_zero_inside() -> None:
    rng = np.random.default_rng(1)
    trials = rng.integers(0, 30, (40, 8))
    ones = rng.binomial(trials, 0.5)
    fit = fit_logistic_on_ball(ones, trials, 2.0)
    slope = ones - trials * special.expit(fit.log_odds) - fit.multiplier[:, None] * fit.log_odds
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    norms = np.linalg.norm(fit.log_odds, axis=1)
    assert (fit.multiplier >= 0).all()
    np.testing.assert_allclose(norms[fit.multiplier > 0], 2.0, rtol=1e-9)
    assert 0 < (fit.multiplier > 0).sum() < 40, "both cases are there"


def test_logistic_closed_forms() -> None:
    ones, trials = np.array([[3, 0, 1]]), np.array([[4, 0, 3]])
    free = fit_logistic_on_ball(ones, trials, 10.0)
    np.testing.assert_allclose(free.log_odds, [[np.log(3), 0, np.log(0.5)]])
    assert free.multiplier == 0
    # One coordinate with nothing but ones goes to the boundary; lambda u = m (1 - sigma(u)).
    alone = fit_logistic_on_ball(np.array([[5]]), np.array([[5]]), 2.0)
    np.testing.assert_allclose(alone.log_odds, [[2.0]])
    np.testing.assert_allclose(alone.multiplier, 5 * special.expit(-2.0) / 2)
    # Equal data share the ball equally.
    even = fit_logistic_on_ball(np.full((1, 4), 3), np.full((1, 4), 3), 2.0)
    np.testing.assert_allclose(even.log_odds, np.ones((1, 4)))
    nothing = fit_logistic_on_ball(np.zeros((2, 3), int), np.zeros((2, 3), int), 1.0)
    assert not nothing.log_odds.any()


def test_logistic_on_a_ball_far_away_and_a_tiny_one() -> None:
    ones, trials = np.array([[7, 2, 0]]), np.array([[7, 5, 0]])
    for radius in (1e-6, 60.0):
        fit = fit_logistic_on_ball(ones, trials, radius)
        np.testing.assert_allclose(np.linalg.norm(fit.log_odds), radius, rtol=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("bound", [0.05, 0.5, 3.0])
@pytest.mark.parametrize(("size", "total"), [(3, 5), (4, 300), (6, 3), (2, 10)])
def test_box_is_as_likely_as_what_scipy_finds(bound: float, size: int, total: int) -> None:
    counts = np.random.default_rng(2).multinomial(total, np.ones(size) / size, 5)
    fitted = fit_categorical_in_box(counts, bound)
    np.testing.assert_allclose(np.exp(fitted).sum(axis=1), 1)
    assert (np.ptp(fitted, axis=1) <= 2 * bound + 1e-9).all()
    for n, row in zip(counts, fitted, strict=True):
        found = optimize.minimize(
            lambda w, n=n: -n @ (w - special.logsumexp(w)),
            np.zeros(size),
            bounds=[(-bound, bound)] * size,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        assert n @ row >= -found.fun - 1e-7
        np.testing.assert_allclose(np.exp(row), np.exp(found.x - special.logsumexp(found.x)), atol=2e-4)


def test_box_closed_forms() -> None:
    # A wide box gives the empirical law; with a token never seen the ends of the box are both reached.
    np.testing.assert_allclose(np.exp(fit_categorical_in_box(np.array([[3, 1, 6]]), 5.0)), [[0.3, 0.1, 0.6]])
    two = np.exp(fit_categorical_in_box(np.array([[4, 0]]), 1.0))
    np.testing.assert_allclose(two, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]])
    even = np.exp(fit_categorical_in_box(np.array([[2, 2, 0]]), 0.5))
    np.testing.assert_allclose(even, [[np.e / (2 * np.e + 1)] * 2 + [1 / (2 * np.e + 1)]])


def test_best_of_class_by_plain_sums() -> None:
    rng = np.random.default_rng(3)
    log_probs = np.log(rng.dirichlet(np.ones(4), 6))
    log_probs[2, 1] = -np.inf
    counts = rng.multinomial(5, np.ones(4) / 4, 20).T
    chosen = best_of_class(log_probs, counts)
    for draw, model in zip(counts.T, chosen, strict=True):
        sums = [sum(c * p for c, p in zip(draw, row, strict=True) if c) for row in log_probs]
        assert model == int(np.argmax(sums))
    tied = best_of_class(np.log(np.full((3, 2), 0.5)), np.array([[1.0], [2.0]]))
    assert tied.tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_logistic_on_ball(np.ones((1, 1), int), np.ones((1, 1), int), 0), "radius: 0; valid"),
        (lambda: fit_logistic_on_ball(np.full((1, 1), 2), np.ones((1, 1), int), 1), "ones: valid"),
        (lambda: fit_logistic_on_ball(np.ones(1, int), np.ones(1, int), 1), "ones: valid"),
        (lambda: fit_categorical_in_box(np.ones((1, 2), int), -1.0), "log_bound: -1.0; valid"),
        (lambda: fit_categorical_in_box(np.zeros((1, 2), int), 1.0), "log_bound: 1.0; valid"),
        (lambda: best_of_class(np.zeros((2, 3)), np.zeros((2, 1))), r"counts: shape \(2, 1\); valid"),
    ],
)
def test_bad_input_is_one_line(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_all_corners_of_a_small_problem() -> None:
    """All counts of two coordinates with at most two trials pass the solver's check of the conditions."""
    pairs = [(k, m) for m in range(3) for k in range(m + 1)]
    every = np.array(list(itertools.product(pairs, repeat=2)))
    for radius in (0.1, 1.0, 7.0):
        fit = fit_logistic_on_ball(every[..., 0], every[..., 1], radius)
        assert np.isfinite(fit.log_odds).all()
