"""First steps of every optimizer by hand, and learning rates."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import GPT
from training.optimizers import adam, adamw, decay_mask, learning_rate_schedule, sgd

PARAMS = {"kernel": jnp.array([2.0, -1.0]), "bias": jnp.array([3.0]), "scale": jnp.array([1.0])}
GRADIENT = {"kernel": jnp.array([0.5, -0.25]), "bias": jnp.array([1.0]), "scale": jnp.array([-2.0])}


def first_updates(rule: Any, gradients: list[Any]) -> list[dict[str, np.ndarray]]:
    state, found = rule.init(PARAMS), []
    for gradient in gradients:
        updates, state = rule.update(gradient, state, PARAMS)
        found.append(jax.tree.map(np.asarray, updates))
    return found


def test_weight_decay_spares_biases_and_gains() -> None:
    model = GPT(
        vocab_size=5,
        prompt_length=2,
        response_length=2,
        num_layers=1,
        num_heads=1,
        width=4,
        tie_embeddings=False,
    )
    mask = decay_mask(jax.eval_shape(model.init, jax.random.key(0)))
    decayed = {jax.tree_util.keystr(path) for path, on in jax.tree_util.tree_leaves_with_path(mask) if on}
    linear = ("query_key_value", "attention_out", "mlp_in", "mlp_out")
    kernels = {f"['blocks'][0]['{name}']['kernel']" for name in linear}
    assert decayed == kernels | {"['token']", "['position']", "['output']"}


def test_adamw_decays_weights_apart_from_the_gradient() -> None:
    """The first Adam update is -lr g/(|g| + eps) = -lr sign(g); decoupled decay adds -lr * decay * weight."""
    (update,) = first_updates(adamw(steps=10, learning_rate=0.1, weight_decay=0.5), [GRADIENT])
    np.testing.assert_allclose(update["kernel"], [-0.1 - 0.1 * 0.5 * 2, 0.1 + 0.1 * 0.5 * 1], rtol=1e-5)
    np.testing.assert_allclose([*update["bias"], *update["scale"]], [-0.1, 0.1], rtol=1e-5)


def test_adam_adds_the_decay_to_the_gradient() -> None:
    """L2 on the kernel: g + 0.5 w = [1.5, -0.75] first, [-1, ...] when the gradient turns."""
    turned = {name: -3 * g for name, g in GRADIENT.items()}
    rule = adam(steps=10, learning_rate=0.1, weight_decay=0.5, beta1=0.5, beta2=0.75)
    one, two = first_updates(rule, [GRADIENT, turned])
    np.testing.assert_allclose(one["kernel"], [-0.1, 0.1], rtol=1e-5)
    first, second = 0.5 + 0.5 * 2.0, -1.5 + 0.5 * 2.0
    mean = (0.25 * first + 0.5 * second) / (1 - 0.5**2)
    square = (0.25 * 0.75 * first**2 + 0.25 * second**2) / (1 - 0.75**2)
    np.testing.assert_allclose(two["kernel"][0], -0.1 * mean / math.sqrt(square), rtol=1e-5)


def test_sgd_and_its_momentum() -> None:
    one, two = first_updates(sgd(steps=10, learning_rate=0.1), [GRADIENT, GRADIENT])
    np.testing.assert_allclose(one["kernel"], [-0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(two["kernel"], one["kernel"])
    _, heavy = first_updates(sgd(steps=10, learning_rate=0.1, momentum=0.5), [GRADIENT, GRADIENT])
    np.testing.assert_allclose(heavy["kernel"], 1.5 * one["kernel"], rtol=1e-6)


def test_clipping_bounds_the_norm_of_all_leaves_together() -> None:
    norm = math.sqrt(0.25 + 0.0625 + 1 + 4)
    (update,) = first_updates(sgd(steps=10, learning_rate=1.0, clip_norm=0.5), [GRADIENT])
    np.testing.assert_allclose(update["kernel"], [-0.5 * 0.5 / norm, 0.25 * 0.5 / norm], rtol=1e-5)
    (same,) = first_updates(sgd(steps=10, learning_rate=1.0, clip_norm=5.0), [GRADIENT])
    np.testing.assert_allclose(same["kernel"], -GRADIENT["kernel"])
    # Adam's first update is blind to the gradient's scale, but for epsilon.
    for rule in (adamw, adam):
        (update,) = first_updates(rule(steps=10, clip_norm=1e-8, epsilon=1.0, weight_decay=0.0), [GRADIENT])
        assert np.abs(update["bias"]) < 1e-11


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        (("constant", 0, 0.1), {0: 1.0, 50: 1.0, 99: 1.0}),
        (("constant", 4, 0.1), {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 99: 1.0}),
        (("constant", 1, 0.1), {0: 1.0, 5: 1.0}),
        (("cosine", 0, 0.1), {0: 1.0, 50: 0.55, 100: 0.1, 150: 0.1}),
        (("cosine", 20, 0.5), {0: 0.05, 9: 0.5, 19: 1.0, 20: 1.0, 60: 0.75, 100: 0.5}),
        (("cosine", 1, 0.5), {0: 1.0, 1: 1.0, 100: 0.5}),
    ],
)
def test_learning_rates_at_known_steps(options: tuple[str, int, float], rates: dict[int, float]) -> None:
    schedule = learning_rate_schedule(2.0, 100, *options)
    for step, fraction in rates.items():
        assert float(schedule(step)) == pytest.approx(2.0 * fraction, abs=1e-6), step


def test_the_schedule_drives_the_updates() -> None:
    updates = first_updates(
        sgd(steps=4, learning_rate=1.0, schedule="cosine", final_fraction=0.0), [GRADIENT] * 4
    )
    rates = [-float(update["kernel"][0]) / 0.5 for update in updates]
    np.testing.assert_allclose(
        rates, [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)], atol=1e-6
    )


@pytest.mark.parametrize(
    ("rule", "options", "line"),
    [
        (adamw, {"learning_rate": 0.0}, "optimizer.learning_rate: 0.0 is not a positive number"),
        (adam, {"learning_rate": float("nan")}, "optimizer.learning_rate: nan is not a positive number"),
        (adamw, {"weight_decay": -1.0}, "optimizer.weight_decay: -1.0 is not a number >= 0"),
        (adam, {"beta2": 1.0}, "optimizer.beta2: 1.0 is not a number in [0, 1)"),
        (sgd, {"momentum": 1.5}, "optimizer.momentum: 1.5 is not a number in [0, 1)"),
        (adamw, {"epsilon": 0.0}, "optimizer.epsilon: 0.0 is not a positive number"),
        (sgd, {"schedule": "step"}, "optimizer.schedule: 'step' is not one of constant, cosine"),
        (adamw, {"warmup": -1}, "optimizer.warmup: -1 is not an integer >= 0"),
        (adamw, {"clip_norm": 0.0}, "optimizer.clip_norm: 0.0 is neither null nor a positive number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(rule: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="optimizer") as refused:
        rule(steps=10, **options)
    assert str(refused.value) == line
