"""Layers of a transformer with written-out gradients: lookup, linear map, layer normalisation, attention.

What JAX derives is right but slow, above all on CPU: some products of a linear map's and of attention's
gradient read a large matrix against its layout, a normalisation's repeats its reductions, and a softmax's
makes several more passes over all scores.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.custom_vjp
def lookup(table: Float[Array, "rows width"], index: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
    """Rows of a table. The table's gradient is a scatter on CPU, in the order of the rows; elsewhere, where
    that order would be left to chance, a product with one-hot rows."""
    return jnp.take(table, index, axis=0, mode="clip")


def _lookup_forward(table: Array, index: Array) -> tuple[Array, tuple[Array, Array]]:
    return lookup(table, index), (table, index)


def _lookup_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None]:
    table, index = saved
    rows = gradient.reshape(-1, gradient.shape[-1])
    if jax.default_backend() == "cpu":
        return jnp.zeros_like(table).at[index.reshape(-1)].add(rows, mode="clip"), None
    return jax.nn.one_hot(index.reshape(-1), table.shape[0], dtype=rows.dtype).T @ rows, None


lookup.defvjp(_lookup_forward, _lookup_backward)


@jax.custom_vjp
def linear(
    x: Float[Array, "rows fan_in"], kernel: Float[Array, "fan_in fan_out"]
) -> Float[Array, "rows fan_out"]:
    """x W. The kernel's gradient is computed with its longer axis last."""
    return x @ kernel


def _linear_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _linear_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if kernel.shape[0] > kernel.shape[1]:
        return gradient @ kernel.T, _apart(gradient.T @ x).T
    return gradient @ kernel.T, x.T @ gradient


linear.defvjp(_linear_forward, _linear_backward)


def _apart(product: Array) -> Array:
    """The same array. What follows is not made part of the product: XLA would undo a transposition of its
    result by computing the transposed product, several times as slowly on CPU."""
    return jax.lax.optimization_barrier(product) if jax.default_backend() == "cpu" else product


def layer_norm(norm: dict[str, Array], x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """Layer normalisation in float32 with GPT-2's epsilon, 1e-5."""
    return standardise(x.astype(jnp.float32)) * norm["scale"] + norm["bias"]


def _mean(x: Float[Array, "*batch width"]) -> Float[Array, "*batch 1"]:
    """Mean over the last axis as a matrix product, several times as fast as a reduction on CPU."""
    return x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)


@jax.custom_vjp
def standardise(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """(x - mean) / sqrt(variance + 1e-5) over the last axis."""
    return _standardise_forward(x)[0]


def _standardise_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    centred = x - _mean(x)
    rate = jax.lax.rsqrt(_mean(jnp.square(centred)) + 1e-5)
    return centred * rate, (centred * rate, rate)


def _standardise_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    y, rate = saved
    return (rate * (gradient - _mean(gradient) - y * _mean(gradient * y)),)


standardise.defvjp(_standardise_forward, _standardise_backward)


class Memory(NamedTuple):
    """Keys and values to attend to: each candidate's own, or, without the axis of candidates, one set that
    all candidates of a prompt share; `visible` says which of the keys a query may see."""

    keys: Float[Array, "batch heads *candidates key head_dim"]
    values: Float[Array, "batch heads *candidates key head_dim"]
    visible: Bool[Array, "#batch 1 #candidates #query key"]

    @property
    def axes(self) -> str:
        """The axes of `keys` and `values` in an `einsum`."""
        return "bhkd" if self.keys.ndim == 4 else "bhnkd"


@jax.custom_vjp
def attend(
    query: Float[Array, "batch heads candidates query head_dim"], memories: tuple[Memory, ...]
) -> Float[Array, "batch heads candidates query head_dim"]:
    """softmax(q k^T) v over the keys of all memories together; zeros for a query that sees no key: those of
    left padding, which nobody reads.

    Scores and softmax are float32. The sum of the weights exp(score - max) is divided by after the product
    with the values, which has fewer numbers than the scores, and the weights are all that the gradient needs.
    """
    return _attend_forward(query, memories)[0]


def _attend_forward(query: Array, memories: tuple[Memory, ...]) -> tuple[Array, tuple[Any, ...]]:
    scores = [
        jnp.einsum(f"bhnqd,{own.axes}->bhnqk", query, own.keys, preferred_element_type=jnp.float32)
        + jnp.where(own.visible, 0.0, -jnp.inf)
        for own in memories
    ]
    lowest = float(jnp.finfo(jnp.float32).min)
    tops = [jnp.max(score, axis=-1, keepdims=True, initial=lowest) for score in scores]
    top = functools.reduce(jnp.maximum, tops)
    weights = [jnp.exp(score - top) for score in scores]
    total = functools.reduce(jnp.add, [jnp.sum(weight, axis=-1, keepdims=True) for weight in weights])
    rate = jnp.where(total == 0, 0.0, 1 / total)
    weights = [weight.astype(query.dtype) for weight in weights]
    values = [
        jnp.einsum(f"bhnqk,{own.axes}->bhnqd", weight, own.values, preferred_element_type=jnp.float32)
        for weight, own in zip(weights, memories, strict=True)
    ]
    mixed = rate * functools.reduce(jnp.add, values)
    return mixed.astype(query.dtype), (query, memories, weights, rate, mixed)


def _attend_backward(saved: tuple[Any, ...], gradient: Array) -> tuple[Array, tuple[Memory, ...]]:
    """With p = w r: dv = p^T do, ds = p (do v^T - do . o), dq = ds k, dk = ds^T q; r is put into do."""
    query, memories, weights, rate, mixed = saved
    gradient = rate * gradient.astype(jnp.float32)
    offset = jnp.sum(gradient * mixed, axis=-1, keepdims=True)
    gradient = gradient.astype(query.dtype)
    to_query, to_memories = [], []
    for weight, own in zip(weights, memories, strict=True):
        change = jnp.einsum(
            f"bhnqd,{own.axes}->bhnqk", gradient, own.values, preferred_element_type=jnp.float32
        )
        change = (weight.astype(jnp.float32) * (change - offset)).astype(query.dtype)
        to_query.append(jnp.einsum(f"bhnqk,{own.axes}->bhnqd", change, own.keys))
        to_keys, to_values = (
            _apart(jnp.einsum(f"bhnqd,bhnqk->{own.axes[:-2]}dk", rows, scores)).swapaxes(-1, -2)
            for rows, scores in ((query, change), (gradient, weight))
        )
        to_memories.append(Memory(to_keys, to_values, None))  # type: ignore[arg-type]
    return functools.reduce(jnp.add, to_query), tuple(to_memories)


attend.defvjp(_attend_forward, _attend_backward)
