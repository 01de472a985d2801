"""Gradient of a batch, on CPU computed in parts that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from models import Params

TOKENS_OF_A_PART = 1536
"""Most tokens whose gradient is computed together on CPU: the activations of a `gpt_tiny` then take a few
megabytes. Larger parts would be read from and written to memory, smaller parts only cost more calls."""

Batch = TypeVar("Batch")


def parts_of_batch(examples: int, tokens: int, platform: str) -> int:
    """Number of equal parts that a batch of `examples` with `tokens` tokens each is split into.

    On accelerators it is 1. On the platform "cpu" it is the least number whose parts have at most
    `TOKENS_OF_A_PART` tokens, or one example if that is longer.
    """
    if platform != "cpu":
        return 1
    return next(
        parts
        for parts in range(1, examples + 1)
        if examples % parts == 0 and (examples * tokens <= parts * TOKENS_OF_A_PART or parts == examples)
    )


def mean_gradient(
    loss: Callable[[Params, Batch], tuple[Float[Array, ""], Any]], params: Params, batch: Batch, parts: int
) -> tuple[tuple[Float[Array, ""], Any], Any]:
    """Mean loss of a batch with its gradient, and what `loss` says of each example, from `parts` equal parts
    of the batch in turn.

    `loss` gives the mean loss of a part, and a pytree of arrays whose leading axis is the part's examples.
    The mean and its gradient equal `value_and_grad` of the whole batch up to rounding. The memory needed is
    that of one part.
    """
    if parts == 1:
        (value, said), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
        return (value, gradient), said

    def add(total: tuple[Array, Any], part: Batch) -> tuple[tuple[Array, Any], Any]:
        (value, said), gradient = jax.value_and_grad(loss, has_aux=True)(params, part)
        return jax.tree.map(jnp.add, total, (value, gradient)), said

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, said = jax.lax.scan(add, zero, _split(batch, parts))
    return jax.tree.map(lambda sum_: sum_ / parts, total), _joined(said)


def _split(batch: Batch, parts: int) -> Batch:
    return jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)


def _joined(said: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), said)


def norm_of(gradient: Any, platform: str) -> Float[Array, ""]:
    """Euclidean norm of all entries together.

    On a CPU they are copied into one vector first: a sum over one array compiles in a fraction of the time of
    sums over each, and takes no longer.
    """
    if platform != "cpu":
        return optax.tree.norm(gradient)
    return jnp.linalg.norm(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))


def weighted_gradient(
    loss: Callable[[Params, Batch], tuple[Float[Array, ""], tuple[Float[Array, ""], Any]]],
    params: Params,
    batch: Batch,
    parts: int,
) -> tuple[tuple[Float[Array, ""], Any], Float[Array, ""], Any]:
    """Weighted mean loss of a batch with its gradient, ln of the sum of the weights, and what `loss` says of
    each example, from `parts` equal parts of the batch in turn.

    `loss` gives the weighted mean of a part, ln of the sum of the part's weights in nats, and a pytree as in
    `mean_gradient`. Weights are added in log space, so that only weights that are negligible against the
    batch's largest are lost.
    """

    def add(total: tuple[Any, Array], part: Batch) -> tuple[tuple[Any, Array], Any]:
        mean, log_mass = total
        (value, (own_mass, said)), gradient = jax.value_and_grad(loss, has_aux=True)(params, part)
        both = jnp.logaddexp(log_mass, own_mass)
        old, new = jnp.exp(log_mass - both), jnp.exp(own_mass - both)
        mean = jax.tree.map(
            lambda a, b: old.astype(a.dtype) * a + new.astype(b.dtype) * b, mean, (value, gradient)
        )
        return (mean, both), said

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    # ln of no weight: a finite number, because a difference of two -inf would be NaN.
    nothing = jnp.asarray(float(jnp.finfo(jnp.float32).min))
    (total, log_mass), said = jax.lax.scan(add, (zero, nothing), _split(batch, parts))
    return total, log_mass, _joined(said)
