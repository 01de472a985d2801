"""Objectives of fine-tuning that weigh sequences or tokens: TailSFT, loss change, PACED, DFT."""

from __future__ import annotations

import bisect
import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tasks.checks import choice, real
from training.coverage_objectives import log_miss
from training.objectives import CrossEntropy, Normalisation, ReferenceKind, Scores, loss_change

LEFT_OUT = -1e30
"""ln of the weight of a sequence that is left out. It is finite, because a part of a batch may have no other
sequence, and the difference of two -inf would be NaN."""
LEAST_LOG_MISS = -100.0
"""ln(1 - p) where p is 1 as far as float32 tells, so that ln of a weight is finite."""


def without_least(
    margins: Float[Array, " sequences"], dropped: Int[Array, ""] | int
) -> Bool[Array, " sequences"]:
    """False for the `dropped` sequences of smallest margin; of equal margins the first are dropped first.

    NaN counts as the largest margin, so that a sequence without a finite loss stays and is noticed.

    Example:
        >>> without_least(jnp.array([0.3, -1.0, 0.3, 2.0]), 2).tolist()
        [False, False, True, True]
    """
    order = jnp.argsort(margins, stable=True)
    return jnp.zeros(margins.shape, bool).at[order].set(jnp.arange(margins.size) >= dropped)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TailSFT(CrossEntropy):
    """Cross-entropy of the sequences of a batch that have been learned least since the start.

    With l_i(theta) the mean loss of a token of response i in nats, and l_i(0) the same under the reference,
    each step draws a batch of B responses and drops the round(B f_t) of smallest margin l_i(theta) - l_i(0),
    of equal margins the first in the batch. At least one stays. The loss is that of cross-entropy on the
    rest, by default averaged over their tokens. At step t = 0..T-1 of a phase

        static:  f_t = f
        ramp:    f_t = f t/(T - 1), from 0 at the first step to f at the last

    and halves are rounded to the even number. The reference is the parameters at the start of the phase, or
    the base model of the phase's source. l_i(0) is computed when sequence i is drawn, so prompts may be fresh
    or from a fixed set. A step costs two forward passes more than cross-entropy. f = 0 is cross-entropy.

    Source: arXiv 2608.25756, which records l_i(0) once over its training set.

    Attributes:
        filter_fraction: f in [0, 1].
        schedule: "static" or "ramp".
    """

    normalisation: Normalisation = "batch"
    filter_fraction: float = 0.5
    schedule: Literal["static", "ramp"] = "static"

    def __post_init__(self) -> None:
        super().__post_init__()
        real("objective.filter_fraction", self.filter_fraction, least=0, most=1)
        choice("objective.schedule", self.schedule, ("static", "ramp"))

    @property
    def selects(self) -> bool:
        """True for f > 0."""
        return self.filter_fraction > 0

    @property
    def reference(self) -> ReferenceKind:
        """Log-probabilities of the responses' tokens, for l_i(0)."""
        return "tokens" if self.selects else "none"

    @property
    def weighs(self) -> bool:
        """True for f > 0, and with normalisation "batch"."""
        return self.selects or super().weighs

    def dropped(self, step: Int[Array, ""] | int, steps: int, sequences: int) -> Int[Array, ""]:
        """Number of sequences that step `step` (from 0) of `steps` drops from a batch of `sequences`."""
        most = min(round(sequences * self.filter_fraction), sequences - 1)
        if self.schedule == "static" or most == 0:
            return jnp.asarray(most)
        last = max(steps - 1, 1)

        def at(t: int) -> int:
            return round(sequences * self.filter_fraction * t / last)

        # The steps from which 1, 2, ... sequences are dropped, because float32 would round halves by chance.
        first = [bisect.bisect_left(range(steps), count, key=at) for count in range(1, most + 1)]
        return jnp.sum(jnp.asarray(step) >= jnp.asarray(first, jnp.int32), dtype=jnp.int32)

    def kept(
        self, margins: Float[Array, " sequences"], step: Int[Array, ""] | int, steps: int
    ) -> Bool[Array, " sequences"]:
        """`without_least` of the margins of a whole batch, for the number of this step."""
        return without_least(margins, self.dropped(step, steps, margins.size))

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """Log-weights of cross-entropy, and `LEFT_OUT` for a sequence that is dropped.

        Raises:
            ValueError: f > 0 and the scores do not say which sequences are kept.
        """
        weights = super().log_weights(scores)
        if not self.selects:
            return weights
        if scores.kept is None:
            raise ValueError("scores: without kept; a selection of the batch's sequences needs it")
        return jnp.where(scores.kept, weights, LEFT_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossChange(CrossEntropy):
    """Cross-entropy with sequence i weighted by e^(m_i/temperature) over the mean of the batch, where
    m_i = l_i(theta) - l_i(0) is the margin of `TailSFT`.

    This is TailSFT with a soft selection (derived): both depend on differences of margins alone, and as the
    temperature falls to 0 only the largest margin counts. A high temperature is cross-entropy. No gradient
    flows through the weights. The reference is that of `TailSFT`. A step costs one forward pass more than
    cross-entropy.

    Attributes:
        temperature: > 0, in nats per token.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real("objective.temperature", self.temperature, above=0)

    @property
    def reference(self) -> ReferenceKind:
        """Log-probabilities of the responses' tokens, for l_i(0)."""
        return "tokens"

    @property
    def weighs(self) -> bool:
        """True."""
        return True

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """Log-weights of cross-entropy plus m_i/temperature.

        Raises:
            ValueError: scores without those of the reference.
        """
        if scores.reference is None:
            raise ValueError("scores: without those of the reference; a change of the loss needs them")
        change = loss_change(scores.tokens, scores.reference, scores.mask)
        return super().log_weights(scores) + change / self.temperature


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paced(CrossEntropy):
    """Cross-entropy with sequences weighted by p^alpha (1-p)^beta over the mean of the batch, where
    p = pi(y|x) is the model's own probability of the training response.

    The weight is largest at p = alpha/(alpha + beta). In the source p is the rate at which the student passes
    a problem. The two agree where each prompt has one right response, which is the training response. No
    gradient flows through the weights, which are formed and normalised in log space. beta = 0 is `Reweighted`
    in favour of easy sequences.

    Source: PACED, arXiv 2603.11178.

    Attributes:
        alpha, beta: exponents >= 0; both 0 are cross-entropy.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real("objective.alpha", self.alpha, least=0)
        real("objective.beta", self.beta, least=0)

    @property
    def weighs(self) -> bool:
        """True, because the weights of all sequences may underflow."""
        return True

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """Log-weights of cross-entropy plus alpha ln p + beta ln(1 - p)."""
        miss = jnp.maximum(log_miss(scores.log_probs), LEAST_LOG_MISS)
        own = self.alpha * jnp.minimum(scores.log_probs, 0.0) + self.beta * miss
        return super().log_weights(scores) + own


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicFineTuning(CrossEntropy):
    """Cross-entropy with the loss of each token weighted by the token's own probability:

        -sum_t sg(pi(y_t|x, y_<t)) ln pi(y_t|x, y_<t),

    where no gradient flows through sg. The gradient is that of -sum_t pi(y_t|x, y_<t), so unlikely tokens
    count little. The loss of the prompt, if it has a weight, stays that of cross-entropy.

    Source: Wu et al., arXiv 2508.05629.
    """

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss per sequence."""
        weights = jnp.exp(jax.lax.stop_gradient(scores.tokens))
        return super().losses(scores._replace(tokens=weights * scores.tokens))
