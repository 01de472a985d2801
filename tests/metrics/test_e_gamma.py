"""E_gamma against all events, its relation to coverage, and what the offset tournament owes to it."""

import itertools
import math

import numpy as np
import pytest

from metrics import coverage_profile, e_gamma_divergence
from metrics.tournaments import challenges, offset_gaps, own_matrices, tournament_matrices


def random_laws(rng: np.random.Generator, count: int, responses: int, scale: float) -> np.ndarray:
    base = rng.normal(size=responses)
    weights = np.exp(base + scale * rng.normal(size=(count, responses)) * (rng.random((count, 1)) + 0.05))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_largest_excess_of_an_event_either_way(seed: int) -> None:
    """Equations (98) and (99), with equality at the worst of the 2^6 events."""
    first, second = random_laws(np.random.default_rng(seed), 2, 6, 1.5).tolist()
    events = list(itertools.product((False, True), repeat=6))
    for gamma in (1.0, 1.7, 4.0):
        excess = [
            max(p - gamma * q, q - gamma * p)
            for event in events
            for p, q in [tuple(sum(itertools.compress(law, event)) for law in (first, second))]
        ]
        found = e_gamma_divergence(np.array(first), np.array(second), (gamma,))[0]
        assert found == pytest.approx(max(excess), abs=1e-12)
        assert found == e_gamma_divergence(np.array(second), np.array(first), (gamma,))[0]


def test_it_is_0_where_the_ratios_are_at_most_gamma() -> None:
    first, second = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert e_gamma_divergence(first, second, (2.0, 1.99)).tolist() == [0.0, pytest.approx(0.0025)]


@pytest.mark.parametrize("seed", range(30))
def test_coverage_is_at_most_c_over_c_minus_1_times_it(seed: int) -> None:
    first, second = random_laws(np.random.default_rng(seed), 2, 12, 2.0)
    for gamma, c in itertools.product((1.0, 1.5, 4.0), (1.2, 2.0, 8.0)):
        covered = coverage_profile(np.log(first / second), [c * gamma], first, 1e-9)[0]
        assert covered <= c / (c - 1) * e_gamma_divergence(first, second, (gamma,))[0] + 1e-7


def test_the_printed_bound_of_coverage_lacks_a_factor_2() -> None:
    """Equation (100) prints Cov_2N <= E_N. Ber(p) against Ber(p/2N) has Cov_2N = p and E_N = p/2."""
    for n, p in itertools.product((1.0, 4.0), (0.3, 1e-3)):
        first, second = np.array([p, 1 - p]), np.array([p / (2 * n), 1 - p / (2 * n)])
        covered = coverage_profile(np.log(first / second), [2 * n], first, 1e-9)[0]
        found = e_gamma_divergence(first, second, (n,))[0]
        assert (covered, found) == (pytest.approx(p), pytest.approx(p / 2))


def chosen(data: np.ndarray, models: np.ndarray, n: float, gamma: float) -> int:
    """The offset tournament with exact terms, 2 gamma in front of the second, in plain Python."""
    worst = []
    for model in models.tolist():
        losses = []
        for other in models.tolist():
            beats = [b >= n * m * (1 - 1e-12) for b, m in zip(other, model, strict=True)]
            losses.append(
                sum(itertools.compress(data.tolist(), beats))
                - 2 * gamma * sum(itertools.compress(model, beats))
            )
        worst.append(max(losses))
    return worst.index(min(worst))


def test_the_offset_tournament_is_within_a_constant_of_the_best_e_gamma() -> None:
    """Theorem 6.4' with exact terms: Cov_{2 N gamma}(chosen) <= 11/3 min E_gamma for N >= 8 gamma^2.

    Derived: let e = E_gamma of the best model, C the set where it beats the chosen one N times, P and Q the
    masses of C under pi_D and the chosen model. Then P <= e + 2 gamma Q, and N Q <= gamma P + e. So
    P <= 5e/3, and Cov_{2 N gamma} <= Cov_{2 gamma}(best) + P <= 2e + 5e/3. No model here is within ln gamma
    everywhere.
    """
    gamma, said, positive = 1.5, 0, 0
    n = 8 * gamma**2
    for seed in range(400):
        rng = np.random.default_rng(seed)
        data, *models = random_laws(rng, 6, 8, rng.uniform(1.0, 6.0))
        laws = np.array(models)
        # Each model all but misses a response of its own, of small mass: the premise of Theorem 6.4 fails.
        for row, place in enumerate(rng.permutation(8)[:5]):
            laws[row, place] *= math.exp(-rng.uniform(1.0, 12.0))
        laws /= laws.sum(axis=1, keepdims=True)
        best = e_gamma_divergence(np.tile(data, (5, 1)), laws, (gamma,)).min()
        assert best > 0
        with np.errstate(divide="ignore"):
            beaten = challenges(np.log(laws), n, 1e-9)
        matrices = tournament_matrices(beaten, data[None])
        gaps = offset_gaps(matrices, own_matrices(beaten, laws[None]), n, math.log(gamma) / math.log(n))
        pick = int(gaps[0].max(axis=1).argmin())
        assert pick == chosen(data, laws, n, gamma)
        covered = coverage_profile(np.log(data / laws[pick]), [2 * n * gamma], data, 1e-9)[0]
        assert covered <= 11 / 3 * best + 1e-9
        said += 11 / 3 * best < 1
        positive += bool(covered > 0 and 11 / 3 * best < 1)
    assert (said > 50, positive > 0) == (True, True), (said, positive)


@pytest.mark.parametrize(
    ("first", "second", "gammas", "message"),
    [
        ([0.5, 0.4], [0.5, 0.5], (1.0,), "first: not a law; valid: probabilities >= 0 that sum to 1"),
        ([0.5, 0.5], [0.5, 0.4], (1.0,), "second: not a law"),
        ([0.5, 0.5], [0.5, 0.5], (0.5,), "gammas: 0.5 is not a number >= 1"),
        ([0.5, 0.5], [1.0], (1.0,), "second: shape"),
        ([1.0], [1.0], (), r"gammas: \(\); valid: at least one"),
    ],
)
def test_bad_input_is_one_line(first: list, second: list, gammas: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        e_gamma_divergence(np.array(first), np.array(second), gammas)
