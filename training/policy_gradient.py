"""Policy gradients for verifiable rewards: GRPO, RLOO and REINFORCE as settings of one objective."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import choice, real
from training.objectives import Objective, ReferenceKind, Scores

Baseline = Literal["mean", "leave_one_out"]
SMALL = 1e-6
"""Constant added to the standard deviation that advantages are divided by."""


def advantages(
    rewards: Float[Array, "*batch samples"], baseline: Baseline = "mean", by_std: bool = True, ddof: int = 0
) -> Float[Array, "*batch samples"]:
    """Advantage of each response over the other responses to its prompt.

    With S responses of a prompt, rewards r_1..r_S and their mean m:

        mean:           A_i = r_i - m
        leave_one_out:  A_i = r_i - (sum_{j != i} r_j)/(S - 1) = S/(S - 1) (r_i - m)

    divided by (std + 1e-6) with `by_std`, std^2 = sum_i (r_i - m)^2 / (S - ddof). If all responses of a
    prompt have equal rewards, advantages and gradient are exactly 0, however the mean is rounded.

    Sources: GRPO (arXiv 2402.03300, section 4.1.1) for mean and std, RLOO (arXiv 2402.14740, section 2.2) for
    leave_one_out. The gradient with leave_one_out is unbiased for the gradient of the expected reward. With
    mean alone its expectation is (S - 1)/S times that gradient.

    Example:
        >>> advantages(jnp.array([1.0, 0.0, 0.0, 0.0]), "leave_one_out", by_std=False)
        Array([ 1.        , -0.33333334, -0.33333334, -0.33333334], dtype=float32)
    """
    size = rewards.shape[-1]
    centred = rewards - jnp.mean(rewards, axis=-1, keepdims=True)
    found = centred * (size / (size - 1)) if baseline == "leave_one_out" else centred
    if by_std:
        variance = jnp.sum(jnp.square(centred), axis=-1, keepdims=True) / (size - ddof)
        found = found / (jnp.sqrt(variance) + SMALL)
    differ = jnp.max(rewards, axis=-1, keepdims=True) > jnp.min(rewards, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(differ, found, 0.0))


def k3(tokens: Float[Array, "*shape"], reference: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """exp(d) - d - 1 with d = ln pi_ref - ln pi of a drawn token, in nats.

    It is never negative, and its expectation over the token is KL(pi || pi_ref). As a loss, its expected
    gradient is that of KL(pi_ref || pi), because the probability of drawing the token is not differentiated.
    Near pi_ref the gradients of both divergences agree.

    Source: Schulman, "Approximating KL divergence" (2020); used by GRPO (arXiv 2402.03300, equation 4).
    """
    gap = reference - tokens
    return jnp.expm1(gap) - gap


@dataclasses.dataclass(frozen=True)
class PolicyGradient(Objective):
    """Clipped policy gradient on groups of responses that the parameters in training have drawn.

    With A the advantage of a response (`advantages`, within the group of its prompt) and rho the ratio of the
    response's probabilities now and when it was drawn, the loss of the response is

        sequence:  -min(rho A, clip(rho, 1 - clip, 1 + clip) A),            rho = pi(y|x)/pi_old(y|x)
        token:     the mean (or sum) over t of this loss with
                   rho_t = pi(y_t|x, y_<t)/pi_old(y_t|x, y_<t) in place of rho

    plus `kl_weight` times the divergence from a reference model. If a batch of rollouts serves a single
    update (`source.updates_per_batch`: 1), rho is 1. Clipping then does nothing, and the gradient is
    -A grad ln pi(y|x), the plain policy gradient.

    The defaults are GRPO with rewards for outcomes (arXiv 2402.03300, section 4.1.2) except for one term:
    `kl_weight` is 0, so that no reference model is kept, as in DAPO (arXiv 2503.14476, section 2.3) and by
    default in TRL. GRPO's divergence is `kl="k3"` with the weight .04. The source does not say whether S or
    S - 1 divides the group's variance. "std" takes S. "sample_std" takes S - 1, as TRL and other libraries
    built on `torch.std` do, and gives advantages sqrt((S - 1)/S) times as large. conf/objective/rloo.yaml is
    RLOO, conf/objective/reinforce.yaml is REINFORCE with the mean as baseline.

    Attributes:
        baseline: baseline of `advantages`.
        normalise: "std" divides advantages by the group's standard deviation, sqrt(sum_i (r_i - m)^2 / S);
            "sample_std" has S - 1 in place of S; "none" does not divide.
        ratio: ratios of tokens, or of whole responses.
        length: "mean" divides a response's sum over tokens by the number of tokens, as GRPO does, which
            favours short correct and long wrong responses; "sum" does not divide. The setting applies to the
            ratios of tokens and to the divergence.
        clip: epsilon of PPO (arXiv 1707.06347, equation 7); None never clips.
        kl_weight: weight of the divergence from the reference, in nats. The reference is the source's base
            model with fixed parameters, or, without one, the parameters at the start of the phase.
        kl: "k3": the estimator `k3` of each token; "exact": KL(pi(.|x, y_<t) || pi_ref(.|x, y_<t)) over the
            whole vocabulary at each prefix drawn; "reward": the reward minus kl_weight (ln pi_old(y|x) - ln
            pi_ref(y|x)), whose policy gradient is that of E[r] - kl_weight KL(pi || pi_ref) exactly.
    """

    baseline: Baseline = "mean"
    normalise: Literal["std", "sample_std", "none"] = "std"
    ratio: Literal["token", "sequence"] = "token"
    length: Literal["mean", "sum"] = "mean"
    clip: float | None = 0.2
    kl_weight: float = 0.0
    kl: Literal["k3", "exact", "reward"] = "k3"

    def __post_init__(self) -> None:
        for field, valid in (
            ("baseline", ("mean", "leave_one_out")),
            ("normalise", ("std", "sample_std", "none")),
            ("ratio", ("token", "sequence")),
            ("length", ("mean", "sum")),
            ("kl", ("k3", "exact", "reward")),
        ):
            choice(f"objective.{field}", getattr(self, field), valid)
        if self.clip is not None:
            real("objective.clip", self.clip, above=0, below=1, other="null")
        real("objective.kl_weight", self.kl_weight, least=0)

    @property
    def needs_rewards(self) -> bool:
        """True: the objective maximises rewards."""
        return True

    @property
    def needs_policy(self) -> bool:
        """True: ratios start at 1 only if the parameters in training drew the batch."""
        return True

    @property
    def reference(self) -> ReferenceKind:
        """Log-probabilities that the divergence needs of the reference model."""
        if not self.kl_weight:
            return "none"
        return "distributions" if self.kl == "exact" else "tokens"

    def losses(self, scores: Scores) -> Float[Array, "batch samples"]:
        """Loss of each response.

        Raises:
            ValueError: the scores lack rewards, or the reference's scores although `kl_weight` is not 0.
        """
        if scores.rewards is None:
            raise ValueError("scores: without rewards; a policy gradient needs them")
        # At the first update on a batch the present policy drew it: the ratio is 1, with a gradient.
        old = scores.tokens if scores.behaviour is None else scores.behaviour
        old = jax.lax.stop_gradient(old)
        rewards = scores.rewards
        if self.kl_weight and self.kl == "reward":
            gap = jnp.sum(jnp.where(scores.mask, old - _given(scores.reference), 0.0), axis=-1)
            rewards = rewards - self.kl_weight * gap
        ddof = 1 if self.normalise == "sample_std" else 0
        advantage = advantages(rewards, self.baseline, self.normalise != "none", ddof)
        change = jnp.where(scores.mask, scores.tokens - old, 0.0)
        if self.ratio == "sequence":
            loss = self._surrogate(jnp.sum(change, axis=-1), advantage)
        else:
            loss = self._over_tokens(self._surrogate(change, advantage[..., None]), scores)
        if self.kl_weight and self.kl != "reward":
            if self.kl == "k3":
                apart = k3(scores.tokens, _given(scores.reference))
            else:
                apart = _given(scores.divergence)
            loss += self.kl_weight * self._over_tokens(apart, scores)
        return loss

    def _surrogate(self, log_ratio: Array, advantage: Array) -> Array:
        ratio = jnp.exp(log_ratio)
        if self.clip is None:
            return -ratio * advantage
        return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)

    def _over_tokens(self, values: Array, scores: Scores) -> Array:
        total = jnp.sum(jnp.where(scores.mask, values, 0.0), axis=-1)
        if self.length == "sum":
            return total
        return total / jnp.maximum(jnp.sum(scores.mask, axis=-1, dtype=total.dtype), 1.0)


def _given(scores: Array | None) -> Array:
    if scores is None:
        raise ValueError("scores: without those of the reference model; a divergence from it needs them")
    return scores
