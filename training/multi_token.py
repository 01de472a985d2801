"""Multi-token prediction: heads on one trunk that predict the next k tokens (arXiv 2404.19737)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import real, whole
from training.objectives import CrossEntropy, Scores, ahead_mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiToken(CrossEntropy):
    """Cross-entropy of the next k tokens at every position of the response, by k heads on a shared trunk:

        -sum_t ln pi(y_t|x, y_<t) - ahead_weight sum_{d=1}^{k-1} sum_{t>=d} ln pi_d(y_t|x, y_<t-d).

    Head 1 is the model's next-token law pi, which sampling, scoring and every metric use. Head 1 + d has the
    law pi_d, whose best value is pi_D's marginal law of y_t given x and y_<t-d. The further heads are read by
    this objective alone: in other phases of the run their gradient is 0. They predict from the response's
    positions, the first of which is the prompt's last token, and predict no token after the response's end.

    With normalisation "token" each head's cross-entropy is divided by the number of that head's targets.

    Source: Gloeckle et al., arXiv 2404.19737, equations 1 and 2, where `ahead_weight` is 1.

    Attributes:
        k: number of tokens that are predicted at every position; 1 is cross-entropy.
        ahead_weight: weight of every head but the first.
    """

    k: int = 4
    ahead_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalisation == "batch":
            # Heads have unequal numbers of targets, for which one weight per sequence does not do.
            raise ValueError("objective.normalisation: 'batch' is not one of sequence, token, for MultiToken")
        whole("objective.k", self.k, 1)
        real("objective.ahead_weight", self.ahead_weight, least=0)

    @property
    def ahead(self) -> int:
        """k - 1."""
        return self.k - 1

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss of each sequence.

        Raises:
            ValueError: the scores lack the heads that are asked for.
        """
        loss = super().losses(scores)
        if not self.ahead:
            return loss
        found = 0 if scores.ahead is None else scores.ahead.shape[-2]
        if scores.ahead is None or found < self.ahead:
            raise ValueError(f"scores: {found} further heads; objective.k = {self.k} needs {self.ahead}")
        further = -jnp.sum(scores.ahead[..., : self.ahead, :], axis=-1)
        if self.normalisation == "token":
            count = jnp.sum(ahead_mask(scores.mask, self.ahead), axis=-1, dtype=further.dtype)
            # A head without targets, in a response shorter than its distance, has loss 0.
            further /= jnp.maximum(count, 1.0)
        return loss + self.ahead_weight * jnp.sum(further, axis=-1)
