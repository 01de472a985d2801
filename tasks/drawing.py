"""Draws that are faithful to small probabilities: 64 random bits per number.

`jax.random.categorical`, `bernoulli`, `choice` and `uniform` use 23 bits in float32. They draw events of
probability 1e-7 half as often as they should, and events below 1e-9 never or a thousand times too often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

DRAWS = 2
"""Version of the mapping from keys to draws.

The version rises when a key maps to different draws, so that no run resumes with draws of another version.
Version 1 is JAX's draws in float32.
"""

SMALLEST = 1e-18
"""The smallest probability that `categorical` draws faithfully.

Probability p becomes p (h/2)/sinh(h/2), h = 2^-64/p, up to the rounding of float32 (relative 1e-5):
0.9999 p at 1e-18, 0.99 p at 1.1e-19, 0.27 p at 1e-20, and next to nothing below 1e-21.
"""


def categorical(
    key: PRNGKeyArray, log_weights: Float[Array, "*batch choices"], shape: tuple[int, ...] = ()
) -> Int[Array, "*draws"]:
    """Indices a of the last axis, int32, each with probability prop. to exp(log_weights[..., a]).

    Gumbel-max: argmax_a of log_weights[..., a] + g_a. Weights of lower precision are cast to float32 first.
    A weight of 0 (-inf) is never drawn; where all weights are 0 the index is 0.

    Args:
        shape: axes of independent draws per distribution, before the axes of `log_weights`.
    """
    weights = log_weights.astype(jnp.float32)
    return jnp.argmax(weights + gumbel(key, (*shape, *weights.shape)), axis=-1).astype(jnp.int32)


def gumbel(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
    """Standard Gumbel noise g = -ln(-ln(1 - u)), float32: P[g > x] = 1 - exp(-e^-x) up to x = 44."""
    return -jnp.log(-jnp.log1p(-unit(key, shape)))


def bernoulli(key: PRNGKeyArray, p: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """True with probability p, to within 2^-65 and a relative 2^-24."""
    return unit(key, jnp.shape(p)) < p


def unit(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
    """Uniform numbers u in (0, 1), float32: P[u < t] = t to within 2^-65 and a relative 2^-24.

    The key must serve no other purpose. The bits of number i are the words of the key `fold_in(key, i)`,
    which equals `split(key, n)[i]`.
    """
    # The two words of a split key are as random as the output of `bits` and cost half as much.
    words = jax.random.key_data(jax.random.split(key, shape))
    return from_words(words[..., 0], words[..., 1])


def uniforms(keys: PRNGKeyArray, shapes: Sequence[tuple[int, ...]]) -> tuple[Float[Array, "..."], ...]:
    """`jax.random.uniform(key, shape)` for every key of the array `keys` and its shape, with equal bits.

    All numbers come from one hash, because each hash in a program takes a quarter of a second to compile.
    Number i of a key does not depend on the quantity drawn, so that every key draws as many as the largest
    shape has.
    """
    most = max(math.prod(shape) for shape in shapes)
    draws = jax.vmap(lambda key: jax.random.uniform(key, (most,)))(keys)
    return tuple(own[: math.prod(shape)].reshape(shape) for own, shape in zip(draws, shapes, strict=True))


def from_words(high: UInt32[Array, "*shape"], low: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(2^32 high + low + 1/2) / 2^64 as float32, at most 1 - 2^-24."""
    number = high.astype(jnp.float32) * 2.0**-32 + (low.astype(jnp.float32) + 0.5) * 2.0**-64
    return jnp.minimum(number, jnp.float32(1 - 2.0**-24))


def log_of(probs: Sequence[float] | Float[np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """ln of host numbers, computed in float64; -inf at 0."""
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(np.asarray(probs, np.float64)), jnp.float32)
