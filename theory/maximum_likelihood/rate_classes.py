"""Classes of few outcomes on which the rates of maximum likelihood are measured.

`sample` draws sufficient statistics, one row per data set; laws are exact, in NumPy and float64.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from theory.maximum_likelihood.bit_laws import LOG_TOLERANCE


@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """y ~ Ber(p*), modelled by Ber(p) with p <= 1/2: the fit is the share of ones, clipped at 1/2.

    With probability (1 - p*)^n > 0 the data have no one and KL is infinite, so E KL is infinite for every n.
    Coverage is at most p*, and 0 if the share is above p*/N.

    Attributes:
        probability: p*.
        num_samples: n.

    Source: Coverage Principle, arXiv 2510.15020, section 3.

    Raises:
        ValueError: p* outside (0, 1/2).
    """

    probability: float
    num_samples: int

    def __post_init__(self) -> None:
        if not 0 < self.probability < 0.5:
            raise ValueError(f"probability: {self.probability}; valid: between 0 and 1/2")

    def sample(self, rng: np.random.Generator, draws: int) -> Int[np.ndarray, " draws"]:
        """Numbers of ones in data sets of n examples."""
        return rng.binomial(self.num_samples, self.probability, draws)

    def fit(self, ones: Int[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """argmax over p in [0, 1/2] of k ln p + (n - k) ln(1 - p)."""
        return np.minimum(ones / self.num_samples, 0.5)

    def kl(self, fitted: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """KL(Ber(p*) || Ber(p)) in nats, infinite for p = 0."""
        p = self.probability
        with np.errstate(divide="ignore"):
            return p * (math.log(p) - np.log(fitted)) + (1 - p) * (math.log1p(-p) - np.log1p(-fitted))

    def coverage(self, fitted: Float[np.ndarray, " draws"], log_n: float) -> Float[np.ndarray, " draws"]:
        """Exact Cov_N, by a sum over both outcomes."""
        p = self.probability
        with np.errstate(divide="ignore"):
            one = math.log(p) - np.log(fitted) >= log_n - LOG_TOLERANCE
            zero = math.log1p(-p) - np.log1p(-fitted) >= log_n - LOG_TOLERANCE
        return p * one + (1 - p) * zero

    def mean_coverage(self, log_n: float) -> float:
        """E Cov_N = p* P[Binomial(n, p*) <= n p*/N] for N >= 2, where the outcome 0 is always covered.

        Raises:
            ValueError: N < 2.
        """
        return self.probability * self.missed(log_n)

    def missed(self, log_n: float) -> float:
        """P[Cov_N > 0], for N >= 2.

        Raises:
            ValueError: N < 2.
        """
        from scipy import special

        if log_n < math.log(2):
            raise ValueError(f"log_n: {log_n:g}; valid: at least ln 2")
        most = math.floor(self.num_samples * self.probability * math.exp(-log_n) * (1 + LOG_TOLERANCE))
        return float(special.bdtr(most, self.num_samples, self.probability))


@dataclasses.dataclass(frozen=True)
class CoarseRate:
    """One token out of d, of which all but the first are too rare to occur in n samples.

    phi = B e_y, |theta|_inf <= 1, pi_D(1) = 4n/(d - 1 + 4n) and pi_D(y) = 1/(d - 1 + 4n) for y > 1. A token
    that does not occur in the data gets probability at most e^-2B.

    Attributes:
        size: d.
        num_samples: n.
        norm: B.

    Source: Coverage Principle, arXiv 2510.15020, Proposition 4.1 (a).

    Raises:
        ValueError: not n >= d >= 2, or B < ln 5n.
    """

    size: int
    num_samples: int
    norm: float

    def __post_init__(self) -> None:
        if not self.num_samples >= self.size >= 2:
            raise ValueError(f"size: {self.size}; valid: 2 to num_samples = {self.num_samples}")
        if self.norm < math.log(5 * self.num_samples):
            raise ValueError(
                f"norm: {self.norm:g}; valid: at least ln(5 n) = {math.log(5 * self.num_samples):.4g}"
            )

    @property
    def star(self) -> Float[np.ndarray, " tokens"]:
        """theta* = ln(4n)/(2B) (1, -1, ..., -1)."""
        value = math.log(4 * self.num_samples) / (2 * self.norm)
        return np.concatenate([[value], np.full(self.size - 1, -value)])

    @property
    def probs(self) -> Float[np.ndarray, " tokens"]:
        """pi_D."""
        return np.array([4.0 * self.num_samples, *np.ones(self.size - 1)]) / (
            self.size - 1 + 4 * self.num_samples
        )

    @property
    def promised(self) -> float:
        """Lower bound (d - 1)/(10 n) on Cov_N for every N <= e^B, valid with probability at least 1/2."""
        return (self.size - 1) / (10 * self.num_samples)

    def sample(self, rng: np.random.Generator, draws: int) -> Int[np.ndarray, "draws tokens"]:
        """Token counts in data sets of n examples."""
        return rng.multinomial(self.num_samples, self.probs, draws)

    def kl(self, log_probs: Float[np.ndarray, "draws tokens"]) -> Float[np.ndarray, " draws"]:
        """KL(pi_D || pi) in nats."""
        return (np.log(self.probs) - log_probs) @ self.probs

    def coverage(
        self, log_probs: Float[np.ndarray, "draws tokens"], log_n: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "draws n"]:
        """Exact Cov_N, by a sum over the tokens."""
        above = np.log(self.probs) - log_probs
        return np.stack([(above >= threshold - LOG_TOLERANCE) @ self.probs for threshold in log_n], axis=1)


class Visits(NamedTuple):
    """Sufficient statistics of `FineRate`: visits to prompt 0; visits and ones per other prompt."""

    hidden: Int[np.ndarray, " draws"]
    visits: Int[np.ndarray, "draws prompts"]
    ones: Int[np.ndarray, "draws prompts"]


@dataclasses.dataclass(frozen=True)
class FineRate:
    """Class of pi_D and 2^d models that are all bad at prompt 0 and may fit the noise at d other prompts.

    eps = c0 sqrt(d/n), mu(i) = (1 - mu(0))/d; pi_D(1|0) = 1, pi_D(.|i) = Ber(1/2); pi_theta(.|0) = Ber(1/N),
    pi_theta(.|i) = Ber((1 + eps theta_i)/2) with theta in {-1, +1}^d. Hence Cov_N(pi_theta) = mu(0).

    In the convex hull a model is (s, t) with |t_i| <= s <= 1: pi(1|0) = 1 - s (1 - 1/N), pi(.|i) =
    Ber((1 + eps t_i)/2). s is the total weight of all pi_theta; pi_D has s = 0.

    Attributes:
        size: d.
        num_samples: n.
        log_n: ln N.
        c0: constant of eps; the proof has c0 < 1e-4, where the effect is too small to measure.
        rarer: True for mu(0) = c0 eps^2/N, where the estimator of the hull fails, instead of
            mu(0) = c0 eps^2/ln N, where the estimator of the class fails.

    Source: Coverage Principle, arXiv 2510.15020, Proposition 4.1 (b); the hull for Theorem E.1 is this
    project's choice.

    Raises:
        ValueError: n < 2 d, N < 2 or c0 outside (0, 1/2]: eps <= 1/2 keeps every ratio at the d prompts
            below 2.
    """

    size: int
    num_samples: int
    log_n: float
    c0: float = 0.5
    rarer: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.num_samples < 2 * self.size:
            raise ValueError(f"size: {self.size}; valid: 1 to num_samples/2 = {self.num_samples // 2}")
        if self.log_n < math.log(2):
            raise ValueError(f"log_n: {self.log_n:g}; valid: at least ln 2")
        if not 0 < self.c0 <= 0.5:
            raise ValueError(f"c0: {self.c0}; valid: above 0, at most 0.5")

    @property
    def tilt(self) -> float:
        """Tilt eps."""
        return self.c0 * math.sqrt(self.size / self.num_samples)

    @property
    def mass(self) -> float:
        """Mass mu(0)."""
        return self.c0 * self.tilt**2 / (math.exp(self.log_n) if self.rarer else self.log_n)

    def sample(self, rng: np.random.Generator, draws: int) -> Visits:
        """Data sets of n examples."""
        hidden = rng.binomial(self.num_samples, self.mass, draws)
        visits = rng.multinomial(self.num_samples - hidden, np.full(self.size, 1 / self.size))
        return Visits(hidden, visits, rng.binomial(visits, 0.5))

    def misses(self, data: Visits) -> np.ndarray:
        """True if some pi_theta has higher likelihood than pi_D; theta_i is the majority sign at prompt i."""
        more = np.maximum(data.ones, data.visits - data.ones)
        gain = more @ np.full(self.size, math.log1p(self.tilt))
        gain = gain + (data.visits - more) @ np.full(self.size, math.log1p(-self.tilt))
        return gain > data.hidden * self.log_n

    def hull_weight(self, data: Visits) -> Float[np.ndarray, " draws"]:
        """Weight s of the maximum-likelihood model in the convex hull.

        For given s the best t_i is the tilt of the data, clipped to [-s, s]. The profile likelihood is
        concave in s; bisection locates the zero of the slope to 1e-12.
        """
        more = np.maximum(data.ones, data.visits - data.ones)
        fewer = data.visits - more
        bad = -math.expm1(-self.log_n)

        def slope(s: np.ndarray) -> np.ndarray:
            at = self.tilt * s[:, None]
            term = self.tilt * (more / (1 + at) - fewer / (1 - at))
            clipped = more - fewer > at * data.visits
            return np.sum(term, axis=1, where=clipped) - data.hidden * bad / (1 - s * bad)

        low, high = np.zeros(len(more)), np.ones(len(more))
        at_one = slope(high) >= 0
        for _ in range(40):
            middle = (low + high) / 2
            rises = slope(middle) > 0
            low, high = np.where(rises, middle, low), np.where(rises, high, middle)
        return np.where(at_one, 1.0, low)

    def coverage(self, weight: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """Cov_N of a model (s, t): mu(0) if 1/(1 - s (1 - 1/N)) >= N, that is if s = 1."""
        bad = -math.expm1(-self.log_n)
        return self.mass * (-np.log1p(-weight * bad) >= self.log_n - LOG_TOLERANCE)
