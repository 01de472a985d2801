"""Distillation with gradients truncated at a budget of KL divergence.

Source: Coverage Principle, arXiv 2510.15020, section 6.2, equations 24 to 26.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks import Task
from tasks.checks import choice, real
from training.objectives import Objective, Scores


def truncation_weights(
    token_kl: Float[Array, "*batch horizon"], budget: Float[Array, ""] | float
) -> Float[Array, "*batch horizon"]:
    """Weights alpha_h with sum_h alpha_h eps_h = min{A, sum_h eps_h}.

    alpha_h is 1 while eps_1 + ... + eps_h <= A, (A - sum before h)/eps_h at the token that crosses A, and 0
    after. No gradient flows through the weights.

    Args:
        token_kl: eps_h = KL(teacher(.|x, y_<h) || student(.|x, y_<h)) >= 0 in nats; 0 on padding.
        budget: A = ln N.
    """
    eps = jax.lax.stop_gradient(token_kl)
    total = jnp.cumsum(eps, axis=-1)
    # A shift instead of total - eps, which would be NaN after an infinite eps.
    before = jnp.concatenate([jnp.zeros_like(total[..., :1]), total[..., :-1]], axis=-1)
    crossing = jnp.clip((budget - before) / jnp.where(eps > 0, eps, 1.0), 0.0, 1.0)
    return jnp.where(total <= budget, 1.0, jnp.where(before > budget, 0.0, crossing))


def teacher_kls(
    teacher: Float[Array, "*batch vocab"], student: Float[Array, "*batch vocab"]
) -> Float[Array, "*batch"]:
    """KL(teacher || student) in nats from log-probabilities; those of the teacher may be -inf.

    At a prefix of probability 0 under the teacher, all of them are -inf and the KL is 0.
    """
    ahead = jnp.where(teacher > -jnp.inf, teacher - student, 0.0)
    return jnp.maximum(jnp.sum(jnp.exp(teacher) * ahead, axis=-1), 0.0)


@dataclasses.dataclass(frozen=True)
class TruncatedDistillation(Objective):
    """Distillation of pi_D with truncated gradients, for any model:

        -sum_t alpha_t ln pi(y_t|x, y_<t),  sum_t alpha_t eps_t = min{ln N, sum_t eps_t},
        eps_t = KL(pi_D(.|x, y_<t) || pi(.|x, y_<t)),

    with the weights of `truncation_weights`, through which no gradient flows. A response counts up to the
    token at which the divergence from the teacher reaches ln N. Sequences of smaller divergence count fully,
    as in cross-entropy, which is the limit N -> infinity.

    Attributes:
        n: N > 1; null for no truncation.
        labels: "tokens" for the loss above; "laws" has the whole next-token law of the teacher in place of
            the token that was drawn, sum_t alpha_t eps_t. Its gradient is the expectation of the former over
            token t given the tokens before.

    Source: Coverage Principle, arXiv 2510.15020, section 6.2, equations 24 to 26.

    Raises:
        ValueError: n out of range; on a call, scores without distributions or teacher.
    """

    n: float | None = 16.0
    labels: Literal["tokens", "laws"] = "tokens"

    def __post_init__(self) -> None:
        if self.n is not None:
            real("objective.n", self.n, above=1, other="null")
        choice("objective.labels", self.labels, ("tokens", "laws"))

    @property
    def needs_teacher(self) -> bool:
        """True, because the weights compare the model with pi_D."""
        return True

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Weighted loss per sequence, in nats."""
        if scores.teacher is None or scores.distributions is None:
            raise ValueError("scores: without distributions or teacher; the weights compare them")
        eps = jnp.where(scores.mask, teacher_kls(scores.teacher, scores.distributions), 0.0)
        weights = truncation_weights(eps, math.inf if self.n is None else math.log(self.n))
        terms = eps if self.labels == "laws" else -scores.tokens
        return jnp.sum(jnp.where(scores.mask, weights * terms, 0.0), axis=-1)


def teacher_laws(
    task: Task, latent: Any, response: Int[Array, " response"]
) -> Float[Array, "response vocab"]:
    """`Task.next_log_probs` where the task has it, else `enumerated_teacher`."""
    if task.knows_next_tokens:
        return task.next_log_probs(latent, response)
    return enumerated_teacher(task, latent, response)


def enumerated_teacher(
    task: Task, latent: Any, response: Int[Array, " response"]
) -> Float[Array, "response vocab"]:
    """ln pi_D(a | x, y_<h) in nats at every prefix of a response, from the enumeration of all responses.

    At a prefix of probability 0 under pi_D all values are -inf.

    Raises:
        ValueError: a task that does not enumerate its responses.
    """
    every = task.enumerate(latent)
    mass = jnp.where(every.mask, jnp.exp(jax.vmap(task.log_prob, (None, 0))(latent, every.responses)), 0.0)
    agree = jnp.cumprod((every.responses == response).astype(jnp.int32), axis=1)
    before = jnp.concatenate([jnp.ones_like(agree[:, :1]), agree[:, :-1]], axis=1)
    here = mass[:, None] * before
    choices = jax.nn.one_hot(every.responses, task.vocab_size, dtype=mass.dtype)
    total = jnp.sum(here, axis=0)[:, None]
    summed = jnp.einsum("cr,crv->rv", here, choices)
    return jnp.log(summed / jnp.where(total > 0, total, 1.0))


def distillation_learning_rate(bound: float, variance: float, steps: int, n: float) -> float:
    """eta = min{1/((64 ln N + 2) B^2), (T sigma*^2 ln N)^(-1/2), 1/(256 B^2 ln N)}.

    The first two terms are the choice of Theorem 6.2; the constant of Lemma I.11 requires the third.
    """
    budget = math.log(n)
    largest = min(1 / ((64 * budget + 2) * bound**2), 1 / (256 * bound**2 * budget))
    return largest if variance <= 0 else min(largest, (steps * variance * budget) ** -0.5)


def stopped_kl_rate(learning_rate: float, variance: float, steps: int, n: float) -> float:
    """Bound 4/(eta T) + 2 eta (32 ln N + 1) sigma*^2, in nats, on the expected mean of D_N over the iterates.

    D_N = E min{ln N, sum_h eps_h}, and Cov_N <= 2 D_N/(ln N - 1). The bound holds for
    eta <= 1/(256 B^2 ln N) (proof of Theorem 6.2).
    """
    return 4 / (learning_rate * steps) + 2 * learning_rate * (32 * math.log(n) + 1) * variance
