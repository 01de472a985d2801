"""Exact quantities of VGB with values that are wrong on average, against brute force on small trees."""

import itertools

import numpy as np
import pytest
from oracles.chains import stationary_law, totals, transition_matrix

from decoding.exact import Tree, action_level_law, chain_law, target_law, total_variation
from metrics import coverage_profile
from theory.vgb import average_case


def random_tree(seed: int, depth: int = 4, size: int = 2, noise: float = 1.0, zeros: float = 0.2) -> Tree:
    """Random pi_ref and tau, a share `zeros` of it 0, and values e^(noise normal) times the exact ones."""
    rng = np.random.default_rng(seed)
    reference = tuple(rng.dirichlet(np.ones(size), size**h) for h in range(depth))
    tau = np.where(rng.random(size**depth) < zeros, 0.0, rng.random(size**depth))
    tau[0] = 1.0
    blank = tuple(np.ones(size**h) for h in range(depth))
    exact = average_case.exact_values(Tree(reference, (*blank, tau)))
    inner = [level * np.exp(noise * rng.normal(size=level.shape)) for level in exact[1:-1]]
    return Tree(reference, (np.ones(1), *(np.maximum(level, 1e-6) for level in inner), tau))


def ancestors(tree: Tree, levels: tuple[np.ndarray, ...]) -> np.ndarray:
    """(levels 1..H, leaves): the number of every leaf's ancestor."""
    leaves = len(levels[-1])
    return np.stack([np.repeat(level, leaves // len(level)) for level in levels[1:]])


@pytest.mark.parametrize(("seed", "size"), [(0, 2), (1, 3)])
def test_leaf_mass_and_average_errors(seed: int, size: int) -> None:
    tree = random_tree(seed, 3, size, zeros=0.0)
    exact = average_case.exact_values(tree)
    mass = float(stationary_law(tree)[-1].sum())
    assert average_case.leaf_mass(tree) == pytest.approx(mass, rel=1e-12)
    over, under = average_case.average_errors(tree, exact)
    target = target_law(tree)
    kept = target > 0
    ratio = ancestors(tree, tree.values)[:, kept] / ancestors(tree, exact)[:, kept]
    np.testing.assert_allclose(over, ratio @ target[kept], rtol=1e-12)
    np.testing.assert_allclose(under, (1 / ratio) @ target[kept], rtol=1e-12)
    assert mass == pytest.approx(1 / (2 * over.sum()), rel=1e-12)


@pytest.mark.parametrize(("seed", "size"), [(2, 2), (3, 3)])
def test_steps_to_the_root_are_those_of_the_linear_equations(seed: int, size: int) -> None:
    tree = random_tree(seed, 3, size, zeros=0.0)
    matrix = transition_matrix(tree)
    hitting = np.linalg.solve(np.eye(len(matrix) - 1) - matrix[1:, 1:], np.ones(len(matrix) - 1))
    leaves, target = len(tree.values[-1]), target_law(tree)
    np.testing.assert_allclose(average_case.return_steps(tree), hitting[-leaves:], rtol=1e-10)
    over = ancestors(tree, tree.values) / ancestors(tree, average_case.exact_values(tree))
    mean = 0.0
    for h in range(tree.depth):
        mean += 1 + 2 * sum(float(target @ (over[k] / over[h])) for k in range(h + 1, tree.depth))
    assert average_case.mean_return_steps(tree) == pytest.approx(2 * mean, rel=1e-10)


def test_a_leaf_that_earns_nothing_has_no_way_back() -> None:
    tree = random_tree(2, zeros=0.5)
    found, nothing = average_case.return_steps(tree), tree.values[-1] == 0
    assert nothing.any()
    np.testing.assert_array_equal(np.isinf(found), nothing)
    assert np.isfinite(average_case.mean_return_steps(tree))


def test_exact_values_take_2h2_steps_each_way() -> None:
    tree = random_tree(4, 5, noise=0.0)
    tree = Tree(tree.reference, (np.ones(1), *average_case.exact_values(tree)[1:]))
    target = target_law(tree)
    np.testing.assert_allclose(average_case.return_steps(tree)[target > 0], 50, rtol=1e-9)
    assert average_case.first_leaf_steps(tree) == pytest.approx(50, rel=1e-9)
    assert average_case.leaf_mass(tree) == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("size", [2, 3])
def test_steps_to_the_first_leaf_are_those_of_the_linear_equations(size: int) -> None:
    tree = random_tree(5, 3, size)
    matrix, leaves = transition_matrix(tree), len(tree.values[-1])
    inner = matrix[:-leaves, :-leaves]
    expected = np.linalg.solve(np.eye(len(inner)) - inner, np.ones(len(inner)))[0]
    assert average_case.first_leaf_steps(tree) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_guarantee_holds_at_every_leaf_and_time(seed: int) -> None:
    tree = random_tree(seed, 4, noise=2.0)
    matrix, target, mass = transition_matrix(tree), target_law(tree), average_case.leaf_mass(tree)
    kept = np.flatnonzero(target > 0)
    absorbing = matrix.copy()
    absorbing[0] = np.eye(len(matrix))[0]
    leaves, mean = len(target), average_case.mean_return_steps(tree)
    times = (4, 16, 64, 256, 1024)
    for time, (at_leaf, law) in zip(times, average_case.chain_laws(tree, times), strict=True):
        np.testing.assert_allclose(law * at_leaf, chain_law(tree, time)[-1], atol=1e-14)
        arrived = np.linalg.matrix_power(absorbing, time)[-leaves:, 0]
        density = at_leaf * law[kept] / (mass * target[kept])
        assert (density >= arrived[kept] - 1e-12).all()
        assert target[kept] @ np.maximum(1 - density, 0) <= mean / time
        ratio = np.log(target[kept] / np.maximum(law[kept], 1e-300))
        doubled = 2 * at_leaf / mass
        if doubled >= 1:
            assert coverage_profile(ratio, (doubled,), target[kept])[0] <= 2 * mean / time + 1e-12


def test_times_must_increase() -> None:
    with pytest.raises(ValueError, match=r"times: \[8, 8\]; valid: increasing, from the depth 4 on"):
        list(average_case.chain_laws(random_tree(0), (8, 8)))


@pytest.mark.parametrize("children", [1, 2, 5])
def test_few_children_have_the_stationary_law_of_their_averaged_walk(children: int) -> None:
    tree = random_tree(6, 3)
    sizes = [len(level) for level in tree.values]
    first = np.concatenate([[0], np.cumsum(sizes)])
    matrix = np.eye(first[-1]) / 2
    for h, size in enumerate(sizes):
        for i in range(size):
            node = first[h] + i
            if h == tree.depth:
                matrix[node, first[h - 1] + i // 2] += 0.5
                continue
            for drawn in itertools.product((0, 1), repeat=children):
                chance = np.prod(tree.reference[h][i, list(drawn)]) / 2
                ahead = np.array([tree.values[h + 1][2 * i + a] for a in drawn])
                back = children * tree.values[h][i] if h else 0.0
                if ahead.sum() + back == 0:
                    matrix[node, node] += chance
                    continue
                for a, weight in zip(drawn, ahead, strict=True):
                    matrix[node, first[h + 1] + 2 * i + a] += chance * weight / (ahead.sum() + back)
                if h:
                    matrix[node, first[h - 1] + i // 2] += chance * back / (ahead.sum() + back)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    law = np.linalg.matrix_power(matrix, 2**20)[0, -sizes[-1] :]
    np.testing.assert_allclose(average_case.few_children_law(tree, children), law / law.sum(), atol=1e-9)


def test_many_children_are_all_children() -> None:
    tree = random_tree(7, 3)
    errors = [
        total_variation(average_case.few_children_law(tree, children), target_law(tree))
        for children in (8, 64, 512)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[-1] < 1e-3 < total_variation(action_level_law(tree), target_law(tree))


def test_other_trees_are_refused() -> None:
    with pytest.raises(ValueError, match="children: 0; valid: at least 1, on a tree of two symbols"):
        average_case.few_children_law(random_tree(0), 0)
    with pytest.raises(ValueError, match="children: 2; valid"):
        average_case.few_children_law(random_tree(0, 2, 3), 2)
    assert totals(random_tree(0), 0).shape == (1,)
