"""Exploration bonuses for responses that differ from the other responses to a prompt."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from decoding.selection import response_features
from tasks.checks import real
from training.sources import Bonus, Policy, TrainingBatch


def elliptic_bonus(
    features: Float[Array, "*batch samples width"], ridge: float, weight: float
) -> Float[Array, "*batch samples"]:
    """weight h' V^-1 h, V = ridge I + sum of h h' over the group, for features centred within the group.

    With G the Gram matrix of the centred features, h_i' V^-1 h_i = [G (G + ridge I)^-1]_ii, so that the
    decomposed matrix has one row per response for any width of the features. Without the weight every bonus
    is in [0, 1), and the sum is below the number of responses minus 1.

    Source: arXiv 2510.11686, section 4.
    """
    centred = features - jnp.mean(features, axis=-2, keepdims=True)
    values, vectors = jnp.linalg.eigh(centred @ jnp.swapaxes(centred, -1, -2))
    # Centring creates an eigenvalue 0, which rounding may make negative.
    values = jnp.maximum(values, 0.0)
    shares = values / (values + ridge)
    return weight * jnp.sum(jnp.square(vectors) * shares[..., None, :], axis=-1)


@dataclasses.dataclass(frozen=True)
class RepresentationBonus(Bonus):
    """Reward + weight h' V^-1 h, h the mean of a response's last hidden states, within a prompt's group.

    A group without a correct response gets no bonus, so that novelty alone is not learned.

    Attributes:
        ridge: lambda > 0 of V = lambda I + sum h h'.
        weight: beta >= 0.

    Source: representation-based exploration, arXiv 2510.11686, section 4; defaults are the paper's. The
    authors report a benefit for strong models, not for tiny ones.

    Raises:
        ValueError: a field out of range; on a call, a model whose last layer is not a matrix, or a batch
            without rewards.
    """

    ridge: float = 0.01
    weight: float = 0.01

    def __post_init__(self) -> None:
        real("bonus.ridge", self.ridge, above=0)
        real("bonus.weight", self.weight, least=0)

    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """Bonus per response."""
        rewards = _rewards_of(batch)
        features = response_features(
            policy.model, policy.params, batch.prompt, batch.prompt_mask, batch.responses, batch.response_mask
        )
        bonus = elliptic_bonus(jax.lax.stop_gradient(features), self.ridge, self.weight)
        return _where_any_is_correct(rewards, bonus)


@dataclasses.dataclass(frozen=True)
class CountBonus(Bonus):
    """Reward + weight/m for a response with m copies in the prompt's group, itself included.

    This is `RepresentationBonus` for a representation of equality alone. Let the features of distinct
    responses be affinely independent, which requires a dimension of at least the number of distinct responses
    minus 1. As ridge tends to 0, h' V^-1 h is the leverage of a regression on the identity of the response,
    and the bonus tends to weight (1/m - 1/S) in a group of S. The two bonuses then differ by a constant,
    which does not affect advantages (derived). A group without a correct response gets no bonus.

    Attributes:
        weight: beta >= 0.

    Raises:
        ValueError: a field out of range; on a call, a batch without rewards.
    """

    weight: float = 0.01

    def __post_init__(self) -> None:
        real("bonus.weight", self.weight, least=0)

    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """Bonus per response."""
        rewards = _rewards_of(batch)
        shown = jnp.where(batch.response_mask, batch.responses, -1)
        same = jnp.all(shown[:, :, None] == shown[:, None, :], axis=-1)
        return _where_any_is_correct(rewards, self.weight / jnp.sum(same, axis=-1, dtype=rewards.dtype))


def _rewards_of(batch: TrainingBatch) -> Float[Array, "batch samples"]:
    if batch.rewards is None:
        raise ValueError("bonus: the batch has no rewards; valid: a source that judges")
    return batch.rewards


def _where_any_is_correct(
    rewards: Float[Array, "batch samples"], bonus: Float[Array, "batch samples"]
) -> Float[Array, "batch samples"]:
    return jnp.where(jnp.any(rewards > 0, axis=-1, keepdims=True), bonus, 0.0)
