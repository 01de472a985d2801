"""A batch's gradient from its parts, and how many parts a batch is split into."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from training.step import TOKENS_OF_A_PART, mean_gradient, norm_of, parts_of_batch


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_the_parts_give_the_whole_batchs_mean_loss_and_gradient(parts: int) -> None:
    """Least squares: loss mean (x w - y)^2, gradient 2 mean (x w - y) x."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (6, 3)).astype("f"), rng.normal(0, 1, 6).astype("f")
    weights = {"w": rng.normal(0, 1, 3).astype("f")}

    def loss(params, batch):
        errors = batch[0] @ params["w"] - batch[1]
        return jax.numpy.mean(errors**2), errors

    (value, gradient), errors = mean_gradient(loss, weights, (x, y), parts)
    error = x @ weights["w"] - y
    np.testing.assert_allclose(errors, error, rtol=1e-4, atol=1e-6)
    assert value == pytest.approx(np.mean(error**2), rel=1e-5)
    np.testing.assert_allclose(gradient["w"], 2 * np.mean(error[:, None] * x, axis=0), rtol=1e-4, atol=1e-6)


def test_one_bad_part_makes_the_loss_not_finite() -> None:
    x = np.ones((4, 1), "f")
    x[3] = np.nan
    (value, gradient), _ = mean_gradient(
        lambda w, part: (jax.numpy.mean(part * w), ()), np.ones(1, "f"), x, 4
    )
    assert np.isnan(value)
    assert np.isnan(gradient).all()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_norm_is_of_all_entries_together(platform: str) -> None:
    tree = {"matrix": np.array([[3.0, 0.0], [0.0, 4.0]], "f"), "bias": np.array([-12.0], "f"), "none": ()}
    assert float(norm_of(tree, platform)) == pytest.approx(13, rel=1e-6)
    assert np.isnan(norm_of(tree | {"bias": np.array([np.nan], "f")}, platform))


def test_a_batch_is_split_no_further_than_it_needs() -> None:
    assert parts_of_batch(32, TOKENS_OF_A_PART // 32, "cpu") == 1
    assert parts_of_batch(64, 136, "cpu") == 8
    assert parts_of_batch(6, TOKENS_OF_A_PART // 2, "cpu") == 3
    assert parts_of_batch(7, TOKENS_OF_A_PART // 2, "cpu") == 7
    assert parts_of_batch(2, 10 * TOKENS_OF_A_PART, "cpu") == 2


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_an_accelerator_gets_the_whole_batch(platform: str) -> None:
    assert parts_of_batch(64, 10_000, platform) == 1
