"""Turns of VGB by hand: lazy steps, ends of runs, weights of the lifted walk."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from oracles.decoded import problem
from oracles.trees import TreeTask

from decoding import VGB, TaskPolicy, TaskValues
from decoding.explore import Tree
from decoding.vgb import Walking

pytestmark = pytest.mark.long

TASK = TreeTask(depth=2, symbols=2, ends=False)


def test_lazy_steps_are_geometric() -> None:
    """k steps for a number in (laziness^(k+1), laziness^k], at most as many as a run has."""
    numbers = np.array([[1.0, 0.51, 0.5, 0.26, 0.25, 0.13, 1e-30]])
    found = VGB(steps=9)._lazy_steps(jnp.asarray(numbers))
    assert found.tolist() == [[0, 0, 1, 1, 2, 2, 9]]
    assert VGB(steps=9, laziness=0.2)._lazy_steps(jnp.asarray(numbers)).tolist() == [[0, 0, 0, 0, 0, 1, 9]]
    never = VGB(stop="first_leaf", laziness=0)._lazy_steps(jnp.asarray(numbers))
    assert never.tolist() == [[0] * 7]
    assert never.dtype == found.dtype == jnp.int32


@pytest.mark.parametrize("chi", [0.0, 0.25, 1.0])
def test_weights_of_the_lifted_walk(chi: float) -> None:
    children = np.array(
        [[0.5, 0.25, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3, 0.2, 0.1]]
    )
    parent = np.array([2.0, 1.0, 1.5, 1.0, 0.0])
    decoder = VGB(momentum=chi)
    with np.errstate(divide="ignore"):
        forward, backward = (jnp.asarray(np.log(each)[None], jnp.float32) for each in (children, parent))
    for down in (True, False):
        found = np.exp(decoder._lifted(forward, backward, jnp.full((1, 5), down)))[0]
        for row, (f, b) in enumerate(zip(children, parent, strict=True)):
            least = min(f.sum(), b)
            wanted = [*f, 0.0, b - chi * least] if down else [0.0, 0.0, 0.0, b, f.sum() - chi * least]
            np.testing.assert_allclose(found[row], wanted, atol=1e-6)


class Standing(VGB):
    """VGB that never moves and whose lazy steps are given."""

    lazy: Any = None

    def _move(self, tree: Any, state: Any, own: Any, moving: Any, keys: Any) -> Any:
        self.moved.append(moving.tolist())  # type: ignore[attr-defined]
        return state, own

    def _lazy_steps(self, uniform: Any) -> Any:
        return self.lazy


def act(stop: Any, rows: list[tuple[Any, ...]], runs: int = 3) -> tuple[list[Any], list[Any]]:
    """One turn from (depth, steps left, lazy steps, run, fresh, down, whether it is its turn)."""
    depth, steps, lazy, run, fresh, down, turn = (jnp.asarray([each]) for each in zip(*rows, strict=True))
    decoder = Standing(steps=7, stop=stop, runs=runs)
    object.__setattr__(decoder, "lazy", lazy)
    object.__setattr__(decoder, "moved", [])
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK))
    state, _, _ = decoder.begin(tree, len(rows))
    state = state._replace(depth=depth.astype(jnp.int32), path=jnp.ones_like(state.path))
    state, own = decoder.act(tree, state, Walking(run, steps, fresh, down), turn, jnp.zeros((3,)))
    fields = state.done, state.finished, state.depth, own.run, own.steps, own.fresh, own.down
    return [tuple(row) for row in zip(*(each[0].tolist() for each in fields), strict=True)], decoder.moved  # type: ignore[attr-defined]


def test_a_turn_of_a_run_with_a_fixed_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decoding.vgb.unit", lambda key, shape: jnp.zeros(shape))
    rows = [
        (1, 5, 1, 0, False, False, True),  # inner node, steps left
        (1, 3, 2, 0, True, True, True),  # the last step is the next move
        (1, 2, 2, 0, False, False, True),  # the run ends inside: the next begins at the root
        (1, 2, 4, 2, False, False, True),  # so does the last run
        (2, 5, 1, 1, False, True, True),  # a leaf, steps left
        (2, 1, 1, 1, False, False, True),  # the run ends at a leaf
        (1, 0, 0, 1, False, True, False),  # another chain's turn
    ]
    # done, finished, depth, run, steps left, fresh, down
    wanted = [
        (False, False, 1, 0, 3, False, False),
        (False, False, 1, 0, 0, False, True),
        (False, False, 0, 1, 7, True, True),
        (True, False, 1, 3, 7, True, True),
        (False, False, 2, 1, 3, False, True),
        (True, True, 2, 1, -1, False, False),
        (False, False, 1, 1, 0, False, True),
    ]
    found, moved = act("fixed", rows)
    assert found == wanted
    # Before the first move of a run only the lazy steps are drawn.
    assert moved == [[[True, False, True, True, True, True, False]]]


def test_a_turn_of_a_run_that_ends_at_its_first_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decoding.vgb.unit", lambda key, shape: jnp.zeros(shape))
    rows = [
        (2, 5, 1, 0, False, False, True),
        (1, 5, 1, 0, False, False, True),
        (1, 1, 1, 0, False, False, True),
        (2, 5, 1, 0, False, False, False),
    ]
    found, _ = act("first_leaf", rows)
    assert found == [
        (True, True, 2, 0, 5, False, False),
        (False, False, 1, 0, 3, False, False),
        (False, False, 0, 1, 7, True, True),
        (False, False, 2, 0, 5, False, False),
    ]
    only, _ = act("first_leaf", rows, runs=1)
    assert only[2] == (True, False, 1, 1, 7, True, True)


def test_a_lifted_step_turns_and_a_dead_end_at_the_root_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of which one alone is positive; node 1 of depth 1, whose parent has weight 1."""
    monkeypatch.setattr("decoding.vgb.categorical", lambda key, weights: jnp.argmax(weights, axis=-1))
    decoder = VGB(momentum=0.0)
    tree = Tree(TASK, TaskPolicy(TASK), TaskValues(TASK), problem(TASK))
    state, _, _ = decoder.begin(tree, 3)
    path, known = jnp.ones_like(state.path), jnp.full_like(state.depth, 2)
    numbers = jnp.full_like(state.values, -jnp.inf)
    # V^ of node 1 is e^-1; its children have weights 0 and e^-3, and 0 in the last chain.
    values = numbers.at[:, :, 0, 1].set(-1.0).at[:, :2, 1, 2].set(-3.0)
    state = state._replace(
        path=path, fed=path, depth=known - 1, filled=known, known=known,
        values=values, log_probs=jnp.zeros_like(numbers),
    )  # fmt: skip
    down = jnp.asarray([[True, False, True]])
    own = Walking(known, known, ~down, down)
    moved, after = decoder._move(tree, state, own, jnp.ones((1, 3), bool), jnp.zeros((2,)))
    # Down with chi = 0: the parent's e^-1 is the weight of a turn; up, it is that of the parent.
    assert moved.depth.tolist() == [[1, 0, 1]]
    assert after.down.tolist() == [[False, False, False]]
    assert not np.any(moved.done)
    at_root = state._replace(depth=jnp.zeros_like(known), values=numbers)
    moved, _ = decoder._move(tree, at_root, own, jnp.asarray([[True, False, True]]), jnp.zeros((2,)))
    assert moved.done.tolist() == [[True, False, True]]
    assert not np.any(moved.finished)
    assert math.isclose(float(jnp.exp(state.own_value()[0, 0])), math.exp(-1), rel_tol=1e-6)
