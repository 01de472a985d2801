"""Base of the decoders whose chains consist of several paths that wait for each other."""

from __future__ import annotations

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from decoding.base import Decoded, Problem, Walk
from decoding.explore import Chains, Explorer, Flags, Tree, result
from tasks import Task


@dataclasses.dataclass(frozen=True)
class Coupled(Explorer):
    """Decoder whose chains are groups of `size` paths of one prompt, with one act for all paths of a group.

    A group acts when each of its paths is at a leaf or at an expanded node. The paths of a group are
    neighbours on the axis of chains, and the group returns the response of the first one. Queries and tokens
    of a response are sums over the group. A path that takes over another one is read again as far as it
    differs.

    Attributes:
        budget: largest number of queries of a group.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of paths in a group."""

    def __call__(
        self, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
    ) -> Decoded:
        """Explore until every group is done, and return its first path."""
        tree = Tree(task, policy, values if self.needs_values else None, problem)
        state = self.explore(tree, chains * self.size, key)
        first = [self.grouped(each)[:, :, 0] for each in (state.path, state.depth, state.finished)]
        costs = [self.grouped(each).sum(axis=2, dtype=each.dtype) for each in (state.queries, state.tokens)]
        names = ("path", "depth", "finished", "queries", "tokens")
        return result(tree, state._replace(**dict(zip(names, (*first, *costs), strict=True))))

    def ready(self, tree: Tree, state: Chains) -> Flags:
        """True for the paths of the groups in which no path waits for the networks."""
        alone = super().ready(tree, state)
        return alone & self.for_all(jnp.all(self.grouped(alone | state.done), axis=-1))

    def grouped(self, numbers: Array) -> Array:
        """`numbers` (batch, groups * size, ...) as (batch, groups, size, ...)."""
        batch, chains, *rest = numbers.shape
        return numbers.reshape(batch, chains // self.size, self.size, *rest)

    def flat(self, numbers: Array) -> Array:
        """`numbers` (batch, groups, size, ...) as (batch, groups * size, ...)."""
        batch, groups, size, *rest = numbers.shape
        return numbers.reshape(batch, groups * size, *rest)

    def for_all(self, of_group: Array) -> Array:
        """Numbers of the groups (batch, groups), repeated for their paths (batch, groups * size)."""
        return jnp.repeat(of_group, self.size, axis=1)

    def take_over(self, state: Chains, source: Array, which: Flags) -> Chains:
        """Move the paths of `which` to the nodes of the paths `source` of their group."""
        return state.move(*self.nodes_of(state, source), which)

    def nodes_of(self, state: Chains, source: Array) -> tuple[Array, Array]:
        """Paths and depths of the paths `source` (batch, groups, size) of their group."""
        path = jnp.take_along_axis(self.grouped(state.path), source[..., None], axis=2)
        depth = jnp.take_along_axis(self.grouped(state.depth), source, axis=2)
        return self.flat(path), self.flat(depth)

    def pay_together(self, state: Chains, which: Flags) -> tuple[Chains, Flags]:
        """Charge one query to each path of `which`; returns the paths whose group could pay.

        A group with fewer queries left than paths in `which` ends unfinished.
        """
        after = state.queries + which.astype(state.queries.dtype)
        able = self.for_all(self.grouped(after).sum(axis=-1) <= self.budget)
        asking = self.for_all(jnp.any(self.grouped(which), axis=-1))
        state = state._replace(queries=jnp.where(able, after, state.queries))
        return state.stop(asking & ~able, jnp.zeros_like(which)), which & able
