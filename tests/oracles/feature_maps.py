"""The instances of `theory` as linear models with a feature map, for the general rules of `models.linear`."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.linear import FeatureMap
from tasks.markov_features import PositionFeatures, Sizes
from theory.maximum_likelihood.rate_classes import CoarseRate
from theory.maximum_likelihood.rate_instances import HeavyTail, TwoPrompts, VarianceNeeded
from theory.sgd.family import SGDFamily


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

    horizon = property(lambda self: max(self.lengths))  # type: ignore[assignment]
    vocab = property(lambda self: 2)  # type: ignore[assignment]
    dimension = property(lambda self: len(self.lengths))  # type: ignore[assignment]

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

    horizon = property(lambda self: self.length)  # type: ignore[assignment]
    vocab = property(lambda self: 2)  # type: ignore[assignment]
    dimension = property(lambda self: self.num_prompts)  # type: ignore[assignment]
    bound = property(lambda self: self.norm)  # type: ignore[assignment]

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

    horizon = property(lambda self: 1)  # type: ignore[assignment]
    vocab = property(lambda self: self.size)  # type: ignore[assignment]
    dimension = property(lambda self: self.size)  # type: ignore[assignment]
    bound = property(lambda self: self.norm)  # type: ignore[assignment]

    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """B times the identity."""
        return self.norm * jnp.eye(self.size)


@dataclasses.dataclass(frozen=True)
class SGDFeatures(SGDFamily, FeatureMap):
    """The class of `SGDFamily` as a feature map."""

    horizon = property(lambda self: self.length)  # type: ignore[assignment]
    vocab = property(lambda self: 3)  # type: ignore[assignment]
    dimension = property(lambda self: 2)  # type: ignore[assignment]
    bound = property(lambda self: float(self.numbers))  # type: ignore[assignment]

    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        del prefix, length
        return self.tokens(prompt)

    def path(self, prompt: Any, response: Int[Array, " horizon"]) -> Float[Array, "horizon vocab dimension"]:
        return jnp.broadcast_to(self.tokens(prompt), (*response.shape, 3, 2))


@functools.singledispatch
def features_of(instance: Any) -> FeatureMap:
    """The feature map of an instance of `theory.maximum_likelihood`."""
    raise TypeError(type(instance))


@features_of.register
def _(instance: TwoPrompts) -> FeatureMap:
    return PromptFeatures(instance.length, 1, 1.0)


@features_of.register
def _(instance: HeavyTail) -> FeatureMap:
    return PromptFeatures(instance.length, instance.active + instance.passive, instance.radius / 2)


@features_of.register
def _(instance: VarianceNeeded) -> FeatureMap:
    """Prompt 1 is +, prompt 0 is -."""
    return PositionFeatures(Sizes(instance.length, 2, 2, instance.norm))


@features_of.register
def _(instance: CoarseRate) -> FeatureMap:
    return TokenFeatures(instance.size, instance.norm)
