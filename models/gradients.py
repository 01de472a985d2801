"""Gradients of the transformer's layers, written by hand; they only change speed.

The functions are those of the same names in `models.layers`. Their gradients are the ones that JAX derives
from `models.layers`, up to rounding: `tests/models/test_gradients.py` compares the two.

The derived gradients cost time above all on CPU. Those of a linear map and of attention read a large matrix
against its layout. That of a standardisation repeats its reductions. That of a softmax makes more passes over
all scores.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from models import layers
from models.layers import Memory, attention_weights, inverse_std, mean, weighted_values
from models.target import platform

lookup = jax.custom_vjp(layers.lookup)
linear = jax.custom_vjp(layers.linear)
standardise = jax.custom_vjp(layers.standardise)
attend = jax.custom_vjp(layers.attend)


def _lookup_forward(table: Array, index: Array) -> tuple[Array, tuple[Array, Array]]:
    return layers.lookup(table, index), (table, index)


def _lookup_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None]:
    """On CPU a scatter, which adds rows in their order; elsewhere that order would be left to chance, and the
    gradient is a product with one-hot rows."""
    table, index = saved
    rows = gradient.reshape(-1, gradient.shape[-1])
    if platform() == "cpu":
        return jnp.zeros_like(table).at[index.reshape(-1)].add(rows, mode="clip"), None
    return jax.nn.one_hot(index.reshape(-1), table.shape[0], dtype=rows.dtype).T @ rows, None


lookup.defvjp(_lookup_forward, _lookup_backward)


def _linear_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return layers.linear(x, kernel), (x, kernel)


def _linear_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """dx = dy W^T and dW = x^T dy; dW is computed with its longer axis last."""
    x, kernel = saved
    if kernel.shape[0] > kernel.shape[1]:
        return gradient @ kernel.T, _kept_apart(gradient.T @ x).T
    return gradient @ kernel.T, x.T @ gradient


linear.defvjp(_linear_forward, _linear_backward)


def _kept_apart(product: Array) -> Array:
    """`product` itself, kept apart from what follows: XLA on CPU would undo a transposition of the result by
    computing the transposed product, which is slower."""
    return jax.lax.optimization_barrier(product) if platform() == "cpu" else product


def _standardise_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    centred = x - mean(x)
    rate = inverse_std(centred)
    y = centred * rate
    return y, (y, rate)


def _standardise_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """With y the output and r = 1/std: dx = r (dy - mean(dy) - y mean(y dy))."""
    y, rate = saved
    return (rate * (gradient - mean(gradient) - y * mean(gradient * y)),)


standardise.defvjp(_standardise_forward, _standardise_backward)


def _attend_forward(query: Array, memories: tuple[Memory, ...]) -> tuple[Array, tuple[Any, ...]]:
    weights, inverse_total = attention_weights(query, memories)
    output = weighted_values(weights, inverse_total, memories)
    return output.astype(query.dtype), (query, memories, weights, inverse_total, output)


def _attend_backward(saved: tuple[Any, ...], gradient: Array) -> tuple[Array, tuple[Memory, ...]]:
    """With weights w, r = 1 / sum w, p = r w and the output o: dv = p^T do, ds = p (do v^T - do . o),
    dq = ds k, dk = ds^T q. The factor r is put into do."""
    query, memories, weights, inverse_total, output = saved
    gradient = inverse_total * gradient.astype(jnp.float32)
    offset = jnp.sum(gradient * output, axis=-1, keepdims=True)
    gradient = gradient.astype(query.dtype)
    to_query, to_memories = [], []
    for weight, memory in zip(weights, memories, strict=True):
        change = jnp.einsum(
            f"bhnqd,{memory.axes}->bhnqk", gradient, memory.values, preferred_element_type=jnp.float32
        )
        change = (weight.astype(jnp.float32) * (change - offset)).astype(query.dtype)
        to_query.append(jnp.einsum(f"bhnqk,{memory.axes}->bhnqd", change, memory.keys))
        to_keys, to_values = (
            _kept_apart(jnp.einsum(f"bhnqd,bhnqk->{memory.axes[:-2]}dk", rows, scores)).swapaxes(-1, -2)
            for rows, scores in ((query, change), (gradient, weight))
        )
        to_memories.append(Memory(to_keys, to_values, None))  # type: ignore[arg-type]
    return functools.reduce(jnp.add, to_query), tuple(to_memories)


attend.defvjp(_attend_forward, _attend_backward)
