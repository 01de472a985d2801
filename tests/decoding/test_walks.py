"""Walks up and down trees, against a computation from the whole prefix."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import trees
from oracles.trees import TreeTask

import decoding
from covlab.testing.statistics import uniform_p
from decoding.exact import enumerate_tree
from models import GPT
from tasks import categorical

TASK = TreeTask(depth=4, symbols=3, ends=True, seed=0)
MODEL = GPT(
    vocab_size=6, prompt_length=3, response_length=4, num_layers=1, num_heads=2, width=8, init_std=0.3
)
PROMPTS = np.array([[1, 2, 3], [0, 0, 3], [4, 2, 3]], np.int32)
TOKENS = (1, 2, 4)
CHAINS = 5


@pytest.fixture(scope="module")
def params() -> Any:
    return MODEL.init(jax.random.key(1))


def problem(prompts: np.ndarray = PROMPTS, depth: int = 4) -> decoding.Problem:
    return decoding.Problem(
        jnp.asarray(prompts), jnp.asarray(prompts > 0), (), jnp.full((len(prompts),), depth)
    )


def wander(
    walk: decoding.Walk, asked: decoding.Problem, symbols: tuple[int, ...], turns: int = 12, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(paths, depths, numbers) of chains that continue by a token, perhaps after backtracking."""
    rng = np.random.default_rng(seed)
    step = jax.jit(walk.step)
    cache = walk.start(asked, CHAINS)
    shape = (asked.prompt.shape[0], CHAINS)
    paths, depths = np.zeros((*shape, 4), np.int32), np.zeros(shape, np.int32)
    for turn in range(turns):
        last = np.take_along_axis(paths, np.maximum(depths - 1, 0)[..., None], axis=2)[..., 0]
        numbers, cache = step(asked, cache, jnp.asarray(last), jnp.asarray(depths))
        yield np.where(np.arange(4) < depths[..., None], paths, 0), depths.copy(), np.asarray(numbers)
        # The node that numbers were asked of has depth 3 at most: a model is never fed its last token.
        back = rng.integers(0, depths + 1)
        depths = np.where((rng.random(shape) < 0.4) & (turn > 2) | (depths == 3), back, depths)
        new = rng.choice(symbols, shape).astype(np.int32)
        paths = np.where(np.arange(4) == depths[..., None], new[..., None], paths)
        depths = np.minimum(depths + 1, 3)


def forced(params: Any, paths: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Teacher-forced logits at every chain's node."""
    logits = jax.jit(MODEL.logits)(params, PROMPTS, PROMPTS > 0, paths)
    return np.take_along_axis(np.asarray(logits), depths[..., None, None], axis=2)[:, :, 0]


@pytest.mark.long
def test_a_model_that_goes_back_and_forth_has_the_teacher_forced_numbers(params: Any) -> None:
    policy = decoding.ModelPolicy(MODEL, params, TOKENS, 1.5)
    values = decoding.ModelValues(MODEL, params, 0.4)
    depths_seen = set()
    went_back = False
    before = np.zeros((3, CHAINS), np.int32)
    for own, guided in zip(wander(policy, problem(), TOKENS), wander(values, problem(), TOKENS), strict=True):
        paths, depths, log_probs = own
        logits = forced(params, paths, depths)
        kept = np.where(np.isin(np.arange(6), TOKENS), logits / 1.5, -np.inf)
        expected = kept - np.log(np.sum(np.exp(kept), axis=-1, keepdims=True))
        np.testing.assert_allclose(log_probs, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(guided[2], -np.log1p(np.exp(-logits / 0.4)), rtol=1e-5, atol=1e-6)
        went_back |= bool(np.any(depths < before))
        before = depths
        depths_seen |= set(depths.ravel().tolist())
    assert went_back
    assert depths_seen == {0, 1, 2, 3}


@pytest.mark.long
def test_a_temperature_of_values_leaves_the_verifier_alone(params: Any) -> None:
    """Near 0 the values are 0 or 1, at a large temperature 1/2; leaves have tau at each."""
    task = TreeTask(depth=4, symbols=3, ends=False, seed=0)
    asked = problem(PROMPTS[:1])
    policy = decoding.TaskPolicy(task)
    cold, plain, hot = (
        enumerate_tree(task, policy, decoding.ModelValues(MODEL, params, temperature), asked)
        for temperature in (1e-4, 1.0, 1e6)
    )
    inner = [np.concatenate(tree.values[1:-1]) for tree in (cold, plain, hot)]
    assert 0 < np.mean(inner[1] > 0.5) < 1
    np.testing.assert_allclose(inner[0], inner[1] > 0.5, atol=1e-4)
    np.testing.assert_allclose(inner[2], 0.5, atol=1e-4)
    for tree in (cold, hot):
        np.testing.assert_array_equal(tree.values[-1], plain.values[-1])
    assert set(plain.values[-1]) == {0.0, 1.0}


@pytest.mark.slow
def test_one_position_for_all_is_each_ones_own(params: Any) -> None:
    cache = MODEL.start(params, PROMPTS, PROMPTS > 0, 2)
    step = jax.jit(MODEL.step)
    one, own = cache, cache
    for position in range(3):
        tokens = jnp.full((3, 2), 1 + position, jnp.int32)
        first, one = step(params, one, tokens, jnp.asarray(position))
        second, own = step(params, own, tokens, jnp.full((3, 2), position))
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


def single(depth: int = 4) -> decoding.Problem:
    return problem(np.ones((1, 1), np.int32), depth)


def test_a_tasks_own_numbers_are_those_of_its_tables() -> None:
    tree = trees.Tree(TASK)
    # Token 1 ends a response, so nobody asks for its children.
    for paths, depths, log_probs in wander(decoding.TaskPolicy(TASK), single(), (2, 3)):
        for path, depth, row in zip(paths[0], depths[0], log_probs[0], strict=True):
            node = tuple(path[:depth].tolist())
            np.testing.assert_allclose(
                np.exp(row[1:]), [tree.chance[(*node, a)] for a in (1, 2, 3)], rtol=1e-5
            )
            assert row[0] == -np.inf
    for paths, depths, values in wander(decoding.TaskValues(TASK), single(), (2, 3)):
        for path, depth, row in zip(paths[0], depths[0], values[0], strict=True):
            node = tuple(path[:depth].tolist())
            np.testing.assert_allclose(
                np.exp(row[1:]), [tree.value[(*node, a)] for a in (1, 2, 3)], rtol=1e-5
            )


def errors(walk: decoding.Corrupted, asked: decoding.Problem, seed: int) -> dict[tuple[int, ...], np.ndarray]:
    """ln V^ - ln 1/2 of the children of every visited node, equal at every visit."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for paths, depths, values in wander(walk, asked, (2, 3), seed=seed):
        for row in range(len(paths)):
            for path, depth, shift in zip(paths[row], depths[row], values[row], strict=True):
                node = (row, *path[:depth].tolist())
                np.testing.assert_array_equal(found.setdefault(node, shift), shift)
    return {node: shift - math.log(0.5) for node, shift in found.items()}


def test_an_error_belongs_to_its_node() -> None:
    twins = problem(np.array([[1, 2], [1, 3], [1, 2]], np.int32))
    corrupted = decoding.Corrupted(decoding.Constant(TASK), TASK, error=0.5, seed=3)
    first, second = errors(corrupted, twins, seed=0), errors(corrupted, twins, seed=1)
    common = set(first) & set(second)
    assert len(common) > 20
    for node in common:
        np.testing.assert_array_equal(first[node], second[node])
    np.testing.assert_array_equal(first[(0,)], first[(2,)])
    assert np.all(first[(0,)] != first[(1,)])
    every = np.concatenate([shift for node, shift in first.items() if node[0] < 2])
    assert len(np.unique(every)) == len(every)
    assert np.abs(every).max() <= math.log(1.5) * (1 + 1e-5)
    assert uniform_p((every[:100] / math.log(1.5) + 1) / 2, bins=10) > 1e-3
    other = errors(decoding.Corrupted(decoding.Constant(TASK), TASK, error=0.5, seed=4), twins, seed=0)
    assert np.all(other[(0,)] != first[(0,)])


def test_two_valued_errors_and_errors_of_one_action() -> None:
    # The same program but for the kind: a step at the root is enough.
    def root(walk: decoding.Walk) -> np.ndarray:
        asked = problem(np.arange(1, 41, dtype=np.int32)[:, None])
        zero = jnp.zeros((40, 1), jnp.int32)
        return np.asarray(
            jax.jit(lambda: walk.step(asked, walk.start(asked, 1), zero, zero)[0][:, 0])()
        ) - math.log(0.5)

    ends = root(decoding.Corrupted(decoding.Constant(TASK), TASK, 0.5, kind="two_valued"))
    np.testing.assert_allclose(np.abs(ends), math.log(1.5), rtol=1e-5)
    assert 0.3 < np.mean(ends > 0) < 0.7
    action = root(decoding.Corrupted(decoding.Constant(TASK), TASK, 0.5, kind="action", action=2))
    np.testing.assert_allclose(action, np.broadcast_to([0, 0, math.log(1.5), 0], action.shape), atol=1e-6)
    np.testing.assert_array_equal(root(decoding.Corrupted(decoding.Constant(TASK), TASK, 0.0)), 0)


@pytest.mark.slow
def test_rollouts_estimate_the_value_of_every_child() -> None:
    small = TreeTask(depth=3, symbols=3, ends=True, seed=2)
    tree, num = trees.Tree(small), 400
    asked = single(depth=3)
    walk = decoding.Rollouts(decoding.TaskPolicy(small), small, num)
    step = jax.jit(walk.step)
    cache = walk.start(asked, 2)
    zero = jnp.zeros((1, 2), jnp.int32)
    worst = []
    seen = []
    for tokens, depth, node in ((0, 0, ()), (2, 1, (2,)), (3, 1, (3,)), (2, 1, (2,))):
        values, cache = step(asked, cache, zero + tokens, zero + depth)
        row = np.exp(np.asarray(values)[0])
        # Chains at the same node have the same estimate.
        np.testing.assert_array_equal(row[0], row[1])
        seen.append(row[0])
        for action in (1, 2, 3):
            exact = tree.value[(*node, action)]
            spread = math.sqrt(max(exact * (1 - exact), 1e-12) / num)
            worst.append(abs(row[0, action] - exact) / spread if spread > 1e-4 else row[0, action] - exact)
    np.testing.assert_array_equal(seen[1], seen[3])
    assert max(worst) < 4.5
    assert walk.tokens_per_step(0, 3) == 3 * num * 2 + 1


@pytest.mark.long
def test_rollouts_are_drawn_with_keys_of_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys below the key of a draw (`tasks.drawing.unit`) are bits of the draw and never keys of nodes."""
    small, drawn = TreeTask(depth=3, symbols=2, ends=False, seed=2), []

    def recorded(key: Any, log_probs: Any) -> Any:
        jax.debug.callback(lambda data: drawn.append(tuple(data.tolist())), jax.random.key_data(key))
        return categorical(key, log_probs)

    monkeypatch.setattr(decoding.estimates, "categorical", recorded)
    walk, zero = decoding.Rollouts(decoding.TaskPolicy(small), small, 2), jnp.zeros((1, 1), jnp.int32)
    cache = walk.start(single(depth=3), 1)
    jax.block_until_ready(walk.step(single(depth=3), cache, zero, zero))
    jax.effects_barrier()
    nodes = np.asarray(cache.keys)[0, 0, :1]
    for _ in range(3):
        keys = jax.random.wrap_key_data(jnp.repeat(jnp.asarray(nodes), 5, axis=0), impl="threefry2x32")
        below = jax.vmap(jax.random.fold_in)(keys, jnp.tile(jnp.arange(5), len(nodes)))
        nodes = np.asarray(jax.random.key_data(below))
    assert len(set(drawn)) == 2 * 2 * 2
    assert not set(drawn) & {tuple(each) for each in nodes.tolist()}


def test_bad_walks_are_refused(params: Any) -> None:
    with pytest.raises(ValueError, match="temperature: 0"):
        decoding.ModelPolicy(MODEL, params, TOKENS, 0)
    with pytest.raises(ValueError, match=r"tokens: \[6\]; valid: at least one of 0..5"):
        decoding.ModelPolicy(MODEL, params, (1, 6))
    with pytest.raises(ValueError, match="error: -1"):
        decoding.Corrupted(decoding.Constant(TASK), TASK, -1)
    with pytest.raises(ValueError, match="kind: 'both'"):
        decoding.Corrupted(decoding.Constant(TASK), TASK, 0.1, kind="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="action: None"):
        decoding.Corrupted(decoding.Constant(TASK), TASK, 0.1, kind="action")
    with pytest.raises(ValueError, match="num: 0"):
        decoding.Rollouts(decoding.TaskPolicy(TASK), TASK, 0)
