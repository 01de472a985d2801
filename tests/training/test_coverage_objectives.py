from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.dco import dco

from training import DCO, CrossEntropy, Objective, Reweighted, Scores, StepwiseDCO
from training.coverage_objectives import dco_factor, log_miss, log_pass

LOG_PS = (
    *(math.log(1e-300), -300.0, -100.0, -60.5, -59.5, -30.0, -10.0, -3.0, -1.0),
    *(-0.6932, -0.693, -0.5, -0.1, -1e-2, -1e-4, -1e-6, -1e-9, -1e-12),
)
NS = (1, 2, 16, 4096)
TOKENS = np.array([[-1.0, -2.0, -4.0], [-0.5, -0.25, -100.0]], np.float32)
MASK = np.array([[True, True, True], [True, True, False]])
SCORES = Scores(TOKENS, MASK)
LOG_P = (-7.0, -0.75)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dco_agrees_with_hundreds_of_digits_over_the_whole_range(dtype: str) -> None:
    """From p = 1e-300 to 1 - 1e-12, to the last digits that a number e^-a can have from a in that dtype; the
    compiler's own log1p is off by up to 41 of them at p = 1/e."""
    with jax.enable_x64(dtype == "float64"):
        given = jnp.asarray(LOG_PS, dtype)
        exact = np.array([[dco(float(log_p), n) for log_p in given] for n in NS])
        digits = 64 * float(jnp.finfo(dtype).eps) * (1 + exact[..., 2])
        smallest = 4 * float(jnp.finfo(dtype).tiny)
        for row, n in enumerate(NS):
            value, gradient = jax.vmap(jax.value_and_grad(lambda log_p, n=n: -log_pass(log_p, n)))(given)
            for found, want in ((value, exact[row, :, 0]), (-gradient, exact[row, :, 1])):
                assert found.dtype == dtype
                allowed = digits[row] * np.abs(want) + smallest
                np.testing.assert_array_less(np.abs(np.asarray(found, np.float64) - want), allowed)


def test_a_certain_sequence_has_no_loss_and_no_gradient() -> None:
    """Rounding may carry ln p beyond 0."""
    certain = jnp.array([0.0, 1e-6])
    np.testing.assert_array_equal(log_pass(certain, 16), [0, 0])
    np.testing.assert_array_equal(dco_factor(certain, 16), [0, 0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(lambda log_p: log_pass(log_p, 16)))(certain), [0, 0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(lambda log_p: log_pass(log_p, 1)))(certain), [1, 1])


def test_log_miss_by_hand() -> None:
    found = log_miss(jnp.log(jnp.array([0.25, 0.5, 0.75, 1.0])))
    np.testing.assert_allclose(found, [math.log(0.75), math.log(0.5), math.log(0.25), -math.inf], rtol=1e-6)


def test_losses_by_hand() -> None:
    p = [math.exp(each) for each in LOG_P]
    np.testing.assert_allclose(DCO(4)(SCORES), [-math.log(1 - (1 - each) ** 4) for each in p], rtol=1e-5)
    steps = [[-1.0, -2.0, -4.0], [-0.5, -0.25]]
    stepwise = [-sum(math.log(1 - (1 - math.exp(each)) ** 4) for each in own) for own in steps]
    np.testing.assert_allclose(StepwiseDCO(4)(SCORES), stepwise, rtol=1e-5)
    hard = [(1 - each) ** 2 * -math.log(each) for each in p]
    np.testing.assert_allclose(Reweighted(favour="hard", gamma=2)(SCORES), hard, rtol=1e-5)
    easy = [each**0.5 * -math.log(each) for each in p]
    np.testing.assert_allclose(Reweighted(favour="easy", gamma=0.5)(SCORES), easy, rtol=1e-5)


def gradient(objective: Objective) -> np.ndarray:
    """Of the sum of the losses, by the tokens' log-probabilities."""
    return np.asarray(
        jax.grad(lambda tokens: jnp.sum(objective(SCORES._replace(tokens=tokens))))(jnp.asarray(TOKENS))
    )


@pytest.mark.parametrize("objective", [DCO(1), StepwiseDCO(1)])
def test_one_try_is_cross_entropy(objective: Objective) -> None:
    np.testing.assert_allclose(objective(SCORES), CrossEntropy()(SCORES), rtol=1e-6)
    np.testing.assert_array_equal(gradient(objective), gradient(CrossEntropy()))


@pytest.mark.parametrize("n", [2, 16, 256])
def test_gradients_are_cross_entropys_times_the_factor(n: int) -> None:
    by_sequence = np.array([dco(log_p, n)[1] for log_p in LOG_P])
    np.testing.assert_allclose(
        gradient(DCO(n)), by_sequence[:, None] * gradient(CrossEntropy()), rtol=1e-4, atol=1e-37
    )
    by_step = np.array([[dco(float(token), n)[1] for token in row] for row in TOKENS])
    np.testing.assert_allclose(
        gradient(StepwiseDCO(n)), by_step * gradient(CrossEntropy()), rtol=1e-4, atol=1e-37
    )


def test_no_gradient_flows_through_a_weight() -> None:
    p = np.exp(np.array(LOG_P))[:, None]
    np.testing.assert_allclose(
        gradient(Reweighted(favour="hard", gamma=3.0)), (1 - p) ** 3 * gradient(CrossEntropy()), rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient(Reweighted(favour="easy", gamma=1.0)), p * gradient(CrossEntropy()), rtol=1e-5
    )
    certain = SCORES._replace(tokens=np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(Reweighted(favour="hard", gamma=0.5)(certain), [0, 0])


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (DCO, {"n": 0.5}, "objective.n: 0.5 is not a number in [1, 1e+09]"),
        (DCO, {"n": float("nan")}, "objective.n: nan is not a number in [1, 1e+09]"),
        (StepwiseDCO, {"n": True}, "objective.n: True is not a number in [1, 1e+09]"),
        (Reweighted, {"favour": "rare"}, "objective.favour: 'rare' is not one of hard, easy"),
        (Reweighted, {"gamma": 0}, "objective.gamma: 0 is not a positive number"),
        (Reweighted, {"normalisation": "no"}, "objective.normalisation: 'no' is not one of sequence, token"),
    ],
)
def test_bad_settings_are_refused_in_one_line(kind: type, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="objective") as refused:
        kind(**options)
    assert str(refused.value) == line
