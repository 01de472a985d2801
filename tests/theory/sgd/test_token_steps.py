"""Running parameters of linear models against a plain loop with finite differences in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.linear_models import sample_running, token_pass, token_sgd

from covlab.testing.statistics import chi_square_p
from tasks.linear import all_responses
from tasks.markov_features import RandomFeatures, Sizes
from training.token_sgd import start_bound, token_learning_rate, token_sgd_bound

FEATURES = RandomFeatures(Sizes(3, 3, 2, 2.0), 4, 3)
THETA = np.array([0.4, -0.5, 0.3, 0.2])
RATE, RADIUS = 0.2, 0.8
EVERY = all_responses(FEATURES)


def log_prob(theta: np.ndarray, prompt: int, response: np.ndarray, place: int) -> float:
    before = FEATURES.vocab if place == 0 else response[place - 1]
    scores = FEATURES.table()[prompt, place, before] @ theta
    return float(scores[response[place]] - np.log(np.exp(scores).sum()))


def plain_pass(
    prompt: int, response: np.ndarray, rate: float, radius: float | None, theta: np.ndarray = THETA
) -> tuple[list[float], np.ndarray]:
    """Token log-probabilities and the last parameters; gradients by central differences."""
    scores = []
    for place in range(3):
        scores.append(log_prob(theta, prompt, response, place))
        gradient = np.zeros(4)
        for i, unit in enumerate(1e-6 * np.eye(4)):
            up, down = (log_prob(theta + sign * unit, prompt, response, place) for sign in (1, -1))
            gradient[i] = (up - down) / 2e-6
        theta = theta + rate * gradient
        if radius is not None:
            theta = theta * min(1.0, radius / np.linalg.norm(theta))
    return scores, theta


@functools.partial(jax.jit, static_argnums=2)
def passes(responses: jax.Array, rate: jax.Array, radius: float | None) -> tuple[jax.Array, jax.Array]:
    """Token log-probabilities and all parameters for both prompts and every response."""

    def one(prompt: jax.Array, response: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = token_pass(FEATURES, jnp.asarray(THETA, jnp.float32), prompt, response, rate, radius)
        return found.log_probs(response), found.thetas

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(jnp.arange(2), responses)


def probabilities(rate: float) -> np.ndarray:
    """pi_TTT of every response to both prompts."""
    tokens = passes(jnp.asarray(EVERY), jnp.float32(rate), RADIUS)[0]
    return np.exp(np.asarray(tokens, np.float64).sum(-1))


@pytest.mark.parametrize("radius", [pytest.param(None, marks=pytest.mark.slow), RADIUS])
def test_steps_are_those_of_finite_differences(radius: float | None) -> None:
    scores, thetas = passes(jnp.asarray(EVERY), jnp.float32(RATE), radius)
    moved = []
    for prompt, index in itertools.product(range(2), (0, 5, 14, 26)):
        expected, last = plain_pass(prompt, EVERY[index], RATE, radius)
        np.testing.assert_allclose(scores[prompt, index], expected, atol=2e-5)
        np.testing.assert_allclose(thetas[prompt, index, -1], last, atol=2e-5)
        moved.append(np.linalg.norm(last))
    assert radius is None or np.isclose(max(moved), RADIUS), "the projection must do something"


def test_the_law_sums_to_1_and_is_not_the_fixed_one() -> None:
    running = probabilities(RATE)
    fixed = probabilities(0.0)
    np.testing.assert_allclose(running.sum(1), 1, atol=1e-5)
    by_hand = [[sum(log_prob(THETA, x, y, h) for h in range(3)) for y in EVERY] for x in range(2)]
    np.testing.assert_allclose(fixed, np.exp(by_hand), rtol=1e-4)
    assert np.abs(running - fixed).sum(1).min() > 0.05


@pytest.mark.long
def test_samples_have_the_scored_law() -> None:
    law = probabilities(RATE)[1]
    draw = functools.partial(
        sample_running,
        FEATURES,
        jnp.asarray(THETA, jnp.float32),
        jnp.asarray(1),
        learning_rate=RATE,
        radius=RADIUS,
    )
    drawn = jax.jit(jax.vmap(lambda key: draw(key=key)))(jax.random.split(jax.random.key(4), 4000))
    cells = (np.asarray(drawn) @ np.array([9, 3, 1])).tolist()
    assert chi_square_p(cells, dict(enumerate(law / law.sum()))) > 1e-3
    fixed = probabilities(0.0)[1]
    assert chi_square_p(cells, dict(enumerate(fixed / fixed.sum()))) < 1e-6


def test_training_carries_the_parameters_on_to_the_next_sequence() -> None:
    prompts, responses = np.array([0, 1, 1]), EVERY[[4, 17, 9]]
    run = jax.jit(functools.partial(token_sgd, FEATURES, learning_rate=RATE, radius=RADIUS))
    starts, last = run(jnp.asarray(THETA, jnp.float32), jnp.asarray(prompts), jnp.asarray(responses))
    theta = THETA
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        np.testing.assert_allclose(starts[number], theta, atol=5e-5)
        theta = plain_pass(prompt, response, RATE, RADIUS, theta)[1]
    np.testing.assert_allclose(last, theta, atol=5e-5)


def test_step_sizes_and_bounds_are_the_formulas() -> None:
    assert token_learning_rate(2.0, 0.25, 64) == 1 / 8
    assert token_learning_rate(2.0, 4.0, 64) == 1 / 16
    assert token_learning_rate(2.0, 0.0, 64) == 1 / 8
    assert token_sgd_bound(0.125, 4.0, 64) == 4 / 8 + 1
    assert start_bound(0.5, 3.0, 2.0) == 8 + 3
