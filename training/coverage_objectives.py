"""Objectives that weigh a sequence by how likely it is already: DCO, its step-wise variant, re-weighting."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import real
from training.objectives import CrossEntropy, Objective, Scores

LARGEST_N = 1e9
"""Of the N of DCO: up to here N p is negligible below the p at which `log_pass` and `dco_factor` take their
limits."""
_TINY = -60.0
"""ln p below which 1 - (1-p)^N is N p and the factor 1, to the last digit of float64: N p < 1e-17."""


def log_miss(log_p: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """ln(1 - p) from ln p, to the precision of ln p: p = 1 has -inf, as has what rounding carries beyond."""
    log_p = jnp.minimum(log_p, 0.0)
    likely = log_p > -math.log(2)
    # Twice, because the gradient would otherwise be NaN where the branch that is not taken is infinite.
    near = jnp.log(-jnp.expm1(jnp.where(likely, log_p, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(likely, -1.0, log_p)))
    return jnp.where(likely, near, far)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_pass(log_p: Float[Array, "*batch"], n: float) -> Float[Array, "*batch"]:
    """ln(1 - (1-p)^n) from ln p: ln of the chance that one of n draws hits an event of probability p, nats.

    Exact to the precision of ln p for p from below 1e-300 to 1 - 1e-12 and beyond, in float32 too: p itself
    is never formed where it would underflow, nor 1 - p where it would cancel. Its derivative by ln p is
    `dco_factor`.

    Example:
        >>> [round(float(value), 4) for value in log_pass(jnp.log(jnp.array([1e-3, 0.5])), 4)]
        [-5.523, -0.0645]
    """
    if n == 1:
        return jnp.minimum(log_p, 0.0)
    # (1-p)^n = e^-a
    a = -n * log_miss(jnp.maximum(log_p, _TINY))
    rare = jnp.log(-jnp.expm1(-jnp.minimum(a, 1.0)))
    return jnp.where(log_p < _TINY, math.log(n) + log_p, jnp.where(a < 0.7, rare, jnp.log1p(-jnp.exp(-a))))


def dco_factor(log_p: Float[Array, "*batch"], n: float) -> Float[Array, "*batch"]:
    """F(n, p) = n p (1-p)^(n-1) / (1 - (1-p)^n) from ln p: what the gradient of DCO is of cross-entropy's.

    Between 1 for p -> 0 and, for n > 1, 0 for p -> 1; F(1, p) = 1. About half at p = 1.26/n for a large n.

    Source: arXiv 2502.07154, the factor of its DCO loss. Exact as `log_pass`.

    Example:
        >>> [round(float(value), 4) for value in dco_factor(jnp.log(jnp.array([1e-3, 0.5])), 4)]
        [0.9985, 0.2667]
    """
    if n == 1:
        return jnp.ones_like(log_p)
    kept = jnp.clip(log_p, _TINY, 0.0)
    miss = log_miss(kept)
    found = n * jnp.exp(kept + (n - 1) * miss) / -jnp.expm1(n * miss)
    return jnp.where(log_p < _TINY, 1.0, found)


@log_pass.defjvp
def _log_pass_jvp(n: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_pass(primals[0], n), dco_factor(primals[0], n) * tangents[0]


@dataclasses.dataclass(frozen=True)
class DCO(Objective):
    """Direct coverage optimisation: the loss -ln(1 - (1-p)^n) with p = pi(y|x), the log-probability that none
    of n responses is y.

    Its gradient is `dco_factor`(n, p) times cross-entropy's: a sequence that n responses will find anyway,
    p well above 1/n, is left alone, and the model never grows over-confident by it. n = 1 is cross-entropy.
    The source also replaces sequences of negligible factor in a batch by others; here they stay in, with a
    gradient of about 0.

    Source: arXiv 2502.07154.

    Attributes:
        n: number of responses that the model is trained for, the source's N'.
    """

    n: float = 16

    def __post_init__(self) -> None:
        real("objective.n", self.n, least=1, most=LARGEST_N)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss of each sequence."""
        return -log_pass(scores.log_probs, self.n)


@dataclasses.dataclass(frozen=True)
class StepwiseDCO(Objective):
    """DCO of each step: -sum_t ln(1 - (1 - pi(y_t|x, y_<t))^n), a token of the response being a step.

    The source has a proof's tactics as steps. n is about the number of continuations that stay likely at each
    step, so that of the order of n^H responses find a sequence of H steps that are all in doubt; where few of
    them are, `DCO` with N near n.

    Source: arXiv 2502.07154, its step-wise loss for theorem proving.

    Attributes:
        n: number of tries at each step, the source's N_eff.
    """

    n: float = 4

    def __post_init__(self) -> None:
        real("objective.n", self.n, least=1, most=LARGEST_N)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss of each sequence."""
        return -jnp.sum(jnp.where(scores.mask, log_pass(scores.tokens, self.n), 0.0), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reweighted(CrossEntropy):
    """Cross-entropy with each sequence weighted by its own loss -ln p, p = pi(y|x):

        hard:  (1 - p)^gamma, which turns away from sequences that are known (focal loss, arXiv 1708.02002);
        easy:  p^gamma over its mean in the batch, which turns away from those that are not: its gradient has
               the direction of that of (1 - p^gamma)/gamma (generalised cross-entropy, arXiv 1805.07836), at
               gamma = 1 of that of 1 - Pass@1.

    No gradient flows through the weight, unlike in the first source.

    The second source does not divide by the mean, nor does this objective when it is called: a loss is then
    p^gamma times -ln p. In training the program divides, in log space, because p^gamma of a long response is
    below the smallest float and the undivided gradient 0. The direction of a batch's gradient is the
    source's. Its length is that of a mean with weights of mean 1, as cross-entropy's.

    Attributes:
        favour: "hard" or "easy".
        gamma: > 0.
    """

    favour: Literal["hard", "easy"] = "hard"
    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.favour not in ("hard", "easy"):
            raise ValueError(f"objective.favour: {self.favour!r} is not one of hard, easy")
        real("objective.gamma", self.gamma, above=0)

    @property
    def weighs(self) -> bool:
        """True where easy sequences are favoured, whose weights may all be too small for a float."""
        return self.favour == "easy"

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Cross-entropy of each sequence, times its weight where `favour` is "hard"."""
        loss = super().losses(scores)
        if self.weighs:
            return loss
        return jnp.exp(self.gamma * log_miss(jax.lax.stop_gradient(scores.log_probs))) * loss

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """gamma ln p of each sequence, the weight where `favour` is "easy"."""
        return self.gamma * jnp.minimum(scores.log_probs, 0.0)
