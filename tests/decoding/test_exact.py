"""Exact laws on enumerable trees against brute force, and VGB's stationary law."""

import functools
import itertools

import jax
import numpy as np
import pytest
from oracles.chains import stationary_law, transition_matrix

from decoding import Problem, TaskPolicy, TaskValues, problem_of
from decoding.exact import (
    Tree,
    action_level_law,
    chain_law,
    enumerate_tree,
    first_leaf_law,
    reference_law,
    target_law,
    total_variation,
)
from tasks import stream
from tasks.tabular import Tabular

TASK = Tabular(length=3, num_symbols=2, num_prompts=2, seed=3, rewards="graded", density=0.7)


def random_tree(seed: int, depth: int = 3, size: int = 3, zeros: float = 0.0) -> Tree:
    """Random pi_ref, and values unrelated to the leaves."""
    rng = np.random.default_rng(seed)
    reference = tuple(rng.dirichlet(np.ones(size), size**h) for h in range(depth))
    values = [np.exp(rng.normal(0, 1, size**h)) for h in range(depth)]
    values = [np.where(rng.random(level.shape) < zeros, 0.0, level) for level in values]
    tau = np.where(rng.random(size**depth) < 0.4, 0.0, rng.random(size**depth))
    return Tree(reference, (np.ones(1), *values[1:], tau))


@functools.cache
def problem() -> Problem:
    return problem_of(TASK, jax.jit(jax.vmap(TASK.sample))(jax.random.split(stream(0, "test"), 1)))


@pytest.mark.parametrize("zeros", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_the_chain_is_reversible_and_its_stationary_law_on_the_leaves_is_the_target(
    seed: int, zeros: float
) -> None:
    tree = random_tree(seed, zeros=zeros)
    matrix, levels = transition_matrix(tree), stationary_law(tree)
    law = np.concatenate(levels)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(law @ matrix, law, atol=1e-14)
    flow = law[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)
    if zeros == 0:
        assert total_variation(levels[-1] / levels[-1].sum(), target_law(tree)) < 1e-12
        eigenvalues = np.linalg.eigvals(matrix[np.ix_(law > 0, law > 0)])
        assert np.sort(np.abs(eigenvalues))[-2] < 1 - 1e-6, "another stationary law"


def test_with_exact_values_the_leaves_carry_one_part_in_2h_and_action_level_is_the_target() -> None:
    tree = random_tree(7)
    values = [tree.values[-1]]
    for h in reversed(range(tree.depth)):
        values.insert(0, (tree.reference[h] * values[0].reshape(tree.reference[h].shape)).sum(axis=1))
    exact = Tree(tree.reference, tuple(values))
    assert stationary_law(exact)[-1].sum() == pytest.approx(1 / 6, abs=1e-12)
    assert total_variation(action_level_law(exact), target_law(exact)) < 1e-12
    # All conductances between a level and the leaves then shrink by one factor.
    assert total_variation(first_leaf_law(exact), target_law(exact)) < 1e-12
    assert total_variation(first_leaf_law(tree), target_law(tree)) > 1e-2


@pytest.mark.parametrize("zeros", [0.0, 0.2])
def test_laws_agree_with_brute_force(zeros: float) -> None:
    tree = random_tree(11, zeros=zeros)
    matrix, leaves = transition_matrix(tree), 3**3
    inner = len(matrix) - leaves
    reached = np.diag(matrix)[:inner] < 1
    visits = np.linalg.inv(np.eye(reached.sum()) - matrix[:inner, :inner][np.ix_(reached, reached)])
    np.testing.assert_allclose(
        first_leaf_law(tree), (visits @ matrix[:inner, inner:][reached])[0], atol=1e-12
    )
    after = np.eye(len(matrix))[0] @ np.linalg.matrix_power(matrix, 23)
    np.testing.assert_allclose(np.concatenate(chain_law(tree, 23)), after, atol=1e-14)
    for number, leaf in enumerate(itertools.product(range(3), repeat=3)):
        base = guided = 1.0
        node = 0
        for h, a in enumerate(leaf):
            children = tree.reference[h][node] * tree.values[h + 1][3 * node : 3 * node + 3]
            base *= tree.reference[h][node, a]
            guided *= children[a] / children.sum() if children.sum() else 0.0
            node = 3 * node + a
        assert reference_law(tree)[number] == pytest.approx(base)
        assert action_level_law(tree)[number] == pytest.approx(guided)


@pytest.mark.long
def test_the_tree_of_a_task_is_what_its_tables_say() -> None:
    asked = problem()
    tree = enumerate_tree(TASK, TaskPolicy(TASK), TaskValues(TASK), asked)
    prompt = int(asked.latent.prompt[0])
    reference, value = TASK.tables()
    np.testing.assert_allclose(np.concatenate(tree.reference), reference[prompt], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(tree.values)[1:], value[prompt, 1:], rtol=1e-6)


def test_several_prompts_are_refused() -> None:
    several = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), problem())
    with pytest.raises(ValueError, match="problem: 2 prompts; valid: one"):
        enumerate_tree(TASK, TaskPolicy(TASK), TaskValues(TASK), several)
