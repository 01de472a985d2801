"""The linear model behind the `Model` seam: what it scores, decodes and samples, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from oracles import linear as oracle
from oracles.small.autoregressive_linear import random
from oracles.toy import ToyTask
from oracles.whole_prefix import WholePrefix, plain

from decoding import sample_responses
from models import Linear, sequence_log_probs
from tasks import AutoregressiveLinear
from tasks.linear import all_responses

TASK = AutoregressiveLinear(horizon=4, num_symbols=3, num_prompts=2, dimension=5, bound=3.0)
SIZES = {field: getattr(TASK, field) for field in ("vocab_size", "prompt_length", "response_length")}
MODEL = Linear(**SIZES).for_task(TASK)
# Two prompts, three symbols, as many tokens: another map behind the same seam, which reads the whole prefix.
WHOLE = dataclasses.replace(MODEL, phi=WholePrefix())
PROMPTS, MASK = np.array([[4], [5]], np.int32), np.ones((2, 1), bool)
ALL_TWICE = np.stack([1 + all_responses(WholePrefix())] * 2)
EVERY = np.ones(ALL_TWICE.shape, bool)

logits_of = jax.jit(Linear.logits, static_argnums=0)
scores_of = jax.jit(sequence_log_probs, static_argnums=0)
step_of = jax.jit(Linear.step, static_argnums=0)


def params(model: Linear) -> Any:
    return {"theta": np.random.default_rng(1).normal(0, 0.5, model.phi.dimension).astype("f")}


def teacher_forced(model: Linear, responses: np.ndarray) -> np.ndarray:
    """Logits of two responses of each prompt, in the one shape that is compiled."""
    filled = np.concatenate([responses, ALL_TWICE[:, 2:]], axis=1)
    return np.asarray(logits_of(model, params(model), PROMPTS, MASK, filled))[:, :2]


@pytest.mark.parametrize(
    ("model", "of_prompt"), [(MODEL, random(TASK)), (WHOLE, plain)], ids=["markov", "whole"]
)
def test_scores_are_the_oracles_and_sum_to_one(model: Linear, of_prompt: Any) -> None:
    found = np.asarray(scores_of(model, params(model), PROMPTS, MASK, ALL_TWICE, EVERY), np.float64)
    theta = params(model)["theta"].astype(np.float64)
    for row in range(2):
        expected = [oracle.log_prob(of_prompt(row), 3, theta, y) for y in oracle.responses(3, 4)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_tokens_that_are_no_response_token_have_probability_zero() -> None:
    responses = ALL_TWICE.copy()
    responses[:, 0] = [1, 0, 3, 2]
    responses[:, 1] = [5, 2, 4, 1]
    logits = np.asarray(logits_of(MODEL, params(MODEL), PROMPTS, MASK, responses))
    assert logits.shape == (2, 81, 4, TASK.vocab_size)
    assert np.all(logits[..., [0, 4, 5]] == -np.inf)
    assert np.isfinite(logits[..., 1:4]).all()
    found = np.asarray(scores_of(MODEL, params(MODEL), PROMPTS, MASK, responses, EVERY))
    assert np.all(found[:, :2] == -np.inf)
    assert np.isfinite(found[:, 2:]).all()


def test_a_masked_token_leaves_value_and_gradient_finite() -> None:
    responses = ALL_TWICE * np.array([1, 1, 0, 0], np.int32)

    @jax.jit
    @jax.value_and_grad
    def score(p: Any) -> Any:
        return sequence_log_probs(MODEL, p, PROMPTS, MASK, responses, responses > 0).sum()

    value, gradient = score(params(MODEL))
    assert np.isfinite(value)
    assert np.isfinite(gradient["theta"]).all()
    assert np.any(gradient["theta"] != 0)


@pytest.mark.long
@pytest.mark.parametrize("model", [MODEL, WHOLE], ids=["markov", "whole"])
def test_incremental_decoding_is_the_full_computation_also_after_going_back(model: Linear) -> None:
    responses = np.array([[[1, 3, 2, 2], [2, 2, 1, 3]], [[3, 3, 1, 1], [1, 1, 2, 3]]], np.int32)
    full = teacher_forced(model, responses)
    inputs = np.concatenate([np.repeat(PROMPTS[:, None], 2, axis=1), responses], axis=2)
    cache = model.start(params(model), PROMPTS, MASK, num_samples=2)
    for position in range(4):
        logits, cache = step_of(model, params(model), cache, inputs[:, :, position], np.int32(position))
        np.testing.assert_allclose(logits, full[:, :, position], rtol=1e-5, atol=1e-5)
    # Every sample at a position of its own: the first goes back and takes another way.
    changed = responses.copy()
    changed[:, 0, 1] = 1
    other = teacher_forced(model, changed)
    places = np.array([[2, 3], [2, 3]], np.int32)
    tokens = np.stack([changed[:, 0, 1], responses[:, 1, 2]], axis=1)
    logits, _ = step_of(model, params(model), cache, tokens, places)
    np.testing.assert_allclose(logits[:, 0], other[:, 0, 2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logits[:, 1], full[:, 1, 3], rtol=1e-5, atol=1e-5)


def test_sampling_draws_from_the_law_that_is_scored() -> None:
    tokens, log_probs = sample_responses(MODEL, params(MODEL), PROMPTS, MASK, jax.random.key(2), 4000)
    assert set(np.unique(tokens)) == {1, 2, 3}
    theta = params(MODEL)["theta"].astype(np.float64)
    for row in range(2):
        law = oracle.law(random(TASK)(row), 3, 4, theta)
        drawn = [tuple(each) for each in (np.asarray(tokens[row]) - 1).tolist()]
        np.testing.assert_allclose(np.exp(log_probs[row]), [law[each] for each in drawn], rtol=1e-4)
        # Sums over a set of half of the responses: 4 standard errors.
        half = set(list(law)[::2])
        share = sum(law[each] for each in half)
        error = 4 * np.sqrt(share * (1 - share) / 4000)
        assert np.mean([each in half for each in drawn]) == pytest.approx(share, abs=error)


def test_parameters_start_at_zero_or_uniformly_in_the_ball() -> None:
    np.testing.assert_array_equal(MODEL.init(jax.random.key(0))["theta"], np.zeros(5, "f"))
    wide = dataclasses.replace(MODEL, init_radius=2.0)
    drawn = jax.jit(jax.vmap(wide.init))(jax.random.split(jax.random.key(0), 2000))["theta"]
    radii = np.linalg.norm(drawn, axis=1)
    assert radii.max() <= 2 * (1 + 1e-6)
    # P(|theta| <= r) = (r/2)^5.
    np.testing.assert_allclose(
        np.quantile(radii, [0.1, 0.5, 0.9]), 2 * np.array([0.1, 0.5, 0.9]) ** 0.2, atol=0.05
    )
    assert np.abs(np.mean(drawn, axis=0)).max() < 0.1


def test_a_prompt_of_one_token_has_no_logits_of_its_own() -> None:
    assert MODEL.prompt_logits(params(MODEL), PROMPTS, MASK).shape == (2, 0, TASK.vocab_size)
    longer = np.ones((2, 3), np.int32)
    with pytest.raises(ValueError, match="model: linear has no law of the prompt's 3 tokens; valid: "):
        MODEL.prompt_logits(params(MODEL), longer, longer > 0)


def test_a_model_is_a_static_argument() -> None:
    again = Linear(**SIZES).for_task(dataclasses.replace(TASK, theta_seed=3))
    assert again == MODEL
    assert hash(again) == hash(MODEL)
    assert MODEL.for_task(TASK) == MODEL


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: Linear(**SIZES).for_task(ToyTask()),
            "model: linear takes its features from the task, and ToyTask has none; valid: "
            "task=autoregressive_linear, or a gpt",
        ),
        (
            lambda: MODEL.for_task(dataclasses.replace(TASK, seed=1)),
            "model: linear was made for the features RandomFeatures(sizes=Sizes(horizon=4, vocab=3, "
            "prompts=2, bound=3.0), coordinates=5, seed=0); the task has "
            "RandomFeatures(sizes=Sizes(horizon=4, vocab=3, "
            "prompts=2, bound=3.0), coordinates=5, seed=1)",
        ),
        (
            lambda: Linear(**SIZES).init(jax.random.key(0)),
            "model: linear has no features yet; valid: model.for_task(task)",
        ),
        (lambda: Linear(**SIZES, init_radius=-1.0), "model.init_radius: -1.0 is not a number >= 0"),
        (
            lambda: Linear(**SIZES, phi=3),  # type: ignore[arg-type]
            "model.phi: 3 is no setting; linear has its task's",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Any, line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        make()
    assert str(refused.value) == line
