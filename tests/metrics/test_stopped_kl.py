"""The stopped KL against enumerated autoregressive laws, and transitivity against random triples."""

import functools
import math

import numpy as np
import pytest
from oracles.autoregressive import enumerated

from metrics import (
    coverage_profile,
    hellinger_tail_bound,
    kl,
    stopped_kl,
    stopped_kl_bound,
    transitivity_bound,
)

NS = (2, 3, 8, 50, 1e6)


@functools.cache
def tree(seed: int, horizon: int = 5, scale: float = 1.0) -> np.ndarray:
    """(pi_D, X, KL along, Hellinger along) of all strings of three tokens, with errors that grow along 0."""
    rng = np.random.default_rng(seed)
    tables: dict = {}

    def table(prefix: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if prefix not in tables:
            error = scale * (0.3 + 1.2 * prefix.count(0))
            logits = rng.normal(size=3)
            pair = np.exp(logits), np.exp(logits + error * rng.normal(size=3))
            tables[prefix] = tuple(each / each.sum() for each in pair)
        return tables[prefix]

    return np.array(enumerated(lambda p: table(p)[0], lambda p: table(p)[1], horizon, 3))


@pytest.mark.parametrize("seed", range(12))
def test_stopped_kl_is_the_mean_of_minima_and_bounds_coverage(seed: int) -> None:
    mass, log_ratio, along, _ = tree(seed).T
    assert mass.sum() == pytest.approx(1)
    assert mass @ along == pytest.approx(kl(log_ratio, mass)), "the chain rule of the KL"
    expected = [sum(m * min(math.log(n), s) for m, s in zip(mass, along, strict=True)) for n in NS]
    np.testing.assert_allclose(stopped_kl(along, NS, mass), expected)
    bound = stopped_kl_bound(along, NS, mass)
    assert bound[0] == 1, "N = 2 < e"
    factors = 2 / (np.log(NS[1:]) - 1)
    np.testing.assert_allclose(bound[1:], factors * expected[1:])
    covered = coverage_profile(log_ratio, NS, mass, tolerance=0.0)
    assert (covered <= bound).all()
    logs = np.log(NS[1:])
    sharper = stopped_kl(along, NS[1:], mass) * (1 / logs + 1 / (logs - 1 + np.exp(-logs)))
    assert (covered[1:] <= sharper).all()
    assert (sharper <= bound[1:]).all()


def test_stopped_kl_never_exceeds_ln_n_and_is_the_kl_for_large_n() -> None:
    along = np.array([[0.0, 5.0, np.inf], [0.1, 0.2, 0.3]])
    found = stopped_kl(along, (math.e, 1e9))
    np.testing.assert_allclose(found[0], [2 / 3, (5 + math.log(1e9)) / 3])
    np.testing.assert_allclose(found[1], [0.2, 0.2])
    assert stopped_kl_bound(along, (math.e,)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("seed", range(12))
def test_sums_of_hellinger_distances_bound_coverage_from_below(seed: int) -> None:
    mass, log_ratio, _, along = tree(seed, scale=10.0).T
    ns = (1, 1.5, 3, 20)
    covered = coverage_profile(log_ratio, ns, mass, tolerance=0.0)
    for delta in (0.05, 0.3, 0.7):
        found = hellinger_tail_bound(along, ns, delta, mass)
        tails = [
            sum(m for m, s in zip(mass, along, strict=True) if math.exp(s) >= n**0.5 / delta) for n in ns
        ]
        np.testing.assert_allclose(found, np.array(tails) - delta, atol=1e-12)
        assert (found <= covered).all()
    assert max(hellinger_tail_bound(along, (1,), delta, mass)[0] for delta in (0.3, 0.5, 0.7)) > 0


def test_the_lower_bound_in_closed_form_and_its_bad_input() -> None:
    # pi_D writes 100 zeros, pi_hat fair bits: 1 - 1/sqrt 2 a token, ratio 2^100.
    along = np.full(3, 100 * (1 - 0.5**0.5))
    assert hellinger_tail_bound(along, (2**50,), 0.01)[0] == pytest.approx(0.99)
    assert hellinger_tail_bound(along, (2**100,), 0.01)[0] == pytest.approx(-0.01)
    with pytest.raises(ValueError, match=r"^delta: 1; valid"):
        hellinger_tail_bound(along, (2,), 1)
    with pytest.raises(ValueError, match=r"^hellinger_along: contains -1.0"):
        hellinger_tail_bound(np.array([-1.0]), (2,), 0.5)


def test_without_the_law_the_stopped_bound_can_fail() -> None:
    # One sampled response of ratio 100 whose prefixes had a KL of .1: why the bound needs the law.
    assert coverage_profile(np.array([math.log(100)]), (50,))[0] > stopped_kl_bound(np.array([0.1]), (50,))[0]


def test_bad_sums_are_refused() -> None:
    for function in (stopped_kl, stopped_kl_bound):
        with pytest.raises(ValueError, match=r"^kl_along: contains -1.0; valid: sums of divergences, >= 0"):
            function(np.array([0.0, -1.0]), (4,))
        with pytest.raises(ValueError, match=r"^kl_along: contains NaN"):
            function(np.array([0.0, np.nan]), (4,))
        with pytest.raises(ValueError, match=r"^ns: 0.5 is not a number >= 1"):
            function(np.array([1.0]), (0.5,))


@pytest.mark.parametrize("seed", range(30))
def test_transitivity_equals_its_sum_and_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, data, model = rng.dirichlet(np.full(9, 0.3), size=3) * (1 - 1e-6) + 1e-6 / 9
    ms = (1, 1.5, 3, 12)
    found = transitivity_bound(np.log(data / model), data, np.log(target / data), target, 12, ms)
    for m, bound in zip(ms, found, strict=True):
        first = sum(d for d, h in zip(data, model, strict=True) if d >= 12 / m * h)
        second = sum(t for t, d in zip(target, data, strict=True) if t >= m * d)
        assert bound == pytest.approx(m * first + second)
        left = sum(t for t, h in zip(target, model, strict=True) if t >= 12 * h)
        assert left <= bound + 1e-12


def test_transitivity_is_tight_for_a_policy_that_conditions_the_data() -> None:
    # pi_D writes the one correct response with 1/4, pi_hat ten times less: Cov_40(pi_T) = 1 = 4 Cov_10(pi_D).
    data, model = np.array([0.25, 0.75]), np.array([0.025, 0.975])
    target, weights = np.log([4.0]), np.ones(1)
    found = transitivity_bound(np.log(data / model), data, target, weights, 40, (3.9, 4, 4.01))
    np.testing.assert_allclose(found, [1.0, 4 * 0.25 + 1, 4.01 * 0.25])
    with pytest.raises(ValueError, match=r"^ms: contains 41.0; valid: numbers from 1 to N = 40"):
        transitivity_bound(np.log(data / model), data, target, weights, 40, (41,))
