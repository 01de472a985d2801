"""Rare prompts with long responses: variance grows with the length of a response, probability falls."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.linear import FeatureMap


@dataclasses.dataclass(frozen=True)
class RarePrompts(FeatureMap):
    """phi(k, y_1:h) = B s(y_h) e_k for h <= L_k, 0 after; s is -1 for token 0 and +1 for token 1.

    Prompt k = 0..K-1 has L_k informative tokens and one coordinate; prompt K has no informative token,
    phi(K, .) = 0. Tokens are independent, s = 1 with probability 1/(1 + e^(-2 B theta_k)). With one length
    H, B = 1 and theta* in {-1, +1} this is the instance on which the KL of every proper estimator grows with
    H. With mu(k) proportional to 1/L_k all prompts have equal shares of the inherent variance.

    Attributes:
        lengths: L_1, ..., L_K.
        bound: B.

    Source: Coverage Principle, arXiv 2510.15020, Proposition 3.2 (K = 1); K > 1 is this project's extension.

    Raises:
        ValueError: no length, or a length below 1.
    """

    lengths: tuple[int, ...]
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths: {self.lengths}; valid: at least one integer >= 1")

    @property
    def horizon(self) -> int:
        """The largest length."""
        return max(self.lengths)

    @property
    def vocab(self) -> int:
        """Two tokens."""
        return 2

    @property
    def dimension(self) -> int:
        """Dimension K."""
        return len(self.lengths)

    def children(
        self, prompt: Int[Array, ""], prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """-B e_k and B e_k, or 0 after L_k tokens."""
        return self._features(prompt, length)

    def path(self, prompt: Any, response: Int[Array, " horizon"]) -> Float[Array, "horizon vocab dimension"]:
        """Features of all depths at once, as they do not depend on the tokens before."""
        return self._features(prompt, jnp.arange(self.horizon)[:, None, None])

    def _features(self, prompt: Array, length: Array) -> Array:
        known = prompt < self.dimension
        informative = known & (length < jnp.asarray(self.lengths)[jnp.minimum(prompt, self.dimension - 1)])
        axis = jnp.arange(self.dimension) == prompt
        return jnp.where(informative & axis, self.bound * jnp.asarray([[-1.0], [1.0]]), 0.0)
