"""The SGD lower-bound family: vectors against the paper's formulas, laws against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.linear import all_responses, linear_log_probs
from theory.sgd.family import (
    MINUS,
    PLUS,
    SGDFamily,
    deficit_law,
    letters_start,
    letters_token_law,
    letters_variance,
)

FAMILY = SGDFamily(length=4, letters=3.0, numbers=9.0)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def tokens(family: SGDFamily, prompt: float) -> np.ndarray:
    return np.asarray(family.tokens(jnp.asarray(prompt, jnp.float64)))


@pytest.mark.parametrize("scale", [1.0, 1.7, 40.0, 1e6])
def test_a_step_of_the_prompts_own_size_flips_between_wrong_answers(scale: float) -> None:
    e = scale * FAMILY.least_number
    reach = e * FAMILY.length * FAMILY.numbers
    low, zero, high = tokens(FAMILY, e) / FAMILY.numbers
    for each in (low, zero, high):
        assert np.linalg.norm(each) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(high + reach * (zero - high), (reach - 1) * low, atol=1e-9 * reach)
    np.testing.assert_allclose(low + reach * (zero - low), (reach - 1) * high, atol=1e-9 * reach)
    assert 0.5 < high[0] <= 4 / 7 + 1e-12
    assert list(zero) == [1.0, 0.0]


def test_letters_have_short_features_along_one_coordinate() -> None:
    assert tokens(FAMILY, PLUS).tolist() == [[-3, 0], [0, 0], [3, 0]]
    assert tokens(FAMILY, MINUS).tolist() == [[0, -3], [0, 0], [0, 3]]
    assert FAMILY.bound == 9


def test_tokens_are_independent_with_the_softmax_of_their_features() -> None:
    theta = np.array([0.3, -0.2])
    for prompt in (PLUS, MINUS, 2 * FAMILY.least_number):
        logits = tokens(FAMILY, prompt) @ theta
        law = np.exp(logits) / np.exp(logits).sum()
        for response in ([0, 2, 1, 1], [2, 2, 2, 0]):
            found = linear_log_probs(
                FAMILY, jnp.asarray(theta), jnp.asarray(prompt, jnp.float64), jnp.array(response)
            )
            np.testing.assert_allclose(found, np.log(law[response]), atol=1e-12)


def test_law_of_the_deficit_against_enumeration() -> None:
    law = letters_token_law(FAMILY)
    assert law == pytest.approx(np.exp([-1.5, 0, 1.5]) / np.exp([-1.5, 0, 1.5]).sum())
    wanted = np.zeros(9)
    for response in all_responses(FAMILY):
        wanted[int(np.sum(2 - response))] += law[response].prod()
    np.testing.assert_allclose(deficit_law(FAMILY, 9), wanted, atol=1e-14)
    np.testing.assert_allclose(deficit_law(FAMILY, 3), wanted[:3], atol=1e-14)


def test_variance_against_enumeration() -> None:
    law = letters_token_law(FAMILY)
    pairs = itertools.product(zip((-1, 0, 1), law, strict=True), repeat=2)
    half_square = sum(p * q * (a - b) ** 2 / 2 for (a, p), (b, q) in pairs)
    assert letters_variance(FAMILY) == pytest.approx(4 * 9 * half_square)
    assert letters_variance(SGDFamily(4096, 32.0, 1024.0)) == pytest.approx(0.472, rel=1e-3)


def test_start_is_where_plus_is_not_covered() -> None:
    family = SGDFamily(4096, 32.0, 1024.0)
    first, second = letters_start(family, 16)
    assert math.exp(32 * first + 1) == pytest.approx(4096 / (4 * math.log(16)))
    assert second == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGDFamily(0, 3.0, 9.0), "task.length: 0"),
        (lambda: SGDFamily(True, 3.0, 9.0), "task.length: True is not an integer >= 1"),
        (lambda: SGDFamily(4, 3.0, math.inf), "task.numbers: inf is not a finite number >= 1"),
        (lambda: SGDFamily(4, 10.0, 9.0), "task.letters: 10.0; valid: 1 to task.numbers"),
        (lambda: letters_start(SGDFamily(4096, 4.0, 16.0), 16), "letters: 4 gives r = 1.48 at H = 4096"),
        (lambda: letters_start(SGDFamily(8, 32.0, 1024.0), 16), "letters: 32 gives r = -0.01"),
        (lambda: letters_start(SGDFamily(4, 3.0, 9.0), 1e4), "coverage_n: 10000; valid: at most exp"),
    ],
)
def test_bad_input_is_one_line(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")) as error:
        call()  # type: ignore[operator]
    assert "\n" not in str(error.value)
