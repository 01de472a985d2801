"""Autoregressive linear models as data distributions: feature maps and the law that follows from them."""

from __future__ import annotations

import abc
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.drawing import categorical

_MOST_RESPONSES = 2**20


class FeatureMap(abc.ABC):
    """Feature map phi(x, y_1:h) in R^d of pi_theta(a | x, y_<h) = exp<theta, phi(x, y_<h a)> / sum over a.

    Implementations are frozen dataclasses, hashable, so that a map can be a static argument of `jit`. Methods
    are pure JAX on one prompt; a prompt is any array or pytree of arrays. Responses are `horizon` tokens in
    0..vocab-1, without padding and without text, as in the theorems (`AutoregressiveLinear` adapts the map
    to the `Task` seam). A dataclass field does not implement an abstract property: store H under another name
    and return it by `horizon`.

    Source: Coverage Principle, arXiv 2510.15020, section 5.
    """

    @property
    @abc.abstractmethod
    def horizon(self) -> int:
        """Horizon H, number of tokens of a response."""

    @property
    @abc.abstractmethod
    def vocab(self) -> int:
        """Vocabulary size V."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Dimension d."""

    @property
    @abc.abstractmethod
    def bound(self) -> float:
        """B >= |phi(x, y_1:h)| for all x, y and h, in the Euclidean norm."""

    @abc.abstractmethod
    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        """phi(x, (y_1:h, a)) of every token a, for the h = `length` first tokens of `prefix`."""

    def path(self, prompt: Any, response: Int[Array, " horizon"]) -> Float[Array, "horizon vocab dimension"]:
        """`children` of every proper prefix of the response: row h - 1 holds phi(x, (y_<h, a)).

        Maps that do not depend on the whole prefix override this method with a cheaper one.
        """
        return jax.vmap(lambda length: self.children(prompt, response, length))(jnp.arange(self.horizon))


def next_log_probs(
    theta: Float[Array, " dimension"], features: Float[Array, "*batch vocab dimension"]
) -> Float[Array, "*batch vocab"]:
    """ln pi_theta(a | x, y_<h) in nats from the features of all children."""
    return jax.nn.log_softmax(features @ theta, axis=-1)


def linear_log_probs(
    features: FeatureMap, theta: Float[Array, " dimension"], prompt: Any, response: Int[Array, " horizon"]
) -> Float[Array, " horizon"]:
    """ln pi_theta(y_h | x, y_<h) of every token in nats; the sum is ln pi_theta(y|x)."""
    every = next_log_probs(theta, features.path(prompt, response))
    return jnp.take_along_axis(every, response[:, None], axis=-1)[:, 0]


def sample_linear(
    features: FeatureMap, theta: Float[Array, " dimension"], prompt: Any, key: PRNGKeyArray
) -> Int[Array, " horizon"]:
    """y ~ pi_theta(.|x); the token at depth h is drawn with the key folded with h."""

    def step(prefix: Array, length: Array) -> tuple[Array, None]:
        logits = features.children(prompt, prefix, length) @ theta
        drawn = categorical(jax.random.fold_in(key, length), logits)
        return prefix.at[length].set(drawn.astype(prefix.dtype)), None

    start = jnp.zeros(features.horizon, jnp.int32)
    return jax.lax.scan(step, start, jnp.arange(features.horizon))[0]


def all_responses(features: FeatureMap) -> Int[np.ndarray, "responses horizon"]:
    """All V^H responses in lexicographic order, for exact sums on small instances.

    Raises:
        ValueError: more than 2^20 responses.
    """
    if features.vocab**features.horizon > _MOST_RESPONSES:
        raise ValueError(
            f"features: {features.vocab}^{features.horizon} responses; valid: at most {_MOST_RESPONSES}"
        )
    return np.array(list(itertools.product(range(features.vocab), repeat=features.horizon)), np.int32)
