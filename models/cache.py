"""Keys and values that attention has computed: the prompt's, stored once, and every sample's own."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.layers import Memory


class PrefixCache(NamedTuple):
    """Keys and values of the prompt without its last token, one per layer; shared by all responses of a
    prompt."""

    keys: tuple[Float[Array, "batch heads prefix head_dim"], ...]
    values: tuple[Float[Array, "batch heads prefix head_dim"], ...]
    mask: Bool[Array, "batch prefix"]
    length: Int[Array, " batch"]

    def memory(self, layer: int) -> Memory:
        """What a layer's response positions attend to."""
        return Memory(self.keys[layer], self.values[layer], self.mask[:, None, None, None, :])


class DecodeCache(NamedTuple):
    """A `PrefixCache` and, for every sample, the keys and values of what follows the prefix."""

    prefix: PrefixCache
    keys: tuple[Float[Array, "batch heads samples response head_dim"], ...]
    values: tuple[Float[Array, "batch heads samples response head_dim"], ...]


def visible_until(
    position: Int[Array, "*batch_samples"], length: int
) -> Bool[Array, "#batch 1 #samples 1 response"]:
    """Which of `length` response positions a query at `position` sees: its own and those before. What a
    sample that went back has left behind it is not seen."""
    seen = jnp.arange(length) <= position[..., None]
    return seen[None, None, None, None] if position.ndim == 0 else seen[:, None, :, None]


def write(
    stored: Float[Array, "batch heads samples response head_dim"],
    new: Float[Array, "batch heads samples 1 head_dim"],
    position: Int[Array, "*batch_samples"],
) -> Float[Array, "batch heads samples response head_dim"]:
    """Put `new` at `position`, which is one for all samples (shape ()) or each one's own (batch, samples)."""
    if position.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(stored, new, position, axis=3)
    here = jnp.arange(stored.shape[3]) == position[..., None]
    return jnp.where(here[:, None, :, :, None], new, stored)
