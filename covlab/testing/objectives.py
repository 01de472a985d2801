"""The contract of a training objective, on scores made up at random."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from training import Objective, Scores

SHAPE = PROMPTS, RESPONSES, LENGTH = 3, 4, 5
VOCABULARY = 6
HEADS = 3
"""Heads for tokens after the next one."""
SIZES = (1.0, 100.0)
"""Scales of the logits: token probabilities of about e^-1 and of about e^-100."""
ANY = 1e30
"""An absurd score, as it may stand where the mask is False."""


def objective_contract(objective: Objective) -> type:
    """Tests of an objective, to be given a name that begins with `Test`."""
    params = [pytest.param(objective, id=type(objective).__name__)]
    tests: type = pytest.mark.parametrize("objective", params)(type("TestObjective", (ObjectiveTests,), {}))
    return tests


@functools.cache
def _losses(objective: Objective) -> Callable[[Scores], jax.Array]:
    return jax.jit(lambda given: objective(given))


@functools.cache
def _slopes(objective: Objective) -> Callable[[Scores], tuple[jax.Array, jax.Array, jax.Array]]:
    """Gradients by `tokens`, `logits` and `distributions`: a value function is trained through its logits, a
    divergence through the distributions, every other objective through its tokens."""

    def loss(tokens: jax.Array, logits: jax.Array, distributions: jax.Array, given: Scores) -> jax.Array:
        losses = objective(given._replace(tokens=tokens, logits=logits, distributions=distributions))
        # Unequal weights, so that the gradients of a loss that is centred do not cancel.
        return jnp.sum(losses * jnp.linspace(0.5, 1, losses.size).reshape(losses.shape))

    slopes = jax.grad(loss, argnums=(0, 1, 2))
    return jax.jit(lambda given: slopes(given.tokens, given.logits, given.distributions, given))


class ObjectiveTests:
    """The tests of one objective."""

    def test_it_is_a_static_argument(self, objective: Objective) -> None:
        again = copy.copy(objective)
        assert again == objective
        assert hash(again) == hash(objective)

    @pytest.mark.parametrize("size", SIZES)
    def test_a_finite_loss_per_sequence(self, objective: Objective, size: float) -> None:
        losses = _losses(objective)(scores(size))
        assert losses.shape == (PROMPTS, RESPONSES)
        assert np.all(np.isfinite(losses)), f"token probabilities of about e^-{size:g}"

    @pytest.mark.parametrize("size", SIZES)
    def test_gradients_are_finite_and_0_at_padding(self, objective: Objective, size: float) -> None:
        given = scores(size)
        slopes = _slopes(objective)(given)
        for slope in slopes:
            assert np.all(np.isfinite(slope)), f"token probabilities of about e^-{size:g}"
            there = given.mask if slope.ndim == given.mask.ndim else given.mask[..., None]
            np.testing.assert_array_equal(np.where(there, 0, slope), 0)
        # Losses of very improbable responses may have no gradient.
        assert size > 1 or any(np.any(np.asarray(slope) != 0) for slope in slopes)

    def test_padding_has_no_effect(self, objective: Objective) -> None:
        losses = _losses(objective)
        np.testing.assert_array_equal(losses(scores(padding=ANY)), losses(scores(padding=-ANY)))

    def test_a_sequence_has_a_loss_of_its_own(self, objective: Objective) -> None:
        """Other sequences do not change it; those of the same prompt may, in objectives that draw several."""
        kept = np.zeros(SHAPE[:2], bool)
        kept[1] = True
        if not objective.needs_policy:
            kept[1, 1:] = False

        def chosen(one: jax.Array, other: jax.Array) -> jax.Array:
            """Values of the first where a sequence is kept, or its prompt."""
            mine = kept if one.shape[1] > 1 else kept.any(axis=1, keepdims=True)
            return jnp.where(mine.reshape(*mine.shape, *[1] * (one.ndim - 2)), one, other)

        one, other = scores(), scores(seed=1)
        losses = _losses(objective)
        mixed = losses(jax.tree.map(chosen, one, other))
        np.testing.assert_allclose(mixed[kept], losses(one)[kept], rtol=1e-5, atol=1e-6)
        assert np.any(np.asarray(mixed) != np.asarray(losses(one)))


@functools.cache
def scores(size: float = 1.0, padding: float = -ANY, seed: int = 0) -> Scores:
    """Scores of every kind that an objective may need, consistent with each other.

    Args:
        size: the scale of the logits.
        padding: the scores where the mask is False.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, LENGTH + 1, SHAPE[:2])
    mask = np.arange(LENGTH) < lengths[..., None]

    def filled(values: np.ndarray) -> np.ndarray:
        """The values, with `padding` where the mask is False."""
        there = mask[..., None] if values.ndim > mask.ndim else mask
        return np.where(there, values, padding).astype(np.float32)

    def law() -> np.ndarray:
        values = size * rng.normal(size=(*SHAPE, VOCABULARY))
        return values - special.logsumexp(values, axis=-1, keepdims=True)

    own, reference, teacher = law(), law(), law()
    ahead = np.stack([mask & (np.arange(LENGTH) >= d) for d in range(1, HEADS + 1)], axis=2)
    chosen = rng.integers(0, VOCABULARY, (*SHAPE, 1))

    def at_tokens(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, chosen, axis=-1)[..., 0]

    made: dict[str, Any] = {
        "tokens": filled(at_tokens(own)),
        "mask": mask,
        "prompt_tokens": np.full((PROMPTS, 1, 2), -1.0, np.float32),
        "prompt_mask": np.ones((PROMPTS, 1, 2), bool),
        "logits": filled(size * rng.normal(size=SHAPE)),
        "rewards": rng.integers(0, 2, SHAPE[:2]).astype(np.float32),
        "behaviour": filled(at_tokens(own) + 0.1 * rng.normal(size=SHAPE)),
        "reference": filled(at_tokens(reference)),
        "divergence": filled(np.sum(np.exp(own) * (own - reference), axis=-1)),
        "distributions": filled(own),
        "teacher": filled(teacher),
        "kept": rng.random(SHAPE[:2]) < 0.7,
        "ahead": np.where(ahead, size * rng.normal(-1, 0.1, ahead.shape), padding).astype(np.float32),
    }
    return Scores(**{name: jnp.asarray(value) for name, value in made.items()})
