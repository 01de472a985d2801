"""On-policy distillation against enumeration, its closed-form minimiser, and a run that must reach it."""

from __future__ import annotations

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask

from models import token_log_probs
from training import (
    CrossEntropy,
    Demonstrations,
    EvaluationSchedule,
    OnPolicy,
    OnPolicyDistillation,
    Phase,
    Rollouts,
    Scores,
    make_program,
)
from training.on_policy_distillation import smoothed_teacher
from training.optimizers import sgd

TASK, MODEL = ToyTask(), TabularModel()


class Unlisted(ToyTask):
    """A task that does not enumerate its responses."""

    num_enumerated = 0


def phase_of(objective: OnPolicyDistillation | CrossEntropy, source: object, task: ToyTask = TASK) -> Phase:
    return Phase(
        "p", task, objective, sgd(steps=400, learning_rate=2.0), 400, 32, None, EvaluationSchedule(), 100,
        source=source,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_teacher_is_mixed_with_the_uniform_law() -> None:
    law = np.array([0.7, 0.3, 0.0, 0.0])
    with np.errstate(divide="ignore"):
        found = np.exp(smoothed_teacher(jnp.log(jnp.asarray(law)), 0.2))
    np.testing.assert_allclose(found, 0.8 * law + 0.05, rtol=1e-6)


@pytest.mark.long
def test_the_expected_gradient_by_enumeration() -> None:
    """The mean over all responses y of the gradient equals that of sum_t E_y<t KL_t with fixed prefixes, by
    central differences in float64."""
    vocab, horizon, s = 3, 2, 0.1
    rng = np.random.default_rng(0)
    table = rng.normal(size=(vocab + 1, vocab))  # logits after each token; the last row begins
    law = np.zeros((vocab + 1, vocab))
    law[vocab], law[0], law[1] = [0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]  # 2 is never written
    responses = np.array(list(itertools.product(range(vocab), repeat=horizon)))

    def probs(of: np.ndarray) -> np.ndarray:
        weights = np.exp(of - of.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    start = probs(table)

    def expected(of: np.ndarray) -> float:
        """The prefixes keep the probabilities of `table`; after a 2 the teacher says nothing."""
        own, teacher = probs(of), (1 - s) * law + s / vocab
        kl = np.sum(own * np.log(own / teacher), axis=-1)
        return float(kl[vocab] + start[vocab, 0] * kl[0] + start[vocab, 1] * kl[1])

    def loss(of: jax.Array, y: jax.Array) -> jax.Array:
        rows = jnp.stack([jnp.asarray(vocab), y[0]])
        own = jax.nn.log_softmax(of)[rows]
        scores = Scores(
            token_log_probs(own, y), jnp.ones(horizon, bool), distributions=own,
            teacher=jnp.log(jnp.asarray(law, jnp.float32))[rows],
        )  # fmt: skip
        return OnPolicyDistillation(s)(scores)

    weights = start[vocab, responses[:, 0]] * start[responses[:, 0], responses[:, 1]]
    of_table = jnp.asarray(table, jnp.float32)
    values, slopes = jax.vmap(jax.value_and_grad(loss), (None, 0))(of_table, jnp.asarray(responses))
    assert float(weights @ np.asarray(values)) == pytest.approx(expected(table), rel=1e-5)
    plain = np.zeros_like(table)
    for place in np.ndindex(*table.shape):
        step = np.zeros_like(table)
        step[place] = 1e-5
        plain[place] = (expected(table + step) - expected(table - step)) / 2e-5
    np.testing.assert_allclose(np.einsum("y,yab->ab", weights, slopes), plain, atol=2e-5)
    assert np.abs(plain).max() > 0.1


def test_a_student_that_is_the_smoothed_teacher_has_no_loss() -> None:
    teacher = jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    own = smoothed_teacher(teacher, 0.03)
    scores = Scores(own[:, 0], jnp.ones(2, bool), distributions=own, teacher=teacher)
    assert OnPolicyDistillation(0.03)(scores) == pytest.approx(0, abs=1e-6)
    assert OnPolicyDistillation(0.3)(scores) > 0.05


@pytest.mark.long
def test_a_student_that_cannot_see_the_class_commits_as_the_closed_form_says() -> None:
    """The second token of ToyTask is the word with probability p, else the other word, by a class that
    TabularModel does not see. The minimiser is proportional to exp(E ln T): between the two words its logit
    is (2 p - 1) ln(T(right)/T(wrong)). Cross-entropy's logit would be ln(p/(1 - p))."""
    s, p = 0.2, 0.7
    task = ToyTask(easy=p)
    phase = phase_of(OnPolicyDistillation(s), OnPolicy(per_prompt=8), task)
    program = make_program(MODEL, phase, (), None)  # type: ignore[arg-type]
    seeds = jnp.zeros(1, jnp.uint32)
    start = jax.tree.map(lambda leaf: 0.0 * leaf, program.init(seeds))
    state, _ = program.run(program.begin(start, jnp.full(1, -1, jnp.int32)), seeds, 0, 400)
    table = np.asarray(state.params["table"])[0]
    right, wrong = 1 - s + s / 6, s / 6
    closed = (2 * p - 1) * math.log(right / wrong)
    for word in (1, 2):
        logit = table[word, 1, word] - table[word, 1, 3 - word]
        assert logit == pytest.approx(closed, abs=0.25)
        assert logit > math.log(p / (1 - p)) + 0.2
        # The first token is certain: its law is the smoothed teacher's.
        first = np.exp(table[word, 0]) / np.exp(table[word, 0]).sum()
        np.testing.assert_allclose(first, np.where(np.arange(6) == word, right, wrong), atol=0.01)


def test_what_it_needs_is_asked_for_in_one_line() -> None:
    own = OnPolicyDistillation()
    line = "phases.p.objective: OnPolicyDistillation learns from responses of the model in training"
    for source in (Demonstrations(), Rollouts()):
        with pytest.raises(ValueError, match=re.escape(line)):
            phase_of(own, source)
    line = "phases.p.objective: OnPolicyDistillation needs pi_D's next-token laws; task Unlisted"
    with pytest.raises(ValueError, match=re.escape(line)):
        phase_of(own, OnPolicy(), Unlisted())
    with pytest.raises(
        ValueError, match=r"^objective\.teacher_smoothing: 0 is not a number strictly between 0 and 1$"
    ):
        OnPolicyDistillation(0)
    with pytest.raises(ValueError, match="scores: without distributions or teacher"):
        own(Scores(jnp.zeros((1, 2)), jnp.ones((1, 2), bool)))
