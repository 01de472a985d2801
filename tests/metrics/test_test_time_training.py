"""KL and coverage of test-time training, against a plain loop of gradient steps on a transformer."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.evaluators import DistributionEvaluator, HeldOut, make_held_out
from metrics.test_time_training import TestTimeEvaluator
from models import GPT
from tasks import Dyck

TASK = Dyck(max_depth=2, max_length=5, max_enumerated=0)
MODEL = GPT(
    vocab_size=TASK.vocab_size,
    prompt_length=TASK.prompt_length,
    response_length=TASK.response_length,
    num_layers=1,
    num_heads=1,
    width=8,
    init_std=0.4,
)
RATE = 0.05


@functools.cache
def held_out() -> HeldOut:
    return make_held_out(TASK, 6, 6, 0)


@functools.cache
def params() -> Any:
    return jax.jit(MODEL.init)(jax.random.key(1))


def scores(evaluator: Any) -> dict[str, np.ndarray]:
    batch = jax.tree.map(lambda leaf: leaf[0], held_out().batches)
    found = jax.jit(lambda p: evaluator.score(MODEL, TASK, p, batch))(params())
    return {key: np.asarray(value) for key, value in found.items()}


@jax.jit
def slope_of(own: Any, prompt: Any, response: Any, place: Any) -> Any:
    def value(own: Any) -> Any:
        logits = MODEL.logits(own, prompt[None], prompt[None] > 0, response[None, None])[0, 0, place]
        return logits[response[place]] - jnp.log(jnp.sum(jnp.exp(logits)))

    return jax.value_and_grad(value)(own)


def by_hand() -> list[float]:
    """ln pi_TTT of every held-out response: a gradient step on every token, forgotten after the response."""
    example, found = jax.tree.map(lambda leaf: leaf[0], held_out().batches)[:2]
    sums = []
    for prompt, (response,) in zip(example.prompt, found.responses, strict=True):
        own, total = params(), 0.0
        for place in range(int((np.asarray(response) > 0).sum())):
            value, slope = slope_of(own, prompt, response, jnp.int32(place))
            total += float(value)
            own = jax.tree.map(lambda a, b: a + RATE * b, own, slope)
        sums.append(total)
    return sums


@pytest.mark.long
def test_the_law_is_that_of_a_plain_loop_of_gradient_steps() -> None:
    found, expected = scores(TestTimeEvaluator(RATE))["ttt_log_prob"][:, 0], by_hand()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    lengths = {
        int((np.asarray(r) > 0).sum()) for r in held_out().flat(held_out().batches.candidates.responses)
    }
    assert len(lengths) > 1, "padding must be among the responses"


@pytest.mark.long
def test_without_steps_it_is_the_model_and_with_steps_it_is_not() -> None:
    own = scores(DistributionEvaluator())["log_prob"]
    np.testing.assert_allclose(scores(TestTimeEvaluator(0.0))["ttt_log_prob"], own, atol=2e-5)
    assert np.abs(scores(TestTimeEvaluator(RATE))["ttt_log_prob"] - own).min() > 1e-3


def test_metrics_are_means_over_the_pairs() -> None:
    """ln pi_D - ln pi_TTT is 0, ln 2, ln 2, ln 8, 0, 0: KL ln(32)/6; three at 2 or more, one at 3 or more."""
    ratios = np.log([1, 2, 2, 8, 1, 1])[:, None]
    given = {"ttt_log_prob": held_out().log_pi - ratios}
    found = dict(TestTimeEvaluator(RATE, coverage_ns=(2, 3)).reduce(given, held_out()))
    assert found == pytest.approx({"ttt_kl": math.log(32) / 6, "ttt_cov/2": 1 / 2, "ttt_cov/3": 1 / 6})


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"learning_rate: -1 is not a number >= 0"):
        TestTimeEvaluator(-1)
    with pytest.raises(ValueError, match="coverage_ns"):
        TestTimeEvaluator(0.1, coverage_ns=(0.5,))
