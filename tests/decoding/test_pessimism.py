"""Laws and costs of Best-of-N and pessimism by a learned reward, on a tree with enumerated leaves."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import pessimism as oracle
from oracles import trees
from oracles.decoded import problem, run_on
from oracles.trees import Node, TreeTask

from decoding import (
    BestOfN,
    Constant,
    Corrupted,
    Decoded,
    Pessimism,
    TaskValues,
    Walk,
)
from decoding.pessimism import sample_weights
from metrics.inference_pessimism import pessimism

pytestmark = pytest.mark.long

TASK = TreeTask(depth=2, symbols=3, ends=True, seed=7, graded=True, reward_rate=0.7)
TREE = trees.Tree(TASK)
LEAVES = [leaf for leaf in TREE.leaves if TREE.mass[leaf] > 0]
REFERENCE = [TREE.mass[leaf] for leaf in LEAVES]
CHAINS = 3000
LEVEL = 1e-3

PROBLEM = problem(TASK)
WRONG = Corrupted(TaskValues(TASK), TASK, error=3.0, seed=5)


@functools.cache
def estimates(values: Walk) -> list[float]:
    """r^ of every leaf, from the walk at the parent."""
    step = jax.jit(lambda cache, last, depth: values.step(PROBLEM, cache, last, depth))
    found = []
    for leaf in LEAVES:
        cache = values.start(PROBLEM, 1)
        for depth in range(len(leaf)):
            last = jnp.full((1, 1), leaf[depth - 1] if depth else 0, jnp.int32)
            numbers, cache = step(cache, last, jnp.full((1, 1), depth, jnp.int32))
        found.append(float(np.exp(numbers[0, 0, leaf[-1]])))
    return found


def run(decoder: Any, values: Walk = WRONG, chains: int = CHAINS) -> Decoded:
    return run_on(TASK, decoder, chains, 0, values)


def drawn(decoded: Decoded) -> list[Node]:
    assert np.all(decoded.finished)
    return [tuple(row[row > 0].tolist()) for row in decoded.responses]


def law_of(masses: list[float]) -> trees.Law:
    return {leaf: mass for leaf, mass in zip(LEAVES, masses, strict=True) if mass > 0}


def test_the_learned_reward_of_a_leaf_is_not_the_verifiers() -> None:
    wrong, exact = np.array(estimates(WRONG)), np.array([TREE.tau[leaf] for leaf in LEAVES])
    np.testing.assert_allclose(estimates(TaskValues(TASK)), exact, rtol=1e-6)
    assert np.argmax(wrong) != np.argmax(exact)


@pytest.mark.parametrize("candidates", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_best_of_n(candidates: int) -> None:
    decoded = run(BestOfN(candidates=candidates))
    law = law_of(oracle.best_of_n_law(estimates(WRONG), REFERENCE, candidates))
    assert trees.fit_p(drawn(decoded), law) > LEVEL
    np.testing.assert_array_equal(decoded.queries, candidates)
    # The reward that is reported is the verifier's.
    np.testing.assert_allclose(decoded.reward, [TREE.tau[leaf] for leaf in drawn(decoded)], rtol=1e-6)
    if candidates > 1:
        exact = [TREE.tau[leaf] for leaf in LEAVES]
        other = law_of(oracle.best_of_n_law(exact, REFERENCE, candidates))
        assert trees.fit_p(drawn(decoded), other) < 1e-6


@pytest.mark.parametrize(
    ("ceiling", "fresh"),
    [
        (None, True),
        pytest.param(None, False, marks=pytest.mark.slow),
        pytest.param(6.0, True, marks=pytest.mark.slow),
    ],
)
def test_pessimism(ceiling: float | None, fresh: bool) -> None:
    rewards = estimates(WRONG)
    decoded = run(Pessimism(candidates=3, beta=0.2, ceiling=ceiling, fresh=fresh))
    law = oracle.pessimism_law(rewards, REFERENCE, 3, 0.2, ceiling, fresh)
    assert trees.fit_p(drawn(decoded), law_of(law)) > LEVEL
    if ceiling is None:
        other = oracle.pessimism_law(rewards, REFERENCE, 3, 2.0, ceiling, fresh)
        assert trees.fit_p(drawn(decoded), law_of(other)) < 1e-4
    if not fresh:
        np.testing.assert_array_equal(decoded.queries, 3)
        return
    assert set(np.unique(decoded.queries)) == {4, 5, 6}
    # Accepted at the first fresh draw: by the oracle's law of one try alone.
    one = np.mean(decoded.queries == 4)
    expected = _first_accepted(rewards, 3, 0.2, ceiling)
    assert abs(one - expected) < 5 * np.sqrt(expected * (1 - expected) / CHAINS)


def _first_accepted(rewards: list[float], n: int, beta: float, ceiling: float | None) -> float:
    import itertools

    total = 0.0
    for sample in itertools.product(range(len(rewards)), repeat=n):
        chance = float(np.prod([REFERENCE[i] for i in sample]))
        bar = oracle.threshold([rewards[i] for i in sample], beta)
        bound = (max(rewards[i] for i in sample) if ceiling is None else ceiling) - bar
        total += chance * sum(
            p * min(max(r - bar, 0) / bound, 1) for p, r in zip(REFERENCE, rewards, strict=True)
        )
    return total


@pytest.mark.slow
def test_limits() -> None:
    rewards = estimates(WRONG)
    best = law_of(oracle.best_of_n_law(rewards, REFERENCE, 4))
    assert trees.fit_p(drawn(run(Pessimism(candidates=4, beta=1e-9, fresh=False))), best) > LEVEL
    for fresh in (True, False):
        decoded = run(Pessimism(candidates=4, beta=1e6, fresh=fresh))
        assert trees.fit_p(drawn(decoded), law_of(REFERENCE)) > LEVEL
    # Values that say nothing leave the base model, and the first fresh draw is taken.
    decoded = run(Pessimism(candidates=4), Constant(TASK))
    assert trees.fit_p(drawn(decoded), law_of(REFERENCE)) > LEVEL
    np.testing.assert_array_equal(decoded.queries, 5)


def test_weights_are_those_of_float64() -> None:
    rng = np.random.default_rng(0)
    rewards = np.concatenate([rng.random((50, 9)), rng.integers(0, 3, (50, 9)) / 2])
    for beta in (1e-3, 0.1, 10.0):
        weights, headroom = sample_weights(jnp.asarray(rewards, jnp.float32), beta)
        exact = pessimism(rewards, beta)
        np.testing.assert_allclose(headroom[:, 0], exact.headroom, rtol=1e-4)
        np.testing.assert_allclose(weights, exact.weights, rtol=1e-3, atol=1e-3)
    best = rewards == rewards.max(axis=1, keepdims=True)
    tiny, _ = sample_weights(jnp.asarray(rewards, jnp.float32), 1e-12)
    np.testing.assert_allclose(tiny, best * 9 / best.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (functools.partial(BestOfN, candidates=0), "candidates: 0"),
        (functools.partial(BestOfN, budget=3, candidates=4), "budget: 3 queries; valid: at least 4"),
        (functools.partial(Pessimism, budget=7, candidates=4), "budget: 7 queries; valid: at least 8"),
        (functools.partial(Pessimism, beta=0.0), "beta: 0.0"),
        (functools.partial(Pessimism, beta=float("inf")), "beta: inf"),
        (functools.partial(Pessimism, ceiling=-1), "ceiling: -1"),
        (functools.partial(Pessimism, fresh=2), "fresh: 2"),
    ],
)
def test_bad_settings_are_one_clear_line(make: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        make()
    assert "\n" not in str(caught.value)
