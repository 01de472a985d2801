"""Laws on trees of types against enumeration of these trees, with the values of the decoders."""

import functools
import itertools
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from oracles.chains import stationary_law, transition_matrix
from scipy import stats

from decoding import TaskPolicy, Walk, exact, problem_of
from decoding.analytic_values import Delayed, Overrated
from tasks import stream
from tasks.delay import Delay
from tasks.parity import Parity
from tasks.perturbation import Perturbation
from tasks.tilted import TiltedTask
from theory.vgb import typed_trees

STEPS = 40
DELAY, PERTURBATION, PARITY = Delay(length=4, tilt=1.2), Perturbation(length=3), Parity(length=4, block=2)
CASES = {
    "delay": (DELAY, Delayed(DELAY), typed_trees.delay_tree(4, 1.2)),
    "perturbation": (PERTURBATION, Overrated(PERTURBATION, 1, 0.6), typed_trees.perturbation_tree(3, 0.6)),
    "parity": (PARITY, Delayed(PARITY), typed_trees.parity_tree(4, 2)),
}


def types_of(task: TiltedTask, leaf: Sequence[int]) -> list[int] | None:
    """Types of the nodes on the way to a leaf; None if one of them is never entered."""
    if not isinstance(task, Parity):
        return list(leaf) if max(leaf) < 2 else None
    types, parity = [], 0
    for h, bit in enumerate(leaf):
        if types and types[-1] == 2:
            return None
        parity ^= bit
        check = (h + 1) % task.block == 0
        types.append(2 if check and parity else parity)
        parity = 0 if check else parity
    return None if types[-1] == 2 else types


@functools.cache
def enumerated(name: str) -> tuple[exact.Tree, typed_trees.TypedTree, list[list[int] | None]]:
    task, values, typed = CASES[name]
    assert isinstance(values, Walk)
    example = jax.jit(jax.vmap(task.sample))(jax.random.split(stream(0, "test"), 1))
    tree = exact.enumerate_tree(task, TaskPolicy(task), values, problem_of(task, example))
    leaves = itertools.product(range(len(task.symbols)), repeat=task.response_length)
    return tree, typed, [types_of(task, leaf) for leaf in leaves]


every_case = pytest.mark.parametrize("name", list(CASES))


@pytest.mark.long
@every_case
def test_the_laws_of_single_leaves_are_those_of_the_enumerated_tree(name: str) -> None:
    tree, typed, types = enumerated(name)
    entered = np.array([each is not None for each in types])
    rows = np.array([each for each in types if each is not None])
    for moves, law in (
        (typed_trees.action_level_moves(typed), exact.action_level_law(tree)),
        (typed_trees.first_leaf_moves(typed), exact.first_leaf_law(tree)),
        (typed.target, exact.target_law(tree)),
    ):
        np.testing.assert_allclose(np.exp(typed_trees.log_probability(moves, rows)), law[entered], rtol=1e-5)
        assert not law[~entered].any()
        assert typed_trees.leaf_probability(moves) == pytest.approx(law.sum(), rel=1e-6)
    ended = exact.chain_law(tree, STEPS)[-1]
    transform = typed_trees.chain_transform(typed, STEPS + 10)
    values = transform.of_leaves(rows)
    np.testing.assert_allclose(transform.at(values, STEPS), ended[entered], rtol=1e-5)
    np.testing.assert_allclose(transform.all_times(values, STEPS)[:, -1], ended[entered], rtol=1e-5)
    assert transform.at(transform.leaves(), STEPS) == pytest.approx(ended.sum(), rel=1e-5)
    counts = np.bincount((rows == 1).sum(axis=1), ended[entered], minlength=tree.depth + 1)
    np.testing.assert_allclose(transform.counts(1, STEPS), counts, rtol=1e-5, atol=1e-12)


@every_case
def test_leaf_mass_and_time_to_the_first_leaf_are_those_of_the_enumerated_tree(name: str) -> None:
    tree, typed, types = enumerated(name)
    assert typed_trees.stationary_leaf_mass(typed) == pytest.approx(stationary_law(tree)[-1].sum(), rel=1e-6)
    matrix = transition_matrix(tree)
    inner = matrix[: -len(types), : -len(types)]
    reached = np.diag(inner) < 1
    visits = np.linalg.inv(np.eye(reached.sum()) - inner[np.ix_(reached, reached)])
    assert typed_trees.first_leaf_steps(typed) == pytest.approx(visits[0].sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["delay", "perturbation"])
def test_total_variation_is_that_of_the_enumerated_tree(name: str) -> None:
    tree, typed, _ = enumerated(name)
    for moves, law in (
        (typed_trees.action_level_moves(typed), exact.action_level_law(tree)),
        (typed_trees.first_leaf_moves(typed), exact.first_leaf_law(tree)),
    ):
        expected = exact.total_variation(law, exact.target_law(tree))
        assert expected > 1e-3
        assert typed_trees.total_variation_of(moves, typed.target) == pytest.approx(expected, abs=2e-6)


def test_the_action_level_on_perturbation_is_binomial_at_any_horizon() -> None:
    tree = typed_trees.perturbation_tree(64, 0.25)
    counts = np.arange(64)
    first, fair = (stats.binom.pmf(counts, 63, p) for p in (1.25 / 2.25, 0.5))
    expected = np.abs(first - fair).sum() / 2
    assert typed_trees.total_variation_of(typed_trees.action_level_moves(tree), tree.target) == pytest.approx(
        expected, abs=2e-5
    )
    law = typed_trees.count_law(typed_trees.action_level_moves(tree), 0)
    np.testing.assert_allclose(law, np.convolve(first, [0.5, 0.5]), atol=1e-14)


def test_leaves_of_a_tree_of_one_level_are_not_overrated() -> None:
    tree = typed_trees.perturbation_tree(1, 0.6)
    np.testing.assert_array_equal(tree.weights, tree.target)


def test_total_variation_of_a_law_that_never_takes_half_of_the_branches() -> None:
    # One of the four leaves has all of the mass.
    moves = np.zeros((2, 2, 2))
    moves[..., 0] = 1.0
    assert typed_trees.total_variation_of(moves, np.full((2, 2, 2), 0.5)) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("by", "moved"),
    [
        (0, [1, 2, 3, 4]),
        (1, [0, 1, 2, 7]),
        (3, [0, 0, 0, 10]),
        (4, [0, 0, 0, 10]),
        (-1, [3, 3, 4, 0]),
        (-3, [10, 0, 0, 0]),
        (-5, [10, 0, 0, 0]),
    ],
)
def test_shifted_mass_stays_on_the_grid(by: int, moved: list[int]) -> None:
    assert typed_trees._shifted(np.array([1.0, 2.0, 3.0, 4.0]), by).tolist() == moved


def test_parity_kills_all_but_the_last_check_of_a_sampler_that_never_goes_back() -> None:
    for length, block in ((4, 1), (12, 3), (64, 4)):
        tree = typed_trees.parity_tree(length, block)
        assert typed_trees.leaf_probability(typed_trees.action_level_moves(tree)) == pytest.approx(
            2.0 ** -(length // block - 1)
        )
        assert typed_trees.leaf_probability(typed_trees.first_leaf_moves(tree)) == pytest.approx(1)


def test_exact_values_give_the_target_and_a_leaf_mass_of_1_over_2h() -> None:
    tree = typed_trees.perturbation_tree(32, 0.0)
    assert typed_trees.stationary_leaf_mass(tree) == pytest.approx(1 / 64)
    assert typed_trees.total_variation_of(typed_trees.first_leaf_moves(tree), tree.target) < 1e-9
    assert typed_trees.first_leaf_steps(tree) == pytest.approx(2 * 32**2)


def test_time_to_the_first_leaf_depends_on_the_root_and_not_on_a_type_that_never_occurs() -> None:
    # One node per depth 0, 1, 2; at depth 1 up and down are equally likely. The walk to depth 2 takes 4
    # moves, and two steps per move. No node is of the second type.
    weights = np.array([[[1.0, 0.0], [3.0, 5.0]], [[1.0, 0.0], [7.0, 2.0]]])
    tree = typed_trees.TypedTree(
        weights, typed_trees.action_level_moves(typed_trees.TypedTree(weights, weights))
    )
    assert typed_trees.first_leaf_steps(tree) == pytest.approx(8)


def test_sampled_types_follow_the_moves() -> None:
    moves = typed_trees.action_level_moves(typed_trees.perturbation_tree(3, 1.0))
    types = typed_trees.sample_types(moves, 4000, np.random.default_rng(0))
    cells = np.array(list(itertools.product(range(2), repeat=3)))
    counts = [(types == cell).all(axis=1).sum() for cell in cells]
    law = np.exp(typed_trees.log_probability(moves, cells))
    assert stats.chisquare(counts, 4000 * law).pvalue > 1e-3
    assert stats.chisquare(counts, np.full(8, 500)).pvalue < 1e-6


def test_a_target_that_does_not_cover_the_law_is_refused() -> None:
    moves = typed_trees.action_level_moves(typed_trees.perturbation_tree(3, 0.1))
    with pytest.raises(ValueError, match="target: 0 where the law is positive"):
        typed_trees.total_variation_of(moves, moves * np.array([1.0, 0.0]))


def test_walks_refuse_bad_settings() -> None:
    with pytest.raises(ValueError, match="delay: 0 is not an integer >= 1"):
        Delayed(DELAY, 0)
    with pytest.raises(ValueError, match=r"token: 5; valid: one of \(1, 2\)"):
        Overrated(DELAY, 5)
    with pytest.raises(ValueError, match="epsilon: -1 is not a number > -1"):
        Overrated(DELAY, 1, -1)


def test_weights_of_the_tasks_trees_by_hand() -> None:
    """pi_ref(a) V^(va)/V^(v), the scale of the root included."""
    found = typed_trees.perturbation_tree(3, 0.6)
    # V^ of `a` is 1.6 times that of `b`; leaves have no error.
    between = [[0.5, 0.5 / 1.6], [0.8, 0.5]]
    np.testing.assert_allclose(found.weights[0, 0], [0.8, 0.5])
    np.testing.assert_allclose(found.weights[1:], [between, [[0.5 / 1.6] * 2, [0.5] * 2]])
    assert (found.target == 0.5).all()
    assert found.target.shape == (3, 2, 2)
    # exp(-tilt) = 1/3: V grows by 1/2 after a 0 and by 3/2 after a 1.
    found = typed_trees.delay_tree(3, np.log(3))
    np.testing.assert_allclose(found.weights[0], np.full((2, 2), 0.5))
    np.testing.assert_allclose(found.weights[1], [[0.25, 0.25], [0.75, 0.75]])
    np.testing.assert_allclose(found.weights[2], [[0.125, 0.375], [0.375, 1.125]])
    np.testing.assert_allclose(found.target, [[[0.25, 0.75]] * 2] * 3)
    np.testing.assert_allclose(typed_trees.delay_tree(1, np.log(3)).weights, [[[0.25, 0.75]] * 2])
    # Types even, odd, dead. The check at depth 2 doubles V^ one step later, the last check at once.
    found = typed_trees.parity_tree(4, 2)
    step, check = [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]
    rows = [step, check, [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(found.weights, [[row, row, [0.0] * 3] for row in rows])
    rows = [step, [1.0, 0.0, 0.0]] * 2
    np.testing.assert_allclose(found.target, [[row, row, [0.0] * 3] for row in rows])
