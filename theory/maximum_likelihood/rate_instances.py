"""Autoregressive linear instances of the rates of maximum likelihood: data, exact KL, exact coverage.

Every class is one member of a theorem's family of instances. `sample` draws sufficient statistics, one row
per data set; laws are NumPy in float64. Log-odds stand for parameters: u = 2 B theta for one parameter per
prompt with features +-B, u = B theta for one per bit with features B y.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from theory.maximum_likelihood.bit_laws import bit_kl, grouped_coverage, shared_coverage, sigmoid


class Bits(NamedTuple):
    """Sufficient statistics of data sets: numbers of ones and of tokens per coordinate."""

    ones: Int[np.ndarray, "draws coordinates"]
    trials: Int[np.ndarray, "draws coordinates"]


@dataclasses.dataclass(frozen=True)
class TwoPrompts:
    """A prompt of mass mu = 1/(2n) with H independent bits of one parameter, and a silent prompt.

    phi = y_h in {-1, +1} given the rare prompt, d = 1, |theta| <= 1. With probability
    (1 - 1/(2n))^n >= 1/2 a data set lacks the rare prompt and has no information about theta.

    Attributes:
        length: the horizon H.
        num_samples: n.

    Source: Coverage Principle, arXiv 2510.15020, Proposition 3.2.
    """

    length: int
    num_samples: int

    @property
    def mass(self) -> float:
        """mu = 1/(2n)."""
        return 1 / (2 * self.num_samples)

    @property
    def radius(self) -> float:
        """Largest |u| = 2 |theta|."""
        return 2.0

    def sample(self, rng: np.random.Generator, star: float, draws: int) -> Bits:
        """Data sets of n examples with log-odds `star`."""
        rare = rng.binomial(self.num_samples, self.mass, (draws, 1))
        trials = rare * self.length
        return Bits(rng.binomial(trials, float(sigmoid(np.asarray(star)))), trials)

    def kl(self, star: float, fitted: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """KL(pi_D || pi) = mu H KL(Ber(sigma(u*)) || Ber(sigma(u))), in nats."""
        return self.mass * self.length * bit_kl(np.asarray(star), fitted)

    def coverage(
        self, star: float, fitted: Float[np.ndarray, " draws"], log_n: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "draws n"]:
        """Cov_N for N > 1, from the rare prompt alone, since X = 0 on the silent prompt."""
        return self.mass * shared_coverage(np.asarray(star), fitted, self.length, log_n)


@dataclasses.dataclass(frozen=True)
class HeavyTail:
    """Prompts of a heavy-tailed law with one parameter per prompt: overparameterised for d > n.

    A share `silent` of the mass is on a prompt with phi = 0. One half of the rest is on `active` prompts with
    mu(x) prop. to x^-2 and log-odds of random sign and log-uniform size in [`weakest`, `strongest`]. The
    other half is spread evenly over `passive` prompts of log-odds 0, which occur a few times at most. The
    norm B is the smallest for which every such theta* lies in the unit ball.

    Attributes:
        length: the horizon H.
        num_samples: n.
        active, passive: numbers of prompts; d = active + passive.
        weakest, strongest: range of |log-odds| of the active prompts.
        silent: mass of the silent prompt.

    Source: this project's instance for Coverage Principle, arXiv 2510.15020, Theorem 4.2.
    """

    length: int
    num_samples: int
    active: int = 64
    passive: int = 32768
    weakest: float = 0.5
    strongest: float = 2.0
    silent: float = 0.75

    @property
    def radius(self) -> float:
        """Largest norm of the log-odds, 2 B."""
        return math.sqrt(self.active) * self.strongest

    @property
    def masses(self) -> Float[np.ndarray, " prompts"]:
        """Masses mu(x) of the active prompts, the passive prompts and the silent prompt, in this order."""
        tail = np.arange(1.0, self.active + 1) ** -2
        rest = (1 - self.silent) / 2
        return np.concatenate(
            [rest * tail / tail.sum(), np.full(self.passive, rest / self.passive), [self.silent]]
        )

    def parameters(self, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws active"]:
        """Log-odds u* of the active prompts, one row per instance."""
        shape = (draws, self.active)
        size = np.exp(rng.uniform(math.log(self.weakest), math.log(self.strongest), shape))
        return size * rng.choice([-1.0, 1.0], shape)

    def sample(self, rng: np.random.Generator, star: Float[np.ndarray, "draws active"]) -> Bits:
        """One data set per instance, one coordinate per prompt without the silent one."""
        rest = (1 - self.silent) / 2
        law = np.concatenate([self.masses[: self.active], [rest, self.silent]])
        often = rng.multinomial(self.num_samples, law / law.sum(), len(star))
        rarely = [
            np.bincount(rng.integers(self.passive, size=count), minlength=self.passive)
            for count in often[:, self.active]
        ]
        trials = np.concatenate([often[:, : self.active], rarely], axis=1) * self.length
        ones = np.zeros_like(trials)
        seen = trials > 0
        every = np.concatenate([star, np.zeros((len(star), self.passive))], axis=1)
        ones[seen] = rng.binomial(trials[seen], sigmoid(every[seen]))
        return Bits(ones, trials)

    def variance(self, star: Float[np.ndarray, "draws active"]) -> Float[np.ndarray, " draws"]:
        """sigma*^2 = sum_x mu(x) H 4 B^2 p (1 - p), p = sigma(u*)."""
        p = sigmoid(star)
        spread = self.masses[: self.active] * p * (1 - p)
        passive = (1 - self.silent) / 2 / 4
        return self.length * self.radius**2 * (spread.sum(axis=1) + passive)

    def kl(
        self, star: Float[np.ndarray, "draws active"], fitted: Float[np.ndarray, "draws prompts"]
    ) -> Float[np.ndarray, " draws"]:
        """KL(pi_D || pi) in nats."""
        every = np.concatenate([star, np.zeros((len(star), self.passive))], axis=1)
        return self.length * np.sum(self.masses[:-1] * bit_kl(every, fitted), axis=1)

    def coverage(
        self,
        star: Float[np.ndarray, "draws active"],
        fitted: Float[np.ndarray, "draws prompts"],
        log_n: Float[np.ndarray, " n"],
    ) -> Float[np.ndarray, "draws n"]:
        """Cov_N = sum_x mu(x) P[X_x >= ln N] for N > 1; every term is a tail of a binomial law."""
        total = np.empty((len(star), len(log_n)))
        for row, (one, many) in enumerate(zip(star, fitted, strict=True)):
            active = shared_coverage(one, many[: self.active], self.length, log_n)
            # Passive prompts without data are exact. Other passive prompts have few distinct data, hence
            # fits.
            rest = many[self.active :]
            values, copies = np.unique(rest[rest != 0], return_counts=True)
            passive = copies @ shared_coverage(np.zeros(()), values, self.length, log_n)
            total[row] = self.masses[: self.active] @ active + self.masses[self.active] * passive
        return total


@dataclasses.dataclass(frozen=True)
class VarianceNeeded:
    """A prompt + with H independent bits of one parameter per bit, too rare to learn the signs.

    d = H, phi(+, y_1:h) = B y_h e_h, phi(-, .) = 0, |theta| <= 1. All log-odds have the size
    B eps = sqrt(4 ln N/(c1 H)), and mu(+) = min(1, c0/(n B^2 eps^2)) = min(1, c0 c1 H/(4 n ln N)). The
    estimator commutes with flipping a bit, so the law of the coverage does not depend on the 2^H signs of
    theta*. Positive signs therefore represent both the worst case and the average.

    Attributes:
        length: the horizon H.
        num_samples: n.
        log_n: ln N.
        norm: B.
        c0, c1: constants; small in the proof, arbitrary for a measurement.

    Source: Coverage Principle, arXiv 2510.15020, Proposition I.1.

    Raises:
        ValueError: theta* outside the ball, or log-odds above 1, where the proof's expansion does not hold.
    """

    length: int
    num_samples: int
    log_n: float
    norm: float
    c0: float = 4.0
    c1: float = 0.125

    def __post_init__(self) -> None:
        if self.star > 1 or self.star * math.sqrt(self.length) > self.norm:
            raise ValueError(
                f"log_n: {self.log_n:g}; valid: at most c1/4 min(H, B^2) = "
                f"{self.c1 / 4 * min(self.length, self.norm**2):.4g}"
            )

    @property
    def star(self) -> float:
        """Log-odds u* = B eps."""
        return math.sqrt(4 * self.log_n / (self.c1 * self.length))

    @property
    def mass(self) -> float:
        """Mass mu(+)."""
        return min(1.0, self.c0 / (self.num_samples * self.star**2))

    @property
    def variance(self) -> float:
        """sigma*^2 = mu(+) H B^2 p (1 - p), p = sigma(u*)."""
        p = float(sigmoid(np.asarray(self.star)))
        return self.mass * self.length * self.norm**2 * p * (1 - p)

    def sample(self, rng: np.random.Generator, draws: int) -> Bits:
        """Data sets of n examples."""
        seen = rng.binomial(self.num_samples, self.mass, (draws, 1))
        trials = np.repeat(seen, self.length, axis=1)
        return Bits(rng.binomial(trials, float(sigmoid(np.asarray(self.star)))), trials)

    def kl(self, fitted: Float[np.ndarray, "draws bits"]) -> Float[np.ndarray, " draws"]:
        """KL(pi_D || pi) in nats."""
        return self.mass * np.sum(bit_kl(np.asarray(self.star), fitted), axis=1)

    def coverage(
        self,
        rng: np.random.Generator,
        data: Bits,
        fitted: Float[np.ndarray, "draws bits"],
        responses: int,
    ) -> Float[np.ndarray, " draws"]:
        """Cov_N = mu(+) P[sum_h X_h >= ln N] for the instance's N > 1.

        The sum has one term per distinct datum and no closed form, so the probability is estimated without
        bias from `responses` draws per data set.
        """
        kinds, which = np.unique(data.ones, return_inverse=True)
        which = which.reshape(data.ones.shape)
        sizes = np.stack([np.bincount(row, minlength=len(kinds)) for row in which])
        log_odds = np.zeros(sizes.shape)
        np.put_along_axis(log_odds, which, fitted, axis=1)
        return self.mass * grouped_coverage(rng, self.star, log_odds, sizes, responses, self.log_n)
