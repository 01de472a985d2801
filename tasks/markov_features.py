"""Feature maps of the last two tokens, for which sums over all responses are exact and cheap."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.linear import FeatureMap

MOST_NUMBERS = 2**22
"""Largest size of a feature table, which is a constant in every compiled program."""


class MarkovFeatures(FeatureMap):
    """phi(x, y_1:h) = table[x, h - 1, y_h-1, y_h]: pi_theta(.|x) is an inhomogeneous Markov chain.

    Prompts are numbers in 0..num_prompts-1. KL, entropy and inherent variance are sums over H transitions
    (`tasks.markov_sums`).
    """

    @property
    @abc.abstractmethod
    def num_prompts(self) -> int:
        """Number of prompts."""

    @abc.abstractmethod
    def table(self) -> Float[np.ndarray, "prompts horizon before vocab dimension"]:
        """Features in float64, on the host.

        `before` is y_h-1, or V at h = 1. The axis has size 1 if phi does not depend on y_h-1.
        """

    def children(
        self, prompt: Int[Array, ""], prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """Row of the table."""
        table = jnp.asarray(self.table())
        before = jnp.where(length == 0, self.vocab, prefix[jnp.maximum(length - 1, 0)])
        return table[prompt, length, jnp.minimum(before, table.shape[2] - 1)]

    def path(
        self, prompt: Int[Array, ""], response: Int[Array, " horizon"]
    ) -> Float[Array, "horizon vocab dimension"]:
        """Rows of the table, in one look-up."""
        table = jnp.asarray(self.table())
        before = jnp.concatenate([jnp.full((1,), self.vocab, response.dtype), response[:-1]])
        return table[prompt, jnp.arange(self.horizon), jnp.minimum(before, table.shape[2] - 1)]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes H, V and P of a feature map, and the bound B."""

    horizon: int
    vocab: int
    prompts: int
    bound: float


class SizedFeatures(MarkovFeatures):
    """Feature map whose table is determined by `sizes` and few other fields.

    Raises:
        ValueError: more than `MOST_NUMBERS` numbers.
    """

    sizes: Sizes

    def __post_init__(self) -> None:
        before = self.vocab + 1 if self.looks_back else 1
        numbers = self.num_prompts * self.horizon * before * self.vocab * self.dimension
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"features: {numbers} numbers for {self.num_prompts} prompts, horizon {self.horizon}, "
                f"{self.vocab} tokens and dimension {self.dimension}; valid: at most {MOST_NUMBERS}"
            )

    @property
    @abc.abstractmethod
    def looks_back(self) -> bool:
        """True if phi depends on y_h-1."""

    @property
    def horizon(self) -> int:
        """Horizon H."""
        return self.sizes.horizon

    @property
    def vocab(self) -> int:
        """Vocabulary size V."""
        return self.sizes.vocab

    @property
    def num_prompts(self) -> int:
        """Number P of prompts."""
        return self.sizes.prompts

    @property
    def bound(self) -> float:
        """Bound B."""
        return self.sizes.bound


@dataclasses.dataclass(frozen=True)
class RandomFeatures(SizedFeatures):
    """phi = B u with u uniform on the unit sphere of R^d, independently for every (x, h, y_h-1, y_h).

    Attributes:
        sizes: H, V, P, B.
        coordinates: d.
        seed: seed of the features.
    """

    sizes: Sizes
    coordinates: int
    seed: int

    @property
    def looks_back(self) -> bool:
        """True."""
        return True

    @property
    def dimension(self) -> int:
        """Dimension d."""
        return self.coordinates

    def table(self) -> Float[np.ndarray, "prompts horizon before vocab dimension"]:
        """Normalised Gaussian vectors."""
        return _random_table(self)


@dataclasses.dataclass(frozen=True)
class PositionFeatures(SizedFeatures):
    """phi(x, y_1:h) = B s_x y_h/(V - 1) e_h in R^H, with s_x = x/(P - 1) if P > 1, else 1.

    Tokens are independent, with one parameter per position. V = P = 2 is the instance of the necessity of the
    inherent variance: phi(-, .) = 0 and phi(+, y_1:h) = B y_h e_h for the prompts - (0) and + (1).

    Source: Coverage Principle, arXiv 2510.15020, section 5.
    """

    sizes: Sizes

    @property
    def looks_back(self) -> bool:
        """False."""
        return False

    @property
    def dimension(self) -> int:
        """Dimension H."""
        return self.horizon

    def table(self) -> Float[np.ndarray, "prompts horizon before vocab dimension"]:
        """Table of the formula in the class docstring."""
        return _position_table(self)


@functools.lru_cache(maxsize=16)
def _random_table(features: RandomFeatures) -> Any:
    shape = (features.num_prompts, features.horizon, features.vocab + 1, features.vocab, features.dimension)
    drawn = np.random.default_rng(features.seed).normal(size=shape)
    return features.bound * drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


@functools.lru_cache(maxsize=16)
def _position_table(features: PositionFeatures) -> Any:
    scale = np.linspace(0, 1, features.num_prompts) if features.num_prompts > 1 else np.ones(1)
    level = np.linspace(0, 1, features.vocab)
    return features.bound * np.einsum("p,v,hd->phvd", scale, level, np.eye(features.horizon))[:, :, None]
