"""Exact law of particle filtering on a tree that can be enumerated, for few particles.

The recursion runs over the states of all particles together. Their number is about (leaves)^N, so that
N = 2 or 3 on some tens of leaves is feasible.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float

from decoding.exact import Law, Tree

Particle = tuple[int, float]
"""Index of a node on its level, and the weight since the last resampling."""
State = tuple[Particle, ...]


def particle_law(
    tree: Tree,
    particles: int,
    scheme: Literal["multinomial", "systematic"] = "multinomial",
    threshold: float | None = None,
) -> Law:
    """Law of the response that `ParticleFilter` returns. The missing probability is that of groups that die.

    States of the particles are extended by all products of children, weighed by V^(child)/V^(node), and
    resampled by all products of ancestors, or for systematic resampling by the intervals of the uniform
    number on which the ancestors are constant.
    """
    law: dict[State, float] = {((0, 1.0),) * particles: 1.0}
    for h in range(tree.depth):
        after: dict[State, float] = defaultdict(float)
        for state, mass in law.items():
            for grown, chance in _grown(tree, h, state):
                total = sum(weight for _, weight in grown)
                if total == 0:
                    continue
                if h + 1 < tree.depth and _resamples(grown, threshold):
                    for kept, share in _resampled(grown, scheme):
                        after[_ordered(kept, scheme)] += mass * chance * share
                else:
                    after[_ordered(grown, scheme)] += mass * chance
        law = after
    leaves = np.zeros(len(tree.values[-1]))
    for state, mass in law.items():
        total = sum(weight for _, weight in state)
        for leaf, weight in state:
            leaves[leaf] += mass * weight / total
    return leaves


def effective_size(weights: Float[np.ndarray, " particles"]) -> float:
    """(sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _grown(tree: Tree, h: int, state: State) -> Iterator[tuple[State, float]]:
    """The states one token later with their probabilities."""
    symbols = tree.reference[h].shape[1]
    ways = []
    for node, weight in state:
        old = tree.values[h][node] if h else 1.0
        children = []
        for a, chance in enumerate(tree.reference[h][node]):
            child = node * symbols + a
            value = tree.values[h + 1][child]
            if chance > 0:
                children.append(((child, weight * value / old if weight > 0 else 0.0), float(chance)))
        ways.append(children)
    for way in itertools.product(*ways):
        yield tuple(particle for particle, _ in way), math.prod(chance for _, chance in way)


def _resamples(state: State, threshold: float | None) -> bool:
    """True if the effective sample size is small enough."""
    if threshold is None:
        return True
    return effective_size(np.array([weight for _, weight in state])) < threshold * len(state)


def _resampled(state: State, scheme: str) -> Iterator[tuple[State, float]]:
    """The states after resampling with their probabilities."""
    weights = np.array([weight for _, weight in state])
    shares = weights / weights.sum()
    alive = [index for index in range(len(state)) if shares[index] > 0]
    if scheme == "multinomial":
        for ancestors in itertools.product(alive, repeat=len(state)):
            chance = math.prod(float(shares[index]) for index in ancestors)
            yield tuple((state[index][0], 1.0) for index in ancestors), chance
        return
    order = np.argsort(weights, kind="stable")
    ends = np.cumsum(shares[order])
    ends[-1] = 1.0
    edges = np.unique(np.concatenate([[0.0, 1.0], np.mod(len(state) * ends[:-1], 1.0)]))
    for low, high in itertools.pairwise(edges):
        points = (np.arange(len(state)) + (low + high) / 2) / len(state)
        ancestors = order[np.searchsorted(ends, points, side="right")]
        yield tuple((state[index][0], 1.0) for index in ancestors), float(high - low)


def _ordered(state: State, scheme: str) -> State:
    """Particles that are resampled independently are exchangeable, so that their order can be forgotten."""
    return tuple(sorted(state)) if scheme == "multinomial" else state
