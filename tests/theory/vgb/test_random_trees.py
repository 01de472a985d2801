"""Every law of a random tree of types against plain sums over its nodes."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from theory.vgb import typed_trees

DEPTH, TYPES = 3, 3
NODES = [path for h in range(DEPTH + 1) for path in itertools.product(range(TYPES), repeat=h)]
LEAVES = NODES[-(TYPES**DEPTH) :]
ROWS = np.array(LEAVES)


def random_tree() -> typed_trees.TypedTree:
    """Weights without symmetry; some children are missing, and type 2 at depth 2 is a dead end."""
    rng = np.random.default_rng(8)
    weights = rng.uniform(0.2, 1.8, (DEPTH, TYPES, TYPES))
    weights[0, 0, 1] = weights[1, 1, 0] = 0.0
    weights[2, 2] = 0.0
    target = rng.dirichlet(np.ones(TYPES), (DEPTH, TYPES))
    target[1, 1] = [0.0, 0.25, 0.75]
    return typed_trees.TypedTree(weights, target)


TREE = random_tree()


def along(moves: np.ndarray, leaf: tuple[int, ...]) -> float:
    """Product of the moves from the root to a leaf."""
    before = (0, *leaf[:-1])
    return math.prod(moves[h, b, c] for h, (b, c) in enumerate(zip(before, leaf, strict=True)))


def edges(node: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Weights of the moves from a node, relative to its value."""
    found = {node[:-1]: 1.0} if node else {}
    if len(node) < DEPTH:
        weights = TREE.weights[len(node), node[-1] if node else 0]
        found |= {(*node, c): float(weights[c]) for c in range(TYPES)}
    return found


def chain() -> np.ndarray:
    """Transition matrix of the lazy walk over `NODES`."""
    matrix = np.eye(len(NODES)) / 2
    for i, node in enumerate(NODES):
        moves = edges(node)
        for other, weight in moves.items():
            matrix[i, NODES.index(other)] += weight / (2 * sum(moves.values()))
    return matrix


MATRIX = chain()


def laws_at(times: int) -> np.ndarray:
    """P_t of every leaf, (leaves, times + 1)."""
    law, found = np.eye(len(NODES))[0], []
    for _ in range(times + 1):
        found.append(law[-len(LEAVES) :])
        law = law @ MATRIX
    return np.stack(found, axis=1)


def first_leaves() -> tuple[np.ndarray, float]:
    """Law of the first leaf and the mean number of steps to it."""
    inner = len(NODES) - len(LEAVES)
    reached = np.linalg.inv(np.eye(inner) - MATRIX[:inner, :inner])[0]
    return reached @ MATRIX[:inner, inner:], float(reached.sum())


def test_laws_of_samplers_that_never_go_back() -> None:
    share = TREE.weights / np.maximum(TREE.weights.sum(axis=2, keepdims=True), 1e-300)
    moves = typed_trees.action_level_moves(TREE)
    np.testing.assert_allclose(moves, share)
    plain = np.array([along(share, leaf) for leaf in LEAVES])
    found = np.exp(typed_trees.log_probability(moves, ROWS))
    np.testing.assert_allclose(found, plain, rtol=1e-12)
    assert 0 < plain.sum() < 0.9, "dead ends are reached"
    assert typed_trees.leaf_probability(moves) == pytest.approx(plain.sum(), rel=1e-12)
    for counted in range(TYPES):
        counts = np.bincount((counted == ROWS).sum(axis=1), plain, minlength=DEPTH + 1)
        np.testing.assert_allclose(typed_trees.count_law(moves, counted), counts, atol=1e-14)


def test_law_and_time_of_the_first_leaf() -> None:
    law, steps = first_leaves()
    moves = typed_trees.first_leaf_moves(TREE)
    np.testing.assert_allclose([along(moves, leaf) for leaf in LEAVES], law, atol=1e-12)
    assert typed_trees.first_leaf_steps(TREE) == pytest.approx(steps, rel=1e-12)


@pytest.mark.parametrize("steps", [0, 3, 23, 4200])
def test_the_chain_at_every_time(steps: int) -> None:
    """4200 steps need more than one block of points in `counts`."""
    expected = laws_at(steps)
    transform = typed_trees.chain_transform(TREE, steps)
    values = transform.of_leaves(ROWS)
    close = {"rtol": 0.0, "atol": 1e-10}
    np.testing.assert_allclose(transform.all_times(values, steps), expected, **close)
    leaves = transform.leaves()
    np.testing.assert_allclose(transform.all_times(leaves, steps), expected.sum(axis=0), **close)
    for time in {0, steps // 2, steps}:
        np.testing.assert_allclose(transform.at(values, time), expected[:, time], **close)
        for counted in range(TYPES):
            counts = np.bincount((counted == ROWS).sum(axis=1), expected[:, time], minlength=DEPTH + 1)
            np.testing.assert_allclose(transform.counts(counted, time), counts, **close)


def test_the_stationary_mass_of_the_leaves() -> None:
    settled = np.linalg.matrix_power(MATRIX, 10_000)[0, -len(LEAVES) :].sum()
    assert typed_trees.stationary_leaf_mass(TREE) == pytest.approx(settled, rel=1e-9)


def test_total_variation_by_a_sum_over_the_leaves() -> None:
    """A law that lacks a branch of the target and moves twice as often through another."""
    moves = TREE.target.copy()
    moves[0, 0] = [0.0, 0.2, 0.8]
    moves[1, 2] = [0.1, 0.5, 0.4]
    plain = sum(max(along(TREE.target, leaf) - along(moves, leaf), 0.0) for leaf in LEAVES)
    assert plain > 0.1
    # At most H width^2/8 from the grid.
    for width in (1e-3, 0.05):
        found = typed_trees.total_variation_of(moves, TREE.target, width=width)
        assert abs(found - plain) <= DEPTH * width**2 / 8


def test_total_variation_keeps_what_is_beyond_the_grid() -> None:
    """Half of the target has the log ratio ln(2 e^-9), half ln(2 - 2 e^-9); the grid ends at +-1/2."""
    rare = math.exp(-9)
    moves, target = np.array([[[rare, 1 - rare]]]), np.array([[[0.5, 0.5]]])
    moves, target = (np.repeat(each, 2, axis=1) for each in (moves, target))
    found = typed_trees.total_variation_of(moves, target, width=0.125, reach=0.5)
    assert found == pytest.approx(0.5 * -math.expm1(-0.5), rel=1e-12)


class Given:
    """A generator of given numbers."""

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values)

    def random(self, count: int) -> np.ndarray:
        assert count == len(self.values)
        return self.values


def test_types_are_drawn_where_the_cumulated_moves_pass_a_uniform_number() -> None:
    """Rows need not sum to 1: u picks the first type whose cumulated move is above u times the sum."""
    moves = np.array([[[0.0, 0.5, 1.5], [9, 9, 9], [9, 9, 9]], [[9, 9, 9], [1.0, 0.0, 1.0], [0, 0, 2.0]]])
    rng: Any = Given([0.0, 0.2, 0.25, 0.6, 1.0])
    types = typed_trees.sample_types(moves, 5, rng)
    assert types.tolist() == [[1, 0], [1, 0], [2, 2], [2, 2], [2, 2]]
