"""Base of all tree decoders: chains explore the trees in parallel, one network step for all chains."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from decoding.base import Cache, Decoded, Decoder, Problem, Walk
from decoding.paths import Paths, PerChain, empty_paths, ends, prefix_of, put, rewards, token_before
from tasks import Task
from tasks.checks import whole

Flags = Bool[Array, "batch chains"]
Keys = Key[Array, " keys"]
"""Independent random keys of an act, one per draw."""


class Tree(NamedTuple):
    """The explored tree: the task with the verifier, and the walks that evaluate nodes."""

    task: Task
    policy: Walk
    values: Walk | None
    problem: Problem


class Chains(NamedTuple):
    """State of all chains: the current node and the path whose nodes were last expanded.

    Attributes:
        path: tokens of the current node; tokens after `depth` are meaningless.
        depth: depth of the current node.
        fed: path of the expanded nodes.
        filled: number of expanded nodes of `fed`, from the root on. The numbers of the children of these
            nodes are in `log_probs` and `values`, the state of the networks in the caches of the walks.
        known: number of expanded nodes, from the root on, that `path` and `fed` share.
        log_probs: ln pi_ref of the children, by depth of the parent.
        values: ln V^ of the children, ln tau at leaves if the decoder `verifies`, -inf where pi_ref is 0;
            empty without values.
        policy, guide: caches of the policy and of the values.
        queries, tokens: cost so far (`Decoded`).
        done: True if the chain has stopped.
        finished: True if the chain returns the leaf of the current node.
    """

    path: Paths
    depth: PerChain
    fed: Paths
    filled: PerChain
    known: PerChain
    log_probs: Float[Array, "batch chains response vocab"]
    values: Float[Array, "batch chains response vocab"]
    policy: Cache
    guide: Cache
    queries: PerChain
    tokens: PerChain
    done: Flags
    finished: Flags

    def at(self, numbers: Float[Array, "batch chains response vocab"]) -> Float[Array, "batch chains vocab"]:
        """Numbers of the children of the current nodes; arbitrary at a leaf or a node not expanded."""
        depth = jnp.minimum(self.depth, numbers.shape[2] - 1)
        return jnp.take_along_axis(numbers, depth[..., None, None], axis=2)[:, :, 0]

    def own_value(self) -> Float[Array, "batch chains"]:
        """ln V^ (ln tau at a leaf) of the current nodes; -inf at the root, whose value is not used."""
        above = self._replace(depth=jnp.maximum(self.depth - 1, 0))
        last = token_before(self.path, self.depth)
        value = jnp.take_along_axis(above.at(self.values), last[..., None], axis=-1)[..., 0]
        return jnp.where(self.depth == 0, -jnp.inf, value)

    def descend(self, tokens: PerChain, which: Flags) -> Chains:
        """Move the chains of `which` to the children at `tokens`."""
        return self.move(put(self.path, self.depth, tokens), self.depth + 1, which)

    def move(self, path: Paths, depth: PerChain, which: Flags) -> Chains:
        """Move the chains of `which` to the nodes at `depth` tokens of `path`, and update `known`."""
        shared = jnp.sum(jnp.cumprod((path == self.fed).astype(jnp.int32), axis=-1), axis=-1, dtype=jnp.int32)
        return self._replace(
            path=jnp.where(which[..., None], path, self.path),
            depth=jnp.where(which, depth, self.depth),
            known=jnp.where(which, jnp.minimum(self.filled, shared + 1), self.known),
        )

    def stop(self, which: Flags, finished: Flags) -> Chains:
        """Stop the chains of `which`."""
        return self._replace(done=self.done | which, finished=self.finished | (which & finished))


@dataclasses.dataclass(frozen=True)
class Explorer(Decoder):
    """Decoder defined by the act of a chain at an expanded node.

    All chains of all prompts run as one program: one network step for every chain at a node not yet expanded,
    then all acts that need no further network step.

    Attributes:
        budget: largest number of queries of a chain. A chain that needs more queries ends unfinished.
    """

    budget: int = 1024

    needs_values: ClassVar[bool] = True
    verifies: ClassVar[bool] = True
    """True if the verifier values leaves, False if the values do, as at inner nodes."""

    def __post_init__(self) -> None:
        whole("budget", self.budget, 1)

    def __call__(
        self, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
    ) -> Decoded:
        """Explore until every chain is done."""
        tree = Tree(task, policy, values if self.needs_values else None, problem)
        return result(tree, self.explore(tree, chains, key))

    def explore(self, tree: Tree, chains: int, key: PRNGKeyArray) -> Chains:
        """State of `chains` chains per prompt when all of them are done."""
        state, own, clock = self.begin(tree, chains)

        def running(carry: tuple[Chains, Any, Array]) -> Bool[Array, ""]:
            return ~jnp.all(carry[0].done)

        def advance(carry: tuple[Chains, Any, Array]) -> tuple[Chains, Any, Array]:
            state, own, clock = carry
            return jax.lax.while_loop(
                lambda carry: jnp.any(self.ready(tree, carry[0])),
                lambda carry: self.turn(tree, *carry, key),
                (self.expand(tree, state), own, clock),
            )

        return jax.lax.while_loop(running, advance, (state, own, clock))[0]

    def begin(self, tree: Tree, chains: int) -> tuple[Chains, Any, Int[Array, ""]]:
        """Chains at the root, the initial state of the method, and the number of turns so far."""
        path = empty_paths(tree.task, tree.problem, chains)
        zero = jnp.zeros(path.shape[:2], jnp.int32)
        numbers = jnp.full((*path.shape, tree.task.vocab_size), -jnp.inf, jnp.float32)
        state = Chains(
            path=path,
            depth=zero,
            fed=path,
            filled=zero,
            known=zero,
            log_probs=numbers,
            values=numbers if tree.values is not None else numbers[:, :, :0],
            policy=tree.policy.start(tree.problem, chains),
            guide=() if tree.values is None else tree.values.start(tree.problem, chains),
            queries=zero,
            tokens=zero,
            done=zero > 0,
            finished=zero > 0,
        )
        empty = tree.problem.depth[:, None] <= 0
        return state.stop(empty, empty), self.own_state(tree, state), jnp.zeros((), jnp.int32)

    def own_state(self, tree: Tree, state: Chains) -> Any:
        """Initial state of the method per chain, besides `Chains`."""
        return ()

    @property
    def num_keys(self) -> int:
        """Number of random draws of an act."""
        return 1

    @abc.abstractmethod
    def act(self, tree: Tree, state: Chains, own: Any, which: Flags, keys: Keys) -> tuple[Chains, Any]:
        """One act of the chains of `which`, which are at leaves or at expanded nodes.

        An act must bring a chain closer to the end for all numbers.
        """

    def turn(
        self, tree: Tree, state: Chains, own: Any, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Chains, Any, Int[Array, ""]]:
        """One act of every chain that can act."""
        which = self.ready(tree, state)
        keys = jax.random.split(jax.random.fold_in(key, clock), self.num_keys)
        state, own = self.act(tree, state, own, which, keys)
        return state, own, clock + 1

    def ready(self, tree: Tree, state: Chains) -> Flags:
        """True for chains that are not done and at a leaf or an expanded node."""
        return ~state.done & ((state.depth < state.known) | at_leaf(tree, state))

    def expand(self, tree: Tree, state: Chains) -> Chains:
        """Evaluate the children of every chain's first node that is not known.

        Other chains repeat the last known node, which has no effect.
        """
        need = ~state.done & (state.depth >= state.known) & ~at_leaf(tree, state)
        where = jnp.where(need, state.known, jnp.maximum(state.known - 1, 0))
        last = token_before(state.path, where)
        log_probs, policy = tree.policy.step(tree.problem, state.policy, last, where)
        here = (jnp.arange(state.path.shape[-1]) == where[..., None]) & need[..., None]
        # Cache entries below are overwritten on the way down.
        state = state._replace(
            fed=jnp.where(need[..., None], put(state.fed, where - 1, last), state.fed),
            filled=jnp.where(need, where + 1, state.filled),
            known=jnp.where(need, where + 1, state.known),
            tokens=jnp.where(need, state.tokens + 1, state.tokens),
            log_probs=jnp.where(here[..., None], log_probs[:, :, None], state.log_probs),
            policy=policy,
        )
        if tree.values is None:
            return state
        values, guide = tree.values.step(tree.problem, state.guide, last, where)
        if self.verifies:
            values = with_rewards(tree, state.path, where, values)
        values = jnp.where(log_probs > -jnp.inf, values, -jnp.inf)
        state = state._replace(
            values=jnp.where(here[..., None], values[:, :, None], state.values), guide=guide
        )
        return self.pay_for_children(state, need, jnp.sum(log_probs > -jnp.inf, axis=-1, dtype=jnp.int32))

    def pay_for_children(self, state: Chains, which: Flags, number: PerChain) -> Chains:
        """Charge an expansion: 0, unless the method uses the values of all children."""
        return state

    def pay(self, state: Chains, which: Flags, number: PerChain | int) -> tuple[Chains, Flags]:
        """Charge `number` queries to the chains of `which`; returns the chains that could pay.

        A chain with fewer queries left ends unfinished.
        """
        cost = jnp.where(which, number, 0)
        able = which & (state.queries + cost <= self.budget)
        state = state._replace(queries=jnp.where(able, state.queries + cost, state.queries))
        return state.stop(which & ~able, jnp.zeros_like(which)), able


def at_leaf(tree: Tree, state: Chains) -> Flags:
    """True for chains at a leaf."""
    return ends(tree.task, tree.problem, state.path, state.depth)


def verify(tree: Tree, state: Chains, which: Flags) -> Float[Array, "batch chains"]:
    """Reward tau of the leaves of the chains in `which`, else 0."""
    return jax.lax.cond(
        jnp.any(which),
        lambda: jnp.where(which, rewards(tree.task, tree.problem, state.path, state.depth), 0.0),
        lambda: jnp.zeros(which.shape, jnp.float32),
    )


def with_rewards(
    tree: Tree, path: Paths, depth: PerChain, values: Float[Array, "batch chains vocab"]
) -> Float[Array, "batch chains vocab"]:
    """`values` of the children of the nodes at `depth`, with ln tau where a child is a leaf."""
    task, problem = tree.task, tree.problem

    def of_child(token: Array) -> Array:
        child = put(prefix_of(path, depth), depth, jnp.broadcast_to(token, depth.shape))
        return jnp.log(rewards(task, problem, child, depth + 1)).astype(values.dtype)

    def of_all() -> Array:
        allowed = jnp.asarray(task.response_tokens)
        found = jnp.moveaxis(jax.vmap(of_child)(allowed), 0, -1)
        return jnp.where(last[..., None], values.at[..., allowed].set(found), values)

    last = depth + 1 >= problem.depth[:, None]
    if task.end_token is not None:
        values = values.at[..., task.end_token].set(of_child(jnp.asarray(task.end_token)))
    return jax.lax.cond(jnp.any(last), of_all, lambda: values)


def result(tree: Tree, state: Chains) -> Decoded:
    """Responses and costs of the chains."""
    return Decoded(
        responses=prefix_of(state.path, state.depth),
        finished=state.finished,
        reward=verify(tree, state, state.finished),
        queries=state.queries,
        tokens=state.tokens,
    )
