"""Laws of decoders that choose among paths, by enumeration of all tuples of candidates in plain Python."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import integrate

from decoding import exact
from oracles.trees import Law, Node, Tree, TreeTask, normalised


def as_arrays(task: TreeTask) -> exact.Tree:
    """A tree of responses of one length as the tables of `decoding.exact`."""
    tree = Tree(task)
    levels = [[node for node in tree.nodes if len(node) == h] for h in range(task.depth + 1)]
    width = range(1, task.symbols + 1)
    reference = [np.array([[tree.chance[*n, a] for a in width] for n in level]) for level in levels[:-1]]
    values = [np.array([tree.value[node] for node in level]) for level in levels]
    return exact.Tree(tuple(reference), (np.ones(1), *values[1:]))


def race_chances(weights: Sequence[float]) -> list[float]:
    """P[i has the largest w_i/U_i] = int_0^(1/w_i) w_i prod_(j != i) (1 - w_j t)_+ dt."""
    found = []
    for i, own in enumerate(weights):
        if own == 0:
            found.append(0.0)
            continue
        others = [w for j, w in enumerate(weights) if j != i]
        end = 1 / max(weights)

        def density(t: float, own: float = own, others: Sequence[float] = tuple(others)) -> float:
            return own * math.prod(1 - w * t for w in others)

        found.append(integrate.quad(density, 0, end, epsabs=1e-13)[0])
    return found


def shares(weights: Sequence[float]) -> list[float]:
    """w_i / sum w."""
    total = sum(weights)
    return [w / total if total else 0.0 for w in weights]


def of_candidates(tree: Tree, count: int, choose: Callable[[Sequence[Node]], Sequence[float]]) -> Law:
    """Law of a choice among `count` whole responses; () where nothing is chosen."""
    leaves = [leaf for leaf in tree.leaves if tree.mass[leaf] > 0]
    law: Law = {}
    for drawn in itertools.product(leaves, repeat=count):
        mass = math.prod(tree.mass[leaf] for leaf in drawn)
        chances = choose(drawn)
        for leaf, chance in zip((*drawn, ()), (*chances, 1 - sum(chances)), strict=True):
            law[leaf] = law.get(leaf, 0.0) + mass * max(chance, 0.0)
    return {leaf: mass for leaf, mass in law.items() if mass > 1e-12}


def race(tree: Tree, count: int, weight: Callable[[Node], float], exponential: bool = False) -> Law:
    """Uniform race, or self-normalised resampling."""
    rule = shares if exponential else race_chances
    return of_candidates(tree, count, lambda drawn: rule([weight(leaf) for leaf in drawn]))


def majority(tree: Tree, count: int, answer: Callable[[Node], Any]) -> Law:
    """The first response whose answer is given most often, ties to the first one."""

    def choose(drawn: Sequence[Node]) -> list[float]:
        answers = [answer(leaf) for leaf in drawn]
        votes = [answers.count(each) for each in answers]
        return list(np.eye(count)[votes.index(max(votes))])

    return of_candidates(tree, count, choose)


def nucleus(tree: Tree, temperature: float, top_p: float) -> Law:
    """Token by token from the tempered law on its nucleus."""
    law = {(): 1.0}
    for node in tree.nodes:
        if tree.leaf(node):
            continue
        tempered = normalised({c: tree.chance[c] ** (1 / temperature) for c in tree.children(node)})
        kept: Law = {}
        for child in sorted(tempered, key=lambda c: (-tempered[c], c)):
            if sum(kept.values()) < top_p:
                kept[child] = tempered[child]
        for child, share in normalised(kept).items():
            law[child] = law.get(node, 0.0) * share
    return {leaf: law[leaf] for leaf in tree.leaves if law.get(leaf, 0.0) > 0}


def beam(tree: Tree, width: int) -> Node:
    """The response of beam search."""
    beams: list[Node] = [()]
    while not tree.leaf(beams[0]):
        grown = [c for node in beams for c in ([node] if tree.leaf(node) else tree.children(node))]
        beams = sorted(grown, key=lambda node: -tree.mass[node])[:width]
    return beams[0]


def particles(tree: Tree, count: int, systematic: bool, threshold: float | None) -> Law:
    """Particle filtering, by the law of all particles together; () for groups that die."""
    start = tuple(((), 1.0) for _ in range(count))
    law, found = {start: 1.0}, {(): 0.0}

    def grow(state: Any) -> list[tuple[Any, float]]:
        ways = []
        for node, weight in state:
            if tree.leaf(node):
                ways.append([((node, weight), 1.0)])
                continue
            old = tree.value[node] if node else 1.0
            ways.append(
                [
                    ((c, weight * tree.value[c] / old if weight else 0.0), tree.chance[c])
                    for c in tree.children(node)
                ]
            )
        return [
            (tuple(new for new, _ in way), math.prod(p for _, p in way)) for way in itertools.product(*ways)
        ]

    def ancestors(weights: list[float]) -> list[tuple[tuple[int, ...], float]]:
        part = shares(weights)
        if not systematic:
            every = itertools.product(range(count), repeat=count)
            return [(way, math.prod(part[i] for i in way)) for way in every]
        rising = sorted(range(count), key=lambda i: weights[i])
        ends = list(itertools.accumulate(part[i] for i in rising))
        cuts = sorted({0.0, 1.0, *(count * end - math.floor(count * end) for end in ends[:-1])})
        ways = []
        for low, high in itertools.pairwise(cuts):
            points = [(j + (low + high) / 2) / count for j in range(count)]
            way = tuple(rising[next(k for k in range(count) if point < ends[k])] for point in points)
            ways.append((way, high - low))
        return ways

    while law:
        after: dict[Any, float] = {}
        for state, mass in law.items():
            for grown, chance in grow(state):
                weights = [weight for _, weight in grown]
                if not sum(weights):
                    found[()] += mass * chance
                    continue
                if all(tree.leaf(node) for node, _ in grown):
                    for (leaf, _), share in zip(grown, shares(weights), strict=True):
                        found[leaf] = found.get(leaf, 0.0) + mass * chance * share
                    continue
                size = sum(weights) ** 2 / sum(w * w for w in weights)
                if threshold is None or size < threshold * count:
                    for way, share in ancestors(weights):
                        new = tuple((grown[i][0], 1.0) for i in way)
                        after[new] = after.get(new, 0.0) + mass * chance * share
                else:
                    after[grown] = after.get(grown, 0.0) + mass * chance
        law = after
    return {leaf: mass for leaf, mass in found.items() if mass > 0}
