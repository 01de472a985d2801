"""The linear model by counts of tokens against the general one, which walks through the response."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.linear import log_probs_of_all, token_gradients, token_kls, token_variances
from tasks.linear import all_responses
from theory.sgd.family import MINUS, PLUS, SGDFamily, letters_variance
from theory.sgd.family_runs import (
    Instance,
    check_family,
    coverage,
    divergence,
    gradient,
    letters_instance,
    likeliest,
    number_instance,
    token_law,
)

FAMILY = SGDFamily(length=6, letters=4.0, numbers=100.0)
PLUS_PROBABILITY, N, DEFICITS = 0.3, math.e, 13
THETAS = ((0.4, 0.1), (0.9, -0.3), (-0.2, 0.6))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def letters() -> Instance:
    return letters_instance(FAMILY, PLUS_PROBABILITY, N, DEFICITS)


def scalars(theta: Any) -> Any:
    return tuple(jnp.asarray(each, jnp.float64) for each in theta)


def prompt_of(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float64)


_token_gradients = jax.jit(jax.vmap(functools.partial(token_gradients, FAMILY), in_axes=(None, None, 0)))
_log_probs_of_all = jax.jit(functools.partial(log_probs_of_all, FAMILY))


@pytest.mark.parametrize("theta", THETAS)
def test_gradients_are_those_of_whole_responses(theta: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    number = 3 * FAMILY.least_number
    # Columns of a prompt's counts: the likeliest token, then the two others.
    orders = {PLUS: (2, 1, 0), MINUS: (2, 1, 0), number: (1, 0, 2)}
    responses = {prompt: rng.integers(3, size=(5, 6)) for prompt in orders}

    def whole(prompt: float) -> np.ndarray:
        return sum(
            np.asarray(token_gradients(FAMILY, jnp.asarray(theta), prompt_of(prompt), jnp.asarray(each))).sum(
                0
            )
            for each in responses[prompt]
        )

    def counts(prompt: float) -> Any:
        return scalars(np.sum(responses[prompt] == token) for token in orders[prompt])

    found = gradient(letters(), scalars(theta), (counts(PLUS), counts(MINUS)))
    np.testing.assert_allclose(found, whole(PLUS) + whole(MINUS), atol=1e-10)
    instance = number_instance(FAMILY, np.array(number))
    np.testing.assert_allclose(
        gradient(instance, scalars(theta), (counts(number),)), whole(number), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("theta", THETAS)
def test_coverage_and_kl_of_the_letters_against_all_responses(theta: tuple[float, float]) -> None:
    responses = jnp.asarray(all_responses(FAMILY))
    star = jnp.array([0.5, 0.5])
    cov = dict.fromkeys((1.5, N, 20.0), 0.0)
    kl = tokens = 0.0
    for prompt, weight in ((PLUS, PLUS_PROBABILITY), (MINUS, 1 - PLUS_PROBABILITY)):
        log_star = np.asarray(_log_probs_of_all(star, prompt_of(prompt), responses))
        ratio = log_star - np.asarray(_log_probs_of_all(jnp.array(theta), prompt_of(prompt), responses))
        for n in cov:
            cov[n] += weight * np.exp(log_star)[ratio >= math.log(n)].sum()
        kl += weight * float(np.exp(log_star) @ ratio)
        tokens += weight * float(
            token_kls(FAMILY, star, jnp.array(theta), prompt_of(prompt), responses[0]).sum()
        )
    for n, wanted in cov.items():
        assert float(coverage(letters(), scalars(theta), math.log(n))) == pytest.approx(wanted, abs=1e-12)
    assert float(divergence(letters(), scalars(theta))) == pytest.approx(kl)
    assert tokens == pytest.approx(kl)


def test_variance_of_the_letters_is_the_general_one() -> None:
    response = jnp.zeros(6, jnp.int32)
    general = token_variances(FAMILY, jnp.array([0.5, 0.5]), prompt_of(PLUS), response).sum()
    assert letters_variance(FAMILY) == pytest.approx(float(general))


def test_starts_are_where_the_lemmas_need_them() -> None:
    family = SGDFamily(256, 32.0, 1024.0)
    instance = letters_instance(family, 0.25, 16)
    assert float(coverage(instance, instance.start, math.log(16))) == pytest.approx(0.25, rel=1e-4)
    assert float(coverage(instance, scalars((0.5, 0.5)), math.log(16))) == 0
    number = number_instance(family, np.array(family.least_number))
    assert float(coverage(number, number.start, math.log(16))) == 1
    assert float(divergence(number, number.start)) == pytest.approx(256 * 1024 * 3 / 7)
    assert float(coverage(number, scalars((1.0, 0.0)), math.log(16))) == 0


def test_what_is_left_of_a_gradient_near_the_truth_has_its_sign() -> None:
    """The features of the three tokens differ by 1e3, what is left by 1e-100: no difference shows it."""
    family = SGDFamily(256, 32.0, 1024.0)
    instance = number_instance(family, np.array(family.least_number))
    theta = (math.cos(0.1), math.sin(0.1))
    along = [float(each) for each in gradient(instance, scalars(theta), likeliest(instance))]
    assert 0 < along[0] < 1e-60
    assert -1e-60 < along[1] < 0
    probs, log_probs = token_law(instance.prompts[0], scalars(theta))
    assert probs[0] == 1
    assert -1e-60 < float(probs[1] - math.exp(float(log_probs[1]))) < 1e-60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: number_instance(FAMILY, np.array([0.02, 0.001])), "numbers: 0.001; valid: at least 8/"),
        (lambda: letters_instance(FAMILY, 1.0, N, DEFICITS), "plus: 1.0 is not a number strictly between"),
        (lambda: check_family(FAMILY, 0.3, N), "letters: B' = 4, B = 100 leave probability"),
        (lambda: check_family(SGDFamily(6, 4.0, 16.0), 0.3, N, 13), "letters: B' = 4, B = 16 leave prob"),
    ],
)
def test_bad_input_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message) as error:
        call()
    assert "\n" not in str(error.value)
