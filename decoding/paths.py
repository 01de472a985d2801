"""Paths in the tree of partial responses, as arrays."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decoding.base import Problem
from tasks import PAD, Task

Paths = Int[Array, "batch chains response"]
PerChain = Int[Array, "batch chains"]

walk = functools.partial(functools.partial, jax.tree_util.register_dataclass)
"""Decorator of a `Walk`: `data_fields` are leaves of the pytree, `meta_fields` are static."""


def empty_paths(task: Task, problem: Problem, chains: int) -> Paths:
    """Paths of chains at the root."""
    return jnp.full((problem.prompt.shape[0], chains, task.response_length), PAD, jnp.int32)


def put(path: Paths, index: PerChain, tokens: PerChain) -> Paths:
    """`path` with `tokens` at `index`; an index out of range writes nothing."""
    return jnp.where(jnp.arange(path.shape[-1]) == index[..., None], tokens[..., None], path)


def prefix_of(path: Paths, length: PerChain) -> Paths:
    """`path` with padding after `length` tokens."""
    return jnp.where(jnp.arange(path.shape[-1]) < length[..., None], path, PAD)


def token_before(path: Paths, depth: PerChain) -> PerChain:
    """Last token of the node at `depth`; arbitrary at the root."""
    return jnp.take_along_axis(path, jnp.maximum(depth - 1, 0)[..., None], axis=-1)[..., 0]


def ends(task: Task, problem: Problem, path: Paths, depth: PerChain) -> Bool[Array, "batch chains"]:
    """True for chains at a leaf: at the largest depth of the prompt, or after the end token."""
    at_depth = depth >= problem.depth[:, None]
    if task.end_token is None:
        return at_depth
    return at_depth | ((depth > 0) & (token_before(path, depth) == task.end_token))


def rewards(task: Task, problem: Problem, path: Paths, depth: PerChain) -> Float[Array, "batch chains"]:
    """Verifier's tau of the first `depth` tokens of every chain."""
    one = jax.vmap(task.reward, in_axes=(None, 0))
    return jax.vmap(one)(problem.latent, prefix_of(path, depth))
