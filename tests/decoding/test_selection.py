"""Selection by representations: against a plain inverse, one response at a time, and the features' mean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoding.selection import response_features, select_diverse
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
