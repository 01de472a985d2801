"""Exact output laws of decoders on trees of any horizon whose nodes have few types.

The moves of a walk at a node of a homogeneous task depend only on the depth and the type of the node, so
every recursion runs over H levels and a few types instead of 2^H leaves. All numbers are float64 on the host.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Int

Moves = Float[np.ndarray, "depth types types"]
"""Probabilities of moving from a node of type b at depth h to the child of type c."""


class TypedTree(NamedTuple):
    """Tree in which a node has at most one child per type; a leaf is a sequence of H types.

    Attributes:
        weights: pi_ref(a) V^(va)/V^(v) for the child va of type c of a node v of type b at depth h < H; 0
            without such a child. The root has type 0. At depth H - 1, V^(va) is the verifier's tau.
        target: pi* as moves between the types.
    """

    weights: Moves
    target: Moves

    @property
    def depth(self) -> int:
        """Depth H."""
        return len(self.weights)


def perturbation_tree(length: int, epsilon: float) -> TypedTree:
    """`tasks.Perturbation` with values that overrate `a` by 1 + epsilon; types a, b (c is never entered)."""
    factor = np.array([1 + epsilon, 1.0])
    weights = np.broadcast_to(factor / (2 * factor[:, None]), (length, 2, 2)).copy()
    weights[0, 0] = factor / 2
    weights[-1] = (np.array([1.0, 1.0]) if length == 1 else 1 / factor)[:, None] / 2
    return TypedTree(weights, np.full((length, 2, 2), 0.5))


def delay_tree(length: int, tilt: float) -> TypedTree:
    """`tasks.Delay` with tau = exp(-tilt #zeros) and values delayed by one step; types 0, 1."""
    growth = 2 * np.array([np.exp(-tilt), 1.0]) / (1 + np.exp(-tilt))
    weights = np.zeros((length, 2, 2))
    weights[:] = growth[:, None] / 2
    weights[0] = 0.5
    # V(y_1:H)/V(y_1:H-2), because the last inner node has the value of the parent.
    weights[-1] *= growth
    return TypedTree(weights, np.broadcast_to(growth / 2, (length, 2, 2)).copy())


def parity_tree(length: int, block: int) -> TypedTree:
    """`tasks.Parity` with values delayed by one step.

    Types: alive with even or odd parity of the block so far, and dead after a wrong check.
    """
    even, odd, dead = range(3)
    weights, target = np.zeros((2, length, 3, 3))
    for h in range(length):
        # A delayed value rises one step after the check; tau is not delayed.
        late = 2.0 if h > 0 and h % block == 0 else 1.0
        for parity in (even, odd):
            if (h + 1) % block:
                weights[h, parity, [even, odd]] = late / 2
                target[h, parity, [even, odd]] = 0.5
            else:
                weights[h, parity, [even, dead]] = late / 2
                target[h, parity, even] = 1.0
        if (h + 1) % block == 0 and h + 1 == length:
            weights[h, :, dead] = 0.0
            weights[h, [even, odd], even] *= 2.0
    return TypedTree(weights, target)


def action_level_moves(tree: TypedTree) -> Moves:
    """Moves of action-level rejection sampling, prop. to the weights; rows of dead ends are 0."""
    return _share(tree.weights)


def first_leaf_moves(tree: TypedTree) -> Moves:
    """Moves of VGB stopped at the first leaf, prop. to weight x conductance (see `exact.first_leaf_law`)."""
    return _share(tree.weights * _conductances(tree)[0][1:, None, :])


def first_leaf_steps(tree: TypedTree) -> float:
    """Expected number of steps, lazy steps included, until VGB reaches the first leaf.

    The expected visits to x without lazy steps are c(x) u(x), by the commute-time identity. c(x) is the total
    conductance of the edges at x, and u(x) the voltage when a unit current enters at the root and leaves are
    grounded.
    """
    _, below = _conductances(tree)
    visits = np.zeros(_types(tree.weights))
    for h in reversed(range(tree.depth)):
        parent = 0.0 if h == 0 else 1.0
        # A leaf is grounded and has no visits below; elsewhere the voltage falls by 1/(1 + S) along an edge.
        lowered = visits / (1 + below[h + 1]) if h + 1 < tree.depth else np.zeros_like(visits)
        visits = parent + tree.weights[h].sum(axis=1) + tree.weights[h] @ lowered
    return float(2 * visits[0] / below[0][0])


def leaf_probability(moves: Moves) -> float:
    """Probability that a sampler with these moves ends at a leaf, not in a dead end."""
    law = _start(moves)
    for table in moves:
        law = law @ table
    return float(law.sum())


def count_law(moves: Moves, counted: int) -> Float[np.ndarray, " counts"]:
    """Law of the number of positions whose type is `counted`, on 0..H."""
    depth, types, _ = moves.shape
    law = np.zeros((types, depth + 1))
    law[:, 0] = _start(moves)
    for table in moves:
        law = table.T @ law
        law[counted, 1:] = law[counted, :-1].copy()
        law[counted, 0] = 0.0
    return law.sum(axis=0)


def total_variation_of(moves: Moves, target: Moves, width: float = 1e-3, reach: float = 40.0) -> float:
    """Total variation of two laws given by moves: E_target[(1 - e^L)^+], L = ln(law/target).

    L is summed on a grid of `width` nats. Mass between two points is split between them so that the mean is
    kept, with a total error of at most H width^2/8. Mass beyond `reach` stays at the edge.
    """
    if np.any((target == 0) & (moves > 0)):
        raise ValueError("target: 0 where the law is positive; valid: a target that covers the law")
    bins = round(2 * reach / width) + 1
    law = np.zeros((_types(moves), bins))
    law[:, bins // 2] = _start(moves)
    lost = 0.0
    for h in range(len(moves)):
        new = np.zeros_like(law)
        for b, c in np.argwhere(target[h] > 0):
            mass = target[h, b, c] * law[b]
            if not mass.any():
                continue
            if moves[h, b, c] == 0:
                lost += float(mass.sum())
                continue
            shift = np.log(moves[h, b, c] / target[h, b, c]) / width
            low = int(np.floor(shift))
            new[c] += (1 - shift + low) * _shifted(mass, low) + (shift - low) * _shifted(mass, low + 1)
        law = new
    grid = (np.arange(bins) - bins // 2) * width
    return lost + float(law.sum(axis=0) @ np.maximum(-np.expm1(np.minimum(grid, 0.0)), 0.0))


class ChainTransform(NamedTuple):
    """Generating functions in z of the VGB chain on a half circle, which determine the law at every time.

    A path from the root to a leaf splits at the last visits to the ancestors:
    sum_t z^t P_t(leaf) = G_0 prod_{h < H} z d_h G_h+1. Here d_h is the probability of a move down from depth
    h, u_h of a move up, and G_h = 1/(1 - z/2 - sum_c z^2 d_h G_h+1(c) u_h+1(c)) counts the visits to a node
    of depth h before the chain first moves above the node.

    Attributes:
        z: radius times the `2 (points - 1)`-th roots of unity of the upper half plane (points,).
        down: d (depth, types, types).
        visits: G for depths 0..H (depth + 1, types, points).
    """

    z: Complex[np.ndarray, " points"]
    down: Moves
    visits: Complex[np.ndarray, "levels types points"]

    def at(self, values: Complex[np.ndarray, "*batch points"], steps: int) -> Float[np.ndarray, "*batch"]:
        """Coefficient of z^steps."""
        count = 2 * (len(self.z) - 1)
        twist = np.exp(-2j * np.pi * ((np.arange(len(self.z)) * steps) % count) / count)
        twist[1:-1] *= 2
        return np.asarray((values @ twist).real / count * np.abs(self.z[0]) ** -steps)

    def all_times(
        self, values: Complex[np.ndarray, "*batch points"], steps: int
    ) -> Float[np.ndarray, "*batch times"]:
        """Coefficients of z^0..z^steps."""
        coefficients = np.fft.irfft(np.conj(values), axis=-1)[..., : steps + 1]
        return np.asarray(coefficients * np.abs(self.z[0]) ** -np.arange(steps + 1.0))

    def leaves(self) -> Complex[np.ndarray, " points"]:
        """Transform of the probability of being at any leaf."""
        law = np.zeros(self.visits.shape[1:], complex)
        law[0] = self.visits[0, 0]
        for table, visits in zip(self.down, self.visits[1:], strict=True):
            law = self.z * (table.T @ law) * visits
        return np.asarray(law.sum(axis=0))

    def counts(self, counted: int, steps: int) -> Float[np.ndarray, " counts"]:
        """Probabilities of being, after `steps` steps, at a leaf with 0..H positions of type `counted`."""
        depth, types, _ = self.down.shape
        total = np.zeros(depth + 1)
        # Blocks of points bound the memory: the table of a block is types x (H + 1) x points.
        for part in np.array_split(np.arange(len(self.z)), max(1, len(self.z) // 2048)):
            law = np.zeros((types, depth + 1, len(part)), complex)
            law[0, 0] = self.visits[0, 0, part]
            for table, visits in zip(self.down, self.visits[1:], strict=True):
                law = np.tensordot(table.T, law, 1) * (self.z[part] * visits[:, part])[:, None]
                law[counted, 1:] = law[counted, :-1].copy()
                law[counted, 0] = 0.0
            whole = np.zeros((depth + 1, len(self.z)), complex)
            whole[:, part] = law.sum(axis=0)
            total += self.at(whole, steps)
        return total

    def of_leaves(self, types: Int[np.ndarray, "leaves depth"]) -> Complex[np.ndarray, "leaves points"]:
        """Transforms of the probabilities of being at single leaves, given by types."""
        depth, kinds, _ = self.down.shape
        before = np.concatenate([np.zeros((len(types), 1), np.int64), types[:, :-1]], axis=1)
        going = np.prod(self.down[np.arange(depth), before, types], axis=1)
        one_hot = np.eye(kinds)[types].reshape(len(types), -1)
        # The product over depths is a matrix product of logarithms, whose branches do not affect exp.
        log_visits = np.log(self.visits[1:]).reshape(depth * kinds, -1)
        size, angle = one_hot @ log_visits.real, one_hot @ log_visits.imag
        return np.asarray(going[:, None] * self.z**depth * self.visits[0, 0] * np.exp(size + 1j * angle))


def chain_transform(tree: TypedTree, steps: int) -> ChainTransform:
    """`ChainTransform` that is accurate for all times up to `steps`.

    At least 2 `steps` points lie on a circle on which the coefficient of z^(t + points) has weight 1e-10
    relative to z^t.
    """
    count = 2 * max(steps, 4)
    z = 1e-10 ** (1 / count) * np.exp(2j * np.pi * np.arange(count // 2 + 1) / count)
    rates = 0.5 / (tree.weights.sum(axis=2) + 1)
    root = tree.weights[0].sum(axis=1)
    rates[0] = np.divide(0.5, root, out=np.zeros_like(root), where=root > 0)
    down = tree.weights * rates[:, :, None]
    up = np.concatenate([rates[1:], np.full((1, _types(tree.weights)), 0.5)])
    visits = np.empty((tree.depth + 1, _types(tree.weights), len(z)), complex)
    visits[-1] = 1 / (1 - z / 2)
    for h in reversed(range(tree.depth)):
        visits[h] = 1 / (1 - z / 2 - z * z * ((down[h] * up[h]) @ visits[h + 1]))
    return ChainTransform(z, down, visits)


def stationary_leaf_mass(tree: TypedTree) -> float:
    """Stationary probability of the leaves under VGB."""
    reached = np.zeros(_types(tree.weights))
    reached[0] = 1.0
    inner = 0.0
    for h, table in enumerate(tree.weights):
        inner += float(reached @ (table.sum(axis=1) + (h > 0)))
        reached = reached @ table
    return float(reached.sum()) / (inner + float(reached.sum()))


def sample_types(moves: Moves, count: int, rng: np.random.Generator) -> Int[np.ndarray, "count depth"]:
    """Leaves drawn from the law of `moves`, as sequences of types."""
    types = np.zeros((count, len(moves)), np.int64)
    last = np.zeros(count, np.int64)
    for h, table in enumerate(moves):
        below = np.cumsum(table, axis=1)[last]
        last = np.minimum(
            (rng.random(count)[:, None] * below[:, -1:] >= below).sum(axis=1), _types(moves) - 1
        )
        types[:, h] = last
    return types


def log_probability(moves: Moves, types: Int[np.ndarray, "count depth"]) -> Float[np.ndarray, " count"]:
    """ln of the probability of every leaf, in nats."""
    before = np.concatenate([np.zeros((len(types), 1), np.int64), types[:, :-1]], axis=1)
    with np.errstate(divide="ignore"):
        return np.log(moves[np.arange(len(moves)), before, types]).sum(axis=1)


def _conductances(tree: TypedTree) -> tuple[np.ndarray, np.ndarray]:
    """Conductances to the leaves per depth 0..H and type, relative to V^ of the node.

    The first is through the edge above the node (1 at leaves), the second from the node (infinite at leaves).
    """
    types = _types(tree.weights)
    passing, below = np.ones((tree.depth + 1, types)), np.full((tree.depth + 1, types), np.inf)
    for h in reversed(range(tree.depth)):
        below[h] = tree.weights[h] @ passing[h + 1]
        passing[h] = below[h] / (1 + below[h])
    return passing, below


def _types(moves: Moves) -> int:
    """Number of types."""
    _, types, _ = moves.shape
    return int(types)


def _start(moves: Moves) -> Float[np.ndarray, " types"]:
    return np.eye(_types(moves))[0]


def _share(weights: Moves) -> Moves:
    total = weights.sum(axis=2, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def _shifted(mass: np.ndarray, by: int) -> np.ndarray:
    """`mass` shifted by `by` points; mass that leaves the grid stays at the edge."""
    if by == 0:
        return mass
    moved = np.zeros_like(mass)
    if abs(by) >= len(mass):
        moved[-1 if by > 0 else 0] = mass.sum()
    elif by > 0:
        moved[by:] = mass[:-by]
        moved[-1] += mass[-by:].sum()
    else:
        moved[:by] = mass[-by:]
        moved[0] += mass[:-by].sum()
    return moved
