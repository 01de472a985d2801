"""Training objectives: maps from scores per token to one loss per sequence."""

from __future__ import annotations

import abc
import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tasks.checks import choice, real

ReferenceKind = Literal["none", "tokens", "distributions"]
"""Scores that an objective needs from a reference model: none, the log-probabilities of the response tokens,
or those of all tokens at every position of the responses."""
Normalisation = Literal["sequence", "token", "batch"]
"""Terms of the mean that is the loss: the sequences of a batch, their token means, or all tokens."""


def ahead_mask(mask: Bool[Array, "*batch response"], heads: int) -> Bool[Array, "*batch heads response"]:
    """Tokens that a head for tokens further ahead predicts: of head d = 1..heads, the real tokens y_t with
    t >= d, counted from 0, since that head has read y_<t-d."""
    distance = jnp.arange(1, heads + 1)[:, None]
    return mask[..., None, :] & (jnp.arange(mask.shape[-1]) >= distance)


def loss_change(
    tokens: Float[Array, "*batch response"],
    reference: Float[Array, "*batch response"],
    mask: Bool[Array, "*batch response"],
) -> Float[Array, "*batch"]:
    """Mean over a response's tokens of ln pi_ref(y_t|x, y_<t) - ln pi(y_t|x, y_<t), in nats.

    It is the change of the length-normalised loss since the reference: negative where the model has learned.
    A response without tokens has 0.
    """
    gap = jnp.where(mask, reference, 0.0) - jnp.where(mask, tokens, 0.0)
    return jnp.sum(gap, axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1, dtype=gap.dtype), 1.0)


class Scores(NamedTuple):
    """Scores of a batch of responses; `batch` stands for the axes of prompts and of responses per prompt.

    `tokens` is ln pi(y_t|x, y_<t) in nats, `logits` the raw logit of y_t. Scores of the prompt are None
    unless the objective needs them, `rewards` unless the source computes rewards. Scores that an objective
    does not use are not computed. Arrays of tokens are meaningless where the mask is False: see `masked`.

    `behaviour` is `tokens` under the parameters that drew the responses, None if these are the current ones;
    `reference` is `tokens` under the reference model, `divergence` KL(pi || pi_ref) in nats per position.
    `distributions` is ln pi(a|x, y_<t) of every token a of the vocabulary, `teacher` is ln pi_D(a|x, y_<t).
    `ahead` is ln pi_d(y_t|x, y_<t-d) of the heads d = 1, 2, ... for tokens further ahead, with no meaning at
    t < d. `kept` is False for sequences that an objective which `selects` leaves out.
    """

    tokens: Float[Array, "*batch response"]
    mask: Bool[Array, "*batch response"]
    prompt_tokens: Float[Array, "*#batch prompt_1"] | None = None
    prompt_mask: Bool[Array, "*#batch prompt_1"] | None = None
    logits: Float[Array, "*batch response"] | None = None
    rewards: Float[Array, "*batch"] | None = None
    behaviour: Float[Array, "*batch response"] | None = None
    reference: Float[Array, "*batch response"] | None = None
    divergence: Float[Array, "*batch response"] | None = None
    distributions: Float[Array, "*batch response vocab"] | None = None
    teacher: Float[Array, "*batch response vocab"] | None = None
    ahead: Float[Array, "*batch heads response"] | None = None
    kept: Bool[Array, "*batch"] | None = None

    def masked(self) -> Scores:
        """These scores with 0 at masked positions.

        A padded position may hold any number. Masking after an exponential would still give the gradient
        0 x inf = NaN where the exponential overflows, so scores are masked before any computation.
        """

        def cleared(values: Array | None, mask: Array | None) -> Array | None:
            return values if values is None or mask is None else jnp.where(mask, values, 0.0)

        by_vocabulary = self.mask[..., None]
        by_head = None if self.ahead is None else ahead_mask(self.mask, self.ahead.shape[-2])
        return self._replace(
            tokens=jnp.where(self.mask, self.tokens, 0.0),
            prompt_tokens=cleared(self.prompt_tokens, self.prompt_mask),
            logits=cleared(self.logits, self.mask),
            behaviour=cleared(self.behaviour, self.mask),
            reference=cleared(self.reference, self.mask),
            divergence=cleared(self.divergence, self.mask),
            distributions=cleared(self.distributions, by_vocabulary),
            teacher=cleared(self.teacher, by_vocabulary),
            ahead=cleared(self.ahead, by_head),
        )

    @property
    def log_probs(self) -> Float[Array, "*batch"]:
        """ln pi(y|x) per sequence."""
        return jnp.sum(jnp.where(self.mask, self.tokens, 0.0), axis=-1)


class Objective(abc.ABC):
    """Map from the scores of a batch to one loss per sequence.

    The program minimises the mean loss, weighted if the objective `weighs` sequences. An implementation
    defines `losses` on scores that are already `Scores.masked`.
    """

    @property
    def needs_prompt(self) -> bool:
        """True if the tokens of the prompt are scored."""
        return False

    @property
    def needs_rewards(self) -> bool:
        """True if the rewards of the responses are needed."""
        return False

    @property
    def needs_policy(self) -> bool:
        """True if the policy in training must draw the responses, several per prompt."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """True if pi_D's next-token laws are needed: the task has them (`Task.knows_next_tokens`) or
        enumerates its responses."""
        return False

    @property
    def by_token(self) -> bool:
        """True if the program updates the parameters after every token of the responses: update h has the
        loss of token h alone, under the parameters that the updates before have left."""
        return False

    @property
    def ahead(self) -> int:
        """Number of tokens after the next one that the model must predict at every position."""
        return 0

    @property
    def reference(self) -> ReferenceKind:
        """Scores needed from a reference model."""
        return "none"

    @property
    def selects(self) -> bool:
        """True if a part of each batch is left out: the program then calls `kept`, and `reference` is
        "tokens"."""
        return False

    @property
    def weighs(self) -> bool:
        """True if sequences have weights e^`log_weights`."""
        return False

    @abc.abstractmethod
    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss per sequence before weighting; the scores are masked."""

    def kept(
        self, margins: Float[Array, " sequences"], step: Int[Array, ""] | int, steps: int
    ) -> Bool[Array, " sequences"]:
        """False for the sequences of a whole batch to leave out, for an objective that `selects`.

        Args:
            margins: `loss_change` since the reference, under the parameters at the start of the step, in the
                order of the batch.
            step, steps: index of the step from 0, and number of steps of the phase.
        """
        return jnp.ones(margins.shape, bool)

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """ln of the weights of the sequences in nats, for an objective that `weighs`; the scores are masked.

        No gradient flows through the weights. The program divides the weights by the mean over the batch, in
        log space, so that only proportions matter even if all weights underflow.
        """
        return jnp.zeros(scores.mask.shape[:-1])

    def __call__(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss times weight per sequence, for scores that may be arbitrary where the mask is False."""
        scores = scores.masked()
        losses = self.losses(scores)
        if not self.weighs:
            return losses
        return jnp.exp(jax.lax.stop_gradient(self.log_weights(scores))) * losses


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """Maximum likelihood, -ln pi(y|x) (Coverage Principle, arXiv 2510.15020, equation 1).

    Attributes:
        prompt_weight: weight of the loss -ln pi(x) of the prompt (0: response only). The paper does not state
            whether it trains on prompts.
        normalisation: "sequence" sums over tokens, "token" divides by the number of scored tokens; both take
            the mean over the sequences of a batch. "batch" is the mean over all scored tokens of a batch: of
            the losses of "token", weighted by the number of scored tokens.
    """

    prompt_weight: float = 0.0
    normalisation: Normalisation = "sequence"

    def __post_init__(self) -> None:
        real("objective.prompt_weight", self.prompt_weight, least=0)
        choice("objective.normalisation", self.normalisation, ("sequence", "token", "batch"))

    @property
    def needs_prompt(self) -> bool:
        """True if `prompt_weight` is positive."""
        return self.prompt_weight > 0

    @property
    def weighs(self) -> bool:
        """True with normalisation "batch"."""
        return self.normalisation == "batch"

    def _count(self, scores: Scores) -> Float[Array, "*batch"]:
        """Number of scored tokens, those of the prompt times `prompt_weight`."""
        count = jnp.sum(scores.mask, axis=-1, dtype=scores.tokens.dtype)
        if scores.prompt_tokens is not None and scores.prompt_mask is not None:
            count += self.prompt_weight * jnp.sum(scores.prompt_mask, axis=-1, dtype=count.dtype)
        return count

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """-sum_t ln pi(y_t|x, y_<t), plus the loss of the prompt times `prompt_weight`."""
        loss = -scores.log_probs
        if scores.prompt_tokens is not None and scores.prompt_mask is not None:
            loss -= self.prompt_weight * jnp.sum(
                jnp.where(scores.prompt_mask, scores.prompt_tokens, 0.0), axis=-1
            )
        if self.normalisation == "sequence":
            return loss
        count = self._count(scores)
        # A sequence without scored tokens has loss 0, not 0/0.
        return loss / jnp.where(count > 0, count, 1.0)

    def log_weights(self, scores: Scores) -> Float[Array, "*batch"]:
        """ln of the number of scored tokens with normalisation "batch", else 0."""
        if self.normalisation != "batch":
            return super().log_weights(scores)
        # A finite number instead of ln 0 for a sequence without scored tokens, whose loss is 0.
        return jnp.log(jnp.maximum(self._count(scores), 1e-30))


@dataclasses.dataclass(frozen=True)
class ValueRegression(Objective):
    """Regression of a value function on the final reward of rollouts, at every position.

    The logit of the token y_h after the prefix y_1:h-1 is the logit of V^(x, y_1:h), so one forward pass
    values all children of a node. With squared error the loss of a rollout with reward tau is the mean over
    h = 1..|y| of (V^(x, y_1:h) - tau)^2, with minimiser V = E_ref[tau | y_1:h] (VGB, arXiv 2510.03149,
    section 5).

    Attributes:
        loss: "squared", or "log": -tau ln V^ - (1 - tau) ln(1 - V^) in nats, with the same minimiser.
    """

    loss: Literal["squared", "log"] = "squared"

    def __post_init__(self) -> None:
        choice("objective.loss", self.loss, ("squared", "log"))

    @property
    def needs_rewards(self) -> bool:
        """True, because the final reward is the target."""
        return True

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Mean error over the tokens of the response.

        Raises:
            ValueError: scores without logits or rewards.
        """
        if scores.logits is None or scores.rewards is None:
            raise ValueError("scores: without logits or rewards; a value function is regressed on both")
        target = scores.rewards[..., None]
        if self.loss == "squared":
            errors = jnp.square(jax.nn.sigmoid(scores.logits) - target)
        else:
            errors = jax.nn.softplus(scores.logits) - target * scores.logits
        count = jnp.maximum(jnp.sum(scores.mask, axis=-1, dtype=errors.dtype), 1.0)
        return jnp.sum(jnp.where(scores.mask, errors, 0.0), axis=-1) / count
