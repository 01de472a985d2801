"""Exact bias of normalised SGD on sequences of independent bits, in one dimension.

A prompt `+`, of probability mu, has responses of H independent bits, P(1) = p* = sigmoid(B theta*); all other
prompts have features 0. The features are phi(+, y_1:h) = B y_h, so that the model has p = sigmoid(B theta),
theta in [-1, 1]. The mean gradient of K sequences, m of them of `+` with k ones, is g = B (k - m H p)/K, and
the update goes by g/(lambda + |g|). Its mean over batches is an exact sum over (m, k). The mean of g is 0 at
p*, that of g/(lambda + |g|) is not: it decreases in p, so it is 0 at one p, where small steps lead.

Derived, for H = 1, mu = 1 and K = 1: that p solves lambda (p* - p) = B p (1 - p) (1 - 2 p*). For a small p*
it is about p*/(1 + B/lambda), and a response of probability p* is given B/lambda times too seldom. With
lambda -> 0 the rule follows the sign of g, and p goes to 0 while P(k = 0) = (1 - p*)^K > 1/2, that is, for
K < ln 2/ln(1/(1 - p*)), just below ln 2/p*.

Source: Coverage Principle, arXiv 2510.15020, Theorem 5.1, Lemmas I.8 and I.9; the instance is this project's.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats

LEFT_OUT = 1e-15
"""Probability of batches that a sum may leave out."""


class Bits(NamedTuple):
    """The instance.

    Attributes:
        bound: B, the largest norm of a feature.
        rare: p*, the probability of a 1 on `+`; from sigmoid(-B) to sigmoid(B).
        length: H.
        plus: mu(+).
    """

    bound: float
    rare: float
    length: int = 1
    plus: float = 1.0

    @property
    def variance(self) -> float:
        """sigma*^2 = mu H B^2 p* (1 - p*)."""
        return self.plus * self.length * self.bound**2 * self.rare * (1 - self.rare)

    @property
    def ends(self) -> tuple[float, float]:
        """p at theta = -1 and 1."""
        return float(special.expit(-self.bound)), float(special.expit(self.bound))

    def divergence(self, p: float) -> float:
        """KL of a response to `+`, in nats."""
        pairs = ((self.rare, p), (1 - self.rare, 1 - p))
        return self.length * float(sum(special.rel_entr(a, b) for a, b in pairs))

    def coverage(self, p: Float[np.ndarray, "*runs"] | float, n: float) -> Float[np.ndarray, "*runs"]:
        """Cov_N of models with P(1) = p; the other prompts are covered for every N > 1."""
        given = np.asarray(p, np.float64)
        one, zero = np.log(self.rare / given), np.log((1 - self.rare) / (1 - given))
        total = np.zeros_like(given)
        for ones, mass in enumerate(stats.binom.pmf(np.arange(self.length + 1), self.length, self.rare)):
            total += mass * (ones * one + (self.length - ones) * zero >= math.log(n) - 1e-9)
        return self.plus * total


class Step(NamedTuple):
    """Means over batches of one update of normalised SGD.

    Attributes:
        move: E g/(lambda + |g|), along theta.
        square: E |g/(lambda + |g|)|^2.
        stopped: E min{ln N, KL of the batch}, Delta of the proof.
    """

    move: float
    square: float
    stopped: float


class Counted(NamedTuple):
    """Batches with m sequences of `+`: their probability, the numbers of ones k, and P(k given m)."""

    weight: float
    sequences: int
    ones: Float[np.ndarray, " ones"]
    mass: Float[np.ndarray, " ones"]


@functools.lru_cache(maxsize=64)
def batches(bits: Bits, batch: int) -> tuple[Counted, ...]:
    """Every batch of K sequences, up to a probability of about 1e-15, by m."""
    low, high = _support(batch, bits.plus)
    rows = []
    for m in range(low, high + 1):
        tokens = m * bits.length
        first, last = _support(tokens, bits.rare)
        ones = np.arange(first, last + 1)
        weight = float(stats.binom.pmf(m, batch, bits.plus))
        rows.append(Counted(weight, m, ones.astype(np.float64), stats.binom.pmf(ones, tokens, bits.rare)))
    return tuple(rows)


def _support(size: int, p: float) -> tuple[int, int]:
    if size == 0 or p == 1:
        return size, size
    low, high = int(stats.binom.ppf(LEFT_OUT, size, p)) - 1, int(stats.binom.isf(LEFT_OUT, size, p)) + 1
    return max(low, 0), min(high, size)


def step(bits: Bits, p: float, batch: int, damping: float, log_n: float) -> Step:
    """Exact means of an update at P(1) = p; `damping` is lambda, `log_n` is ln N in nats."""
    move = square = stopped = 0.0
    kl = bits.divergence(p)
    for weight, m, ones, mass in batches(bits, batch):
        gradient = bits.bound * (ones - m * bits.length * p) / batch
        normalised = gradient / (damping + np.abs(gradient))
        move += weight * float(mass @ normalised)
        square += weight * float(mass @ normalised**2)
        stopped += weight * min(log_n, m * kl / batch)
    return Step(move, square, stopped)


def resting_point(bits: Bits, batch: int, damping: float) -> float:
    """p at which the mean update is 0, or the end of [-1, 1] towards which it points."""
    low, high = bits.ends

    def move(theta: float) -> float:
        return step(bits, float(special.expit(bits.bound * theta)), batch, damping, 1.0).move

    if move(-1.0) <= 0:
        return low
    if move(1.0) >= 0:
        return high
    return float(special.expit(bits.bound * optimize.brentq(move, -1.0, 1.0, xtol=1e-14)))


def least_batch(bits: Bits, damping: float, n: float, most: int) -> int:
    """Least K with Cov_N = 0 at the resting point, by trying K = 1, 2, ...; `most` + 1 if there is none.

    Responses of one bit: they are covered when P(1) at the resting point is above p*/N, that is, when the
    mean update points upwards at p = p*/N, since it decreases in p.
    """
    if bits.length != 1:
        raise ValueError(f"length: {bits.length}; valid: 1")
    for batch in range(1, most + 1):
        if step(bits, bits.rare / n, batch, damping, 1.0).move > 0:
            return batch
    return most + 1


def lemma_sides(bits: Bits, p: float, batch: int, damping: float, log_n: float) -> tuple[float, float]:
    """Left over right side of Lemmas I.8 and I.9 at P(1) = p, for lambda >= 8 B ln N.

    I.8: E|g/(lambda + |g|)|^2 <= 2 Delta/M + 4 M sigma*^2/lambda^2 + sigma*/(lambda sqrt K), M = ln N.
    I.9: Delta <= 8 lambda Lambda + 240 B/K + 8 (M sigma*/lambda)^2, Lambda = E<-g/(lambda + |g|), theta -
    theta*>.

    Raises:
        ValueError: lambda below 8 B ln N.
    """
    if damping < 8 * bits.bound * log_n * (1 - 1e-12):
        raise ValueError(f"damping: {damping}; valid: at least 8 B ln N = {8 * bits.bound * log_n}")
    mean = step(bits, p, batch, damping, log_n)
    off = float(special.logit(p) - special.logit(bits.rare)) / bits.bound
    sigma = math.sqrt(bits.variance)
    squares = (
        2 * mean.stopped / log_n + 4 * log_n * sigma**2 / damping**2 + sigma / (damping * math.sqrt(batch))
    )
    bias = 240 * bits.bound / batch + 8 * (log_n * sigma / damping) ** 2
    return mean.square / squares, mean.stopped / (8 * damping * -mean.move * off + bias)


def theorem_bound(bits: Bits, updates: float, batch: int, log_n: float) -> tuple[float, float, float]:
    """eta, lambda and the explicit right-hand side of Theorem 5.1 with the proof's constants.

    eta = min{1/(128 B), (M/(sigma*^2 T))^(1/4)}, lambda = M/(16 eta), M = ln N > 1. The proof's inequalities
    give (derived)

        mean Cov_N <= 4/(M - 1) (240 B/K + 2304 eta^2 sigma*^2 + M/(T eta^2) + 4 eta sigma*/sqrt K).
    """
    m, variance = log_n, bits.variance
    eta = min(1 / (128 * bits.bound), (m / (variance * updates)) ** 0.25)
    terms = (
        *(240 * bits.bound / batch, 2304 * eta**2 * variance),
        *(m / (updates * eta**2), 4 * eta * math.sqrt(variance / batch)),
    )
    return eta, m / (16 * eta), 4 / (m - 1) * sum(terms)


def run(
    bits: Bits,
    start: float,
    batch: int,
    rule: tuple[float, float],
    updates: int,
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "updates draws"]:
    """P(1) of the iterates 1..T of normalised SGD from P(1) = `start`, with `rule` = (eta, lambda).

    lambda = infinity stands for SGD, theta + eta g.
    """
    eta, damping = rule
    theta = np.full(draws, float(special.logit(start)) / bits.bound)
    out = np.empty((updates, draws))
    chosen = rng.binomial(batch, bits.plus, (updates, draws))
    ones = rng.binomial(chosen * bits.length, bits.rare)
    for t in range(updates):
        p = special.expit(bits.bound * theta)
        gradient = bits.bound * (ones[t] - chosen[t] * bits.length * p) / batch
        change = gradient if math.isinf(damping) else gradient / (damping + np.abs(gradient))
        theta = np.clip(theta + eta * change, -1.0, 1.0)
        out[t] = special.expit(bits.bound * theta)
    return out
