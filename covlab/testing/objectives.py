"""The contract of a training objective, on scores made up at random."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import Objective, Scores

SHAPE = PROMPTS, RESPONSES, LENGTH = 3, 4, 5
VOCABULARY = 6
ANY = 1e30
"""Where the mask is False, scores may be any number, such as this one."""


def objective_contract(objective: Objective) -> type:
    """Tests of an objective, to be given a name that begins with `Test`."""
    params = [pytest.param(objective, id=type(objective).__name__)]
    tests: type = pytest.mark.parametrize("objective", params)(type("TestObjective", (ObjectiveTests,), {}))
    return tests


class ObjectiveTests:
    """The tests of one objective."""

    def test_it_is_a_static_argument(self, objective: Objective) -> None:
        again = copy.copy(objective)
        assert again == objective
        assert hash(again) == hash(objective)

    def test_a_finite_loss_per_sequence(self, objective: Objective) -> None:
        for size in (1.0, 100.0):
            losses = objective(scores(size))
            assert losses.shape == (PROMPTS, RESPONSES)
            assert np.all(np.isfinite(losses)), f"token probabilities of about e^-{size:g}"

    def test_gradients_are_finite_and_0_at_padding(self, objective: Objective) -> None:
        for size in (1.0, 100.0):
            given = scores(size)

            def loss(tokens: jax.Array, logits: jax.Array, given: Scores = given) -> jax.Array:
                # A value function is trained through its logits, every other objective through its tokens.
                return jnp.sum(objective(given._replace(tokens=tokens, logits=logits)))

            slopes = jax.grad(loss, argnums=(0, 1))(given.tokens, given.logits)
            for slope in slopes:
                assert np.all(np.isfinite(slope)), f"token probabilities of about e^-{size:g}"
                np.testing.assert_array_equal(np.where(given.mask, 0, slope), 0)
            if size == 1:
                # Losses of very improbable responses may have no gradient.
                assert any(np.any(np.asarray(slope) != 0) for slope in slopes)

    def test_padding_has_no_effect(self, objective: Objective) -> None:
        np.testing.assert_array_equal(objective(scores(padding=ANY)), objective(scores(padding=-ANY)))

    def test_a_sequence_has_a_loss_of_its_own(self, objective: Objective) -> None:
        """All but objectives that compare the responses of one prompt, which draw several of them."""
        given = scores()
        np.testing.assert_allclose(
            objective(_part(given, np.s_[1:2])), objective(given)[1:2], rtol=1e-5, atol=1e-6
        )
        if not objective.needs_policy:
            np.testing.assert_allclose(
                objective(_part(given, np.s_[:, 2:3])), objective(given)[:, 2:3], rtol=1e-5, atol=1e-6
            )


def _part(given: Scores, index: Any) -> Scores:
    """The scores of some sequences; those of a prompt are shared by all its responses."""
    prompts = index[0] if isinstance(index, tuple) else index
    shared = ("prompt_tokens", "prompt_mask")
    return Scores(
        **{
            name: value if value is None else value[prompts if name in shared else index]
            for name, value in given._asdict().items()
        }
    )


def scores(size: float = 1.0, padding: float = -ANY) -> Scores:
    """Scores of every kind that an objective may need, consistent with each other; the same at every call.

    Args:
        size: the scale of the logits.
        padding: the scores where the mask is False.
    """
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, LENGTH + 1, SHAPE[:2])
    mask = np.arange(LENGTH) < lengths[..., None]

    def filled(values: np.ndarray) -> np.ndarray:
        """The values, with `padding` where the mask is False."""
        there = mask[..., None] if values.ndim > mask.ndim else mask
        return np.where(there, values, padding).astype(np.float32)

    def law() -> np.ndarray:
        return np.asarray(jax.nn.log_softmax(size * rng.normal(size=(*SHAPE, VOCABULARY)).astype(np.float32)))

    own, reference, teacher = law(), law(), law()
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
    }
    return Scores(**{name: jnp.asarray(value) for name, value in made.items()})
