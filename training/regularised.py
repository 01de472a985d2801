"""Cross-entropy with a regulariser of the next-token distributions: label smoothing, confidence penalty."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.checks import real
from training.objectives import CrossEntropy, Scores


def entropy(log_probs: Float[Array, "*batch vocab"]) -> Float[Array, "*batch"]:
    """-sum_a p_a ln p_a in nats, from ln p; a token with p_a = 0 adds 0, and no gradient."""
    possible = jnp.isfinite(log_probs)
    # Replaced before the product, because 0 x inf would make the gradient NaN for an impossible token.
    finite = jnp.where(possible, log_probs, 0.0)
    return -jnp.sum(jnp.where(possible, jnp.exp(finite) * finite, 0.0), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSmoothing(CrossEntropy):
    """Cross-entropy with the target e_y (1 - s) + s/V at each position of the response, V tokens in all:

        -(1 - s) ln pi(y_t|x, y_<t) - (s/V) sum_a ln pi(a|x, y_<t), summed over t.

    The best model then gives every token at least s/V, and the sequence at most (1 - s + s/V)^H. Targets for
    the prompt's tokens are not smoothed.

    Source: Szegedy et al., arXiv 1512.00567, section 7.

    Attributes:
        smoothing: s, the probability that is spread over the vocabulary.
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        real("objective.smoothing", self.smoothing, least=0, below=1)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss of each sequence.

        Raises:
            ValueError: the scores have no distributions.
        """
        uniform = jnp.mean(_distributions(scores), axis=-1)
        smoothed = (1 - self.smoothing) * scores.tokens + self.smoothing * uniform
        return super().losses(scores._replace(tokens=smoothed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfidencePenalty(CrossEntropy):
    """Cross-entropy less the entropy of the next-token distributions:

        -ln pi(y_t|x, y_<t) - weight H(pi(.|x, y_<t)), summed over the response's tokens t.

    Up to constants, label smoothing adds KL(u || pi) with u uniform, and this penalty adds KL(pi || u). The
    distributions of the prompt's tokens are not penalised.

    Source: Pereyra et al., arXiv 1701.06548, section 3.

    Attributes:
        weight: weight of the entropy in nats, beta in the source.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        real("objective.weight", self.weight, least=0)

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """Loss of each sequence.

        Raises:
            ValueError: the scores have no distributions.
        """
        freed = scores.tokens + self.weight * entropy(_distributions(scores))
        return super().losses(scores._replace(tokens=freed))


def _distributions(scores: Scores) -> Float[Array, "*batch response vocab"]:
    if scores.distributions is None:
        raise ValueError("scores: without distributions; a regulariser of them needs them")
    return scores.distributions
