"""Sampled responses whose probability is small, against the closed form of Pass@N."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from decoding import sample_responses
from metrics import pass_at_n
from tasks import categorical, stream
from tasks.drawing import log_of

PROBABILITY, N, DRAWS = 1e-7, 4096, 2**24


@dataclasses.dataclass(frozen=True)
class Coin:
    """A model of one token: 1 with probability `PROBABILITY`, else 0."""

    response_length: int = 1

    def start(self, params: Any, prompt: Any, prompt_mask: Any, num_samples: int) -> tuple[()]:
        return ()

    def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> tuple[Any, Any]:
        law = jnp.asarray([math.log1p(-PROBABILITY), math.log(PROBABILITY)], jnp.float32)
        return jnp.broadcast_to(law, (*tokens.shape, 2)), cache


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 64])
def test_sampled_pass_at_n_is_the_closed_form(repeats: int) -> None:
    """With 2^24 draws, 1.7 correct ones are expected; 2^30 tell 107 from the 56 of a draw with 23 bits."""
    prompt = np.ones((DRAWS // N, 1), np.int32)
    passed = correct = 0
    for repeat in range(repeats):
        key = stream(0, "tail", repeat)
        responses, log_probs = sample_responses(Coin(), (), prompt, prompt > 0, key, N)  # type: ignore[arg-type]
        hits = np.asarray(responses)[..., 0] == 1
        np.testing.assert_allclose(np.asarray(log_probs)[hits], math.log(PROBABILITY), rtol=1e-6)
        passed += int(hits.any(axis=1).sum())
        correct += int(hits.sum())
    closed = float(pass_at_n(np.array(math.log(PROBABILITY)), (N,))[0])
    assert closed == pytest.approx(1 - (1 - PROBABILITY) ** N, rel=1e-9)
    assert stats.binomtest(passed, repeats * DRAWS // N, closed).pvalue > 1e-3
    assert stats.binomtest(correct, repeats * DRAWS, PROBABILITY).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("p", "log_draws"), [(1e-6, 27), (1e-7, 27), (1e-8, 30)])
def test_small_probabilities_are_drawn_as_often_as_they_say(p: float, log_draws: int) -> None:
    chunk, weights = 2**20, log_of([p, 1 - p])
    key = stream(0, "tail", log_draws)

    @jax.jit
    def count(first: jax.Array) -> jax.Array:
        def one(i: jax.Array, total: jax.Array) -> jax.Array:
            return total + jnp.sum(categorical(jax.random.fold_in(key, first + i), weights, (chunk,)) == 0)

        return jax.lax.fori_loop(0, 2**7, one, jnp.asarray(0, jnp.int32))

    found = sum(int(count(jnp.asarray(first, jnp.int32))) for first in range(0, 2 ** (log_draws - 20), 2**7))
    assert stats.binomtest(found, 2**log_draws, p).pvalue > 1e-3
