"""Pessimism's threshold, weights and laws against bisection, enumeration and closed forms."""

import math

import numpy as np
import pytest
from oracles import pessimism as oracle

from metrics.inference_pessimism import (
    acceptance,
    best_of_n_law,
    coverage_coefficient,
    pessimism,
    pessimism_laws,
    regret_bound,
    rejection_law,
)

REWARDS = np.array([0.1, 0.5, 0.5, 0.9, 1.3])
REFERENCE = np.array([0.4, 0.2, 0.2, 0.15, 0.05])


def random_rewards(seed: int) -> np.ndarray:
    """Rewards that are continuous, tied, constant, or of very different sizes."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))
    kinds = (
        rng.normal(size=size),
        rng.integers(0, 3, size).astype(float),
        np.full(size, 0.3),
        np.exp(rng.normal(0, 3, size)),
    )
    return kinds[seed % 4]


@pytest.mark.parametrize("beta", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e6])
def test_the_threshold_solves_its_equation_and_is_bisections(beta: float) -> None:
    for seed in range(40):
        rewards = random_rewards(seed)
        found = pessimism(rewards, beta)
        plain = sum(max(r - float(found.threshold), 0.0) for r in rewards.tolist()) / len(rewards)
        scale = max(1.0, float(np.abs(rewards).max()))
        assert abs(plain / beta - 1) < max(1e-9, 1e-15 * scale / beta)
        assert abs(found.weights.mean() - 1) < 1e-9
        bisected = oracle.threshold(rewards.tolist(), beta)
        assert float(found.threshold) == pytest.approx(bisected, rel=1e-12, abs=1e-12 * scale)


def test_the_equation_holds_to_1e9_where_beta_is_a_millionth_or_more_and_masses_differ() -> None:
    rng = np.random.default_rng(3)
    masses = rng.dirichlet(np.full(30, 0.2), size=200)
    for beta in (1e-6, 1e-2, 1.0, 1e4):
        rewards = rng.random((200, 30))
        found = pessimism(rewards, beta, masses)
        sums = np.sum(masses * np.maximum(rewards - found.threshold[:, None], 0), axis=1) / beta
        np.testing.assert_allclose(sums, 1, rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.sum(masses * found.weights, axis=1), 1, rtol=0, atol=1e-9)


def test_repeated_rewards_are_one_reward_with_more_mass() -> None:
    whole = pessimism(np.array([0.2, 0.2, 0.7, 1.0]), 0.3)
    merged = pessimism(np.array([0.2, 0.7, 1.0, 5.0]), 0.3, np.array([0.5, 0.25, 0.25, 0.0]))
    assert merged.threshold == pytest.approx(whole.threshold, abs=1e-15)
    # A response without mass has a weight and no part in lambda.
    assert merged.weights[3] == pytest.approx((5 - whole.threshold) / 0.3)


def test_limits_of_the_weights() -> None:
    for seed in range(12):
        rewards = random_rewards(seed)
        best = rewards == rewards.max()
        small = pessimism(rewards, 1e-200)
        np.testing.assert_allclose(small.weights, best * (rewards.size / best.sum()), atol=1e-12)
        np.testing.assert_array_equal(acceptance(small), best)
        np.testing.assert_allclose(pessimism(rewards, 1e9).weights, 1, atol=1e-4)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("ceiling", [None, 1.5])
@pytest.mark.parametrize(("n", "beta"), [(1, 0.2), (3, 0.05), (4, 0.4)])
def test_the_law_is_that_of_all_samples_enumerated(
    n: int, beta: float, ceiling: float | None, fresh: bool
) -> None:
    exact = oracle.pessimism_law(REWARDS.tolist(), REFERENCE.tolist(), n, beta, ceiling, fresh)
    assert math.fsum(exact) == pytest.approx(1, abs=1e-12)
    draws = 20_000
    rng = np.random.default_rng(n)
    laws = pessimism_laws(REWARDS, REFERENCE, n, beta, draws, rng, ceiling, fresh)
    np.testing.assert_allclose(laws.sum(axis=1), 1, atol=1e-12)
    error = laws.std(axis=0) / math.sqrt(draws) + 1e-12
    assert np.all(np.abs(laws.mean(axis=0) - exact) < 5 * error)
    if n > 1:
        other = oracle.pessimism_law(REWARDS.tolist(), REFERENCE.tolist(), n, beta * 3, ceiling, fresh)
        assert np.any(np.abs(laws.mean(axis=0) - other) > 5 * error)


def test_best_of_n_is_that_of_all_samples_enumerated() -> None:
    laws = best_of_n_law(REWARDS, REFERENCE, (1, 2, 4))
    for law, n in zip(laws, (1, 2, 4), strict=True):
        exact = oracle.best_of_n_law(REWARDS.tolist(), REFERENCE.tolist(), n)
        np.testing.assert_allclose(law, exact, atol=1e-12)
    np.testing.assert_allclose(laws[0], REFERENCE, atol=1e-15)
    np.testing.assert_allclose(best_of_n_law(REWARDS, REFERENCE, (10_000,))[0], [0, 0, 0, 0, 1], atol=1e-12)


def test_limits_of_the_laws() -> None:
    rng = np.random.default_rng(0)
    n = 6
    best = best_of_n_law(REWARDS, REFERENCE, (n,))[0]
    for fresh in (True, False):
        uniform = pessimism_laws(REWARDS, REFERENCE, n, 1e9, 20_000, rng, fresh=fresh)
        assert np.all(np.abs(uniform.mean(axis=0) - REFERENCE) < 5 * uniform.std(axis=0) / 140 + 1e-8)
    chosen = pessimism_laws(REWARDS, REFERENCE, n, 1e-12, 40_000, rng, fresh=False)
    assert np.all(np.abs(chosen.mean(axis=0) - best) < 5 * chosen.std(axis=0) / 200 + 1e-9)


def test_a_larger_bound_on_the_reward_brings_the_reference_back_as_beta_vanishes() -> None:
    laws = pessimism_laws(REWARDS, REFERENCE, 400, 1e-12, 100, np.random.default_rng(0), ceiling=2.0)
    np.testing.assert_allclose(laws, np.broadcast_to(REFERENCE, laws.shape), atol=1e-9)


def test_fresh_draws_without_ties_miss_the_best_of_the_sample_half_of_the_time() -> None:
    # Derived: the N + 1st draw is returned if none of N fresh rewards is above the largest of N others.
    size, n, draws = 600, 8, 1500
    rewards, reference = np.arange(size) / size, np.full(size, 1 / size)
    laws = pessimism_laws(rewards, reference, n, 1e-9, draws, np.random.default_rng(1))
    mean = float((laws @ rewards).mean())
    # The first fresh one above U = max of N is uniform on (U, 1): E = (1/2)(1/2) + E[1{found} (1 + U)/2].
    found = 0.5 * 0.5 + sum(
        (1 - (k / size) ** n) * (1 + k / size) / 2 * (((k + 1) / size) ** n - (k / size) ** n)
        for k in range(size)
    )
    assert mean == pytest.approx(found, abs=5 * float((laws @ rewards).std()) / math.sqrt(draws) + 3e-3)
    assert mean < best_of_n_law(rewards, reference, (n,))[0] @ rewards - 0.05


def test_with_many_draws_the_law_is_the_regularised_policy() -> None:
    rng = np.random.default_rng(2)
    for beta in (0.1, 0.5):
        ideal = REFERENCE * pessimism(REWARDS, beta, REFERENCE).weights
        assert ideal.sum() == pytest.approx(1, abs=1e-12)
        for fresh in (True, False):
            laws = pessimism_laws(REWARDS, REFERENCE, 20_000, beta, 200, rng, fresh=fresh)
            np.testing.assert_allclose(laws.mean(axis=0), ideal, atol=0.01)


def test_the_regularised_policy_maximises_its_objective() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        rewards, reference, beta = rng.random(6), rng.dirichlet(np.ones(6)), float(rng.uniform(0.02, 1))
        own = reference * pessimism(rewards, beta, reference).weights

        def objective(
            law: np.ndarray,
            rewards: np.ndarray = rewards,
            reference: np.ndarray = reference,
            beta: float = beta,
        ) -> float:
            return float(law @ rewards - beta / 2 * coverage_coefficient(law, reference))

        others = rng.dirichlet(np.ones(6), 200)
        mixed = [objective(own + 0.01 * (other - own)) for other in others]
        assert max(mixed) <= objective(own) + 1e-12


def test_the_regret_bound_holds_for_random_errors() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        reference, true = rng.dirichlet(np.full(8, 0.5)), rng.random(8)
        estimate = true + rng.normal(0, 0.5, 8) * rng.integers(0, 2, 8)
        error = math.sqrt(float(reference @ (estimate - true) ** 2))
        target, beta = rng.dirichlet(np.full(8, 0.3)), float(np.exp(rng.uniform(-5, 1)))
        own = reference * pessimism(estimate, beta, reference).weights
        bound = regret_bound(error, float(coverage_coefficient(target, reference)), beta)
        assert (target - own) @ true <= bound + 1e-9


def test_coverage_coefficients() -> None:
    assert coverage_coefficient(REFERENCE, REFERENCE) == pytest.approx(1)
    assert coverage_coefficient(np.array([0, 0, 0, 0, 1.0]), REFERENCE) == pytest.approx(20)
    assert math.isinf(coverage_coefficient(np.array([0.5, 0.5]), np.array([1.0, 0.0])))
    assert rejection_law(REFERENCE, np.zeros(5), 3).tolist() == REFERENCE.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pessimism(np.array([np.nan]), 1.0), "reward: shape"),
        (lambda: pessimism(np.array([0.5, np.nan]), 1.0), "reward: shape"),
        (lambda: pessimism(np.zeros(0), 1.0), "reward: shape"),
        (lambda: pessimism(REWARDS, 0.0), "beta: 0.0 is not a positive number"),
        (lambda: pessimism(REWARDS, math.inf), "beta: inf"),
        (lambda: pessimism(REWARDS, 1.0, REFERENCE * 2), "mass: shape"),
        (lambda: pessimism(REWARDS, 1.0, REFERENCE[:2]), "mass: shape"),
        (lambda: acceptance(pessimism(REWARDS, 0.1), 0.0), "ceiling: 0.0 is not above the threshold"),
        (lambda: best_of_n_law(REWARDS, REFERENCE, (0,)), "ns"),
        (
            lambda: pessimism_laws(REWARDS, REFERENCE, 0, 1.0, 1, np.random.default_rng(0)),
            "n: 0 is not an integer",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_the_bound_of_the_regret_by_hand() -> None:
    """0.3 sqrt(9) + 0.2 * 9/2 + 0.09/0.4."""
    assert regret_bound(0.3, 9, 0.2) == pytest.approx(0.9 + 0.9 + 0.225)
