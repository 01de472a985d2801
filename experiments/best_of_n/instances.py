"""Pairs pi_T, pi_hat over enumerated responses, on which Best-of-N's worst reward is known exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metrics import (
    coverage_profile,
    hockey_stick_divergence,
    log_density_ratio,
    threshold_loss,
    worst_loss,
)
from theory.coverage_laws import between, log_softmax

SLACK = 1e-9
"""Nats at a threshold: a ratio of exactly N is hit up to rounding."""


class Instance(NamedTuple):
    """pi_T(y|x) and pi_hat(y|x); responses of pi_T = 0 may be left out.

    Attributes:
        target, model: probabilities, one row a prompt.
        prompts: mu(x).
    """

    target: Float[np.ndarray, "prompts responses"]
    model: Float[np.ndarray, "prompts responses"]
    prompts: Float[np.ndarray, " prompts"]

    def coverage(self, ns: tuple[float, ...]) -> Float[np.ndarray, " n"]:
        """Cov_N(pi_T || pi_hat)."""
        with np.errstate(divide="ignore"):
            ratio = log_density_ratio(np.log(self.target), np.log(self.model))
        joint = self.prompts[:, None] * self.target
        return coverage_profile(ratio.ravel(), ns, joint.ravel(), SLACK)

    def worst(self, ns: tuple[int, ...]) -> Float[np.ndarray, " n"]:
        """The loss of Best-of-N under its worst reward."""
        return self.prompts @ worst_loss(self.target, self.model, ns)

    def witness(self, ns: tuple[int, ...]) -> Float[np.ndarray, " n"]:
        """Its loss when the responses with pi_T/pi_hat >= 2N are rewarded."""
        return self.prompts @ threshold_loss(self.target, self.model, ns, tolerance=SLACK)

    def hockey_stick(self, ns: tuple[int, ...]) -> Float[np.ndarray, " n"]:
        """E_N(pi_T || pi_hat), the mean over prompts."""
        return self.prompts @ hockey_stick_divergence(self.target, self.model, ns)


def random_instance(rng: np.random.Generator, responses: int, prompts: int) -> Instance:
    """A softmax target for each prompt, a model with logits off by .3 to 4 times normals.

    In a quarter of the prompts the model misses one response altogether; prompts differ in weight.
    """
    target = log_softmax(rng.uniform(0.5, 2.0) * rng.normal(size=(prompts, responses)))
    off = np.array([between(rng, 0.3, 4.0) for _ in range(prompts)])[:, None]
    model = np.exp(log_softmax(target + off * rng.normal(size=target.shape)))
    missed = rng.random(prompts) < 0.25
    model[missed, rng.integers(responses, size=prompts)[missed]] = 0.0
    return Instance(np.exp(target), model, rng.dirichlet(np.ones(prompts)))


def tail_instance(rng: np.random.Generator, alpha: float, atoms: int) -> Instance:
    """P_T[pi_T/pi_hat >= u] = s (u/a)^-alpha for u >= a, the rest of pi_T at ratio 1.

    s is .2 to .4 and a is 1 to 2. The tail is cut into atoms even in ln u up to u = 1e6 a, where the last one
    has what is left.
    """
    share, start = rng.uniform(0.2, 0.4), rng.uniform(1.0, 2.0)
    ratio = start * np.exp(np.linspace(0.0, math.log(1e6), atoms))
    tail = share * (ratio / start) ** -alpha
    target = np.append(tail - np.append(tail[1:], 0.0), 1 - share)
    return Instance(target[None], (target / np.append(ratio, 1.0))[None], np.ones(1))


def ratio_instance(rng: np.random.Generator, m: int, responses: int = 32) -> Instance:
    """Ratios just below M: ln(pi_T/pi_hat) = ln M minus a scale of up to .5 times exponentials, at least 0.

    pi_hat misses a response that pi_T writes with probability 0 to .1: that is Cov_M.
    """
    missed, scale = rng.uniform(0.0, 0.1), rng.uniform(0.0, 0.5)
    target = (1 - missed) * rng.dirichlet(np.ones(responses))
    log_ratio = np.maximum(math.log(m) - scale * rng.exponential(size=responses) - 1e-6, 0.0)
    model = target * np.exp(-log_ratio)
    return Instance(np.append(target, missed)[None], np.append(model, 0.0)[None], np.ones(1))
