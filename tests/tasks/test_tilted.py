"""Tilted tasks: values, closed forms, bad input. The laws themselves are under the contract test."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.delay import Delay
from tasks.parity import Parity
from tasks.perturbation import Perturbation
from tasks.tabular import Tabular
from tasks.tilted import TiltedLatent, TiltedTask

TASKS = (
    Delay(length=4, tilt=0.7),
    Delay(length=4, tilt=None),
    Perturbation(length=3),
    Parity(length=4, block=2),
    Tabular(length=3, num_symbols=3, num_prompts=2, rewards="graded", seed=5),
)


@functools.cache
def tables(task: TiltedTask) -> Any:
    def one(prompt: Any, prefix: Any, length: Any) -> Any:
        latent = TiltedLatent(prompt)
        return task.value(latent, prefix, length), task.reference_log_probs(latent, prefix, length)

    return jax.jit(jax.vmap(one, (None, 0, 0)))


def nodes(task: TiltedTask) -> list[tuple[int, ...]]:
    symbols = task.response_tokens
    return [node for h in range(task.response_length + 1) for node in itertools.product(symbols, repeat=h)]


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_a_value_is_the_mean_of_the_childrens_and_the_reward_at_leaves(task: TiltedTask) -> None:
    all_nodes, prompt = nodes(task), len(task.prompts) - 1
    # What comes after the prefix must not count.
    padded = np.array([[*node, *[1] * (task.response_length - len(node))] for node in all_nodes], np.int32)
    lengths = np.array([len(node) for node in all_nodes], np.int32)
    value, reference = (np.asarray(x, np.float64) for x in tables(task)(prompt, padded, lengths))
    found = dict(zip(all_nodes, value.tolist(), strict=True))
    rewards = jax.vmap(task.reward, (None, 0))(TiltedLatent(jnp.asarray(prompt)), padded)
    for node, log_probs, reward in zip(all_nodes, reference, np.asarray(rewards), strict=True):
        if len(node) == task.response_length:
            assert found[node] == reward
            continue
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-6)
        assert np.flatnonzero(log_probs > -np.inf).tolist() == list(task.response_tokens)
        mean = sum(math.exp(log_probs[a]) * found[(*node, a)] for a in task.response_tokens)
        assert found[node] == pytest.approx(mean, rel=1e-5, abs=1e-7)


def value_at_root(task: TiltedTask) -> float:
    value, _ = tables(task)(0, np.zeros((1, task.response_length), np.int32), np.zeros(1, np.int32))
    return float(value[0])


def test_values_at_the_root_are_the_closed_forms() -> None:
    assert value_at_root(Delay(length=5, tilt=2.0)) == pytest.approx(((1 + math.exp(-2)) / 2) ** 5, rel=1e-5)
    assert value_at_root(Delay(length=5, tilt=None)) == pytest.approx(0.5)
    assert value_at_root(Perturbation(length=7)) == pytest.approx((2 / 3) ** 7, rel=1e-5)
    assert value_at_root(Parity(length=12, block=3)) == pytest.approx(2.0**-4)


@pytest.mark.long
@pytest.mark.parametrize("task", [Delay(length=80), Perturbation(length=200), Parity(length=128, block=2)])
def test_long_horizons_do_not_underflow(task: TiltedTask) -> None:
    assert value_at_root(task) > 0
    latent, best = TiltedLatent(jnp.asarray(0)), jnp.ones(task.response_length, jnp.int32)
    assert float(task.reward(latent, best)) > 0
    assert math.isfinite(float(task.log_prob(latent, best)))


def test_a_long_tree_is_sampled_though_it_cannot_be_enumerated() -> None:
    task = Parity(length=24, block=4)
    assert task.num_enumerated == 0
    with pytest.raises(ValueError, match="Parity does not enumerate"):
        task.enumerate(TiltedLatent(jnp.asarray(0)))
    example = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 64))
    np.testing.assert_allclose(example.log_prob, -18 * math.log(2), rtol=1e-5)
    assert np.all((np.asarray(example.response) == 2).reshape(64, 6, 4).sum(axis=2) % 2 == 0)


def test_tables_depend_on_the_seed_and_every_tree_has_a_reward() -> None:
    task = Tabular(length=2, density=1e-9, num_prompts=20)
    reference, value = task.tables()
    assert reference.shape == (20, 3, 2)
    assert value.shape == (20, 7)
    assert np.all((value[:, 3:] == 1).sum(axis=1) == 1)
    assert np.all(value[:, 0] > 0)
    assert not np.array_equal(reference, Tabular(length=2, num_prompts=20, seed=1).tables().reference)
    graded = Tabular(length=3, rewards="graded", density=1.0).tables().value[:, 7:]
    assert 0 < graded.min() < graded.max() <= 1
    assert len(np.unique(graded)) == graded.size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Delay(length=0), "task.length: 0 is not an integer >= 1"),
        (lambda: Delay(tilt=0), "task.tilt: 0 is neither null nor a positive number"),
        (lambda: Delay(tilt=float("nan")), "task.tilt: nan is neither null nor a positive number"),
        (lambda: Delay(length=50, tilt=2.0), "task.tilt: 2.0 times task.length 50 exceeds 80"),
        (lambda: Perturbation(length=True), "task.length: True is not an integer >= 1"),
        (lambda: Perturbation(length=300), "task.length: 300 is too long; valid: at most 210"),
        (lambda: Parity(length=6, block=4), "task.block: 4 does not divide task.length 6"),
        (lambda: Parity(length=500, block=2), "task.length: 500 makes 250 checks; valid: at most 120"),
        (lambda: Tabular(length=17), "task.length: 17 gives 2\\^17 leaves"),
        (lambda: Tabular(num_symbols=1), "task.num_symbols: 1 is not an integer >= 2"),
        (lambda: Tabular(rewards="some"), "task.rewards: 'some' is not one of binary, graded"),
        (lambda: Tabular(density=0), "task.density: 0 is not a number in \\(0, 1\\]"),
        (lambda: Delay().encode("0 2"), "text: '2' is none of 0 1 ="),
    ],
)
def test_bad_input_is_one_line(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        make()
    assert "\n" not in str(error.value)
