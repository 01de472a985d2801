"""The device program: one step by hand, seeds apart and together, chunks, devices."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import gpt2
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.evaluators import DistributionEvaluator, make_held_out
from models import GPT, sequence_log_probs
from tasks import stream
from training import CrossEntropy, EvaluationSchedule, Phase, Program, make_program
from training.feed import batch_of_step
from training.optimizers import adamw
from training.program import seed_devices

pytestmark = pytest.mark.long

TASK = ToyTask()
MODEL = GPT(vocab_size=6, prompt_length=3, response_length=2, num_layers=1, num_heads=1, width=8)
# The gradient of the keys' biases is 0 but for rounding, which Adam with a tiny epsilon would blow up.
OPTIMIZER = adamw(steps=20, learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0, epsilon=1e-3)


def phase_of(optimizer: optax.GradientTransformation) -> Phase:
    return Phase("p", TASK, CrossEntropy(), optimizer, 20, 4, None, EvaluationSchedule(), 5)


PHASE = phase_of(OPTIMIZER)


@pytest.fixture(scope="module")
def held_out() -> Any:
    return make_held_out(TASK, 5, 4, 0)


@pytest.fixture(scope="module")
def program(held_out: Any) -> Any:
    @functools.cache
    def make(devices: int, num_seeds: int, batching: Any = "auto") -> Program:
        return make_program(MODEL, PHASE, (DistributionEvaluator(),), held_out, devices, batching)

    return make


def train(program: Program, seeds: tuple[int, ...], stops: tuple[int, ...]) -> tuple[Any, list[Any]]:
    array = jnp.asarray(seeds, jnp.uint32)
    state, logs, done = program.begin(program.init(array), jnp.full(len(seeds), -1, jnp.int32)), [], 0
    for stop in stops:
        state, log = program.run(state, array, done, stop)
        logs.append(jax.tree.map(np.asarray, log))
        done = stop
    return jax.tree.map(np.asarray, state), logs


def test_one_step_is_an_optax_step_written_by_hand(program: Any) -> None:
    state, (log,) = train(program(1, 2, "map"), (5, 6), (1,))
    batch = jax.jit(lambda: batch_of_step(PHASE, np.uint32(6), 0))()
    params = jax.jit(MODEL.init)(stream(6, "init"))

    def loss(p: Any) -> Any:
        logits = MODEL.logits(p, batch.prompt, batch.prompt_mask, batch.response[:, None])[:, 0]
        return -jnp.sum(jnp.log(jax.nn.softmax(logits)) * jax.nn.one_hot(batch.response, 6)) / 4

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)

    @jax.jit
    def stepped(gradient: Any, params: Any) -> Any:
        updates, opt_state = OPTIMIZER.update(gradient, OPTIMIZER.init(params), params)
        return optax.apply_updates(params, updates), opt_state

    expected = stepped(gradient, params)
    mine = jax.tree.map(lambda leaf: leaf[1], (state.params, state.opt_state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), mine, expected)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    assert log.gradient_norm[1] == pytest.approx(norm, rel=1e-4)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    by_oracle = 0.0
    for prompt, mask, response in zip(batch.prompt, batch.prompt_mask, batch.response, strict=True):
        real = prompt[mask].tolist()
        table = gpt2.log_probs(gpt2.forward(exact, [*real, int(response[0])], 1)[len(real) - 1 :])
        by_oracle -= table[range(2), response.tolist()].sum() / 4
    assert log.loss[1] == pytest.approx(by_oracle, rel=1e-5)
    assert float(value) == pytest.approx(by_oracle, rel=1e-5)


def test_options_of_the_compiler_reach_the_step_and_the_evaluation(held_out: Any, program: Any) -> None:
    """A level that no compiler has is refused where it arrives; another one changes rounding at most."""

    def make(level: Any) -> Program:
        phase = dataclasses.replace(PHASE, compiler_options={"xla_backend_optimization_level": level})
        return make_program(MODEL, phase, (DistributionEvaluator(),), held_out, 1)

    refused = make("none")
    params = refused.init(jnp.asarray((5,), jnp.uint32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="'none' is not a valid"):
        refused.evaluate(params, (), refused.batches())
    with pytest.raises(jax.errors.JaxRuntimeError, match="'none' is not a valid"):
        train(refused, (5,), (2,))
    mine, _ = train(make(3), (5,), (20,))
    usual, _ = train(program(1, 1), (5,), (20,))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), mine, usual)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("fast", "compiler_options: 'fast' is not a mapping of XLA's options to their values"),
        ({"xla_x": [1]}, r"compiler_options.xla_x: \[1\]; valid: true, false, a number or a text"),
    ],
)
def test_options_that_are_no_options_are_refused(given: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        dataclasses.replace(PHASE, compiler_options=given)


def test_a_seed_alone_is_that_seed_in_company(program: Any) -> None:
    alone, (log,) = train(program(1, 1), (6,), (20,))
    for batching in ("map", "vmap"):
        together, (logs,) = train(program(1, 2, batching), (5, 6), (20,))
        for mine, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(mine[0], other[1], rtol=1e-4, atol=1e-6)
        assert log.loss[0] == pytest.approx(logs.loss[1], rel=1e-4)
        assert logs.loss[0] != logs.loss[1]


def test_two_devices_are_one(program: Any) -> None:
    assert jax.local_device_count() == 4, "tests/conftest.py did not get its virtual devices"
    one, logs = train(program(1, 2, "map"), (5, 6), (20,))
    two, spread = train(program(2, 2), (5, 6), (20,))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), two, one)
    np.testing.assert_allclose(spread[0].loss, logs[0].loss, rtol=1e-5)
    seeds = jnp.asarray((5, 6), jnp.uint32)
    assert len(program(2, 2).init(seeds)["token"].sharding.device_set) == 2


def test_chunks_of_any_length_end_in_the_same_bits(program: Any) -> None:
    whole, (log,) = train(program(1, 2, "map"), (5, 6), (20,))
    pieces, logs = train(program(1, 2, "map"), (5, 6), (7, 14, 20))
    jax.tree.map(np.testing.assert_array_equal, pieces, whole)
    mean = sum(part.loss * steps for part, steps in zip(logs, (7, 7, 6), strict=True)) / 20
    np.testing.assert_allclose(mean, log.loss, rtol=1e-6)


def test_scores_come_in_the_held_out_sets_order_for_every_seed(program: Any, held_out: Any) -> None:
    seeds = jnp.asarray((5, 6), jnp.uint32)
    init, scored = jax.jit(MODEL.init), jax.jit(functools.partial(sequence_log_probs, MODEL))
    for devices in (1, 2):
        made = program(devices, 2)
        found = made.score(made.init(seeds))["distribution"]["log_prob"]
        flat = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[:10], held_out.batches)
        example, candidates, position_of = flat
        assert position_of.tolist() == list(range(10))
        for position, seed in enumerate((5, 6)):
            params = init(stream(seed, "init"))
            expected = scored(
                params, example.prompt, example.prompt_mask, candidates.responses, candidates.mask
            )
            np.testing.assert_allclose(found[position, :10], expected, rtol=1e-5)


def test_a_seed_that_diverges_is_frozen_at_its_last_good_state(held_out: Any) -> None:
    """Logits of seed 1 are NaN after three steps, which must not affect other seeds."""
    runs = {}
    for poisoned in ((1,), ()):
        model = TabularModel(poisoned=poisoned)
        made = make_program(model, phase_of(fuse_step(0.5)), (), held_out, 1)
        runs[poisoned] = [train(made, (0, 1, 2), stops)[0] for stops in ((3,), (10,), (3, 5, 10))]
    early, late, pieces = runs[(1,)]
    assert early.failed_at.tolist() == [-1, -1, -1]
    assert late.failed_at.tolist() == [-1, 4, -1]
    jax.tree.map(np.testing.assert_array_equal, pieces, late)
    frozen, good = (jax.tree.map(lambda leaf: leaf[1], state.params) for state in (late, early))
    jax.tree.map(np.testing.assert_array_equal, frozen, good)
    for seed in (0, 2):
        np.testing.assert_array_equal(late.params["table"][seed], runs[()][1].params["table"][seed])
        assert not np.array_equal(late.params["table"][seed], early.params["table"][seed])


def test_seeds_are_spread_over_as_many_devices_as_divide_them() -> None:
    assert [seed_devices(seeds) for seeds in (1, 2, 3, 4, 5, 6, 8)] == [1, 2, 3, 4, 1, 3, 4]
