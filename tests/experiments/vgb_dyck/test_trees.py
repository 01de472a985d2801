"""Exact laws on small trees, against Markov chains written out node by node."""

import itertools

import numpy as np
import pytest

from experiments.vgb_dyck import trees

TOKENS, HORIZON = 3, 3


def random_tree(seed: int) -> trees.Tree:
    rng = np.random.default_rng(seed)
    reference = [rng.dirichlet(np.ones(TOKENS), TOKENS**h) for h in range(HORIZON)]
    values = [rng.uniform(0.05, 1, TOKENS**h) for h in range(HORIZON)]
    tau = (rng.random(TOKENS**HORIZON) < 0.4).astype(float)
    tau[5] = 1.0
    return trees.Tree(reference, [*values, tau])


def nodes() -> list[tuple[int, ...]]:
    return [node for h in range(HORIZON + 1) for node in itertools.product(range(TOKENS), repeat=h)]


def number(node: tuple[int, ...]) -> int:
    return sum(token * TOKENS ** (len(node) - 1 - i) for i, token in enumerate(node))


def transitions(tree: trees.Tree) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """VGB's non-lazy moves as a matrix, by the definition."""
    found = nodes()
    index = {node: i for i, node in enumerate(found)}
    matrix = np.zeros((len(found), len(found)))
    for node in found:
        weights = {}
        if node:
            weights[node[:-1]] = tree.values[len(node)][number(node)]
        if len(node) < HORIZON:
            for token in range(TOKENS):
                child = (*node, token)
                chance = tree.reference[len(node)][number(node), token]
                weights[child] = chance * tree.values[len(child)][number(child)]
        total = sum(weights.values())
        for other, weight in weights.items():
            matrix[index[node], index[other]] = weight / total if total else 0.0
        if not total:
            matrix[index[node], index[node]] = 1.0
    return found, matrix


@pytest.mark.parametrize("seed", [0, 1])
def test_vgb_after_so_many_steps_is_the_matrix_power(seed: int) -> None:
    tree = random_tree(seed)
    found, matrix = transitions(tree)
    lazy = (np.eye(len(found)) + matrix) / 2
    law = np.linalg.matrix_power(lazy, 37)[0, -(TOKENS**HORIZON) :]
    np.testing.assert_allclose(trees.vgb_law(tree, 37), law / law.sum(), rtol=1e-9, atol=1e-15)


def test_vgb_tends_to_the_target_whatever_the_inner_values() -> None:
    tree = random_tree(2)
    assert trees.total_variation(trees.vgb_law(tree, 20), trees.target_law(tree)) > 0.01
    assert trees.total_variation(trees.vgb_law(tree, 4000), trees.target_law(tree)) < 1e-9


def test_the_first_leaf_is_where_the_chain_is_absorbed() -> None:
    tree = random_tree(3)
    _, matrix = transitions(tree)
    inner = len(matrix) - TOKENS**HORIZON
    visits = np.linalg.inv(np.eye(inner) - matrix[:inner, :inner])[0]
    law = visits @ matrix[:inner, inner:]
    np.testing.assert_allclose(trees.vgb_first_leaf_law(tree), law / law.sum(), atol=1e-6)
    assert trees.total_variation(law / law.sum(), trees.target_law(tree)) > 0.01


def test_with_exact_values_every_law_is_the_target() -> None:
    tree = random_tree(4)
    exact = trees.Tree(tree.reference, trees.exact_values(tree))
    np.testing.assert_allclose(trees.action_rejection_law(exact), trees.target_law(tree), atol=1e-12)
    np.testing.assert_allclose(trees.vgb_first_leaf_law(exact), trees.target_law(tree), atol=1e-5)
    assert trees.total_variation(trees.action_rejection_law(tree), trees.target_law(tree)) > 0.01


def test_action_level_rejection_by_hand() -> None:
    half = [np.array([[0.5, 0.5]]), np.array([[0.5, 0.5], [0.9, 0.1]])]
    tree = trees.Tree(half, [np.ones(1), np.array([0.2, 0.6]), np.array([1.0, 0.0, 1.0, 1.0])])
    np.testing.assert_allclose(trees.action_rejection_law(tree), [0.25, 0.0, 0.75 * 0.9, 0.75 * 0.1])
    np.testing.assert_allclose(trees.exact_values(tree)[0], 0.5 * 0.5 + 0.5)


def test_numbers_along_paths_become_numbers_of_nodes() -> None:
    """A network that answers with the path itself, read in base 3."""
    leaves = trees.all_leaves(range(TOKENS), HORIZON)
    assert len(leaves) == TOKENS**HORIZON
    along = np.zeros((len(leaves), HORIZON, TOKENS))
    for i, leaf in enumerate(leaves.tolist()):
        for h in range(HORIZON):
            along[i, h] = [number((*leaf[:h], token)) for token in range(TOKENS)]
    levels = trees.by_node(along)
    for h, level in enumerate(levels):
        np.testing.assert_array_equal(level.reshape(-1), np.arange(TOKENS ** (h + 1)))


def test_errors_are_of_the_stated_size_and_spare_the_leaves() -> None:
    tree = random_tree(5)
    wrong = trees.corrupt(tree.values, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(wrong[-1], tree.values[-1])
    factors = np.concatenate([w / v for w, v in zip(wrong[:-1], tree.values[:-1], strict=True)])
    assert set(np.round(factors, 9)) == {1.5, round(1 / 1.5, 9)}
    exact = trees.exact_values(tree)
    assert trees.squared_error(trees.Tree(tree.reference, exact), exact) == 0.0
    shifted = [exact[0], *(own + 0.1 for own in exact[1:-1]), exact[-1]]
    assert trees.squared_error(trees.Tree(tree.reference, shifted), exact) == pytest.approx(0.01)
