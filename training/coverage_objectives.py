"""Objectives that weight a sequence by its likelihood: DCO, step-wise DCO, re-weighting."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import choice, real
from training.objectives import CrossEntropy, Objective, Scores

LARGEST_N = 1e9
"""Largest N of DCO, for which N p is negligible below the p at which `log_pass` and `dco_factor` switch to
limits."""
_TINY = -60.0
"""ln p below which 1 - (1-p)^N is N p and the factor 1, to the last digit of float64: N p < 1e-17."""


def log_miss(log_p: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """ln(1 - p) from ln p, to the precision of ln p; -inf at p = 1, and at p > 1 by rounding."""
    log_p = jnp.minimum(log_p, 0.0)
    likely = log_p > -math.log(2)
    # Inner `where`s, because the gradient would be NaN if the branch that is not taken is infinite.
    near = jnp.log(-jnp.expm1(jnp.where(likely, log_p, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(likely, -1.0, log_p)))
    return jnp.where(likely, near, far)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_pass(log_p: Float[Array, "*batch"], n: float) -> Float[Array, "*batch"]:
    """ln(1 - (1-p)^n) in nats from ln p: ln of the probability that one of n draws hits an event of chance p.

    Exact to the precision of ln p for p from below 1e-300 to 1 - 1e-12 and beyond, also in float32: p is
    never formed where it would underflow, nor 1 - p where it would cancel. The derivative by ln p is
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
    """F(n, p) = n p (1-p)^(n-1) / (1 - (1-p)^n) from ln p: the gradient of DCO over that of cross-entropy.

    F decreases from 1 for p -> 0 to, for n > 1, 0 for p -> 1; F(1, p) = 1. F is about 1/2 at p = 1.26/n for
    large n. The precision is that of `log_pass`.

    Source: arXiv 2502.07154, the factor of the DCO loss.

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
    """Direct coverage optimisation: the loss -ln(1 - (1-p)^n) with p = pi(y|x).

    The loss is -ln of the probability that one of n responses is y. The gradient is `dco_factor`(n, p) times
    that of cross-entropy: a sequence with p well above 1/n has almost no gradient, which avoids
    over-confidence. n = 1 is cross-entropy. The source replaces sequences of negligible factor in a batch;
    here they stay, with a gradient of about 0.

    Source: arXiv 2502.07154.

    Attributes:
        n: number of responses that the model is trained for, N' in the source.
    """

    n: float = 16

    def __post_init__(self) -> None:
        real("objective.n", self.n, least=1, most=LARGEST_N)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss per sequence."""
        return -log_pass(scores.log_probs, self.n)


@dataclasses.dataclass(frozen=True)
class StepwiseDCO(Objective):
    """DCO per step: -sum_t ln(1 - (1 - pi(y_t|x, y_<t))^n), where a step is a token of the response.

    In the source the steps are tactics of a proof. n is about the number of continuations that stay likely
    per step, so that order n^H responses are necessary for a sequence of H uncertain steps. With few
    uncertain steps it is close to `DCO` with N near n.

    Source: arXiv 2502.07154, the step-wise loss for theorem proving.

    Attributes:
        n: number of attempts per step, N_eff in the source.
    """

    n: float = 4

    def __post_init__(self) -> None:
        real("objective.n", self.n, least=1, most=LARGEST_N)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss per sequence."""
        return -jnp.sum(jnp.where(scores.mask, log_pass(scores.tokens, self.n), 0.0), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reweighted(CrossEntropy):
    """Cross-entropy -ln p, p = pi(y|x), with a weight per sequence:

        hard:  (1 - p)^gamma, small for learned sequences (focal loss, arXiv 1708.02002);
        easy:  p^gamma over the batch mean of p^gamma, small for sequences not yet learned. The gradient has
               the direction of that of (1 - p^gamma)/gamma (generalised cross-entropy, arXiv 1805.07836), and
               of that of 1 - Pass@1 at gamma = 1.

    No gradient flows through the weight, unlike in the first source.

    The second source does not divide by the mean, nor does a call of this objective, whose loss is p^gamma
    times -ln p. In training the program divides, in log space, because p^gamma of a long response underflows
    and the gradient would be 0. The direction of the batch gradient is that of the source; the length is that
    of a mean with weights of mean 1, as for cross-entropy.

    Attributes:
        favour: "hard" or "easy".
        gamma: > 0.
    """

    favour: Literal["hard", "easy"] = "hard"
    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("objective.favour", self.favour, ("hard", "easy"))
        real("objective.gamma", self.gamma, above=0)

    @property
    def weighs(self) -> bool:
        """True for "easy", where the weights of all sequences may underflow, and with normalisation
        "batch"."""
        return self.favour == "easy" or super().weighs

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Cross-entropy per sequence, times the weight if `favour` is "hard"."""
        loss = super().losses(scores)
        if self.favour == "easy":
            return loss
        return jnp.exp(self.gamma * log_miss(jax.lax.stop_gradient(scores.log_probs))) * loss

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """Log-weights of cross-entropy, plus gamma ln p per sequence for `favour` "easy"."""
        weights = super().log_weights(scores)
        if self.favour == "easy":
            weights += self.gamma * jnp.minimum(scores.log_probs, 0.0)
        return weights
