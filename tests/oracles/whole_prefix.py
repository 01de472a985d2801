"""A feature map that reads the whole prefix, and the same in plain NumPy."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from oracles.linear import Phi
from tasks.linear import FeatureMap

WEIGHTS = np.random.default_rng(5).normal(0, 0.6, (2, 4, 3, 3))
"""By prompt, position, token, coordinate."""


@dataclasses.dataclass(frozen=True)
class WholePrefix(FeatureMap):
    """phi(x, y_1:h) = sum_{i<=h} W[x, i, y_i]/(h - i + 1)."""

    horizon = 4
    vocab = 3
    dimension = 3
    bound = 8.0

    def children(self, prompt: Any, prefix: Any, length: Any) -> Any:
        # A copy: JAX gives an array that it has seen in float32 back in float32, under `enable_x64` too.
        weights = jnp.asarray(WEIGHTS.copy())[prompt]
        place = jnp.arange(4)
        past = jnp.take_along_axis(weights, prefix[:, None, None], axis=1)[:, 0]
        ages = jnp.where(place < length, length - place + 1, 1).astype(weights.dtype)
        seen = jnp.where(place < length, 1 / ages, jnp.zeros_like(ages))
        return weights[length] + jnp.sum(seen[:, None] * past, axis=0)


def plain(prompt: int) -> Phi:
    """phi at one prompt."""

    def phi(prefix: tuple[int, ...]) -> np.ndarray:
        total = np.zeros(3)
        for i, token in enumerate(prefix):
            total = total + WEIGHTS[prompt, i, token] / (len(prefix) - i)
        return total

    return phi
