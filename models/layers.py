"""Layers of a transformer as plain formulas: embedding lookup, linear map, standardisation, attention.

`models.gradients` has the same four functions with gradients written by hand; models call those.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Memory(NamedTuple):
    """Keys and values to attend to.

    Attributes:
        keys, values: one set per candidate, or, without that axis, one set for all candidates of a prompt.
        visible: True where a query may see a key.
    """

    keys: Float[Array, "batch heads *candidates key head_dim"]
    values: Float[Array, "batch heads *candidates key head_dim"]
    visible: Bool[Array, "#batch 1 #candidates #query key"]

    @property
    def axes(self) -> str:
        """Axes of `keys` and `values` in an `einsum`."""
        return "bhkd" if self.keys.ndim == 4 else "bhnkd"


def lookup(table: Float[Array, "rows width"], index: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
    """Rows of a table."""
    return jnp.take(table, index, axis=0, mode="clip")


def linear(
    x: Float[Array, "rows fan_in"], kernel: Float[Array, "fan_in fan_out"]
) -> Float[Array, "rows fan_out"]:
    """x W."""
    return x @ kernel


def standardise(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """(x - mean) / sqrt(variance + 1e-5) over the last axis, with GPT-2's 1e-5."""
    centred = x - mean(x)
    return centred * inverse_std(centred)


def mean(x: Float[Array, "*batch width"]) -> Float[Array, "*batch 1"]:
    """Mean over the last axis, as a matrix product: XLA on CPU computes it faster than a reduction."""
    return x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)


def inverse_std(centred: Float[Array, "*batch width"]) -> Float[Array, "*batch 1"]:
    """1 / sqrt(variance + 1e-5) of rows with mean 0."""
    return jax.lax.rsqrt(mean(jnp.square(centred)) + 1e-5)


def attend(
    query: Float[Array, "batch heads candidates query head_dim"], memories: tuple[Memory, ...]
) -> Float[Array, "batch heads candidates query head_dim"]:
    """softmax(q k^T) v over the keys of all memories together.

    A query that sees no key gets zeros. Such queries are left padding, whose outputs are never read. Scores
    and softmax are float32. The softmax's denominator divides the product with the values, which has fewer
    entries than the scores.
    """
    weights, inverse_total = attention_weights(query, memories)
    return weighted_values(weights, inverse_total, memories).astype(query.dtype)


def attention_weights(
    query: Float[Array, "batch heads candidates query head_dim"], memories: tuple[Memory, ...]
) -> tuple[
    list[Float[Array, "batch heads candidates query _"]], Float[Array, "batch heads candidates query 1"]
]:
    """exp(score - max) of the keys of each memory, and 1 over their sum; 0 for a query that sees no key."""
    scores = [
        jnp.einsum(f"bhnqd,{memory.axes}->bhnqk", query, memory.keys, preferred_element_type=jnp.float32)
        + jnp.where(memory.visible, 0.0, -jnp.inf)
        for memory in memories
    ]
    lowest = float(jnp.finfo(jnp.float32).min)
    tops = [jnp.max(score, axis=-1, keepdims=True, initial=lowest) for score in scores]
    top = functools.reduce(jnp.maximum, tops)
    weights = [jnp.exp(score - top) for score in scores]
    total = functools.reduce(jnp.add, [jnp.sum(weight, axis=-1, keepdims=True) for weight in weights])
    # Infinity in the denominator, because the derivative of 1/0 would be NaN.
    inverse_total = 1 / jnp.where(total == 0, jnp.inf, total)
    return [weight.astype(query.dtype) for weight in weights], inverse_total


def weighted_values(
    weights: list[Float[Array, "batch heads candidates query _"]],
    inverse_total: Float[Array, "batch heads candidates query 1"],
    memories: tuple[Memory, ...],
) -> Float[Array, "batch heads candidates query head_dim"]:
    """Mean of the values under the normalised weights, in float32."""
    sums = [
        jnp.einsum(f"bhnqk,{memory.axes}->bhnqd", weight, memory.values, preferred_element_type=jnp.float32)
        for weight, memory in zip(weights, memories, strict=True)
    ]
    return inverse_total * functools.reduce(jnp.add, sums)
