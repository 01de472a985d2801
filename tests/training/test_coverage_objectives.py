from __future__ import annotations

import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.dco import dco
from oracles.toy import TabularModel, ToyTask

from metrics.evaluators import Batch
from training import (
    DCO,
    CrossEntropy,
    EvaluationSchedule,
    Grid,
    Layout,
    Objective,
    Phase,
    Reweighted,
    Scores,
    StepwiseDCO,
    make_program,
)
from training.batch_loss import batch_loss
from training.coverage_objectives import dco_factor, log_miss, log_pass
from training.optimizers import sgd
from training.sources import TrainingBatch

LOG_PS = (
    *(math.log(1e-300), -300.0, -100.0, -60.5, -59.5, -30.0, -10.0, -3.0, -1.0),
    *(-0.6932, -0.693, -0.5, -0.1, -1e-2, -1e-4, -1e-6, -1e-9, -1e-12),
)
NS = (1, 2, 16, 4096)
TOKENS = np.array([[-1.0, -2.0, -4.0], [-0.5, -0.25, -100.0]], np.float32)
MASK = np.array([[True, True, True], [True, True, False]])
SCORES = Scores(TOKENS, MASK)
LOG_P = (-7.0, -0.75)


@pytest.mark.long
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


@pytest.mark.long
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
    """Gradient of the sum of the losses by the tokens' log-probabilities."""
    return np.asarray(
        jax.grad(lambda tokens: jnp.sum(objective(SCORES._replace(tokens=tokens))))(jnp.asarray(TOKENS))
    )


@pytest.mark.parametrize("objective", [DCO(1), StepwiseDCO(1)])
def test_one_try_is_cross_entropy(objective: Objective) -> None:
    np.testing.assert_allclose(objective(SCORES), CrossEntropy()(SCORES), rtol=1e-6)
    np.testing.assert_array_equal(gradient(objective), gradient(CrossEntropy()))


@pytest.mark.long
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
        (
            Reweighted,
            {"normalisation": "no"},
            "objective.normalisation: 'no' is not one of sequence, token, batch",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(kind: type, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="objective") as refused:
        kind(**options)
    assert str(refused.value) == line


# Favouring easy sequences: the program divides the weights by their mean over the batch.

EASY = Reweighted(favour="easy", gamma=0.5)


def long_batch(horizon: int, size: int = 6) -> tuple[TabularModel, dict, TrainingBatch]:
    """Random responses, which a random table gives probabilities of about 10^-horizon."""
    rng, model = np.random.default_rng(0), TabularModel(response_length=horizon)
    params = {"table": rng.normal(size=(6, horizon, 6)).astype("f"), "fuse": np.zeros((), "f")}
    prompt = np.tile(rng.integers(1, 3, (size, 1)), 3)
    responses = rng.integers(0, 6, (size, 1, horizon))
    mask = np.ones(responses.shape, bool)
    return model, params, TrainingBatch(prompt, prompt > 0, responses, mask, np.arange(size), None)


def by_hand(params: dict, batch: TrainingBatch, classes: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient by the table of sum_i c_i p_i^gamma (-ln p_i) / sum_i c_i p_i^gamma, in float64."""
    table = params["table"].astype(np.float64)
    log_laws = table - np.log(np.exp(table).sum(-1, keepdims=True))
    places = np.arange(table.shape[1])
    rows, tokens = batch.prompt[:, -1], batch.responses[:, 0]
    log_p = log_laws[rows[:, None], places, tokens].sum(axis=1)
    weights = classes * np.exp(EASY.gamma * (log_p - log_p.max()))
    weights /= weights.sum()
    slope = np.zeros_like(table)
    for weight, row, own in zip(weights, rows, tokens, strict=True):
        slope[row] += weight * np.exp(log_laws[row])
        slope[row, places, own] -= weight
    return float(-weights @ log_p), slope


@pytest.mark.parametrize("horizon", [2, 300])
def test_easy_sequences_count_relative_to_their_batch(horizon: int) -> None:
    """At horizon 300 every p^gamma is below the smallest float."""
    model, params, batch = long_batch(horizon)
    classes = np.array([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])

    @jax.jit
    def found(params: dict) -> tuple[jax.Array, dict]:
        return jax.value_and_grad(lambda own: batch_loss(model, EASY, own, batch, tuple(classes)))(params)

    value, slope = found(params)
    loss, exact = by_hand(params, batch, classes)
    np.testing.assert_allclose(value, loss, rtol=1e-4)
    np.testing.assert_allclose(slope["table"], exact, atol=1e-4)
    assert np.abs(exact).max() > 0.1


@pytest.mark.long
def test_at_short_horizons_its_direction_is_the_sources() -> None:
    model, params, batch = long_batch(2)

    def published(params: dict) -> jax.Array:
        """The mean of (1 - p^gamma)/gamma."""
        tokens = jax.nn.log_softmax(jnp.asarray(params["table"]))[
            batch.prompt[:, -1][:, None], np.arange(2), batch.responses[:, 0]
        ]
        return jnp.mean((1 - jnp.exp(EASY.gamma * tokens.sum(axis=1))) / EASY.gamma)

    mine = np.ravel(jax.grad(lambda own: batch_loss(model, EASY, own, batch))(params)["table"])
    theirs = np.ravel(jax.grad(published)(params)["table"])
    ratio = np.linalg.norm(mine) / np.linalg.norm(theirs)
    np.testing.assert_allclose(mine, ratio * theirs, atol=1e-5)
    assert ratio > 2


@pytest.mark.long
def test_parts_and_devices_of_a_batch_agree_on_its_weights() -> None:
    """One program with the whole batch, one with four devices, each of which has equal shares of it."""
    phase = Phase("p", ToyTask(), EASY, sgd(steps=9, learning_rate=2.0), 9, 16, None, EvaluationSchedule(), 9)

    def trained(data: int, parts: int) -> tuple[np.ndarray, float]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.program.parts_of_batch", lambda *_: parts)
            grid = Grid(Layout(1, data), local=True)
            held_out: Any = types.SimpleNamespace(batches=Batch((), (), np.arange(4)))  # type: ignore[arg-type]
            program = make_program(TabularModel(), phase, (), held_out, grid)
            seeds = jnp.asarray([3], jnp.uint32)
            state = program.begin(program.init(seeds), jnp.full(1, -1, jnp.int32))
            state, log = program.run(state, seeds, 0, 9)
        return np.asarray(state.params["table"]), float(log.loss[0])

    table, loss = trained(1, 1)
    for data, parts in ((1, 4), (4, 2)):
        other, found = trained(data, parts)
        np.testing.assert_allclose(other, table, atol=1e-5)
        assert found == pytest.approx(loss, rel=1e-5)
