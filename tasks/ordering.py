"""The ends of a sorted order, without sorting the rest.

On a CPU XLA's sort calls its comparison for every pair that it looks at, and takes four times as long as a
selection. Zeros must have one sign: a selection puts -0.0 below 0.0.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Int


def lowest(values: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """`jnp.argsort(values)[:count]`: of equal values the first ones, in their order."""
    return jax.lax.top_k(-values, count)[1]


def highest(values: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """`jnp.argsort(values)[-count:]`: ascending; of equal values the last ones, in their order."""
    return values.shape[0] - 1 - jax.lax.top_k(values[::-1], count)[1][::-1]
