"""VGB against its transition matrix, which NumPy builds from the tree."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import trees
from oracles.decoded import problem, responses, run_on
from oracles.trees import Node, TreeTask
from scipy import stats

from decoding import VGB, Decoded, TaskPolicy, TaskValues
from decoding.explore import Chains, Tree

# Unequal depths, children that are never drawn, values that have nothing to do with the rewards.
TASK = TreeTask(depth=3, symbols=3, ends=True, seed=34, reward_rate=0.6, guide_seed=35)
TREE = trees.Tree(TASK)
EXACT = TreeTask(depth=4, symbols=2, ends=False, seed=3)
CHAINS = 1500


def run(decoder: VGB, task: TreeTask = TASK, chains: int = CHAINS) -> Decoded:
    return run_on(task, decoder, chains, seed=3)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_walk_is_reversible_and_its_leaves_are_the_tilted_law(ends: bool, seed: int) -> None:
    tree = trees.Tree(TreeTask(ends=ends, seed=seed, guide_seed=seed + 10, graded=True))
    matrix = trees.transition(tree)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    law = trees.stationary(matrix)
    flow = law[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    for i, node in enumerate(tree.nodes):
        for child in tree.children(node):
            j = tree.nodes.index(child)
            # The edge from v to its child has weight pi_ref(child) V^(child).
            weight = tree.mass[child] * tree.value[child]
            np.testing.assert_allclose(flow[i, j] / flow[0].sum(), weight / root_weight(tree) / 2, atol=1e-12)
    leaves = trees.normalised({node: law[i] for i, node in enumerate(tree.nodes) if tree.leaf(node)})
    tilted = tree.tilted()
    assert sum(abs(leaves.get(node, 0) - tilted.get(node, 0)) for node in tree.leaves) / 2 < 1e-9


def root_weight(tree: trees.Tree) -> float:
    return sum(tree.mass[child] * tree.value[child] for child in tree.children(()))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_exact_values_put_one_in_2h_on_the_leaves(depth: int) -> None:
    tree = trees.Tree(TreeTask(depth=depth, symbols=2, ends=False, seed=1))
    law = trees.stationary(trees.transition(tree))
    mass = sum(law[i] for i, node in enumerate(tree.nodes) if tree.leaf(node))
    np.testing.assert_allclose(mass, 1 / (2 * depth))


@pytest.mark.parametrize("chi", [0.0, 0.5, 1.0])
def test_the_lifted_walk_has_the_tilted_law_too(chi: float) -> None:
    states, matrix = trees.lifted(TREE, chi)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    law = trees.stationary((np.eye(len(states)) + matrix) / 2)
    leaves: dict[Node, float] = {}
    for (node, _), mass in zip(states, law, strict=True):
        if TREE.leaf(node):
            leaves[node] = leaves.get(node, 0.0) + mass
    leaves, tilted = trees.normalised(leaves), TREE.tilted()
    assert sum(abs(leaves.get(node, 0) - tilted.get(node, 0)) for node in TREE.leaves) / 2 < 1e-9


@pytest.mark.long
@pytest.mark.parametrize("children", ["all", pytest.param(2, marks=pytest.mark.slow)])
def test_one_step_has_the_matrix_frequencies(children: int | str) -> None:
    decoder = VGB(children=children)  # type: ignore[arg-type]
    num = None if children == "all" else 2
    starts = [node for node in TREE.nodes if TREE.mass[node] > 0 and TREE.value[node] > 0]
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK, len(starts)))
    depths = np.array([[len(node)] for node in starts], np.int32)
    paths = np.zeros((len(starts), 1, TASK.depth), np.int32)
    for row, node in enumerate(starts):
        paths[row, 0, : len(node)] = node

    @jax.jit
    def step(paths: jax.Array, depths: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, own, _ = decoder.begin(tree, CHAINS)

        def down(h: jax.Array, state: Chains) -> Chains:
            tokens = jnp.broadcast_to(paths[:, :, h], state.depth.shape)
            return decoder.expand(tree, state.descend(tokens, h < depths))

        state = jax.lax.fori_loop(0, TASK.depth, down, decoder.expand(tree, state))
        keys = jax.random.split(key, decoder.num_keys)
        state, _ = decoder._move(tree, state, own, ~state.done, keys[1:])
        return state.path, state.depth

    path, depth = (np.asarray(a) for a in step(paths, depths, jax.random.key(1)))
    fits, misfits = [], []
    wrong = trees.Tree(dataclasses.replace(TASK, guide_seed=2))
    for row, node in enumerate(starts):
        reached = [tuple(p[:d].tolist()) for p, d in zip(path[row], depth[row], strict=True)]
        law = trees.moves(TREE, node, num)
        if len(law) == 1:
            assert set(reached) == set(law)
        else:
            fits.append(trees.fit_p(reached, law))
            misfits.append(trees.fit_p(reached, trees.moves(wrong, node, num)))
    assert len(fits) > 5
    assert min(fits) > 1e-3 / len(fits)
    assert np.median(misfits) < 1e-6


def test_two_drawn_children_stand_against_twice_the_value_of_the_node() -> None:
    """The exact law of a step of `children=2`, against many steps.

    The node has V^ = 1/2; its children have pi_ref 1/4 and 3/4, V^ 1 and 1/4. The parent's weight is 1, so
    with both draws the first child: 2/3 to it and 1/3 back; one of each: 4/9, 1/9, 4/9 back; both the
    second: 1/3 and 2/3 back. These have probability 1/16, 6/16, 9/16.
    """
    task = TreeTask(depth=2, symbols=2, ends=False)
    count = 2**16
    decoder, tree = VGB(children=2), Tree(task, TaskPolicy(task), TaskValues(task), problem(task))
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0, 0.5, 0.5], [0, 0.25, 0.75]]).astype(np.float32)
        values = np.log([[0, 0.5, 0.125], [0, 1, 0.25]]).astype(np.float32)

    @jax.jit
    def step(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        state, own, _ = decoder.begin(tree, count)
        path = jnp.broadcast_to(jnp.asarray([1, 0], jnp.int32), state.path.shape)
        known = jnp.full_like(state.depth, 2)
        state = state._replace(path=path, fed=path, depth=known - 1, filled=known, known=known)
        state = state._replace(log_probs=jnp.zeros_like(state.log_probs) + log_probs)
        state = state._replace(values=jnp.zeros_like(state.values) + values)
        moved, _ = decoder._move(tree, state, own, ~state.done, keys)
        return moved.depth[0], moved.path[0, :, 1], moved.queries

    depth, last, queries = (
        np.asarray(each) for each in step(jax.random.split(jax.random.key(5), decoder.num_keys)[1:])
    )
    seen = [np.sum(depth == 0), np.sum((depth == 2) & (last == 1)), np.sum((depth == 2) & (last == 2))]
    # Without log 2 in the parent's weight it would go back 0.40 of the time, not 27/48 = 0.56.
    assert stats.chisquare(seen, count * np.array([27, 10, 11]) / 48).pvalue > 1e-4
    np.testing.assert_array_equal(queries, 2)


@pytest.mark.long
@pytest.mark.parametrize("children", ["all", pytest.param(2, marks=pytest.mark.slow)])
def test_fixed_steps(children: int | str) -> None:
    num = None if children == "all" else 2
    decoder = VGB(steps=9, children=children, budget=10**6, runs=10**6)  # type: ignore[arg-type]
    drawn = responses(run(decoder))
    assert trees.fit_p(drawn, trees.vgb_fixed(TREE, 9, num)) > 1e-3
    # Nine steps are not yet mixed: other numbers of them have other laws.
    assert trees.fit_p(drawn, trees.vgb_fixed(TREE, 4, num)) < 1e-6


@pytest.mark.slow
def test_many_steps_reach_the_tilted_law_however_wrong_the_values() -> None:
    drawn = responses(run(VGB(steps=80, budget=10**6)))
    assert trees.fit_p(drawn, TREE.tilted()) > 1e-3
    assert trees.fit_p(drawn, trees.vgb_first_leaf(TREE)) < 1e-6


@pytest.mark.slow
def test_the_first_leaf() -> None:
    decoder = VGB(steps=10**6, stop="first_leaf", budget=10**6, laziness=0)
    drawn = responses(run(decoder))
    assert trees.fit_p(drawn, trees.vgb_first_leaf(TREE)) > 1e-3
    assert trees.fit_p(drawn, TREE.tilted()) < 1e-6


@pytest.mark.slow
def test_momentum_with_a_fixed_number_of_steps() -> None:
    states, matrix = trees.lifted(TREE, 0.75)
    after = np.linalg.matrix_power((np.eye(len(states)) + matrix) / 2, 12)[0]
    leaves: dict[Node, float] = {}
    for (node, _), mass in zip(states, after, strict=True):
        if TREE.leaf(node):
            leaves[node] = leaves.get(node, 0.0) + mass
    drawn = responses(run(VGB(steps=12, momentum=0.75, budget=10**6, runs=10**6), chains=8000))
    assert trees.fit_p(drawn, trees.normalised(leaves)) > 1e-3
    assert trees.fit_p(drawn, trees.vgb_fixed(TREE, 12)) < 1e-6


def test_the_first_run_begins_with_its_lazy_steps_and_downwards() -> None:
    at_root: Any = SimpleNamespace(depth=jnp.zeros((1, 2), jnp.int32))
    tree: Any = None
    first = VGB(steps=7).own_state(tree, at_root)
    assert first.run.tolist() == [[0, 0]]
    assert first.steps.tolist() == [[7, 7]]
    assert first.fresh.tolist() == first.down.tolist() == [[True, True]]


@pytest.mark.long
def test_momentum_with_exact_values_never_turns_back() -> None:
    # Down to a leaf without a step back: a query a child on the way.
    down = VGB(steps=EXACT.depth, runs=1, stop="first_leaf", momentum=1.0, laziness=0)
    decoded = run(down, EXACT, chains=500)
    assert np.all(decoded.finished)
    np.testing.assert_array_equal(decoded.tokens, EXACT.depth)
    assert trees.fit_p(responses(decoded), trees.Tree(EXACT).tilted()) > 1e-3
