"""Every rule over several steps against the same rule in NumPy; the ball; the settings of normalised SGD."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from training.optimizer_links import chain
from training.optimizers import (
    adam,
    muon,
    normalize_by_global_norm,
    normalized_sgd,
    normalized_sgd_settings,
    project_onto_ball,
    sgd,
    sign_sgd,
)

Tree = dict[str, np.ndarray]
START: Tree = {"kernel": np.array([[0.3, -0.1], [0.2, 0.4]]), "bias": np.array([0.5])}


def gradients(count: int) -> list[Tree]:
    """Gradients from long to short, so that damping and normalisation both matter."""
    draw = np.random.default_rng(0)
    return [{name: draw.normal(size=a.shape) * 10.0**-k for name, a in START.items()} for k in range(count)]


def trajectory(rule: optax.GradientTransformation, given: list[Tree], start: Tree = START) -> list[Tree]:
    """Parameters after every gradient."""
    params: Any = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    state, found = rule.init(params), []
    for gradient in given:
        updates, state = rule.update(
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradient), state, params
        )
        params = optax.apply_updates(params, updates)
        found.append(jax.tree.map(np.asarray, params))
    return found


def norm(tree: Tree) -> float:
    return math.sqrt(sum(float(np.sum(leaf**2)) for leaf in tree.values()))


def expected(
    given: list[Tree], direction: Callable[[Tree], Tree], rate: float, radius: float | None
) -> list[Tree]:
    """theta <- Proj(theta - rate * direction(g)) in float64."""
    params, found = START, []
    for gradient in given:
        step = direction(gradient)
        params = {name: params[name] - rate * step[name] for name in params}
        if radius is not None and norm(params) > radius:
            params = {name: leaf * radius / norm(params) for name, leaf in params.items()}
        found.append(params)
    return found


def same(found: list[Tree], wanted: list[Tree]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name in other:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)


def signs(gradient: Tree) -> Tree:
    return {name: np.sign(leaf) for name, leaf in gradient.items()}


def normalized(damping: float) -> Callable[[Tree], Tree]:
    return lambda gradient: {name: leaf / (damping + norm(gradient)) for name, leaf in gradient.items()}


@pytest.mark.parametrize("radius", [None, 0.6])
@pytest.mark.parametrize(
    ("rule", "options", "direction"),
    [
        (sgd, {}, lambda gradient: gradient),
        (sign_sgd, {}, signs),
        (normalized_sgd, {"damping": 0.5}, normalized(0.5)),
        (normalized_sgd, {"damping": 0.0}, normalized(0.0)),
    ],
)
def test_rules_over_five_steps(
    rule: Any, options: dict[str, float], direction: Callable[[Tree], Tree], radius: float | None
) -> None:
    given = gradients(5)
    wanted = expected(given, direction, 0.3, radius)
    same(trajectory(rule(steps=5, learning_rate=0.3, radius=radius, **options), given), wanted)
    if radius is not None:
        assert any(abs(norm(params) - radius) < 1e-9 for params in wanted), "the ball must matter here"


def test_normalised_sgd_is_sgd_for_short_gradients_and_a_direction_for_long_ones() -> None:
    long = {name: 1e6 * leaf for name, leaf in START.items()}
    short = {name: 1e-6 * leaf for name, leaf in START.items()}
    (far,) = trajectory(normalized_sgd(steps=1, learning_rate=0.25, damping=2.0), [long])
    assert norm({name: far[name] - START[name] for name in far}) == pytest.approx(0.25, rel=1e-4)
    update, _ = normalize_by_global_norm(2.0).update(jax.tree.map(jnp.asarray, short), optax.EmptyState())
    np.testing.assert_allclose(update["bias"], short["bias"] / 2.0, rtol=1e-5)


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_a_zero_gradient_moves_nothing(damping: float) -> None:
    zero = {name: np.zeros_like(leaf) for name, leaf in START.items()}
    same(trajectory(normalized_sgd(steps=1, damping=damping), [zero]), [START])
    same(trajectory(sign_sgd(steps=1), [zero]), [START])


def test_the_schedule_scales_the_new_rules() -> None:
    """Linear warm-up over four steps: a quarter, a half, three quarters of the step."""
    ones = {name: np.ones_like(leaf) for name, leaf in START.items()}
    for rule in (
        sign_sgd(steps=9, learning_rate=0.4, warmup=4),
        normalized_sgd(steps=9, learning_rate=0.4 * math.sqrt(5), damping=0.0, warmup=4),
    ):
        path = [START, *trajectory(rule, [ones] * 4)]
        steps = [float(old["bias"][0] - new["bias"][0]) for old, new in itertools.pairwise(path)]
        np.testing.assert_allclose(steps, [0.1, 0.2, 0.3, 0.4], rtol=1e-5)


def test_adam_in_the_ball() -> None:
    given = gradients(4)
    free, bound = (
        trajectory(adam(steps=4, learning_rate=0.3, weight_decay=0.0, radius=radius), given)
        for radius in (None, 0.7)
    )
    assert max(map(norm, free)) > 0.75
    assert max(map(norm, bound)) <= 0.7 * (1 + 1e-6)
    # The first step does not depend on the moments that differ later.
    wanted = {name: leaf * min(1, 0.7 / norm(free[0])) for name, leaf in free[0].items()}
    same(bound[:1], [wanted])


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Five quintic steps on the matrix over its Frobenius norm, the wide way round."""
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.long
def test_muon_orthogonalises_hidden_matrices_and_leaves_the_rest_to_adam() -> None:
    draw = np.random.default_rng(1)
    start = {
        "blocks": [{"mlp_in": {"kernel": draw.normal(size=(3, 5)), "bias": draw.normal(size=5)}}],
        "token": draw.normal(size=(4, 3)),
    }
    given = [jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), start) for _ in range(3)]
    rate, decay, beta = 0.1, 0.5, 0.95
    found: list[Any] = trajectory(
        muon(steps=3, learning_rate=rate, weight_decay=decay, momentum=beta), given, start
    )
    kernel, mean = start["blocks"][0]["mlp_in"]["kernel"], np.zeros((3, 5))
    for count, (gradient, params) in enumerate(zip(given, found, strict=True), 1):
        g = gradient["blocks"][0]["mlp_in"]["kernel"]
        mean = beta * mean + (1 - beta) * g
        ahead = beta * mean / (1 - beta ** (count + 1)) + (1 - beta) * g / (1 - beta**count)
        update = 0.2 * math.sqrt(5) * newton_schulz(ahead)
        kernel = kernel - rate * (update + decay * kernel)
        # The iteration amplifies rounding: its slope at 0 is 3.4445^5.
        np.testing.assert_allclose(params["blocks"][0]["mlp_in"]["kernel"], kernel, atol=2e-4)
    adams = optax.adamw(rate, weight_decay=decay, mask={"bias": False, "token": True})
    rest: list[Any] = trajectory(
        adams,
        [{"bias": g["blocks"][0]["mlp_in"]["bias"], "token": g["token"]} for g in given],
        {"bias": start["blocks"][0]["mlp_in"]["bias"], "token": start["token"]},
    )
    np.testing.assert_allclose(found[-1]["blocks"][0]["mlp_in"]["bias"], rest[-1]["bias"], rtol=1e-5)
    np.testing.assert_allclose(found[-1]["token"], rest[-1]["token"], rtol=1e-5)


@pytest.mark.long
def test_muons_steps_have_the_size_of_adams() -> None:
    """Root mean square 0.2 whatever the shape, as the singular values come out near 1."""
    draw = np.random.default_rng(2)
    for shape in ((64, 64), (32, 128), (96, 24)):
        start = {"kernel": np.zeros(shape)}
        (moved,) = trajectory(
            muon(steps=1, learning_rate=1.0, weight_decay=0.0), [{"kernel": draw.normal(size=shape)}], start
        )
        assert 0.14 < math.sqrt(float(np.mean(moved["kernel"] ** 2))) < 0.26


def test_projection_is_the_nearest_point_and_the_identity_inside() -> None:
    link = project_onto_ball(2.0)
    params = {"a": jnp.array([3.0]), "b": jnp.array([0.0, 0.0])}
    updates, _ = link.update({"a": jnp.array([0.0]), "b": jnp.array([0.0, 4.0])}, link.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["a"], [1.2], rtol=1e-6)
    np.testing.assert_allclose(moved["b"], [0.0, 1.6], rtol=1e-6)
    inside = {"a": jnp.array([-2.0]), "b": jnp.array([0.5, 0.5])}
    updates, _ = link.update(inside, link.init(params), params)
    np.testing.assert_array_equal(updates["b"], inside["b"])
    same_, _ = project_onto_ball(None).update(params, optax.EmptyState())
    assert same_ is params


def test_projection_without_parameters_or_with_a_bad_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the parameters"):
        project_onto_ball(1.0).update({"a": jnp.zeros(1)}, optax.EmptyState())
    for rule in (sgd, normalized_sgd, sign_sgd, adam):
        with pytest.raises(ValueError, match="radius") as refused:
            rule(steps=1, radius=-1.0)
        assert str(refused.value) == "optimizer.radius: -1.0 is neither null nor a positive number"


@pytest.mark.parametrize(
    ("rule", "options", "line"),
    [
        (normalized_sgd, {"learning_rate": -1.0}, "optimizer.learning_rate: -1.0 is not a positive number"),
        (normalized_sgd, {"damping": -0.1}, "optimizer.damping: -0.1 is not a number >= 0"),
        (normalized_sgd, {"damping": float("nan")}, "optimizer.damping: nan is not a number >= 0"),
        (sign_sgd, {"schedule": "linear"}, "optimizer.schedule: 'linear' is not one of constant, cosine"),
        (muon, {"momentum": 1.0}, "optimizer.momentum: 1.0 is not a number in [0, 1)"),
        (muon, {"weight_decay": -1.0}, "optimizer.weight_decay: -1.0 is not a number >= 0"),
        (muon, {"clip_norm": 0.0}, "optimizer.clip_norm: 0.0 is neither null nor a positive number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(rule: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="optimizer") as refused:
        rule(steps=10, **options)
    assert str(refused.value) == line


def test_settings_of_normalised_sgd() -> None:
    """B = 1/64, N = e^16: eta = min{1/2, (16 / (sigma^2 T))^(1/4)}, lambda = 1/eta."""
    first = normalized_sgd_settings(math.exp(16), 1 / 64, 1.0, 16)
    np.testing.assert_allclose(first, (0.5, 2.0), rtol=1e-12)
    second = normalized_sgd_settings(math.exp(16), 1 / 64, 16.0, 256)
    np.testing.assert_allclose(second, (0.25, 4.0), rtol=1e-12)
    np.testing.assert_allclose(normalized_sgd_settings(math.exp(16), 1 / 64, 0.0, 1), (0.5, 2.0))
    for bad in ((1.0, 1.0, 1.0, 1), (2.0, 0.0, 1.0, 1), (2.0, 1.0, -1.0, 1), (2.0, 1.0, 1.0, 0)):
        with pytest.raises(ValueError, match="is not"):
            normalized_sgd_settings(*bad)


def test_one_link_is_not_wrapped() -> None:
    link = project_onto_ball(1.0)
    assert chain(None, link, None) is link
    assert isinstance(chain(link, optax.identity()).init({}), tuple)
