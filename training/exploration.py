"""Bonuses that pay a policy for responses unlike the others of their prompt."""

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
    """weight h' V^-1 h, V = ridge I + sum of h h' over the group, for features centred within their group.

    With G the Gram matrix of the centred features, h_i' V^-1 h_i = [G (G + ridge I)^-1]_ii, so that the
    matrix to be decomposed has as many rows as there are responses, however wide the features are. Without
    the weight each lies in [0, 1), and their sum is below the number of responses less 1.

    Source: arXiv 2510.11686, section 4.
    """
    centred = features - jnp.mean(features, axis=-2, keepdims=True)
    values, vectors = jnp.linalg.eigh(centred @ jnp.swapaxes(centred, -1, -2))
    # Centring leaves an eigenvalue 0, which rounding may make negative.
    values = jnp.maximum(values, 0.0)
    shares = values / (values + ridge)
    return weight * jnp.sum(jnp.square(vectors) * shares[..., None, :], axis=-1)


@dataclasses.dataclass(frozen=True)
class RepresentationBonus(Bonus):
    """Reward + weight h' V^-1 h, h the mean of a response's last hidden states, within a prompt's group.

    A group without a correct response gets no bonus: novelty alone is not to be learned.

    Attributes:
        ridge: lambda > 0 of V = lambda I + sum h h'.
        weight: beta >= 0.

    Source: representation-based exploration, arXiv 2510.11686, section 4; its values are the defaults. Its
    authors find that it helps strong models, not tiny ones.

    Raises:
        ValueError: a field out of range; when called, a model whose last layer is no matrix, or a batch
            without rewards.
    """

    ridge: float = 0.01
    weight: float = 0.01

    def __post_init__(self) -> None:
        real("bonus.ridge", self.ridge, above=0)
        real("bonus.weight", self.weight, least=0)

    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """The bonus of each response."""
        rewards = _rewards_of(batch)
        features = response_features(
            policy.model, policy.params, batch.prompt, batch.prompt_mask, batch.responses, batch.response_mask
        )
        bonus = elliptic_bonus(jax.lax.stop_gradient(features), self.ridge, self.weight)
        return _where_any_is_correct(rewards, bonus)


@dataclasses.dataclass(frozen=True)
class CountBonus(Bonus):
    """Reward + weight/m for a response with m copies in its prompt's group, itself counted.

    `RepresentationBonus` for a representation that knows nothing but equality. As its ridge goes to 0, with
    features of different responses that are affinely independent (as many dimensions as different responses
    less 1 allow it), that bonus becomes weight (1/m - 1/S) in a group of S: h' V^-1 h is then the leverage of
    a regression on which response it is. It differs from this one by a constant, which no advantage sees
    (derived). A group without a correct response gets no bonus, as there.

    Attributes:
        weight: beta >= 0.

    Raises:
        ValueError: a field out of range; when called, a batch without rewards.
    """

    weight: float = 0.01

    def __post_init__(self) -> None:
        real("bonus.weight", self.weight, least=0)

    def __call__(self, policy: Policy, batch: TrainingBatch) -> Float[Array, "batch samples"]:
        """The bonus of each response."""
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
