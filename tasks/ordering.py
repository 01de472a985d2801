"""Indices of the smallest and largest values, without a full sort.

On a CPU, XLA's sort calls the comparison for every pair and takes four times as long as a selection. Zeros
must have one sign: a selection puts -0.0 below 0.0.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Int


def lowest(values: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """`jnp.argsort(values)[:count]`: ascending; ties go to the first indices, in order."""
    return jax.lax.top_k(-values, count)[1]


def highest(values: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """`jnp.argsort(values)[-count:]`: ascending; ties go to the last indices, in order."""
    return values.shape[0] - 1 - jax.lax.top_k(values[::-1], count)[1][::-1]
