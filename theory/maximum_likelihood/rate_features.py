"""Feature maps of the instances on which the rates of maximum likelihood are measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.linear import FeatureMap


@dataclasses.dataclass(frozen=True)
class PromptFeatures(FeatureMap):
    """phi(x, y_1:h) = B s(y_h) e_x in R^P for prompts x < P, and 0 for the silent prompt P.

    Tokens are bits, s(0) = -1 and s(1) = +1. Given x < P the H bits are independent with log-odds
    2 B theta_x; given P the bits are fair.

    Attributes:
        length: the horizon H.
        num_prompts: P, number of prompts without the silent one; the dimension.
        norm: B.

    Source: Coverage Principle, arXiv 2510.15020, proof of Proposition 3.2, for P = 1, B = 1 (the paper's
    prompt 1 is 0 here, the paper's prompt 0 is silent).
    """

    length: int
    num_prompts: int
    norm: float

    @property
    def horizon(self) -> int:
        """Horizon H."""
        return self.length

    @property
    def vocab(self) -> int:
        """Two tokens, the bits."""
        return 2

    @property
    def dimension(self) -> int:
        """Dimension P."""
        return self.num_prompts

    @property
    def bound(self) -> float:
        """B."""
        return self.norm

    def children(
        self, prompt: Int[Array, ""], prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """Features -B e_x and B e_x at every prefix, 0 for the silent prompt."""
        basis = (jnp.arange(self.num_prompts) == prompt).astype(jnp.result_type(float))
        return jnp.asarray([-self.norm, self.norm], basis.dtype)[:, None] * basis


@dataclasses.dataclass(frozen=True)
class TokenFeatures(FeatureMap):
    """phi(y) = B e_y in R^d: one prompt, one token out of d.

    Attributes:
        size: d, the vocabulary and the dimension.
        norm: B.

    Source: Coverage Principle, arXiv 2510.15020, proof of Proposition 4.1 (a).
    """

    size: int
    norm: float

    @property
    def horizon(self) -> int:
        """One token."""
        return 1

    @property
    def vocab(self) -> int:
        """Vocabulary size d."""
        return self.size

    @property
    def dimension(self) -> int:
        """Dimension d."""
        return self.size

    @property
    def bound(self) -> float:
        """B."""
        return self.norm

    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """B times the identity."""
        return self.norm * jnp.eye(self.size)
