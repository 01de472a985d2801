"""Exact laws of decoders on a tree small enough to enumerate, in float64: no sampling error.

A tree of horizon H and A tokens is stored by levels; child a of node i at depth h is node A i + a at depth
h + 1. `reference[h]` is pi_ref(a | node), (A^h, A); `values[h]` is V^(node) at depth h, tau at leaves;
`values[0]` is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ABSORBED = 1e-6
"""First-leaf laws are computed until all but so much mass is at a leaf."""


class Tree(NamedTuple):
    """A base model and values on a whole tree."""

    reference: Sequence[Float[np.ndarray, "nodes tokens"]]
    values: Sequence[Float[np.ndarray, " nodes"]]

    @property
    def horizon(self) -> int:
        """H."""
        return len(self.reference)


def reference_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """pi_ref(y|x) of every leaf."""
    mass = np.ones(1)
    for conditional in tree.reference:
        mass = (mass[:, None] * conditional).reshape(-1)
    return mass


def target_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """pi*(y|x) = pi_ref(y|x) tau(x, y) / E_ref[tau]."""
    weight = reference_law(tree) * tree.values[-1]
    return weight / weight.sum()


def exact_values(tree: Tree) -> list[Float[np.ndarray, " nodes"]]:
    """V(node) = E_ref[tau | node] at every depth, from the leaves up."""
    found = [tree.values[-1]]
    for conditional in reversed(tree.reference):
        found.insert(0, np.sum(conditional * found[0].reshape(conditional.shape), axis=1))
    return found


def action_rejection_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """Law of action-level rejection sampling, given that it does not get stuck: at every node child a with
    probability prop. to pi_ref(a) V^(child a)."""
    mass = np.ones(1)
    for conditional, below in zip(tree.reference, tree.values[1:], strict=True):
        weight = conditional * below.reshape(conditional.shape)
        total = weight.sum(axis=1, keepdims=True)
        chance = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        mass = (mass[:, None] * chance).reshape(-1)
    return mass / mass.sum()


def vgb_law(tree: Tree, steps: int) -> Float[np.ndarray, " leaves"]:
    """Law of the node that VGB's lazy walk is at after `steps` steps from the root, given that it is a leaf
    (arXiv 2510.03149, algorithm 1)."""
    walk = _Walk(tree)
    mass = walk.start()
    for _ in range(steps):
        moved = walk.move(mass)
        mass = [(own + new) / 2 for own, new in zip(mass, moved, strict=True)]
    return mass[-1] / mass[-1].sum()


def vgb_first_leaf_law(tree: Tree, limit: int = 20_000) -> Float[np.ndarray, " leaves"]:
    """Law of the first leaf that VGB's walk reaches, of those that have reached one after `limit` moves."""
    walk = _Walk(tree)
    mass, absorbed = walk.start(), np.zeros_like(tree.values[-1])
    for _ in range(limit):
        mass = walk.move(mass)
        absorbed += mass[-1]
        mass[-1] = np.zeros_like(absorbed)
        if sum(level.sum() for level in mass) < ABSORBED:
            break
    return absorbed / absorbed.sum()


def total_variation(p: Float[np.ndarray, " leaves"], q: Float[np.ndarray, " leaves"]) -> float:
    """Half the l1 distance."""
    return float(np.abs(p - q).sum() / 2)


class _Walk:
    """Moves of VGB's walk, without laziness: from a node to its parent with weight V^(node), to child a with
    weight pi_ref(a) V^(child a), normalised. A node all of whose weights are 0 is left alone."""

    def __init__(self, tree: Tree) -> None:
        self._down, self._up = [], []
        for depth in range(tree.horizon + 1):
            back = tree.values[depth] if depth else np.zeros(1)
            if depth < tree.horizon:
                conditional = tree.reference[depth]
                down = conditional * tree.values[depth + 1].reshape(conditional.shape)
            else:
                down = np.zeros((len(back), 0))
            total = back + down.sum(axis=1)
            scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            self._down.append(down * scale[:, None])
            self._up.append(back * scale)

    def start(self) -> list[Float[np.ndarray, " nodes"]]:
        """All mass at the root."""
        return [np.ones(1)] + [np.zeros(len(up)) for up in self._up[1:]]

    def move(self, mass: Sequence[Float[np.ndarray, " nodes"]]) -> list[Float[np.ndarray, " nodes"]]:
        """One move of all mass."""
        new = [np.zeros_like(level) for level in mass]
        for depth, level in enumerate(mass):
            down, up = self._down[depth], self._up[depth]
            if depth:
                new[depth - 1] += (level * up).reshape(len(mass[depth - 1]), -1).sum(axis=1)
            if depth + 1 < len(mass):
                new[depth + 1] += (level[:, None] * down).reshape(-1)
            stays = (up + down.sum(axis=1)) == 0
            new[depth] += np.where(stays, level, 0.0)
        return new
