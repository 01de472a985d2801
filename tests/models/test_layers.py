"""The layers that write out their own gradients, against plain formulas and their derived gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import cache
from models.gradients import attend, linear, lookup
from models.layers import Memory
from models.target import traced_for


def memories() -> tuple[np.ndarray, tuple[Memory, ...]]:
    """Queries of 2 prompts, 2 heads, 3 candidates, 4 positions; 5 shared keys, 4 of their own. Prompt 0's
    first two shared keys are hidden; of prompt 1, query 0 sees no key at all."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 1.5, shape).astype("f")

    shared, own = np.ones((2, 1, 1, 4, 5), bool), np.tri(4, dtype=bool)[None, None, None].repeat(2, axis=0)
    shared[0, ..., :2] = False
    shared[1, ..., 0, :] = False
    own[1, ..., 0, :] = False
    return draw(2, 2, 3, 4, 6), (
        Memory(draw(2, 2, 5, 6), draw(2, 2, 5, 6), shared),
        Memory(draw(2, 2, 3, 4, 6), draw(2, 2, 3, 4, 6), own),
    )


def plain(query: Any, shared: Memory, own: Memory) -> Any:
    """One softmax over the concatenated keys; the row without keys is put to zero."""
    repeat = [jnp.repeat(part[:, :, None], 3, axis=2) for part in (shared.keys, shared.values)]
    keys, values = (
        jnp.concatenate([a, b], axis=3) for a, b in zip(repeat, (own.keys, own.values), strict=True)
    )
    visible = jnp.concatenate([shared.visible, own.visible], axis=-1)
    scores = jnp.where(visible, jnp.einsum("bhnqd,bhnkd->bhnqk", query, keys), -1e30)
    weights = jnp.where(visible, jax.nn.softmax(scores, axis=-1), 0.0)
    return jnp.einsum("bhnqk,bhnkd->bhnqd", weights, values)


@pytest.mark.long
def test_attention_is_one_softmax_over_all_memories() -> None:
    query, parts = memories()
    found = attend(query, parts)
    np.testing.assert_allclose(found, plain(query, *parts), rtol=1e-5, atol=1e-6)
    assert np.all(found[1, :, :, 0] == 0)


def test_attentions_gradient_is_the_derivative() -> None:
    query, parts = memories()
    pull = np.random.default_rng(1).normal(0, 1, query.shape).astype("f")

    def gradients(function: Any) -> Any:
        def scalar(q: Any, arrays: Any) -> Any:
            own = [Memory(k, v, part.visible) for (k, v), part in zip(arrays, parts, strict=True)]
            return jnp.sum(pull * function(q, *own))

        return jax.jit(jax.grad(scalar, argnums=(0, 1)))(query, [part[:2] for part in parts])

    ours = gradients(lambda q, *own: attend(q, own))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, gradients(plain))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(ours))


def test_a_score_that_is_not_finite_is_not_hidden() -> None:
    query, parts = memories()
    query[0, 0, 0, 1, 0] = np.nan
    found = attend(query, parts)
    assert np.isnan(found[0, 0, 0, 1]).all()
    assert np.isfinite(found[1]).all()


@pytest.mark.long
@pytest.mark.parametrize("block", [1, 2, 4])
def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    query, (_, own) = memories()

    def both(q: Any, keys: Any) -> Any:
        return jax.value_and_grad(
            lambda q, k: jnp.sum(jnp.sin(cache.attend_causally(q, Memory(k, own.values, own.visible)))),
            (0, 1),
        )(q, keys)

    with traced_for("gpu"):
        expected = both(query, own.keys)
    monkeypatch.setattr(cache, "CAUSAL_BLOCK", block)
    with traced_for("cpu"):
        found = both(query, own.keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_a_lookups_gradient_adds_up_the_rows_that_were_read() -> None:
    table = np.arange(12, dtype="f").reshape(4, 3)
    index = np.array([[1, 3], [1, 0]])
    pull = np.random.default_rng(2).normal(0, 1, (2, 2, 3)).astype("f")
    value, gradient = jax.value_and_grad(lambda t: jnp.sum(pull * lookup(t, index)))(table)
    assert value == pytest.approx(np.sum(pull * table[index]), rel=1e-5)
    expected = np.zeros((4, 3), "f")
    np.add.at(expected, index, pull)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(12, 5), (5, 12), (7, 7)])
def test_a_linear_maps_gradient_is_the_derivative(fan_in: int, fan_out: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel, pull = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((9, fan_in), (fan_in, fan_out), (9, fan_out))
    )
    value, (to_x, to_kernel) = jax.jit(
        jax.value_and_grad(lambda *both: jnp.sum(pull * linear(*both)), (0, 1))
    )(x, kernel)
    np.testing.assert_allclose(value, np.sum(pull * (x @ kernel)), rtol=1e-5)
    np.testing.assert_allclose(to_x, pull @ kernel.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_kernel, x.T @ pull, rtol=1e-5, atol=1e-5)
