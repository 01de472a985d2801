"""Gradients, divergences and variances of linear models against NumPy and against JAX; the ball."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import linear as oracle
from oracles.linear_models import log_probs_of_all, project, token_gradients, token_kls, token_variances
from oracles.whole_prefix import WholePrefix, plain

from tasks.linear import all_responses, linear_log_probs

PHI = WholePrefix()
STAR, THETA = np.array([0.5, -0.6, 0.4]), np.array([-0.3, 0.2, 0.7])


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """The oracle's precision."""
    with jax.enable_x64(True):
        yield


def stars_law(prompt: int) -> np.ndarray:
    return np.array(list(oracle.law(plain(prompt), 3, 4, STAR).values()))


@pytest.mark.long
@pytest.mark.parametrize("response", [[0, 0, 0, 0], [2, 0, 1, 2], [1, 2, 2, 0]])
def test_gradients_are_finite_differences_and_jaxs(response: list[int]) -> None:
    tokens = np.array(response, np.int32)
    found = np.asarray(jax.jit(lambda y: token_gradients(PHI, THETA, 1, y))(tokens))
    by_jax = jax.jacrev(lambda theta: linear_log_probs(PHI, theta, 1, tokens))(jnp.asarray(THETA))
    np.testing.assert_allclose(found, by_jax, rtol=1e-10, atol=1e-14)
    phi = plain(1)
    for h in range(4):

        def token(theta: np.ndarray, h: int = h) -> float:
            return float(np.log(oracle.next_probs(phi, 3, theta, tuple(response[:h]))[response[h]]))

        np.testing.assert_allclose(found[h], oracle.slope(token, THETA), rtol=1e-7, atol=1e-9)
    whole = oracle.slope(lambda theta: oracle.log_prob(phi, 3, theta, response), THETA)
    np.testing.assert_allclose(found.sum(axis=0), whole, rtol=1e-7)


@pytest.mark.parametrize("prompt", [0, 1])
def test_token_kls_sum_to_the_kl(prompt: int) -> None:
    every = jax.jit(jax.vmap(lambda y: token_kls(PHI, STAR, THETA, prompt, y)))(all_responses(PHI))
    assert every.min() > 0
    found = float(stars_law(prompt) @ every.sum(axis=1))
    assert found == pytest.approx(oracle.kl(plain(prompt), 3, 4, STAR, THETA), rel=1e-10)


@pytest.mark.parametrize("prompt", [0, 1])
def test_token_variances_sum_to_the_inherent_variance(prompt: int) -> None:
    every = jax.jit(jax.vmap(lambda y: token_variances(PHI, STAR, prompt, y)))(all_responses(PHI))
    found = float(stars_law(prompt) @ every.sum(axis=1))
    assert found == pytest.approx(oracle.variance(plain(prompt), 3, 4, STAR), rel=1e-10)


def test_log_probs_of_all_are_the_oracles() -> None:
    found = jax.jit(lambda: log_probs_of_all(PHI, THETA, 1, all_responses(PHI)))()
    expected = [oracle.log_prob(plain(1), 3, THETA, y) for y in oracle.responses(3, 4)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("theta", "radius", "nearest"),
    [
        ([0.3, -0.4], 1.0, [0.3, -0.4]),
        ([0.6, -0.8], 1.0, [0.6, -0.8]),
        ([3.0, -4.0], 1.0, [0.6, -0.8]),
        ([3.0, -4.0], 2.5, [1.5, -2.0]),
        ([0.0, 0.0], 1.0, [0.0, 0.0]),
        ([1e-200, 0.0], 1.0, [1e-200, 0.0]),
    ],
    ids=["inside", "boundary", "outside", "another radius", "zero", "tiny"],
)
def test_projection_is_the_nearest_point(theta: list[float], radius: float, nearest: list[float]) -> None:
    found = np.asarray(project(jnp.asarray(theta), radius))
    np.testing.assert_allclose(found, nearest, rtol=1e-15)
    assert np.linalg.norm(found) <= radius * (1 + 1e-15)
    np.testing.assert_array_equal(project(jnp.asarray(found), radius * (1 + 1e-15)), found)


@pytest.mark.long
def test_projection_of_zero_has_a_finite_gradient() -> None:
    gradient = jax.jacrev(project)(jnp.zeros(2))
    assert np.isfinite(gradient).all()
