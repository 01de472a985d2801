"""Runs on rare prompts against the general rules for linear models, enumeration and simulation."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.feature_maps import RarePrompts
from oracles.linear_models import token_pass, token_variances, truncated_gradient
from scipy import special, stats

from theory.sgd import rare_prompts as rare

SIGNS = np.array(list(itertools.product((-1.0, 1.0), repeat=6)))


def rung(truth: float = 0.8, length: int = 6, bound: float = 1.0, radius: float = 1.0) -> rare.Rung:
    return rare.Rung(length, np.array([0.3]), np.array([truth]), bound, radius)


def enumerated(truth: float, u: float, n: float) -> tuple[float, float]:
    """KL and Cov_N of fixed parameters from all 64 responses."""
    star, own = (special.log_expit(2 * SIGNS * value).sum(1) for value in (truth, u))
    return float(np.exp(star) @ (star - own)), float(np.exp(star) @ (star - own >= math.log(n)))


@pytest.mark.parametrize(("truth", "u"), [(0.8, 0.1), (-0.6, 0.5), (0.5, 0.5), (0.7, 0.9)])
def test_values_of_fixed_parameters_are_those_of_enumeration(truth: float, u: float) -> None:
    for n in (1.5, 3.0, 16.0):
        found = rare.fixed_values(rung(truth), np.array([[u]]), n)
        kl, coverage = enumerated(truth, u, n)
        assert found.kl[0, 0] == pytest.approx(kl, abs=1e-12)
        assert found.coverage[0, 0] == pytest.approx(coverage, abs=1e-12)
        assert found.stopped[0, 0] == pytest.approx(min(math.log(n), kl))


def test_a_pass_is_the_general_one_and_its_kl_is_right_on_average() -> None:
    """All responses, weighted by pi_D, in place of draws."""
    bound, radius, rate, start = 1.5, 0.6, 0.1, 0.3
    own, features = rung(0.8, 6, bound, radius), RarePrompts((4, 6), bound)
    values, after = rare.running_values(
        own, np.array([[start]]), rate * bound**2, SIGNS.T[:, :, None], math.exp(0.4)
    )
    theta = jnp.array([0.0, start / bound])
    run = jax.jit(
        jax.vmap(lambda y: token_pass(features, theta, jnp.asarray(1), y, rate, radius))  # ball = box: d = 1
    )
    found = run(jnp.asarray((SIGNS > 0).astype(np.int32)))
    np.testing.assert_allclose(found.thetas[:, -1, 1] * bound, after[:, 0], atol=1e-5)
    assert np.isclose(np.abs(after).max(), bound * radius), "the projection must do something"
    scored = np.take_along_axis(
        np.asarray(found.next_log_probs, np.float64), (SIGNS > 0).astype(int)[..., None], -1
    )[..., 0].sum(1)
    np.testing.assert_allclose(np.exp(scored).sum(), 1, atol=1e-5)
    star = special.log_expit(1.6 * SIGNS).sum(1)
    # The chain rule: the sum of the tokens' KL averages to that of the sequence.
    each = [
        rare.running_values(own, np.array([[start]]), rate * bound**2, s[:, None, None], 1.2) for s in SIGNS
    ]
    assert np.exp(star) @ [e[0].kl[0] for e in each] == pytest.approx(
        np.exp(star) @ (star - scored), abs=1e-5
    )
    covered = star - scored >= math.log(1.2)
    np.testing.assert_array_equal([e[0].coverage[0] for e in each], covered.astype(float))
    assert 0.01 < covered.mean() < 0.9
    assert values.kl.shape == (1,)


def test_a_truncated_step_is_the_general_one() -> None:
    bound, n = 1.5, 3.0
    own, features = rung(0.8, 6, bound, 0.6), RarePrompts((6,), bound)
    teacher, student = jnp.array([0.8 / bound]), jnp.array([-0.5 / bound])
    run = jax.jit(
        jax.vmap(lambda y: truncated_gradient(features, teacher, student, jnp.asarray(0), y, math.log(n)))
    )
    general = np.asarray(run(jnp.asarray((SIGNS > 0).astype(np.int32))))[:, 0]
    eps = float(rare.token_kl(own.truth, np.array([-0.5]))[0])
    kept = math.log(n) / eps
    assert 1 < kept < 6
    whole = int(kept)
    counted = SIGNS[:, :whole].sum(1) + (kept - whole) * SIGNS[:, whole]
    np.testing.assert_allclose(general, bound * (counted - kept * np.tanh(-0.5)), atol=1e-4)
    # One visit of many draws: the mean of the iterate after it.
    many = own._replace(truth=np.full(20000, 0.8), mass=np.ones(20000), radius=100.0)
    visits = rare.Visits(np.stack([np.zeros(20000), np.ones(20000)]))
    rng = np.random.default_rng(0)
    for gradient, share in (("sampled", 6.0), ("soft", 6.0), ("truncated", None)):
        found = rare.sequence_means(many, np.array([0.05]), visits, n, rng, gradient)  # type: ignore[arg-type]
        tokens = share or min(6.0, math.log(n) / rare.token_kl(own.truth, np.zeros(1))[0])
        mean = 0.05 * tokens * math.tanh(0.8)
        expected = 6 * rare.token_kl(own.truth, np.array([mean]))[0]
        spread = found.kl[0].std()
        assert abs(np.median(found.kl[0]) - expected) < max(0.6 * spread, 1e-9)
        assert (spread < 1e-9) == (gradient == "soft")


def test_visits_are_those_of_independent_prompts() -> None:
    mass = np.full(4000, 0.2)
    visits = rare.draw_visits(mass, 10, np.random.default_rng(1))
    np.testing.assert_array_equal(visits.durations.sum(axis=0), 10)
    # Iterate t has seen the prompt v times with binomial probability in t - 1 trials.
    expected = [np.mean([stats.binom.pmf(v, t, 0.2) for t in range(10)]) for v in range(4)]
    np.testing.assert_allclose(visits.durations[:4].mean(axis=1) / 10, expected, atol=0.01)
    values = np.arange(len(visits.durations), dtype=float)[:, None, None] * np.ones((1, 2, 4000))
    assert visits.mean(values).shape == (2, 4000)
    assert visits.mean(values).mean() == pytest.approx(0.2 * 4.5, abs=0.02)


def test_the_inherent_variance_is_what_was_asked_for() -> None:
    own = rare.rare_prompt(12, 0.25, 5, np.random.default_rng(0), 2.0, 0.5)
    assert np.all((np.abs(own.truth) >= 0.5) & (np.abs(own.truth) <= 1))
    np.testing.assert_allclose(own.variance, 0.25)
    features = RarePrompts((3, 12), 2.0)
    for truth, mass in zip(own.truth, own.mass, strict=True):
        theta = jnp.array([0.0, truth / 2])
        variance = token_variances(features, theta, jnp.asarray(1), jnp.zeros(12, jnp.int32)).sum()
        assert mass * float(variance) == pytest.approx(0.25, rel=1e-5)
    assert features.horizon == 12
    assert not np.any(features.path(jnp.asarray(2), jnp.zeros(12, jnp.int32)))
    with pytest.raises(ValueError, match=r"lengths: \(\); valid"):
        RarePrompts(())
