"""The least number of samples that a KL guarantees: N = (e^r - 1)/r for Best-of-N, r = KL/eps.

For every prompt, reward in [0, 1] and pair pi_T, pi_hat, Best-of-N loses at most KL(pi_T || pi_hat)/r, where
N = (e^r - 1)/r (derived). Proof. Let R be the worst set, t = pi_T(R), h = pi_hat(R). Data processing and the
variational form of the KL of two bits, at the function r 1{y = 1}, give

    KL >= kl(t || h) >= r t - ln(1 + h (e^r - 1)) = r t - ln(1 + N r h),

so t <= KL/r + g(h), g(h) = ln(1 + N r h)/r. The loss is t - q(h), q(h) = 1 - (1 - h)^N, and q >= g on [0, 1]:
both are 0 at 0 and 1 at 1, and the sign of q' - g' is that of (N - 1) ln(1 - h) + ln(1 + N r h), which is
concave and 0 at 0, so it changes at most once, from plus to minus. Over prompts both sides are means. The
constant is attained by Ber(t) against Ber(t e^-r) as t -> 0: KL/t -> r - 1 + e^-r, and the loss over t tends
to 1 - N e^-r = (r - 1 + e^-r)/r.

The paper's statement is N of the order exp(KL/eps). Source: Coverage Principle, arXiv 2510.15020, equation
(5), from Propositions D.1 and D.6; the constant is this project's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from metrics import coverage_profile
from tasks.checks import real
from theory.coverage_laws import between, log_softmax

GRID = 400
"""Shares of eps that `printed_samples` tries for the part that is not Cov_M."""


def scaling_law(ratio: float) -> float:
    """(e^r - 1)/r: the least real N with which Best-of-N loses at most KL/r whatever the pair.

    Args:
        ratio: r = KL/eps, from above 0 to below 700.

    >>> round(scaling_law(2.0), 4)
    3.1945

    Raises:
        ValueError: a ratio outside its range.
    """
    r = real("ratio", ratio, above=0, below=700)
    return math.expm1(r) / r


def guaranteed_ratio(n: float) -> float:
    """r of the N = (e^r - 1)/r of `scaling_law`: with N samples Best-of-N loses at most KL/r.

    r = -1/N - W(-e^(-1/N)/N), W the lower branch of Lambert's function.

    >>> round(guaranteed_ratio(scaling_law(2.0)), 9)
    2.0

    Raises:
        ValueError: an N that is not above 1.
    """
    size = real("n", n, above=1, below=math.inf)
    return float(-1 / size - special.lambertw(-math.exp(-1 / size) / size, k=-1).real)


def printed_samples(divergence: float, epsilon: float) -> float:
    """ln of the least N that Propositions D.1 and D.6 promise a loss of eps with: 2 M ln(1/(a eps)), where
    KL/(ln M - 1 + 1/M) = (1 - a) eps, at the best a of a grid from 1e-3 to .999; in nats.

    The logarithm, since M is about exp(1 + KL/((1 - a) eps)).

    Raises:
        ValueError: a KL that is not positive, eps outside (0, 1/2).
    """
    kl = real("divergence", divergence, above=0, below=math.inf)
    eps = real("epsilon", epsilon, above=0, below=0.5)
    share = np.linspace(1e-3, 0.999, GRID)
    aim = 1 + kl / ((1 - share) * eps)
    # x = ln M solves x + e^-x = aim: x = aim + W(-e^-aim), W the upper branch of Lambert's function.
    log_m = aim + special.lambertw(-np.exp(-aim)).real
    return float(np.min(log_m + np.log(2 * np.log(1 / (share * eps)))))


class Pair(NamedTuple):
    """pi_T(y|x) and pi_hat(y|x), both positive where pi_T is, and mu(x); one row a prompt."""

    target: Float[np.ndarray, "prompts responses"]
    model: Float[np.ndarray, "prompts responses"]
    prompts: Float[np.ndarray, " prompts"]

    @property
    def divergence(self) -> float:
        """KL(pi_T || pi_hat), the mean over prompts, in nats."""
        return float(self.prompts @ np.sum(special.rel_entr(self.target, self.model), axis=-1))

    def coverage(self, n: float) -> float:
        """Cov_N(pi_T || pi_hat), with a slack of 1e-9 nats at the threshold."""
        written = self.target > 0
        ratio = np.log(self.target[written] / self.model[written])
        mass = (self.prompts[:, None] * self.target)[written]
        return float(coverage_profile(ratio, (n,), mass, 1e-9)[0])


def worst_pair(mass: float, ratio: float) -> Pair:
    """Ber(t) against Ber(t e^-r): it attains `scaling_law` as t -> 0, and Proposition D.1 at N = e^r.

    >>> pair = worst_pair(1e-6, 5.0)
    >>> round(pair.coverage(math.exp(5)) * (4 + math.exp(-5)) / pair.divergence, 5)
    1.0

    Raises:
        ValueError: a mass outside (0, 1], a ratio that is not positive.
    """
    t = real("mass", mass, above=0, most=1)
    h = t * math.exp(-real("ratio", ratio, above=0, below=700))
    return Pair(np.array([[t, 1 - t]]), np.array([[h, 1 - h]]), np.ones(1))


def even_pair(divergence: float) -> Pair:
    """A target that gives one response, which the model gives with probability e^-KL: all ratios are equal.

    Raises:
        ValueError: a KL that is not positive.
    """
    kl = real("divergence", divergence, above=0, below=700)
    return Pair(np.array([[1.0]]), np.array([[math.exp(-kl)]]), np.ones(1))


def random_pair(rng: np.random.Generator, responses: int, prompts: int) -> Pair:
    """A softmax target for each prompt, logits off by .1 to 4 times normals; prompts differ in weight."""
    target = log_softmax(rng.uniform(0.5, 2.0) * rng.normal(size=(prompts, responses)))
    off = np.array([between(rng, 0.1, 4.0) for _ in range(prompts)])[:, None]
    model = np.exp(log_softmax(target + off * rng.normal(size=target.shape)))
    return Pair(np.exp(target), model, rng.dirichlet(np.ones(prompts)))


def random_bits(rng: np.random.Generator, prompts: int) -> Pair:
    """Bits with P_T(1) = t from 1e-4 to 1 and P_hat(1) = t e^-r, r from .01 to 20: worst pairs and others."""
    t = np.array([between(rng, 1e-4, 1.0) for _ in range(prompts)])
    h = t * np.exp(-np.array([between(rng, 0.01, 20.0) for _ in range(prompts)]))
    target, model = (np.stack([law, 1 - law], axis=-1) for law in (t, h))
    return Pair(target, model, rng.dirichlet(np.ones(prompts)))
