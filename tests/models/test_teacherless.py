"""The teacherless transformer: what it reads, and that scoring and sampling are one law."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from decoding import sample_responses
from models import GPT, TeacherlessGPT
from models.teacherless import DUMMY

SIZES: dict[str, Any] = {
    "vocab_size": 7, "prompt_length": 5, "response_length": 3, "num_layers": 1, "num_heads": 2, "width": 16,
}  # fmt: skip
MODEL = TeacherlessGPT(**SIZES)
logits_of = jax.jit(lambda model, *args: model.logits(*args), static_argnums=0)


def params() -> Any:
    """Far from zero, so that nothing is left out unnoticed."""
    leaves, structure = jax.tree.flatten(MODEL.init(jax.random.key(0)))
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(structure, [a + rng.normal(0, 0.3, a.shape).astype("f") for a in leaves])


def prompts() -> tuple[np.ndarray, np.ndarray]:
    mask = np.arange(5) >= np.array([[0], [2]])
    return np.where(mask, np.array([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]], np.int32), 0), mask


ALL = np.stack(np.meshgrid(*[np.arange(7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
"""Every response, in the order of the numbers to base 7 that they spell."""


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Logits of every response of both prompts, and their exact log-probabilities in float64."""
    responses = np.broadcast_to(ALL, (2, *ALL.shape))
    logits = np.asarray(logits_of(MODEL, params(), *prompts(), responses))
    exact = logits.astype(np.float64)
    exact = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return logits, np.take_along_axis(exact, responses[..., None], axis=-1)[..., 0].sum(axis=-1)


@pytest.mark.long
def test_logits_are_those_of_a_transformer_that_is_fed_dummies() -> None:
    logits, _ = scores()
    assert logits.shape == (2, len(ALL), 3, 7)
    plain, told = (
        np.asarray(logits_of(GPT(**SIZES), params(), *prompts(), np.full((2, 1, 3), token, np.int32)))
        for token in (DUMMY, 4)
    )
    np.testing.assert_allclose(logits, np.broadcast_to(plain, logits.shape), atol=1e-5)
    assert np.abs(told - plain)[:, :, 1:].max() > 1e-3


def test_probabilities_of_all_responses_sum_to_one_and_factorise() -> None:
    law = np.exp(scores()[1]).reshape(2, 7, 7, 7)
    np.testing.assert_allclose(law.sum(axis=(1, 2, 3)), 1, atol=1e-6)
    first, second, third = law.sum(axis=(2, 3)), law.sum(axis=(1, 3)), law.sum(axis=(1, 2))
    np.testing.assert_allclose(law, np.einsum("bi,bj,bk->bijk", first, second, third), atol=1e-7)


@pytest.mark.long
def test_sampling_draws_from_the_law_that_is_scored() -> None:
    tokens, log_probs = sample_responses(MODEL, params(), *prompts(), jax.random.key(2), 8)
    number = np.asarray(tokens) @ np.array([49, 7, 1])
    assert len(np.unique(number)) > 4
    np.testing.assert_allclose(log_probs, np.take_along_axis(scores()[1], number, axis=1), atol=1e-5)
