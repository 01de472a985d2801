"""Uniform labelled layered graphs whose branching layers have an even and an odd passable node."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from tasks.drawing import below, uniform
from tasks.ordering import lowest


class Drawing(NamedTuple):
    """One labelled graph.

    Slots 0 and 1 of a branching layer are the even and the odd passable node; slot 0 of any other layer is
    the passable node.
    """

    ends: Int[Array, " 2"]
    nodes: Int[Array, "depth width"]
    branching: Bool[Array, " depth"]

    @property
    def passable(self) -> Bool[Array, "depth width"]:
        """True for slots that hold a passable node."""
        slot = jnp.arange(self.nodes.shape[1])
        return (slot == 0) | ((slot == 1) & self.branching[:, None])


def draw_graph(
    key: PRNGKeyArray,
    attempt: Int[Array, ""] | int,
    sizes: tuple[int, int],
    num_ids: int,
    count: Int[Array, ""] | int,
    most: int,
) -> Drawing:
    """Uniform labelled graph with `count` <= `most` branching layers and ids from 1..num_ids.

    `sizes` are the number of layers and of a layer's nodes. Graphs of different attempts are independent.
    """
    (depth, width), half = sizes, (num_ids + 1) // 2
    shapes = ((depth,), (2, half), (num_ids,))
    words = below(key, [((attempt, part), shape) for part, shape in enumerate(shapes)])
    layers, draws, priority = map(uniform, words)
    rank = jnp.argsort(layers)
    branching = rank < count
    # Ids of the constrained slots are drawn separately: taking them off a permutation by parity would leave
    # parities that are not exchangeable.
    draws = draws.at[0, num_ids // 2 :].set(-1.0)
    chosen = 2 * jax.lax.top_k(draws, most)[1] + jnp.asarray([[2], [1]])
    used = jnp.where(jnp.arange(most) < count, 2.0, -1.0)
    priority = priority.at[chosen - 1].max(jnp.broadcast_to(used, chosen.shape))
    rest = 1 + lowest(priority, 2 + depth * width)
    constrained = branching[:, None] & (jnp.arange(width) < 2)
    free = jnp.cumsum(~constrained.reshape(-1)).reshape(depth, width)
    ends, nodes = rest[:2], rest[1 + free]
    if most:
        own = chosen[:, jnp.minimum(rank, most - 1)].T
        nodes = nodes.at[:, :2].set(jnp.where(branching[:, None], own, nodes[:, :2]))
    return Drawing(ends, nodes, branching)
