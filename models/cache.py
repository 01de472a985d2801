"""Caches of keys and values: of the prompt, stored once, and of every sample. Attention to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from models.gradients import attend
from models.layers import Memory
from models.target import platform


class PrefixCache(NamedTuple):
    """Keys and values of the prompt without its last token, per layer, shared by all responses."""

    keys: tuple[Float[Array, "batch heads prefix head_dim"], ...]
    values: tuple[Float[Array, "batch heads prefix head_dim"], ...]
    mask: Bool[Array, "batch prefix"]
    length: Int[Array, " batch"]

    def memory(self, layer: int) -> Memory:
        """Keys and values of one layer, for the response's positions to attend to."""
        return Memory(self.keys[layer], self.values[layer], self.mask[:, None, None, None, :])


class DecodeCache(NamedTuple):
    """A `PrefixCache` with keys and values of every sample's tokens after the prefix."""

    prefix: PrefixCache
    keys: tuple[Float[Array, "batch heads samples response head_dim"], ...]
    values: tuple[Float[Array, "batch heads samples response head_dim"], ...]


def visible_until(
    position: Int[Array, "*batch_samples"], length: int
) -> Bool[Array, "#batch 1 #samples 1 response"]:
    """True at those of `length` response positions that a query at `position` sees: `position` and all below.

    Entries above `position`, left by a sample that stepped back, are not seen.
    """
    seen = jnp.arange(length) <= position[..., None]
    return seen[None, None, None, None] if position.ndim == 0 else seen[:, None, :, None]


def write(
    stored: Float[Array, "batch heads samples response head_dim"],
    new: Float[Array, "batch heads samples 1 head_dim"],
    position: Int[Array, "*batch_samples"],
) -> Float[Array, "batch heads samples response head_dim"]:
    """Put `new` at `position`, which has shape () for all samples, or (batch, samples) for one each."""
    if position.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(stored, new, position, axis=3)
    here = jnp.arange(stored.shape[3]) == position[..., None]
    return jnp.where(here[:, None, :, :, None], new, stored)


def put(
    stored: Shaped[Array, "batch samples response *rest"],
    new: Shaped[Array, "batch samples *rest"],
    position: Int[Array, "*batch_samples"],
) -> Shaped[Array, "batch samples response *rest"]:
    """Put `new` at `position`, which has shape () for all samples, or (batch, samples) for one each."""
    if position.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(stored, new[:, :, None], position, axis=2)
    rest = [1] * (stored.ndim - 3)
    here = jnp.arange(stored.shape[2]).reshape(-1, *rest) == position.reshape(*position.shape, 1, *rest)
    return jnp.where(here, new[:, :, None], stored)


CAUSAL_BLOCK = 64
"""Queries of a prompt that attend together on CPU."""


def attend_causally(
    query: Float[Array, "batch heads candidates query head_dim"], memory: Memory
) -> Float[Array, "batch heads candidates query head_dim"]:
    """Attention of positions to themselves and those before.

    On CPU queries go in blocks, each with the keys up to its end: many scores after the diagonal are then
    never computed. Accelerators prefer one large product.
    """
    length = query.shape[3]
    if length <= CAUSAL_BLOCK or platform() != "cpu":
        return attend(query, (memory,))
    parts = []
    for start in range(0, length, CAUSAL_BLOCK):
        end = min(start + CAUSAL_BLOCK, length)
        seen = Memory(
            memory.keys[..., :end, :], memory.values[..., :end, :], memory.visible[..., start:end, :end]
        )
        parts.append(attend(query[..., start:end, :], (seen,)))
    return jnp.concatenate(parts, axis=3)


def leading(visible: Bool[Array, "query key"]) -> Bool[Array, "1 1 1 query key"]:
    """`visible` with axes of batch, heads and candidates in front."""
    return visible[None, None, None]


def with_prompt(prefix: PrefixCache, length: int) -> Callable[[int, Array, Array, Array], Array]:
    """Attention of the first `length` positions of the response to the prompt, to themselves and to those
    before."""
    steps = jnp.arange(length)
    causal = leading(steps[:, None] >= steps[None, :])

    def attention(layer: int, query: Array, key: Array, value: Array) -> Array:
        return attend(query, (prefix.memory(layer), Memory(key, value, causal)))

    return attention
