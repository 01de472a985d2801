"""Random finite classes of autoregressive models, small enough to sum over all responses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from theory.maximum_likelihood.bit_laws import LOG_TOLERANCE


@dataclasses.dataclass(frozen=True)
class RandomTrees:
    """Finite classes of autoregressive models: pi_D and copies with a share q of token laws perturbed.

    Tokens are bits. The log-odds of pi_D at the 2^H - 1 prefixes are normal. A copy adds +-s to the log-odds
    at a random share q of the prefixes, with ln s uniform on [ln 1/2, ln 16], and may almost exclude
    responses of pi_D with total mass of order q H. There is one class for each of eight values of q, from
    1/(4 (2^H - 1)) to 1/2, evenly spaced in ln q, because the hardest q depends on n and |Pi|.

    Attributes:
        length: the horizon H.
        num_models: |Pi| of every class, pi_D included, which is the first model.

    Source: this project's instance for Coverage Principle, arXiv 2510.15020, Theorem 4.1.
    """

    length: int
    num_models: int

    @property
    def shares(self) -> Float[np.ndarray, " classes"]:
        """Shares q of the classes."""
        return np.geomspace(1 / (4 * (2**self.length - 1)), 0.5, 8)

    def sample_classes(self, rng: np.random.Generator) -> Float[np.ndarray, "classes models responses"]:
        """ln pi(y) in nats, responses in lexicographic order; all classes share pi_D."""
        nodes = 2**self.length - 1
        shape = (len(self.shares), self.num_models)
        base = rng.normal(size=nodes)
        size = np.exp(rng.uniform(math.log(0.5), math.log(16), (*shape, 1)))
        size[:, 0] = 0
        # One uniform number decides both whether a prefix is perturbed and the sign.
        chance = rng.random((*shape, nodes)) / self.shares[:, None, None]
        log_odds = base + size * ((chance < 0.5) * 1.0 - ((chance >= 0.5) & (chance < 1)))
        log_probs = np.zeros((*shape, 1))
        for depth in range(self.length):
            here = log_odds[..., 2**depth - 1 : 2 ** (depth + 1) - 1]
            zero = -np.logaddexp(0.0, here)
            log_probs = np.stack([log_probs + zero, log_probs + here + zero], axis=-1).reshape(*shape, -1)
        return log_probs

    def coverage(
        self, log_probs: Float[np.ndarray, "models responses"], log_n: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "models n"]:
        """Exact Cov_N of every model of a class, by a sum over the responses."""
        above = log_probs[0] - log_probs
        star = np.exp(log_probs[0])
        return np.stack([(above >= threshold - LOG_TOLERANCE) @ star for threshold in log_n], axis=1)
