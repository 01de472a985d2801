"""Draws that are faithful to small probabilities: 64 random bits per number.

`jax.random.categorical`, `bernoulli`, `choice` and `uniform` use 23 bits in float32. They draw events of
probability 1e-7 half as often as they should, and events below 1e-9 never or a thousand times too often.
"""

from __future__ import annotations

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


def categorical_of(
    words: UInt32[Array, "*shape words"], log_weights: Float[Array, "*shape"]
) -> Int[Array, "*draws"]:
    """`categorical(key, log_weights)` of the words that `below` gives for the key and the weights' shape."""
    noise = _gumbel_of(from_words(words[..., 0], words[..., 1]))
    return jnp.argmax(log_weights.astype(jnp.float32) + noise, axis=-1).astype(jnp.int32)


def gumbel(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
    """Standard Gumbel noise g = -ln(-ln(1 - u)), float32: P[g > x] = 1 - exp(-e^-x) up to x = 44."""
    return _gumbel_of(unit(key, shape))


def _gumbel_of(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return -jnp.log(-jnp.log1p(-u))


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


def below(
    key: PRNGKeyArray, wanted: Sequence[tuple[tuple[int | Int[Array, ""], ...], tuple[int, ...]]]
) -> list[UInt32[Array, "*shape words"]]:
    """Words of the keys below `key`: for each (path, shape) an array of shape (*shape, 2).

    Number i of the array, counted in row-major order, is the key that folding in the integers of the path and
    then i gives. `split` gives equal keys: `split(key, n)[i]` is `fold_in(key, i)`. So `split(split(key)[1],
    4)` is the array of ((1,), (4,)), and the one key `split(key)[1]` that of ((), (2,)) at 1.

    On CPU the keys at the ends of the paths come from one hash in a loop over the levels. Each further hash
    takes a fifth of a second to compile, and XLA repeats a hash, with those that its key comes from, for
    everything that reads it.

    Args:
        key: a key of threefry2x32.
        wanted: paths and shapes, one path at least not empty. An integer of a path may be traced if all paths
            have the one there.
    """
    paths = [path for path, _ in wanted]
    depth = max(map(len, paths))
    levels = [[path[level] if level < len(path) else 0 for path in paths] for level in range(depth)]
    numbers = jnp.stack([_numbers(level) for level in levels])
    inside = np.asarray([[level < len(path) for path in paths] for level in range(depth)])

    def descend(keys: PRNGKeyArray, level: tuple[Array, Array]) -> tuple[PRNGKeyArray, None]:
        deeper = jax.vmap(jax.random.fold_in)(keys, level[0])
        return jnp.where(level[1], deeper, keys), None

    def in_a_loop(keys: PRNGKeyArray, numbers: Array) -> PRNGKeyArray:
        return jax.lax.scan(descend, keys, (numbers, jnp.asarray(inside)))[0]

    def at_once(keys: PRNGKeyArray, numbers: Array) -> PRNGKeyArray:
        for level in zip(numbers, inside, strict=True):
            keys, _ = descend(keys, level)
        return keys

    keys = jnp.broadcast_to(key, (len(paths),))
    ends = jax.lax.platform_dependent(keys, numbers, cpu=in_a_loop, default=at_once)
    # Numbers outside the loop: it stores both words of a key, and would compute the hash for each of them.
    return [
        jax.random.key_data(jax.random.split(end, shape))
        for end, (_, shape) in zip(ends, wanted, strict=True)
    ]


def _numbers(level: Sequence[int | Int[Array, ""]]) -> UInt32[Array, " paths"]:
    if isinstance(level[0], jax.Array):
        return jnp.broadcast_to(level[0].astype(jnp.uint32), (len(level),))
    return jnp.asarray(np.asarray(level, np.uint32))


def uniform(words: UInt32[Array, "*shape words"]) -> Float[Array, "*shape"]:
    """`jax.random.uniform(key, shape)` of the words that `below` gives for the key: 23 bits for each number.

    For priorities, of which the order counts.
    """
    bits = (words[..., 0] ^ words[..., 1]) >> jnp.uint32(9) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32) - 1.0


def from_words(high: UInt32[Array, "*shape"], low: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(2^32 high + low + 1/2) / 2^64 as float32, at most 1 - 2^-24."""
    number = high.astype(jnp.float32) * 2.0**-32 + (low.astype(jnp.float32) + 0.5) * 2.0**-64
    return jnp.minimum(number, jnp.float32(1 - 2.0**-24))


def log_of(probs: Sequence[float] | Float[np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """ln of host numbers, computed in float64; -inf at 0."""
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(np.asarray(probs, np.float64)), jnp.float32)
