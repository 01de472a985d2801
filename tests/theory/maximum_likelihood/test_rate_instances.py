"""The rate instances against enumeration of their autoregressive linear models, and samples against laws."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from oracles.feature_maps import features_of
from oracles.linear_models import log_probs_of_all, token_variances

from tasks.linear import FeatureMap, all_responses
from theory.maximum_likelihood.bit_laws import bit_kl, grouped_coverage, shared_coverage
from theory.maximum_likelihood.rate_classes import CoarseRate
from theory.maximum_likelihood.rate_instances import HeavyTail, TwoPrompts, VarianceNeeded

LOG_NS = np.array([0.1, 0.7, 2.0, 5.0])


@functools.cache
def compiled(features: FeatureMap, prompts: int) -> Any:
    """(theta) -> ln pi(y|x) of all prompts and responses, and the variance along one response of each."""
    responses = all_responses(features)

    def of(theta: Array) -> tuple[Array, Array]:
        every = jax.vmap(lambda x: log_probs_of_all(features, theta, x, responses))(jnp.arange(prompts))
        # Bits are independent of the prefix in these instances.
        along = jax.vmap(lambda x: jnp.sum(token_variances(features, theta, x, responses[0])))
        return every, along(jnp.arange(prompts))

    return jax.jit(of)


def enumerated(
    features: FeatureMap, star: np.ndarray, theta: np.ndarray, masses: np.ndarray
) -> tuple[float, np.ndarray, float]:
    """KL, Cov_N at `LOG_NS` and inherent variance, by a sum over prompts and responses."""
    run = compiled(features, len(masses))
    data, variances = (np.asarray(each, np.float64) for each in run(jnp.asarray(star, jnp.float32)))
    ratio = data - np.asarray(run(jnp.asarray(theta, jnp.float32))[0], np.float64)
    p = masses[:, None] * np.exp(data)
    coverage = np.array([p[ratio >= each - 1e-5].sum() for each in LOG_NS])
    return float(np.sum(p * ratio)), coverage, float(masses @ variances)


@pytest.mark.parametrize("fitted", [-1.2, 0.0, 0.4, 2.0])
def test_two_prompts_by_enumeration(fitted: float) -> None:
    instance = TwoPrompts(length=5, num_samples=3)
    kl, coverage, _ = enumerated(
        features_of(instance), np.array([1.0]), np.array([fitted / 2]), np.array([1 / 6, 5 / 6])
    )
    u = np.array([fitted])
    np.testing.assert_allclose(instance.kl(2.0, u), [kl], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(instance.coverage(2.0, u, LOG_NS)[0], coverage, atol=1e-6)
    assert features_of(instance).bound == 1


def test_the_papers_constant_of_two_prompts() -> None:
    instance = TwoPrompts(length=100, num_samples=50)
    at_zero = float(instance.kl(2.0, np.zeros(1))[0])
    np.testing.assert_allclose(at_zero * 50 / 100, 0.1639, atol=5e-5)
    assert at_zero < 100 / (4 * 50), "the printed H/(4n) is not attained"


def test_heavy_tail_by_enumeration() -> None:
    instance = HeavyTail(length=4, num_samples=20, active=3, passive=2, strongest=1.5, silent=0.5)
    rng = np.random.default_rng(0)
    star = instance.parameters(rng, 2)
    assert (np.linalg.norm(star, axis=1) <= instance.radius).all()
    np.testing.assert_allclose(instance.masses.sum(), 1)
    fitted = rng.normal(size=(2, 5))
    fitted[0, 3:] = 1.0, 0.0
    for row in range(2):
        theta_star = np.concatenate([star[row], np.zeros(2)]) / instance.radius
        kl, coverage, variance = enumerated(
            features_of(instance), theta_star, fitted[row] / instance.radius, instance.masses
        )
        np.testing.assert_allclose(instance.kl(star, fitted)[row], kl, rtol=1e-4)
        np.testing.assert_allclose(instance.coverage(star, fitted, LOG_NS)[row], coverage, atol=1e-6)
        np.testing.assert_allclose(instance.variance(star)[row], variance, rtol=1e-5)


def test_coarse_rate_by_enumeration_and_by_the_papers_numbers() -> None:
    instance = CoarseRate(size=4, num_samples=6, norm=4.0)
    np.testing.assert_allclose(instance.probs, np.array([24, 1, 1, 1]) / 27)
    theta = np.array([0.3, -1.0, 0.1, 1.0])
    kl, coverage, _ = enumerated(features_of(instance), instance.star, theta, np.ones(1))
    log_probs = 4 * theta - np.log(np.sum(np.exp(4 * theta)))
    np.testing.assert_allclose(instance.kl(log_probs[None]), [kl], rtol=1e-5)
    np.testing.assert_allclose(instance.coverage(log_probs[None], LOG_NS)[0], coverage, atol=1e-6)
    assert instance.promised == 3 / 60


def test_variance_needed_by_enumeration() -> None:
    instance = VarianceNeeded(length=6, num_samples=10, log_n=0.1, norm=3.0)
    rng = np.random.default_rng(1)
    data = instance.sample(rng, 3)
    fitted = rng.normal(size=data.ones.max() + 1)[data.ones]
    masses = np.array([1 - instance.mass, instance.mass])
    star = np.full(6, instance.star / 3)
    assert np.linalg.norm(star) <= 1
    found = instance.coverage(rng, data, fitted, 40_000)
    for row in range(3):
        kl, coverage, variance = enumerated(features_of(instance), star, fitted[row] / 3, masses)
        np.testing.assert_allclose(instance.kl(fitted)[row], kl, rtol=1e-4)
        np.testing.assert_allclose(instance.variance, variance, rtol=1e-5)
        # Five standard errors of 40,000 responses.
        np.testing.assert_allclose(found[row], coverage[0], atol=instance.mass * 5 * 0.5 / 200)


def test_variance_needed_says_what_the_proposition_says() -> None:
    instance = VarianceNeeded(length=128, num_samples=4096, log_n=1.0, norm=20.0)
    np.testing.assert_allclose(instance.star**2, 4 * 1.0 / (0.125 * 128))
    np.testing.assert_allclose(instance.mass, 4.0 * 0.125 * 128 / (4 * 4096 * 1.0))


def test_shared_coverage_by_plain_sums() -> None:
    star, fitted, h = 0.8, -0.3, 7
    for model in (fitted, star, 1.7):
        found = shared_coverage(np.array(star), np.array(model), h, LOG_NS)
        p, q = 1 / (1 + math.exp(-star)), 1 / (1 + math.exp(-model))
        plain = np.zeros(len(LOG_NS))
        for c in range(h + 1):
            ratio = c * math.log(p / q) + (h - c) * math.log((1 - p) / (1 - q))
            plain += math.comb(h, c) * p**c * (1 - p) ** (h - c) * (ratio >= LOG_NS - 1e-9)
        np.testing.assert_allclose(found, plain, atol=1e-12)


def test_a_ratio_equal_to_n_counts() -> None:
    # Two bits, u* = ln 3 against u = 0: both ones have ratio (3/4)^2/(1/2)^2 = 9/4.
    at = np.array([math.log(9 / 4), math.log(9 / 4) + 1e-6])
    found = shared_coverage(np.array(math.log(3)), np.array(0.0), 2, at)
    np.testing.assert_allclose(found, [9 / 16, 0], atol=1e-12)


def test_bit_kl_and_grouped_coverage_at_equal_laws() -> None:
    assert bit_kl(np.array(1.3), np.array(1.3)) == 0
    p = 0.75
    plain = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    np.testing.assert_allclose(bit_kl(np.array(math.log(3)), np.array(0.0)), plain)
    rng = np.random.default_rng(0)
    assert not grouped_coverage(rng, 0.5, np.array([[0.5]]), np.array([[9]]), 10, 0.1).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoarseRate(size=9, num_samples=8, norm=9.0), "size: 9; valid: 2 to num_samples = 8"),
        (lambda: CoarseRate(size=4, num_samples=100, norm=6.0), "norm: 6; valid: at least ln"),
        (lambda: VarianceNeeded(64, 100, 3.0, 20.0), "log_n: 3; valid: at most c1/4 min"),
    ],
)
def test_sizes_at_which_a_proposition_says_nothing_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_samples_follow_their_laws() -> None:
    rng = np.random.default_rng(5)
    two = TwoPrompts(length=8, num_samples=10).sample(rng, 2.0, 20_000)
    missing = (two.trials == 0).mean()
    np.testing.assert_allclose(missing, 0.95**10, atol=5 * 0.5 / math.sqrt(20_000))
    share = two.ones.sum() / two.trials.sum()
    np.testing.assert_allclose(share, 1 / (1 + math.exp(-2)), atol=5 * 0.33 / math.sqrt(two.trials.sum()))
    coarse = CoarseRate(size=5, num_samples=40, norm=6.0)
    counts = coarse.sample(rng, 5_000)
    assert (counts.sum(axis=1) == 40).all()
    np.testing.assert_allclose(counts.mean(axis=0) / 40, coarse.probs, atol=5 * 0.5 / math.sqrt(200_000))
    heavy = HeavyTail(length=3, num_samples=1000, active=2, passive=4, silent=0.2)
    star = heavy.parameters(rng, 400)
    data = heavy.sample(rng, star)
    np.testing.assert_allclose(
        data.trials.mean(axis=0) / 3000, heavy.masses[:-1], atol=5 * 0.5 / math.sqrt(4e5)
    )
    sizes = np.abs(star)
    assert (sizes >= heavy.weakest).all()
    assert (sizes <= heavy.strongest).all()
    one = data.ones[:, 0] / np.maximum(data.trials[:, 0], 1)
    assert np.corrcoef(one, star[:, 0])[0, 1] > 0.95
