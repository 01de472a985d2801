"""The delta rule by chunks and by steps against a plain recurrence, in values and gradients."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import recurrent

from models.delta_rule import SMALLEST_NORM, delta_chunked, delta_step, normalise
from models.delta_scan import inverse
from models.target import traced_for

pytestmark = pytest.mark.long

BATCH, HEADS, KEY, VALUE = 2, 3, 5, 4


def inputs(length: int, steps: int) -> tuple[Any, ...]:
    """State, q, k, v, beta with |q| = |k| = 1 and beta in (0, 2)."""
    rng = np.random.default_rng(length + 100 * steps)

    def normal(*shape: int) -> Any:
        return rng.normal(size=(BATCH, HEADS, *shape)).astype("f")

    q, k = (normalise(normal(*shape, KEY)) for shape in ((length,), (length, steps)))
    beta = (2 / (1 + np.exp(-2 * normal(length, steps)))).astype("f")
    return normal(VALUE, KEY), np.asarray(q), np.asarray(k), normal(length, steps, VALUE), beta


def by_steps(state: Any, *tokens: Any) -> tuple[Any, Any]:
    state, outputs = jax.lax.scan(
        lambda state, token: delta_step(state, *token),
        state,
        tuple(jnp.moveaxis(each, 2, 0) for each in tokens),
    )
    return state, jnp.moveaxis(outputs, 0, 2)


@functools.partial(jax.jit, static_argnums=(0, 3))
def with_gradients(chunk_size: int, given: Any, directions: Any, platform: str = "cpu") -> Any:
    """State, outputs and gradients of their product with `directions`; chunk size 0: by steps."""

    def product(given: Any) -> Any:
        with traced_for(platform):
            found = by_steps(*given) if chunk_size == 0 else delta_chunked(*given, chunk_size=chunk_size)
        return sum(jnp.sum(a * b) for a, b in zip(found, directions, strict=True)), found

    (_, found), gradients = jax.value_and_grad(product, has_aux=True)(given)
    return found, gradients


def compare(one: Any, other: Any) -> None:
    """Equal up to 1e-5 of the largest entry of each array."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(np.max(np.abs(b)))))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(("length", "chunk_size"), [(1, 4), (7, 1), (7, 3), (37, 16), (48, 16)])
def test_chunks_steps_and_the_plain_recurrence_agree(
    steps: int, length: int, chunk_size: int, platform: str
) -> None:
    given = inputs(length, steps)
    rng = np.random.default_rng(0)
    directions = (
        rng.normal(size=given[0].shape).astype("f"),
        rng.normal(size=(BATCH, HEADS, length, VALUE)).astype("f"),
    )
    chunked = with_gradients(chunk_size, given, directions, platform)
    stepped = with_gradients(0, given, directions)
    compare(chunked, stepped)
    exact = [np.asarray(each, np.float64) for each in given]
    for b in range(BATCH):
        for h in range(HEADS):
            plain = recurrent.delta_rule(*(each[b, h] for each in exact))
            compare([each[b, h] for each in chunked[0]], plain)


@pytest.mark.parametrize("small", [0.0, 1e-12])
def test_the_gradient_at_steps_that_change_nothing(small: float) -> None:
    """The gradient by chunks divides by beta."""
    state, q, k, v, beta = inputs(11, 2)
    beta = np.where(np.random.default_rng(1).random(beta.shape) < 0.3, np.float32(small), beta)
    given = (state, q, k, v, beta)
    directions = (np.ones_like(state), np.ones((BATCH, HEADS, 11, VALUE), "f"))
    compare(with_gradients(4, given, directions), with_gradients(0, given, directions))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_long_sequence_of_reflections(platform: str) -> None:
    """Every step reflects (beta = 2), so no error fades; with equal keys in the first head, the worst case
    for an inverse by powers."""
    length = 512
    state, q, k, v, _ = inputs(length, 1)
    k, beta = np.array(k), np.full(k.shape[:-1], 2, "f")
    k[:, 0] = k[:, 0, :1]
    with traced_for(platform):
        found = jax.jit(delta_chunked, static_argnums=5)(state, q, k, 0.1 * v, beta, 64)
    exact = [np.asarray(each, np.float64) for each in (state, q, k, 0.1 * v, beta)]
    for h in range(HEADS):
        for a, b in zip(found, recurrent.delta_rule(*(each[0, h] for each in exact)), strict=True):
            np.testing.assert_allclose(a[0, h], b, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("size", [1, 2, 3, 8, 11, 16, 37])
def test_the_inverse(size: int) -> None:
    below = np.tril(np.random.default_rng(size).normal(size=(3, size, size)), -1).astype("f")
    exact = np.linalg.inv(np.eye(size) + below.astype(np.float64))
    np.testing.assert_allclose(inverse(below), exact, atol=1e-5 * np.abs(exact).max())


def test_the_programs_of_several_seeds_are_those_of_each() -> None:
    seeds = [inputs(9, 2), inputs(9, 2)]
    seeds[1] = (seeds[1][0], seeds[1][2][:, :, :, 0], *seeds[1][2:])
    directions = (np.ones_like(seeds[0][0]), np.ones((BATCH, HEADS, 9, VALUE), "f"))
    together = jax.vmap(with_gradients, (None, 0, None))(
        4, jax.tree.map(lambda *each: np.stack(each), *seeds), directions
    )
    alone = [with_gradients(4, given, directions) for given in seeds]
    compare(together, jax.tree.map(lambda *each: np.stack(each), *alone))


def test_keys_have_norm_one_and_a_finite_gradient_at_zero() -> None:
    x = (
        np.random.default_rng(0).normal(size=(20, 6)).astype("f")
        * np.geomspace(0.002, 1e6, 20, dtype="f")[:, None]
    )
    np.testing.assert_allclose(np.linalg.norm(normalise(x), axis=1), 1, atol=1e-6)
    zero = np.zeros(6, "f")
    np.testing.assert_array_equal(normalise(zero), zero)
    np.testing.assert_allclose(jax.jacobian(normalise)(zero), np.eye(6) / SMALLEST_NORM, rtol=1e-6)
    near = np.full(6, 1e-30, "f")
    assert np.isfinite(jax.jacobian(normalise)(near)).all()


def test_zero_keys_change_nothing_and_give_finite_gradients() -> None:
    state, q, k, v, beta = inputs(5, 2)

    def total(k: Any) -> Any:
        return jnp.sum(delta_chunked(state, q, normalise(k), v, beta, 2)[1])

    assert np.isfinite(jax.jit(jax.grad(total))(np.zeros_like(k))).all()
    final, _ = delta_chunked(state, q, np.zeros_like(k), v, beta, 2)
    np.testing.assert_array_equal(final, state)
