"""Weights of truncated distillation and the gradients that they make, against plain loops."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.linear_models import truncated_gradient
from oracles.toy import TabularModel, ToyLatent, ToyTask

from metrics.evaluators import DistributionEvaluator, make_held_out
from models import sequence_log_probs, token_log_probs
from tasks import Enumeration, LayeredGraph
from tasks.linear import all_responses, next_log_probs
from tasks.markov_features import RandomFeatures, Sizes
from training import CrossEntropy, EvaluationSchedule, Objective, Phase, Scores, make_program
from training.batch_loss import batch_loss
from training.distillation import (
    TruncatedDistillation,
    distillation_learning_rate,
    enumerated_teacher,
    stopped_kl_rate,
    truncation_weights,
)
from training.feed import responses_of_step
from training.optimizers import sgd

TOY = ToyTask()


class Unlisted(ToyTask):
    """A task that does not enumerate its responses."""

    num_enumerated = 0


def plain_weights(eps: list[float], budget: float) -> list[float]:
    """Spend the budget token by token."""
    weights, spent = [], 0.0
    for each in eps:
        if spent + each <= budget:
            weights.append(1.0)
        elif spent > budget:
            weights.append(0.0)
        else:
            weights.append((budget - spent) / each)
        spent += each
    return weights


CASES = {
    "below the budget": [0.5, 0.25, 1.0],
    "crossed inside": [1.0, 0.5, 3.0, 0.25],
    "crossed at the first token": [8.0, 1.0],
    "exactly used up, then zeros": [1.5, 0.5, 0.0, 0.0],
    "exactly used up, then more": [2.0, 1.0, 1.0],
    "crossed, then zeros": [3.0, 0.0, 1.0],
    "nothing": [0.0, 0.0],
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_a_plain_loop(case: str) -> None:
    eps, budget = CASES[case], 2.0
    found = np.asarray(truncation_weights(jnp.asarray(eps), budget))
    np.testing.assert_allclose(found, plain_weights(eps, budget), atol=1e-6)
    assert float(found @ np.array(eps)) == pytest.approx(min(budget, sum(eps)))


@pytest.mark.long
def test_weights_of_random_batches_and_of_an_infinite_divergence() -> None:
    eps = np.random.default_rng(0).exponential(0.5, (3, 4, 10))
    found = np.asarray(truncation_weights(jnp.asarray(eps, jnp.float32), math.log(16)))
    flat = [plain_weights(row.tolist(), math.log(16)) for row in eps.reshape(-1, 10)]
    np.testing.assert_allclose(found.reshape(-1, 10), flat, atol=1e-5)
    assert 0 < np.mean((found > 0) & (found < 1)) < 0.2
    np.testing.assert_array_equal(truncation_weights(jnp.array([1.0, jnp.inf, 1.0]), 2.0), [1, 0, 0])


def test_no_gradient_flows_through_the_weights() -> None:
    slope = jax.grad(lambda eps: jnp.sum(truncation_weights(eps, 2.0) * eps))(jnp.array([1.0, 3.0, 1.0]))
    np.testing.assert_allclose(slope, [1.0, 1 / 3, 0.0], rtol=1e-6)


def test_the_gradient_of_a_linear_student_is_the_weighted_sum() -> None:
    features = RandomFeatures(Sizes(4, 3, 1, 3.0), 3, 1)
    teacher, student = np.array([0.9, -0.3, 0.2]), np.array([-0.6, 0.5, 0.1])
    responses, budget, table = all_responses(features)[::13], 0.7, features.table()[0]

    def law(theta: np.ndarray, place: int, before: int) -> np.ndarray:
        weights = np.exp(table[place, before] @ theta)
        return weights / weights.sum()

    run = jax.jit(
        jax.vmap(
            lambda y: truncated_gradient(
                features, jnp.asarray(teacher, jnp.float32), jnp.asarray(student, jnp.float32), 0, y, budget
            )
        )
    )
    crossings = 0
    for response, found in zip(responses, np.asarray(run(jnp.asarray(responses))), strict=True):
        eps, gradients, before = [], [], features.vocab
        for place, token in enumerate(response):
            own, other = law(student, place, before), law(teacher, place, before)
            eps.append(float(np.sum(other * np.log(other / own))))
            gradients.append(table[place, before][token] - own @ table[place, before])
            before = token
        weights = plain_weights(eps, budget)
        crossings += any(0 < weight < 1 for weight in weights)
        np.testing.assert_allclose(found, np.array(weights) @ np.array(gradients), atol=1e-4)
    assert crossings > len(responses) / 2


@pytest.mark.long
def test_the_loss_has_that_gradient_and_padding_has_no_part() -> None:
    features = RandomFeatures(Sizes(4, 3, 1, 3.0), 3, 1)
    teacher, student = jnp.array([0.9, -0.3, 0.2]), jnp.array([-0.6, 0.5, 0.1])

    def loss(theta: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        path = features.path(jnp.asarray(0), tokens)
        laws = jnp.where(mask[:, None], next_log_probs(teacher, path), -jnp.inf)
        own = next_log_probs(theta, path)
        scores = Scores(token_log_probs(own, tokens), mask, distributions=own, teacher=laws)
        return TruncatedDistillation(math.exp(0.7))(scores)

    tokens = jnp.array([2, 0, 1, 1])
    whole = jax.jit(jax.grad(loss))(student, tokens, jnp.ones(4, bool))
    expected = truncated_gradient(features, teacher, student, jnp.asarray(0), tokens, 0.7)
    np.testing.assert_allclose(-whole, expected, atol=1e-5)
    mask = jnp.array([True, False, False, False])
    short = jax.jit(jax.grad(loss))(student, tokens, mask)
    longer = jax.jit(jax.grad(loss))(student, tokens.at[2].set(0), mask)
    assert np.all(np.isfinite(short))
    np.testing.assert_array_equal(short, longer)


@pytest.mark.slow
def test_a_teacher_by_enumeration_multiplies_to_the_tasks_law() -> None:
    task = LayeredGraph(depth=3, width=2, num_ids=12, mixture={"G3": 1.0})
    latent = task.sample(jax.random.key(0)).latent
    every = task.enumerate(latent)
    run = jax.jit(jax.vmap(lambda y: enumerated_teacher(task, latent, y)))
    laws = np.asarray(run(every.responses), np.float64)
    chosen = np.take_along_axis(laws, np.asarray(every.responses)[..., None], -1)[..., 0].sum(1)
    exact = np.asarray(jax.vmap(task.log_prob, (None, 0))(latent, every.responses))
    kept = np.asarray(every.mask)
    assert kept.sum() >= 2
    np.testing.assert_allclose(chosen[kept], exact[kept], atol=1e-5)
    np.testing.assert_allclose(np.exp(laws[kept]).sum(-1), 1, atol=1e-5)
    assert np.all(run(every.responses.at[:, 0].set(0))[:, 1:] == -jnp.inf)


def test_a_teacher_by_enumeration_knows_a_certain_response_and_is_silent_elsewhere() -> None:
    latent = ToyLatent(jnp.asarray(1), jnp.asarray(1))
    teach = jax.jit(jax.vmap(lambda y: enumerated_teacher(TOY, latent, y)))
    certain, never = np.exp(teach(jnp.array([[1, 2], [2, 1]])))
    np.testing.assert_array_equal(certain, np.eye(6)[[1, 2]])
    # No response begins with 2.
    np.testing.assert_array_equal(never, [np.eye(6)[1], np.zeros(6)])


class Mixed(ToyTask):
    """The easy end with probability 3/4; the third response that is listed is padding."""

    num_enumerated = 3

    def log_prob(self, latent: ToyLatent, response: Any) -> Any:
        return jnp.log(jnp.where(response[1] == latent.word, 0.75, 0.25))

    def enumerate(self, latent: ToyLatent) -> Enumeration:
        ends = jnp.stack([latent.word, 3 - latent.word, latent.word])
        responses = jnp.stack([jnp.full(3, latent.word), ends], axis=1)
        return Enumeration(responses, jnp.asarray([True, True, False]))


def test_a_teacher_by_enumeration_weighs_responses_by_their_probability() -> None:
    latent = ToyLatent(jnp.asarray(1), jnp.asarray(0))
    law = np.exp(jax.jit(lambda y: enumerated_teacher(Mixed(), latent, y))(jnp.array([1, 2])))
    np.testing.assert_allclose(law, [np.eye(6)[1], [0, 0.75, 0.25, 0, 0, 0]], rtol=1e-6)


def phase_of(objective: Objective, task: ToyTask = TOY) -> Phase:
    return Phase("p", task, objective, sgd(steps=2, learning_rate=0.1), 2, 16, None, EvaluationSchedule(), 1)


@pytest.mark.long
def test_with_a_certain_teacher_the_loss_is_the_lesser_of_budget_and_cross_entropy() -> None:
    # Then eps_t = -ln pi(y_t|x, y_<t), and sum_t alpha_t eps_t = min{ln N, -ln pi(y|x)}.
    model, phase = TabularModel(), phase_of(TruncatedDistillation(64))
    params = model.init(jax.random.key(1))
    batch = jax.jit(lambda: responses_of_step(phase, jnp.uint32(3), jnp.asarray(0)))()
    nll = -sequence_log_probs(
        model, params, batch.prompt, batch.prompt_mask, batch.responses, batch.response_mask
    )[:, 0]
    budget = math.log(64)
    assert 0 < np.mean(nll < budget) < 1
    found = batch_loss(model, phase.objective, params, batch)
    assert found == pytest.approx(np.minimum(budget, nll).mean(), rel=1e-6)


@pytest.mark.long
def test_a_large_n_is_cross_entropy_and_a_small_one_is_not() -> None:
    model, held_out = TabularModel(), make_held_out(TOY, 5, 4, 0)

    def table(objective: Objective) -> np.ndarray:
        program = make_program(model, phase_of(objective), (DistributionEvaluator(),), held_out)
        seeds = jnp.zeros(1, jnp.uint32)
        state = program.begin(program.init(seeds), jnp.full(1, -1, jnp.int32))
        return np.asarray(program.run(state, seeds, 0, 2)[0].params["table"])

    whole = table(CrossEntropy())
    np.testing.assert_allclose(table(TruncatedDistillation(1e30)), whole, atol=1e-6)
    assert np.abs(table(TruncatedDistillation(1.5)) - whole).max() > 1e-2


@pytest.mark.long
def test_laws_as_labels_have_the_mean_gradient_of_the_tokens() -> None:
    """One position, three tokens: the gradient in the logits is alpha (pi - pi_D), the mean over pi_D of
    alpha (pi - e_y)."""
    teacher = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    logits = jnp.array([[2.0, -1.0, 0.5]])
    law = np.exp(np.asarray(logits[0], np.float64))
    law /= law.sum()
    eps = float(np.sum(np.exp(teacher[0]) * (np.asarray(teacher[0]) - np.log(law))))
    budget = eps / 4

    def loss(logits: jax.Array, objective: Objective) -> jax.Array:
        own = jax.nn.log_softmax(logits)
        return objective(Scores(own[:, 0], jnp.ones(1, bool), distributions=own, teacher=teacher))

    for n, alpha in ((math.exp(budget), 0.25), (None, 1.0)):
        value, slope = jax.value_and_grad(loss)(logits, TruncatedDistillation(n, "laws"))
        assert float(value) == pytest.approx(alpha * eps, rel=1e-5)
        np.testing.assert_allclose(slope[0], alpha * (law - np.exp(teacher[0])), atol=1e-6)
        drawn = jax.grad(loss)(logits, TruncatedDistillation(n))
        np.testing.assert_allclose(drawn[0], alpha * (law - np.eye(3)[0]), atol=1e-6)


def test_without_n_tokens_as_labels_are_cross_entropy() -> None:
    tokens, mask = jnp.array([-1.0, -40.0, -2.0]), jnp.array([True, True, False])
    laws = jnp.log(jnp.array([[0.5, 0.5], [1e-30, 1.0], [0.5, 0.5]]))
    scores = Scores(tokens, mask, distributions=laws, teacher=jnp.array([[0.0, -jnp.inf]] * 3))
    assert float(TruncatedDistillation(None)(scores)) == pytest.approx(41.0)
    assert float(TruncatedDistillation(4.0)(scores)) < 41.0
    assert float(TruncatedDistillation(None, "laws")(scores)) == pytest.approx(
        math.log(2) + 30 * math.log(10)
    )


class Told(Unlisted):
    """A task that does not enumerate its responses and has next-token laws of its own."""

    knows_next_tokens = True

    def next_log_probs(self, latent: Any, response: Any) -> Any:
        return jnp.full((response.size, self.vocab_size), -1.5)


@pytest.mark.long
def test_a_task_with_next_token_laws_of_its_own_is_asked_for_them() -> None:
    phase = phase_of(TruncatedDistillation(), Told())
    batch = jax.jit(lambda: responses_of_step(phase, jnp.uint32(3), jnp.asarray(0)))()
    np.testing.assert_array_equal(batch.teacher, np.full((16, 1, 2, 6), -1.5))
    with pytest.raises(ValueError, match="task: Unlisted knows no next-token laws of pi_D"):
        Unlisted().next_log_probs(None, jnp.zeros(2, jnp.int32))


def test_a_task_that_does_not_enumerate_is_refused() -> None:
    line = "phases.p.objective: TruncatedDistillation needs pi_D's next-token laws; task Unlisted"
    with pytest.raises(ValueError, match=re.escape(line)):
        phase_of(TruncatedDistillation(), Unlisted())
    with pytest.raises(ValueError, match=r"objective\.n: 1 is neither null nor a number > 1"):
        TruncatedDistillation(1)
    with pytest.raises(ValueError, match=r"objective\.labels: 'law' is not one of tokens, laws"):
        TruncatedDistillation(labels="law")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scores: without distributions or teacher"):
        TruncatedDistillation()(Scores(jnp.zeros((1, 2)), jnp.ones((1, 2), bool)))


def test_step_sizes_and_bounds_are_the_formulas() -> None:
    n, budget = 16.0, math.log(16)
    assert distillation_learning_rate(2.0, 0.0, 64, n) == pytest.approx(1 / (256 * 4 * budget))
    assert distillation_learning_rate(0.01, 3.0, 640, n) == pytest.approx((640 * 3 * budget) ** -0.5)
    # Below ln N = 2/192 the first of the two caps is the smaller one.
    assert distillation_learning_rate(1.0, 0.0, 64, 1.005) == pytest.approx(1 / (64 * math.log(1.005) + 2))
    assert stopped_kl_rate(0.5, 3.0, 16, n) == pytest.approx(0.5 + 3 * (32 * budget + 1))
