"""Selection by representations: against a plain inverse, one response at a time, and the features' mean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoding.selection import response_features, select_diverse, whitened
from models import GPT


def plainly(features: np.ndarray, k: int, ridge: float) -> list[int]:
    """Selection by a full inverse at every step."""
    chosen: list[int] = []
    for _ in range(k):
        picked = features[chosen]
        inverse = np.linalg.inv(ridge * np.eye(features.shape[1]) + picked.T @ picked)
        novelty = np.einsum("id,de,ie->i", features, inverse, features)
        novelty[chosen] = -np.inf
        chosen.append(int(np.argmax(novelty)))
    return chosen


@pytest.mark.parametrize(("samples", "width", "ridge"), [(12, 5, 0.01), (20, 30, 0.5), (6, 1, 1.0)])
def test_the_choice_is_that_of_the_plain_inverse(samples: int, width: int, ridge: float) -> None:
    rng = np.random.default_rng(samples)
    for _ in range(5):
        features = rng.normal(size=(samples, width))
        chosen = select_diverse(jnp.asarray(features, jnp.float32), samples - 1, ridge)
        # Where the span is exhausted, novelties are nearly equal and rounding decides.
        sure = min(width, samples - 1)
        assert chosen.tolist()[:sure] == plainly(features.astype(np.float32), sure, ridge)
        assert len(set(chosen.tolist())) == samples - 1


def test_repetitions_come_last_and_equals_in_order() -> None:
    features = jnp.asarray([[3.0, 0, 0], [3.0, 0, 0], [3.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0]])
    assert select_diverse(features, 5).tolist()[:3] == [0, 4, 3]


@pytest.mark.parametrize(
    ("k", "ridge", "message"), [(0, 1.0, "k: 0"), (4, 1.0, "k: 4"), (1, 0.0, "ridge: 0.0")]
)
def test_bad_settings_are_one_clear_line(k: int, ridge: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_diverse(jnp.ones((3, 2)), k, ridge)


@pytest.mark.long
def test_features_are_means_over_the_responses_tokens() -> None:
    model = GPT(vocab_size=7, prompt_length=3, response_length=4, num_layers=1, num_heads=2, width=8)
    params: Any = model.init(jax.random.key(0))
    prompt, prompt_mask = jnp.asarray([[1, 2, 3]]), jnp.ones((1, 3), bool)
    responses = jnp.asarray([[[4, 5, 0, 0], [4, 5, 6, 1], [0, 0, 0, 0]]])
    found = jax.jit(lambda own: response_features(model, own, prompt, prompt_mask, responses, responses > 0))(
        params
    )
    assert found.shape == (1, 3, 8)
    states = np.asarray(jax.jit(lambda own: model.features(own, prompt, prompt_mask, responses))(params))
    np.testing.assert_allclose(found[0, 0], states[0, 0, :2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[0, 1], states[0, 1].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found[0, 2], 0)


def test_whitened_features_are_those_of_an_inverse_square_root() -> None:
    """Against NumPy's singular values in float64: (h - mean) V diag((s^2/n + ridge mean(s^2/n))^-1/2) V'."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(12, 4)) @ rng.normal(size=(4, 4)) + 7
    centred = features - features.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    spread = singular**2 / 12
    expected = centred @ axes.T @ np.diag((spread + 0.3 * spread.mean()) ** -0.5) @ axes
    np.testing.assert_allclose(whitened(jnp.asarray(features), 0.3), expected, atol=2e-5)
    # Without a ridge the covariance is 1 in every direction.
    white = np.asarray(whitened(jnp.asarray(features), 1e-9))
    np.testing.assert_allclose(white.T @ white / 12, np.eye(4), atol=1e-4)


def test_whitening_makes_a_choice_that_no_linear_map_of_the_features_changes() -> None:
    rng = np.random.default_rng(6)
    features = rng.normal(size=(10, 3))
    stretched = features @ np.array([[30.0, 0, 0], [2, 1, 0], [0, 5, 0.2]]) - 4

    def picked(own: np.ndarray) -> list[int]:
        return select_diverse(whitened(jnp.asarray(own), 1e-9), 4).tolist()

    assert picked(stretched) == picked(features)
    assert (
        select_diverse(jnp.asarray(stretched), 4).tolist()
        != select_diverse(jnp.asarray(features), 4).tolist()
    )


def test_equal_features_whiten_to_zero() -> None:
    np.testing.assert_array_equal(whitened(jnp.ones((5, 3))), 0)
    with pytest.raises(ValueError, match=r"ridge: 0"):
        whitened(jnp.ones((5, 3)), 0)
