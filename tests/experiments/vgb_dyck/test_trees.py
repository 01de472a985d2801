"""Qualities of values on enumerated trees: errors of a stated size, squared errors, laws given a leaf."""

import numpy as np
import pytest

from decoding.exact import Tree
from experiments.vgb_dyck import trees
from theory.vgb.average_case import exact_values

TOKENS, HORIZON = 3, 3


def random_tree(seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    reference = tuple(rng.dirichlet(np.ones(TOKENS), TOKENS**h) for h in range(HORIZON))
    values = [rng.uniform(0.05, 1, TOKENS**h) for h in range(HORIZON)]
    tau = (rng.random(TOKENS**HORIZON) < 0.4).astype(float)
    tau[5] = 1.0
    return Tree(reference, (*values, tau))


def test_errors_are_of_the_stated_size_and_spare_the_leaves() -> None:
    tree = random_tree(5)
    wrong = trees.corrupt(tree.values, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(wrong[-1], tree.values[-1])
    factors = np.concatenate([w / v for w, v in zip(wrong[:-1], tree.values[:-1], strict=True)])
    assert set(np.round(factors, 9)) == {1.5, round(1 / 1.5, 9)}


def test_the_squared_error_is_a_mean_over_inner_depths_under_the_base_model() -> None:
    tree = random_tree(5)
    exact = exact_values(tree)
    assert trees.squared_error(Tree(tree.reference, exact), exact) == 0.0
    shifted = (exact[0], *(own + 0.1 for own in exact[1:-1]), exact[-1])
    assert trees.squared_error(Tree(tree.reference, shifted), exact) == pytest.approx(0.01)
    # At depth 1 alone, and at its first node alone.
    one = (exact[0], exact[1] + np.array([0.1, 0.0, 0.0]), *exact[2:])
    expected = 0.01 * tree.reference[0][0, 0] / (HORIZON - 1)
    assert trees.squared_error(Tree(tree.reference, one), exact) == pytest.approx(expected)


def test_laws_are_given_that_a_leaf_is_returned() -> None:
    """A tree of two tokens and depth 2 whose second half is a dead end that the values do not see."""
    half = (np.array([[0.5, 0.5]]), np.array([[0.8, 0.2], [0.5, 0.5]]))
    tree = Tree(half, (np.ones(1), np.array([0.3, 0.6]), np.array([1.0, 1.0, 0.0, 0.0])))
    found = trees.errors_of(tree, 40)
    # pi* is (.8, .2): what remains of action-level rejection, and what VGB leaves the first half to.
    assert found == pytest.approx(dict.fromkeys(trees.LAWS, 0.0), abs=1e-12)
    unequal = Tree(half, (np.ones(1), np.array([0.3, 0.6]), np.array([1.0, 1.0, 1.0, 0.0])))
    # Action-level: 1/3 * (.8, .2), 2/3 * (1, 0); pi*: (.8, .2, .5)/1.5.
    assert trees.errors_of(unequal, 40)[trees.ACTION] == pytest.approx(2 / 3 - 0.5 / 1.5)
    assert trees.errors_of(unequal, 4000)[trees.FIXED] < 1e-9
    assert trees.errors_of(unequal, 3)[trees.FIXED] > 1e-3
