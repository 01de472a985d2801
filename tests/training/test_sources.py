"""Sources of the responses of a batch: pi_D, a base model, the task's exact base model."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, class_blind_params

from covlab.testing.statistics import chi_square_p
from decoding import base_responses
from tasks import PAD, stream
from tasks.tabular import Tabular
from training import CrossEntropy, Demonstrations, EvaluationSchedule, Phase, Rollouts, ValueRegression
from training.feed import batch_of_step, responses_of_step
from training.optimizers import sgd

TASK, MODEL = ToyTask(), TabularModel()
PHASE = Phase("p", TASK, CrossEntropy(), sgd(steps=4), 4, 16, None, EvaluationSchedule(), 2)
ROLLED = dataclasses.replace(PHASE, objective=ValueRegression(), source=Rollouts(MODEL, per_prompt=8))
BLIND = class_blind_params(0.7, 0.3, MODEL)


@functools.cache
def feed(parts: int = 1) -> Any:
    """(step, share, base model's parameters) -> the share of the step's batch."""
    return jax.jit(
        lambda step, part, fixed: responses_of_step(ROLLED, jnp.uint32(3), step, part, parts, fixed)
    )


def rolled(step: int = 2, part: int = 0, parts: int = 1) -> Any:
    return jax.tree.map(np.asarray, feed(parts)(jnp.int32(step), jnp.int32(part), BLIND))


def test_demonstrations_are_the_tasks_own_examples() -> None:
    step = (jnp.uint32(3), jnp.int32(1))
    batch, examples = jax.jit(lambda: (responses_of_step(PHASE, *step), batch_of_step(PHASE, *step)))()
    assert PHASE.source == Demonstrations()
    np.testing.assert_array_equal(batch.responses[:, 0], examples.response)
    np.testing.assert_array_equal(batch.prompt, examples.prompt)
    assert batch.responses.shape == (16, 1, 2)
    assert batch.rewards is None


@pytest.mark.long
def test_rollouts_have_the_base_models_law_and_the_verifiers_rewards() -> None:
    """A class-blind base repeats the word with probability .7: right for easy prompts, wrong for hard."""
    batch = rolled()
    word, easy = np.asarray(batch.prompt[:, -1]), np.asarray(batch.prompt[:, 1]) == 3
    assert batch.responses.shape == (16, 8, 2)
    np.testing.assert_array_equal(batch.responses[..., 0], np.broadcast_to(word[:, None], (16, 8)))
    repeats = np.asarray(batch.responses[..., 1]) == word[:, None]
    np.testing.assert_array_equal(batch.rewards, repeats == easy[:, None])
    draws = [rolled(step) for step in range(100, 116)]
    hits = np.concatenate([np.ravel(d.responses[..., 1] == d.prompt[:, -1:]) for d in draws])
    assert len(hits) == 16 * 128
    assert chi_square_p(hits.tolist(), {True: 0.7, False: 0.3}) > 1e-3
    assert chi_square_p(hits.tolist(), {True: 0.6, False: 0.4}) < 1e-6


@pytest.mark.long
def test_a_share_of_a_batch_holds_the_same_rollouts() -> None:
    whole, shares = rolled(), [rolled(part=part, parts=4) for part in range(4)]
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(a, np.concatenate(b)), whole, *shares)


@dataclasses.dataclass(frozen=True)
class Ending(ToyTask):
    """A toy whose responses may end with token 2 at once."""

    end_token = 2
    response_tokens = (1, 2)


def test_a_response_ends_with_the_end_token_and_is_made_of_response_tokens() -> None:
    task = Ending()
    keys = jax.random.split(stream(0, "x"), 64)
    examples = jax.jit(jax.vmap(task.sample))(keys)
    uniform = {"table": jnp.zeros((6, 2, 6)), "fuse": jnp.zeros(()), "rate": jnp.zeros(())}
    drawn = jax.jit(lambda: base_responses(task, examples, keys, MODEL, uniform, 4))()
    responses, mask = (np.asarray(a).reshape(-1, 2) for a in drawn)
    assert {tuple(row) for row in responses.tolist()} == {(2, PAD), (1, 1), (1, 2)}
    np.testing.assert_array_equal(mask, responses != PAD)
    assert chi_square_p(responses[:, 0].tolist(), {1: 0.5, 2: 0.5}) > 1e-3


@pytest.mark.long
def test_without_a_model_the_tasks_own_base_is_rolled_out() -> None:
    task = Tabular(length=2, num_symbols=2)
    keys = jax.random.split(stream(0, "y"), 512)
    examples = jax.jit(jax.vmap(task.sample))(keys)
    examples = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), examples)
    drawn, _ = jax.jit(lambda: base_responses(task, examples, keys, None, (), 4))()
    leaves = {(a, b): jnp.array([a, b]) for a in task.response_tokens for b in task.response_tokens}
    latent = jax.tree.map(lambda leaf: leaf[0], examples.latent)
    law = {k: float(jnp.exp(task.reference_log_prob(latent, leaf))) for k, leaf in leaves.items()}
    assert sum(law.values()) == pytest.approx(1, abs=1e-5)
    law = {leaf: p / sum(law.values()) for leaf, p in law.items()}
    found = [tuple(row) for row in np.asarray(drawn).reshape(-1, 2).tolist()]
    assert chi_square_p(found, law) > 1e-3


@pytest.mark.parametrize("count", [0, True, 1.5])
def test_a_number_of_rollouts_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(ValueError, match=r"source\.per_prompt"):
        Rollouts(MODEL, per_prompt=count)


def test_a_value_function_needs_rewards() -> None:
    with pytest.raises(ValueError, match="phases") as refused:
        dataclasses.replace(PHASE, objective=ValueRegression())
    line = "phases.p.objective: ValueRegression needs rewards, which source Demonstrations does not give"
    assert str(refused.value) == line
