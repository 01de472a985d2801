"""Gradient of a batch, on CPU computed in parts that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models import Params

TOKENS_OF_A_PART = 1536
"""Most tokens whose gradient is computed together on CPU: the activations of a `gpt_tiny` then take a few
megabytes. Larger parts would be read from and written to memory, smaller parts only cost more calls."""

Batch = TypeVar("Batch")


def parts_of_batch(examples: int, tokens: int) -> int:
    """Number of equal parts that a batch of `examples` with `tokens` tokens each is split into.

    On accelerators it is 1. On CPU it is the least number whose parts have at most `TOKENS_OF_A_PART` tokens,
    or one example if that is longer.
    """
    if jax.default_backend() != "cpu":
        return 1
    return next(
        parts
        for parts in range(1, examples + 1)
        if examples % parts == 0 and (examples * tokens <= parts * TOKENS_OF_A_PART or parts == examples)
    )


def mean_gradient(
    loss: Callable[[Params, Batch], Float[Array, ""]], params: Params, batch: Batch, parts: int
) -> tuple[Float[Array, ""], Any]:
    """Mean loss of a batch and its gradient, from `parts` equal parts of the batch in turn.

    The result equals `value_and_grad` of the whole batch up to rounding, because `loss` is a mean over
    examples. The memory needed is that of one part.
    """
    if parts == 1:
        return jax.value_and_grad(loss)(params, batch)
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)

    def add(total: tuple[Array, Any], part: Batch) -> tuple[tuple[Array, Any], None]:
        return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(params, part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, zero, split)
    return jax.tree.map(lambda sum_: sum_ / parts, total)


def weighted_gradient(
    loss: Callable[[Params, Batch], tuple[Float[Array, ""], Float[Array, ""]]],
    params: Params,
    batch: Batch,
    parts: int,
) -> tuple[tuple[Float[Array, ""], Any], Float[Array, ""]]:
    """Weighted mean loss of a batch with its gradient, and ln of the sum of the weights, from `parts` equal
    parts of the batch in turn.

    `loss` gives the weighted mean of a part and ln of the sum of the part's weights, in nats. Weights are
    added in log space, so that only weights that are negligible against the batch's largest are lost.
    """
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)

    def add(total: tuple[Any, Array], part: Batch) -> tuple[tuple[Any, Array], None]:
        mean, log_mass = total
        (value, own_mass), gradient = jax.value_and_grad(loss, has_aux=True)(params, part)
        both = jnp.logaddexp(log_mass, own_mass)
        old, new = jnp.exp(log_mass - both), jnp.exp(own_mass - both)
        mean = jax.tree.map(
            lambda a, b: old.astype(a.dtype) * a + new.astype(b.dtype) * b, mean, (value, gradient)
        )
        return (mean, both), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    # ln of no weight: a finite number, because a difference of two -inf would be NaN.
    nothing = jnp.asarray(float(jnp.finfo(jnp.float32).min))
    total, _ = jax.lax.scan(add, (zero, nothing), split)
    return total
