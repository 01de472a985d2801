"""Exact output laws of decoders on trees that can be enumerated, in float64 on the host.

The laws are derived independently of the decoders, whose samples are tested against them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from decoding.base import Cache, Problem, Walk
from tasks import Task

Law = Float[np.ndarray, " leaves"]
Levels = tuple[Float[np.ndarray, " nodes"], ...]


class Tree(NamedTuple):
    """Tree of one prompt with responses of H tokens; the nodes of a level are in lexicographic order.

    Attributes:
        reference: probabilities pi_ref(a | x, y_1:h), (A^h, A), per level h < H.
        values: V^(x, y_1:h), (A^h,), per level h <= H: the verifier's tau at level H, any positive number at
            the root.
    """

    reference: tuple[Float[np.ndarray, "nodes symbols"], ...]
    values: Levels

    @property
    def depth(self) -> int:
        """Depth H."""
        return len(self.reference)

    def weights(self, h: int) -> Float[np.ndarray, "nodes symbols"]:
        """pi_ref(a | x, y_1:h) V^(x, y_1:h a) of the children of level h."""
        return self.reference[h] * self.values[h + 1].reshape(self.reference[h].shape)


def enumerate_tree(task: Task, policy: Walk, values: Walk, problem: Problem) -> Tree:
    """Tree of a single prompt, with tables from the walks, called as a decoder calls them.

    Raises:
        ValueError: more than one prompt, or a task with an end token.
    """
    if problem.depth.shape != (1,):
        raise ValueError(f"problem: {problem.depth.shape[0]} prompts; valid: one")
    if task.end_token is not None:
        raise ValueError(f"task: {type(task).__name__} has an end token; valid: responses of one length")
    length, symbols = int(problem.depth[0]), np.asarray(task.response_tokens, np.int32)
    size = len(symbols)
    chains = size ** (length - 1)
    numbers = np.arange(chains)
    reference, found = [], [np.ones(1)]
    caches = policy.start(problem, chains), values.start(problem, chains)
    tokens = np.full(chains, symbols[0])
    for h in range(length):
        where = jnp.asarray(tokens)[None], jnp.full((1, chains), h, jnp.int32)
        log_ref, one = _step(policy, problem, caches[0], *where)
        log_value, two = _step(values, problem, caches[1], *where)
        caches = one, two
        # Chains are in lexicographic order, so chains below one node of level h are contiguous.
        first = numbers[:: size ** (length - 1 - h)]
        reference.append(np.exp(np.asarray(log_ref, np.float64)[0, first][:, symbols]))
        found.append(np.exp(np.asarray(log_value, np.float64)[0, first][:, symbols]).ravel())
        tokens = symbols[numbers // size ** max(length - 2 - h, 0) % size]
    leaves = np.stack(np.meshgrid(*[symbols] * length, indexing="ij"), axis=-1).reshape(-1, length)
    padded = np.zeros((len(leaves), task.response_length), np.int32)
    padded[:, :length] = leaves
    latent = jax.tree.map(lambda leaf: leaf[0], problem.latent)
    found[-1] = np.asarray(_rewards(task, latent, jnp.asarray(padded)), np.float64)
    return Tree(tuple(reference), tuple(found))


@jax.jit
def _step(
    walk: Walk, problem: Problem, cache: Cache, tokens: Int[Array, "1 chains"], depth: Int[Array, "1 chains"]
) -> tuple[Float[Array, "1 chains vocab"], Cache]:
    """A step of a walk, compiled once for all its parameters and prompts of one shape."""
    return walk.step(problem, cache, tokens, depth)


@functools.partial(jax.jit, static_argnames="task")
def _rewards(task: Task, latent: Any, leaves: Int[Array, "leaves response"]) -> Float[Array, " leaves"]:
    return jax.vmap(task.reward, (None, 0))(latent, leaves)


def reference_law(tree: Tree) -> Law:
    """Probabilities pi_ref of the leaves."""
    law = np.ones(1)
    for table in tree.reference:
        law = (law[:, None] * table).ravel()
    return law


def target_law(tree: Tree) -> Law:
    """Probabilities pi* of the leaves: pi_ref tau, normalised."""
    weight = reference_law(tree) * tree.values[-1]
    return weight / weight.sum()


def action_level_law(tree: Tree) -> Law:
    """Law of one attempt of action-level rejection sampling: children with probability prop. to pi_ref V^.

    The probability missing to 1 is that of a dead end, a node whose children all have V^ = 0.
    """
    law = np.ones(1)
    for h in range(tree.depth):
        law = (law[:, None] * _share(tree.weights(h))).ravel()
    return law


def nucleus_law(tree: Tree, temperature: float, top_p: float) -> Law:
    """Law of sampling with a temperature and top-p: a product over tokens of the tempered, cut laws."""
    law = np.ones(1)
    for table in tree.reference:
        with np.errstate(divide="ignore"):
            scaled = np.log(table) / temperature
        probs = _share(np.exp(scaled - scaled.max(axis=1, keepdims=True)))
        order = np.argsort(-probs, axis=1, kind="stable")
        falling = np.take_along_axis(probs, order, axis=1)
        kept = np.cumsum(falling, axis=1) - falling < top_p
        cut = np.zeros_like(probs)
        np.put_along_axis(cut, order, np.where(kept, falling, 0.0), axis=1)
        law = (law[:, None] * _share(cut)).ravel()
    return law


def beam_leaf(tree: Tree, width: int) -> int:
    """Index of the leaf that beam search returns."""
    nodes, scores = np.zeros(1, int), np.zeros(1)
    for table in tree.reference:
        with np.errstate(divide="ignore"):
            grown = (scores[:, None] + np.log(table[nodes])).ravel()
        best = np.argsort(-grown, kind="stable")[:width]
        best = best[grown[best] > -np.inf]
        size = table.shape[1]
        nodes, scores = nodes[best // size] * size + best % size, grown[best]
    return int(nodes[0])


def first_leaf_law(tree: Tree) -> Law:
    """Law of VGB stopped at the first leaf: the harmonic measure of the leaves from the root.

    The chain is the random walk on an electrical network where the edge above v has conductance
    pi_ref(v) V^(v) (lazy steps do not matter). A unit current from the root to the grounded leaves splits at
    every node in proportion to the conductance below. Hence V^ is replaced by
    E(v) = V^(v) S(v)/(V^(v) + S(v)), S(v) = sum_a pi_ref(a|v) E(va), E = tau at leaves (derived).
    """
    below = tree.values[-1]
    tables = []
    for h in reversed(range(tree.depth)):
        weights = tree.reference[h] * below.reshape(tree.reference[h].shape)
        tables.append(_share(weights))
        total, value = weights.sum(axis=1), tree.values[h]
        below = np.divide(value * total, value + total, out=np.zeros_like(total), where=total > 0)
    law = np.ones(1)
    for table in reversed(tables):
        law = (law[:, None] * table).ravel()
    return law


def chain_law(tree: Tree, steps: int, start: Levels | None = None) -> Levels:
    """Law of VGB after `steps` steps from the root, lazy with probability 1/2, level by level.

    `start` is a law to go on from, instead of the root.
    """
    law = [np.zeros_like(level) for level in tree.values] if start is None else list(start)
    if start is None:
        law[0][:] = 1.0
    totals = [_totals(tree, h) for h in range(tree.depth + 1)]
    rates = [np.divide(0.5, total, out=np.zeros_like(total), where=total > 0) for total in totals]
    down = [tree.weights(h) * rates[h][:, None] for h in range(tree.depth)]
    up = [np.zeros(1), *(value * rate for value, rate in zip(tree.values[1:], rates[1:], strict=True))]
    stay = [np.where(total > 0, 0.5, 1.0) for total in totals]
    for _ in range(steps):
        new = [level * rest for level, rest in zip(law, stay, strict=True)]
        for h in range(tree.depth):
            new[h + 1] += (law[h][:, None] * down[h]).ravel()
            new[h] += (law[h + 1] * up[h + 1]).reshape(down[h].shape).sum(axis=1)
        law = new
    return tuple(law)


def total_variation(first: Law, second: Law) -> float:
    """Total variation sum |p - q|/2 of two laws on the leaves."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def _totals(tree: Tree, h: int) -> Float[np.ndarray, " nodes"]:
    """Total weight of every node's moves, to the parent (none at the root) and to the children."""
    total = np.zeros_like(tree.values[h]) if h == 0 else tree.values[h].copy()
    return total if h == tree.depth else total + tree.weights(h).sum(axis=1)


def _share(weights: Float[np.ndarray, "nodes symbols"]) -> Float[np.ndarray, "nodes symbols"]:
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
