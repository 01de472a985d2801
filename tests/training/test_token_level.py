"""Token-level SGD in the training program, against a plain loop over sequences and tokens."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask

from metrics.evaluators import Batch, DistributionEvaluator, make_held_out
from metrics.test_time_training import TestTimeEvaluator
from models import GPT
from tasks import Dyck, FixedDyck, Task, stream
from training import CrossEntropy, EvaluationSchedule, Objective, Phase, TokenLevel, make_program
from training.feed import batch_of_step
from training.optimizers import sgd
from training.sources import Demonstrations

pytestmark = pytest.mark.long

RATE, STEPS, SEED = 0.05, 4, 3
NS = (2, 16, 1e4)
FIXED = FixedDyck(length=6, max_depth=2)
ENDING = Dyck(max_depth=2, max_length=7)


def gpt(task: Task) -> GPT:
    sizes = (task.vocab_size, task.prompt_length, task.response_length)
    names = ("vocab_size", "prompt_length", "response_length")
    return GPT(**dict(zip(names, sizes, strict=True)), num_layers=1, num_heads=1, width=8, init_std=0.4)


def phase_of(task: Task, batch: int, objective: Objective | None = None) -> Phase:
    rule = sgd(steps=STEPS, learning_rate=RATE)
    return Phase("p", task, objective or TokenLevel(), rule, STEPS, batch, None, EvaluationSchedule(), STEPS)


def trained(model: Any, phase: Phase) -> tuple[Any, Any]:
    """Parameters after all steps, and the means over them."""
    held_out = make_held_out(phase.task, 4, 4, 0)
    program = make_program(model, phase, (DistributionEvaluator(coverage_ns=NS),), held_out)
    seeds = jnp.asarray([SEED], jnp.uint32)
    state = program.begin(program.init(seeds), jnp.full(1, -1, jnp.int32))
    state, log = program.run(state, seeds, 0, STEPS)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], (state.params, log))


@functools.partial(jax.jit, static_argnums=0)
def value_and_slope(model: GPT, params: Any, prompt: Any, response: Any, place: Any) -> Any:
    """ln pi of one token of a response to one prompt, and its gradient."""

    def own(params: Any) -> Any:
        logits = model.logits(params, prompt[None], prompt[None] > 0, response[None, None])
        return jax.nn.log_softmax(logits[0, 0, place])[response[place]]

    return jax.value_and_grad(own)(params)


def by_hand(model: GPT, phase: Phase, tokens_of_length: Any) -> tuple[Any, np.ndarray]:
    """Parameters after all steps, and ln pi_D(y|x) - sum_h ln pi_theta_t,h(y_h|x, y_<h), by step and row."""
    params, ratios = jax.jit(model.init)(stream(SEED, "init")), []
    for step in range(phase.steps):
        batch = jax.jit(lambda step=step: batch_of_step(phase, jnp.uint32(SEED), jnp.int32(step)))()
        ratio = np.asarray(batch.log_prob, np.float64)
        for place in range(phase.task.response_length):
            slopes = []
            for row in range(phase.batch_size):
                if place >= tokens_of_length(np.asarray(batch.response[row])):
                    continue
                value, slope = value_and_slope(
                    model, params, batch.prompt[row], batch.response[row], jnp.int32(place)
                )
                ratio[row] -= float(value)
                slopes.append(slope)
            for slope in slopes:
                params = jax.tree.map(lambda a, b: a + RATE * b / phase.batch_size, params, slope)
        ratios.append(ratio)
    return params, np.array(ratios)


def length_of(response: np.ndarray) -> int:
    """Tokens before the padding."""
    return int(np.argmax(response == 0)) if (response == 0).any() else len(response)


@pytest.mark.parametrize(
    ("task", "batch"),
    [(FIXED, 1), pytest.param(ENDING, 3, marks=pytest.mark.slow)],
    ids=["one sequence, one length", "batches, with END"],
)
def test_training_is_a_plain_loop_over_tokens(task: Task, batch: int) -> None:
    model, phase = gpt(task), phase_of(task, batch)
    params, log = trained(model, phase)
    expected, ratios = by_hand(model, phase, length_of)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, expected)
    assert log.seen.kl == pytest.approx(ratios.mean(), abs=1e-4)
    covered = [np.mean(ratios >= math.log(n)) for n in NS]
    np.testing.assert_allclose(log.seen.coverage, covered, atol=1e-6)
    assert 0 < covered[1] <= covered[0]
    # One update per sequence ends elsewhere.
    other, _ = trained(model, phase_of(task, batch, CrossEntropy()))
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, other)
    assert max(jax.tree.leaves(gaps)) > 1e-2


def test_the_loss_of_a_step_is_that_of_test_time_training_from_its_parameters() -> None:
    model, phase = gpt(FIXED), dataclasses.replace(phase_of(FIXED, 1), steps=1)
    first = jax.jit(model.init)(stream(SEED, "init"))
    held_out = make_held_out(FIXED, 4, 4, 0)
    program = make_program(model, phase, (DistributionEvaluator(coverage_ns=NS),), held_out)
    seeds = jnp.asarray([SEED], jnp.uint32)
    begun = program.begin(program.init(seeds), jnp.full(1, -1, jnp.int32))
    _, log = program.run(begun, seeds, 0, 1)
    example = jax.jit(lambda: batch_of_step(phase, jnp.uint32(SEED), jnp.int32(0)))()
    one = jax.tree.map(lambda leaf: leaf[:, None], held_out.batches.candidates)
    drawn = one._replace(responses=example.response[:, None], mask=example.response_mask[:, None])
    evaluator = TestTimeEvaluator(RATE)
    scored = jax.jit(lambda p: evaluator.score(model, FIXED, p, Batch(example, drawn, np.arange(1))))(first)
    assert float(log.loss[0]) == pytest.approx(-float(scored["ttt_log_prob"][0, 0]), abs=1e-4)


def test_on_a_table_without_shared_entries_tokens_do_not_interact() -> None:
    """A tabular model has a row of its own for each position, so the order of the updates is of no matter."""
    model = TabularModel()
    one, _ = trained(model, phase_of(ToyTask(), 1))
    other, _ = trained(model, phase_of(ToyTask(), 1, CrossEntropy()))
    np.testing.assert_allclose(one["table"], other["table"], atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Twice(Demonstrations):
    """Two updates on each batch."""

    updates = 2  # type: ignore[assignment]


def test_several_updates_on_a_batch_are_refused() -> None:
    line = "phases.p.objective: TokenLevel updates once per token, but source Twice updates 2 times"
    with pytest.raises(ValueError, match=re.escape(line)):
        dataclasses.replace(phase_of(FIXED, 1), source=Twice())
