"""Exploration bonuses: against plain NumPy, bounds, and groups without a bonus."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra.utils import instantiate

from covlab.launch.schema import schema
from models import GPT
from training import CountBonus, Policy, RepresentationBonus, TrainingBatch
from training.exploration import elliptic_bonus


@pytest.mark.long
@pytest.mark.parametrize(("samples", "width"), [(8, 3), (4, 16)])
def test_the_bonus_is_that_of_the_plain_inverse(samples: int, width: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(2.0, 1.0, size=(5, samples, width))
    found = elliptic_bonus(jnp.asarray(features, jnp.float32), 0.05, 0.3)
    for group, own in zip(features, np.asarray(found), strict=True):
        centred = group - group.mean(axis=0)
        inverse = np.linalg.inv(0.05 * np.eye(width) + centred.T @ centred)
        expected = 0.3 * np.einsum("id,de,ie->i", centred, inverse, centred)
        np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-5)
        assert own.min() >= 0
        assert own.max() < 0.3
        assert own.sum() < 0.3 * min(samples - 1, width) + 1e-5


def test_the_odd_one_out_earns_most_and_a_group_of_equals_nothing() -> None:
    features = jnp.zeros((2, 4, 3)).at[0, 2, 1].set(5.0)
    found = np.asarray(elliptic_bonus(features, 0.01, 1.0))
    assert found[0].argmax() == 2
    np.testing.assert_allclose(found[1], 0, atol=1e-6)


def batch_of(rewards: Any) -> tuple[Policy, TrainingBatch]:
    model = GPT(vocab_size=7, prompt_length=2, response_length=3, num_layers=1, num_heads=2, width=8)
    prompt = jnp.asarray([[1, 2], [3, 4]])
    responses = jax.random.randint(jax.random.key(1), (2, 4, 3), 1, 7)
    batch = TrainingBatch(prompt, prompt > 0, responses, responses > 0, jnp.zeros(2, jnp.int32), rewards)
    return Policy(model, model.init(jax.random.key(0))), batch


@pytest.mark.long
def test_a_group_without_a_correct_response_gets_none() -> None:
    bonus = RepresentationBonus(weight=1.0)
    policy, batch = batch_of(jnp.asarray([[0.0, 1, 0, 0], [0.0, 0, 0, 0]]))
    found = np.asarray(jax.jit(lambda params: bonus(Policy(policy.model, params), batch))(policy.params))
    assert found.shape == (2, 4)
    assert np.all(found[0] > 0)
    np.testing.assert_array_equal(found[1], 0)
    with pytest.raises(ValueError, match="bonus: the batch has no rewards"):
        bonus(*batch_of(None))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("ridge", 0.0, "bonus.ridge: 0.0 is not a positive number"), ("weight", -1, "bonus.weight: -1 is not")],
)
def test_bad_settings_are_one_clear_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RepresentationBonus(**{field: value})


def test_the_configuration_names_it() -> None:
    assert instantiate(schema("training.RepresentationBonus")) == RepresentationBonus()


def test_counting_copies_is_the_limit_of_a_small_ridge() -> None:
    """h' V^-1 h -> 1/m - 1/S, whatever the features, if those of different responses are affinely
    independent."""
    rng = np.random.default_rng(0)
    alike = np.array([0, 0, 0, 1, 1, 2, 3, 4])
    features = rng.normal(3.0, 1.0, size=(5, 12))[alike][None]
    copies = np.bincount(alike)[alike]
    found = np.asarray(elliptic_bonus(jnp.asarray(features, jnp.float32), 0.01, 1.0))[0]
    np.testing.assert_allclose(found, 1 / copies - 1 / 8, atol=5e-3)
    # Too narrow features cannot tell all of them apart.
    narrow = np.asarray(elliptic_bonus(jnp.asarray(features[..., :2], jnp.float32), 0.01, 1.0))[0]
    assert np.abs(narrow - (1 / copies - 1 / 8)).max() > 0.1


def test_the_bonus_of_counts() -> None:
    bonus = CountBonus(weight=0.6)
    policy, batch = batch_of(jnp.asarray([[0.0, 1, 0, 0], [0.0, 0, 0, 0]]))
    responses = jnp.asarray([[[1, 2, 3], [1, 2, 3], [1, 2, 4], [1, 2, 3]]] * 2)
    mask = jnp.ones(responses.shape, bool)
    batch = batch._replace(responses=responses, response_mask=mask)
    np.testing.assert_allclose(bonus(policy, batch), [[0.2, 0.2, 0.6, 0.2], [0, 0, 0, 0]], rtol=1e-6)
    # What is masked counts for nothing.
    np.testing.assert_allclose(
        bonus(policy, batch._replace(response_mask=mask.at[..., 2].set(False)))[0], 0.15, rtol=1e-6
    )
    # Padding is no token: the second response is shorter.
    padded = jnp.asarray([[[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 2]]] * 2)
    shorter = batch._replace(responses=padded, response_mask=mask.at[:, 1, 2].set(False))
    np.testing.assert_allclose(bonus(policy, shorter)[0], [0.3, 0.6, 0.3, 0.6], rtol=1e-6)
    with pytest.raises(ValueError, match="bonus: the batch has no rewards"):
        bonus(*batch_of(None))
    with pytest.raises(ValueError, match=r"bonus\.weight: -1 is not a number"):
        CountBonus(weight=-1)
