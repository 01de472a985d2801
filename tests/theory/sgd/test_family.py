"""The SGD lower-bound family: vectors against the paper's formulas, laws against enumeration, and the linear
model by counts of tokens against the general one, which walks through the response."""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.feature_maps import SGDFeatures
from oracles.linear_models import log_probs_of_all, token_gradients, token_kls, token_variances

import theory.sgd.family as sgd
from tasks.linear import all_responses, linear_log_probs

FAMILY = SGDFeatures(length=4, letters=3.0, numbers=9.0)
COUNTED = SGDFeatures(length=6, letters=4.0, numbers=100.0)
PLUS_PROBABILITY, N, DEFICITS = 0.3, math.e, 13
THETAS = ((0.4, 0.1), (0.9, -0.3), (-0.2, 0.6))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def tokens(family: sgd.SGDFamily, prompt: float) -> np.ndarray:
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
    assert tokens(FAMILY, sgd.PLUS).tolist() == [[-3, 0], [0, 0], [3, 0]]
    assert tokens(FAMILY, sgd.MINUS).tolist() == [[0, -3], [0, 0], [0, 3]]
    assert FAMILY.bound == 9


def test_tokens_are_independent_with_the_softmax_of_their_features() -> None:
    theta = np.array([0.3, -0.2])
    for prompt in (sgd.PLUS, sgd.MINUS, 2 * FAMILY.least_number):
        logits = tokens(FAMILY, prompt) @ theta
        law = np.exp(logits) / np.exp(logits).sum()
        for response in ([0, 2, 1, 1], [2, 2, 2, 0]):
            found = linear_log_probs(
                FAMILY, jnp.asarray(theta), jnp.asarray(prompt, jnp.float64), jnp.array(response)
            )
            np.testing.assert_allclose(found, np.log(law[response]), atol=1e-12)


def test_log_probabilities_of_far_logits_keep_their_digits() -> None:
    """Logits 0, a and b: nothing overflows, and ln of a probability near 1 is minus the rest."""
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    prompt = sgd.Prompt(one, ((one, zero), (zero, one)), (), (), ())
    for a, b, wanted in (
        (1000.0, 0.0, (-1000, 0, -1000)),
        (0.0, 1000.0, (-1000, -1000, 0)),
        (-50.0, -60.0, (-(math.exp(-50) + math.exp(-60)), -50, -60)),
    ):
        probs, log_probs = sgd.token_law(prompt, (jnp.asarray(a), jnp.asarray(b)))
        np.testing.assert_allclose(log_probs, wanted, rtol=1e-12)
        np.testing.assert_allclose(probs, np.exp(wanted), rtol=1e-12)


def test_law_of_the_deficit_against_enumeration() -> None:
    law = sgd.letters_token_law(FAMILY)
    assert law == pytest.approx(np.exp([-1.5, 0, 1.5]) / np.exp([-1.5, 0, 1.5]).sum())
    wanted = np.zeros(9)
    for response in all_responses(FAMILY):
        wanted[int(np.sum(2 - response))] += law[response].prod()
    np.testing.assert_allclose(sgd.deficit_law(FAMILY, 9), wanted, atol=1e-14)
    np.testing.assert_allclose(sgd.deficit_law(FAMILY, 3), wanted[:3], atol=1e-14)


def test_variance_against_enumeration() -> None:
    law = sgd.letters_token_law(FAMILY)
    pairs = itertools.product(zip((-1, 0, 1), law, strict=True), repeat=2)
    half_square = sum(p * q * (a - b) ** 2 / 2 for (a, p), (b, q) in pairs)
    assert sgd.letters_variance(FAMILY) == pytest.approx(4 * 9 * half_square)
    assert sgd.letters_variance(sgd.SGDFamily(4096, 32.0, 1024.0)) == pytest.approx(0.472, rel=1e-3)


def test_start_is_where_plus_is_not_covered() -> None:
    family = sgd.SGDFamily(4096, 32.0, 1024.0)
    first, second = sgd.letters_start(family, 16)
    assert math.exp(32 * first + 1) == pytest.approx(4096 / (4 * math.log(16)))
    assert second == 0.25


def letters() -> sgd.Instance:
    return sgd.letters_instance(COUNTED, PLUS_PROBABILITY, N, DEFICITS)


def scalars(theta: Any) -> Any:
    return tuple(jnp.asarray(each, jnp.float64) for each in theta)


def prompt_of(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float64)


_log_probs_of_all = jax.jit(functools.partial(log_probs_of_all, COUNTED))


@pytest.mark.long
@pytest.mark.parametrize("theta", THETAS)
def test_gradients_are_those_of_whole_responses(theta: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    number = 3 * COUNTED.least_number
    # Columns of a prompt's counts: the likeliest token, then the two others.
    orders = {sgd.PLUS: (2, 1, 0), sgd.MINUS: (2, 1, 0), number: (1, 0, 2)}
    responses = {prompt: rng.integers(3, size=(5, 6)) for prompt in orders}

    def whole(prompt: float) -> np.ndarray:
        return sum(
            np.asarray(
                token_gradients(COUNTED, jnp.asarray(theta), prompt_of(prompt), jnp.asarray(each))
            ).sum(0)
            for each in responses[prompt]
        )

    def counts(prompt: float) -> Any:
        return scalars(np.sum(responses[prompt] == token) for token in orders[prompt])

    found = sgd.gradient(letters(), scalars(theta), (counts(sgd.PLUS), counts(sgd.MINUS)))
    np.testing.assert_allclose(found, whole(sgd.PLUS) + whole(sgd.MINUS), atol=1e-10)
    instance = sgd.number_instance(COUNTED, np.array(number))
    np.testing.assert_allclose(
        sgd.gradient(instance, scalars(theta), (counts(number),)), whole(number), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("theta", THETAS)
def test_coverage_and_kl_of_the_letters_against_all_responses(theta: tuple[float, float]) -> None:
    responses = jnp.asarray(all_responses(COUNTED))
    star = jnp.array([0.5, 0.5])
    cov = dict.fromkeys((1.5, N, 20.0), 0.0)
    kl = tokens = 0.0
    for prompt, weight in ((sgd.PLUS, PLUS_PROBABILITY), (sgd.MINUS, 1 - PLUS_PROBABILITY)):
        log_star = np.asarray(_log_probs_of_all(star, prompt_of(prompt), responses))
        ratio = log_star - np.asarray(_log_probs_of_all(jnp.array(theta), prompt_of(prompt), responses))
        for n in cov:
            cov[n] += weight * np.exp(log_star)[ratio >= math.log(n)].sum()
        kl += weight * float(np.exp(log_star) @ ratio)
        tokens += weight * float(
            token_kls(COUNTED, star, jnp.array(theta), prompt_of(prompt), responses[0]).sum()
        )
    for n, wanted in cov.items():
        assert float(sgd.coverage(letters(), scalars(theta), math.log(n))) == pytest.approx(wanted, abs=1e-12)
    assert float(sgd.divergence(letters(), scalars(theta))) == pytest.approx(kl)
    assert tokens == pytest.approx(kl)


def test_variance_of_the_letters_is_the_general_one() -> None:
    response = jnp.zeros(6, jnp.int32)
    general = token_variances(COUNTED, jnp.array([0.5, 0.5]), prompt_of(sgd.PLUS), response).sum()
    assert sgd.letters_variance(COUNTED) == pytest.approx(float(general))


def test_starts_are_where_the_lemmas_need_them() -> None:
    family = sgd.SGDFamily(256, 32.0, 1024.0)
    instance = sgd.letters_instance(family, 0.25, 16)
    assert float(sgd.coverage(instance, instance.start, math.log(16))) == pytest.approx(0.25, rel=1e-4)
    assert float(sgd.coverage(instance, scalars((0.5, 0.5)), math.log(16))) == 0
    number = sgd.number_instance(family, np.array(family.least_number))
    assert float(sgd.coverage(number, number.start, math.log(16))) == 1
    assert float(sgd.divergence(number, number.start)) == pytest.approx(256 * 1024 * 3 / 7)
    assert float(sgd.coverage(number, scalars((1.0, 0.0)), math.log(16))) == 0


def test_what_is_left_of_a_gradient_near_the_truth_has_its_sign() -> None:
    """The features of the three tokens differ by 1e3, what is left by 1e-100: no difference shows it."""
    family = sgd.SGDFamily(256, 32.0, 1024.0)
    instance = sgd.number_instance(family, np.array(family.least_number))
    theta = (math.cos(0.1), math.sin(0.1))
    along = [float(each) for each in sgd.gradient(instance, scalars(theta), sgd.likeliest(instance))]
    assert 0 < along[0] < 1e-60
    assert -1e-60 < along[1] < 0
    probs, log_probs = sgd.token_law(instance.prompts[0], scalars(theta))
    assert probs[0] == 1
    assert -1e-60 < float(probs[1] - math.exp(float(log_probs[1]))) < 1e-60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgd.SGDFamily(0, 3.0, 9.0), "task.length: 0"),
        (lambda: sgd.SGDFamily(True, 3.0, 9.0), "task.length: True is not an integer >= 1"),
        (lambda: sgd.SGDFamily(4, 3.0, math.inf), "task.numbers: inf is not a finite number >= 1"),
        (lambda: sgd.SGDFamily(4, 10.0, 9.0), "task.letters: 10.0; valid: 1 to task.numbers"),
        (
            lambda: sgd.letters_start(sgd.SGDFamily(4096, 4.0, 16.0), 16),
            "letters: 4 gives r = 1.48 at H = 4096",
        ),
        (lambda: sgd.letters_start(sgd.SGDFamily(8, 32.0, 1024.0), 16), "letters: 32 gives r = -0.01"),
        (lambda: sgd.letters_start(sgd.SGDFamily(4, 3.0, 9.0), 1e4), "coverage_n: 10000; valid: at most exp"),
        (lambda: sgd.number_instance(COUNTED, np.array([0.02, 0.001])), "numbers: 0.001; valid: at least 8/"),
        (
            lambda: sgd.letters_instance(COUNTED, 1.0, N, DEFICITS),
            "plus: 1.0 is not a number strictly between",
        ),
        (lambda: sgd.check_family(COUNTED, 0.3, N), "letters: B' = 4, B = 100 leave probability"),
        (
            lambda: sgd.check_family(sgd.SGDFamily(6, 4.0, 16.0), 0.3, N, 13),
            "letters: B' = 4, B = 16 leave prob",
        ),
    ],
)
def test_bad_input_is_one_line(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")) as error:
        call()  # type: ignore[operator]
    assert "\n" not in str(error.value)
