"""Pairs pi_D, pi_hat whose log ratio has an exactly known law: the instances of experiments.coverage_bounds.

A law is a list of atoms. An atom has the log ratio X = ln pi_D/pi_hat of a response (or of responses with
equal X), its probability under pi_D, and for autoregressive pairs the sum of token-level KLs along the
response. Sums over atoms are exact; only the pair is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

SWITCHES = 32
"""Number of tokens at which `switch` may happen."""


class Sides(NamedTuple):
    """Both sides of a theorem's inequality left <= right."""

    left: Float[np.ndarray, "draws sizes comparisons"]
    right: Float[np.ndarray, "draws sizes comparisons"]

    @property
    def excess(self) -> float:
        """The largest left - right, relative to the right side where the right side is above 1."""
        return float(np.max((self.left - self.right) / np.maximum(self.right, 1)))

    @property
    def ratios(self) -> Float[np.ndarray, " comparisons"]:
        """right/left where left > 0."""
        return self.right[self.left > 0] / self.left[self.left > 0]


class Law(NamedTuple):
    """The law of X under pi_D; in nats.

    Attributes:
        log_ratio: X of every atom.
        mass: pi_D of every atom; sums to 1.
        kl_along, hellinger_along: sums over the tokens of KL_h and of the squared Hellinger distance, for
            autoregressive pairs.
    """

    log_ratio: Float[np.ndarray, " atoms"]
    mass: Float[np.ndarray, " atoms"]
    kl_along: Float[np.ndarray, " atoms"] | None = None
    hellinger_along: Float[np.ndarray, " atoms"] | None = None


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from low to high, uniform in its logarithm."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def log_softmax(logits: Float[np.ndarray, "*batch responses"]) -> Float[np.ndarray, "*batch responses"]:
    """ln of exp(logits) normalised over the last axis."""
    return logits - special.logsumexp(logits, axis=-1, keepdims=True)


def _log_bernoulli(logit: Float[np.ndarray, "*shape"] | float) -> Float[np.ndarray, "2 *shape"]:
    """ln P(0) and ln P(1) of Ber(sigmoid(logit))."""
    zero = -np.logaddexp(0.0, np.asarray(logit, np.float64))
    return np.stack([zero, zero + logit])


def _distances(
    data: Float[np.ndarray, "2 *shape"], model: Float[np.ndarray, "2 *shape"]
) -> Float[np.ndarray, "2 *shape"]:
    """KL and squared Hellinger distance of two laws of a bit, from log-probabilities."""
    divergence = np.sum(np.exp(data) * (data - model), axis=0)
    overlap = np.sum(np.exp((data + model) / 2), axis=0)
    return np.maximum(np.stack([divergence, 1 - overlap]), 0.0)


def _distances_of(data: float, model: float) -> Float[np.ndarray, " 2"]:
    """KL and squared Hellinger distance of two laws of a bit, from logits."""
    return _distances(_log_bernoulli(data), _log_bernoulli(model))


def bernoulli(rng: np.random.Generator, n: int) -> Law:
    """Ber(p) against Ber(p/N), p from 1e-4 to 1/2: the pair for which the bound by KL is tight."""
    p = between(rng, 1e-4, 0.5)
    return Law(np.array([math.log(n), math.log1p(-p) - math.log1p(-p / n)]), np.array([p, 1 - p]))


def softmax(rng: np.random.Generator, responses: int) -> Law:
    """pi_D is a random softmax over K responses; pi_hat has the logits of pi_D with random errors."""
    data = log_softmax(rng.uniform(0.5, 2.0) * rng.normal(size=responses))
    model = log_softmax(data + between(rng, 0.3, 3.0) * rng.normal(size=responses))
    return Law(data - model, np.exp(data))


def heavy_tail(rng: np.random.Generator, steps: int) -> Law:
    """P[X >= t] = C/t at t_0 = C < ... < t_K = ln W, and constant between: the tail allowed by the converse.

    C = sup Cov_N ln N exactly, and KL = C (1 + sum_j (1 - t_j-1/t_j)), which tends to C (1 + ln(ln W/C)) with
    the number of steps. The t_j are evenly spaced in ln t up to a tenth of a step. C is from .05 to .5,
    ln W / C from 10 to 1000. pi_hat puts the remaining mass on a response that pi_D never writes.
    """
    smallest, ratio = between(rng, 0.05, 0.5), between(rng, 10.0, 1000.0)
    place = np.arange(steps + 1) / steps
    place[1:-1] += rng.uniform(-0.1, 0.1, steps - 1) / steps
    t = smallest * ratio**place
    tail = smallest / t
    return Law(t, tail - np.append(tail[1:], 0.0))


def _tokens(length: np.ndarray | int, data: float, model: float) -> tuple[np.ndarray, np.ndarray]:
    """ln of the binomial law of the number of ones in `length` tokens, and X at each number 0..max length."""
    lengths = np.atleast_1d(length)[:, None]
    ones = np.arange(lengths.max() + 1)[None]
    zero, one = _log_bernoulli(data)
    other_zero, other_one = _log_bernoulli(model)
    zeros = np.maximum(lengths - ones, 0)
    counted = special.gammaln(lengths + 1) - special.gammaln(ones + 1) - special.gammaln(zeros + 1)
    log_mass = np.where(ones <= lengths, counted + zeros * zero + ones * one, -np.inf)
    return log_mass, zeros * (zero - other_zero) + ones * (one - other_one)


def _hard_token(rng: np.random.Generator) -> tuple[float, float]:
    """Logits of a token that the model has wrong by 2 to 3 nats: a KL of about .4 to .9."""
    data = float(special.logit(rng.uniform(0.3, 0.7)))
    return data, data + float(rng.choice((-1, 1)) * rng.uniform(2.0, 3.0))


def rare_prompts(rng: np.random.Generator, horizon: int) -> Law:
    """Hard prompts of probability .02 to .04, of which the model has every token wrong, and easy prompts.

    Responses are H independent bits. The easy prompts' KL is .001 to .01 for every H. So KL grows like H, and
    Cov_N is at most the share of the hard prompts, up to an exponentially small part.
    """
    share, hard = between(rng, 0.02, 0.04), _hard_token(rng)
    easy = float(special.logit(rng.uniform(0.3, 0.7)))
    off = easy + float(np.sqrt(8 * between(rng, 0.001, 0.01) / horizon))
    parts = []
    for weight, pair in ((share, hard), (1 - share, (easy, off))):
        log_mass, log_ratio = _tokens(horizon, *pair)
        parts.append((log_ratio[0], weight * np.exp(log_mass[0]), _constant(horizon, *pair)))
    return _normalised(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def switch(rng: np.random.Generator, horizon: int) -> Law:
    """Autoregressive over {0, 1, switch}: after a `switch` the model has every bit wrong, before it none.

    Before the switch pi_D writes 0, except at 32 evenly spaced tokens, where it writes `switch` with
    probability rho/32, rho from .02 to .04. The model expects `switch` up to e times more or less often. The
    KL along a response depends on the time of the switch. An atom is (the switch, number of ones after the
    switch). KL grows like H, and Cov_N is at most about rho.
    """
    places = min(SWITCHES, horizon)
    hazard, pair = between(rng, 0.02, 0.04) / places, _hard_token(rng)
    expected = hazard * math.exp(rng.uniform(-1, 1))
    stay, jump = math.log1p(-hazard) - math.log1p(-expected), math.log(hazard / expected)
    here = _distances_of(special.logit(hazard), special.logit(expected))[:, None, None]
    passed = np.arange(places)
    left = horizon - 1 - passed * horizon // places
    log_mass, log_ratio = _tokens(left, *pair)
    log_mass = log_mass + (passed * math.log1p(-hazard) + math.log(hazard))[:, None]
    log_ratio = log_ratio + (passed * stay + jump)[:, None]
    after = _distances_of(*pair)[:, None, None]
    along = (passed + 1)[:, None] * here + left[:, None] * after + np.zeros_like(log_ratio)
    kept = np.isfinite(log_mass)
    return _normalised(
        np.append(log_ratio[kept], places * stay),
        np.append(np.exp(log_mass[kept]), math.exp(places * math.log1p(-hazard))),
        np.append(along[:, kept], places * here[:, 0], axis=1),
    )


def tree(rng: np.random.Generator, depth: int) -> Law:
    """All 2^H responses of H bits, a random law at every prefix, logits off by sigma/sqrt(H) times normals.

    sigma is .3 to 3, so that the KL does not grow with H. The KL along a response varies.
    """
    off = between(rng, 0.3, 3.0) / math.sqrt(depth)
    log_ratio, log_mass, along = np.zeros(1), np.zeros(1), np.zeros((2, 1))
    for _ in range(depth):
        data = rng.normal(size=log_mass.size)
        model = data + off * rng.normal(size=data.size)
        data_terms, model_terms = _log_bernoulli(data), _log_bernoulli(model)
        log_ratio = (log_ratio + data_terms - model_terms).ravel()
        log_mass = (log_mass + data_terms).ravel()
        along = np.tile(along + _distances(data_terms, model_terms), 2)
    return _normalised(log_ratio, np.exp(log_mass), along)


def every_token(rng: np.random.Generator, horizon: int) -> Law:
    """H independent bits with equal KL of .003 to .3 per bit; Cov_N grows with H, up to 1."""
    data = float(special.logit(rng.uniform(0.3, 0.7)))
    model = data + float(np.sqrt(8 * between(rng, 0.003, 0.3)))
    log_mass, log_ratio = _tokens(horizon, data, model)
    return _normalised(log_ratio[0], np.exp(log_mass[0]), _constant(horizon, data, model))


def _constant(horizon: int, data: float, model: float) -> Float[np.ndarray, "2 atoms"]:
    """The sums of H equal token-level distances, for each number of ones 0..H."""
    return np.repeat(horizon * _distances_of(data, model)[:, None], horizon + 1, axis=1)


def _normalised(log_ratio: np.ndarray, mass: np.ndarray, along: np.ndarray) -> Law:
    # The logarithms of the binomial coefficients carry a relative rounding of 1e-12 at H = 2048.
    return Law(log_ratio, mass / mass.sum(), along[0], along[1])


FAMILIES: dict[str, Callable[[np.random.Generator, int], Law]] = {
    "bernoulli": bernoulli,
    "softmax": softmax,
    "heavy tail": heavy_tail,
    "rare prompts": rare_prompts,
    "switch": switch,
    "tree": tree,
    "every token": every_token,
}


class Triple(NamedTuple):
    """pi_T, pi_D and pi_hat over common responses; responses with pi_T = 0 count only for pi_D."""

    target: Float[np.ndarray, " responses"]
    data: Float[np.ndarray, " responses"]
    model: Float[np.ndarray, " responses"]


def random_triple(rng: np.random.Generator, responses: int) -> Triple:
    """A softmax pair, and pi_T = pi_D given a random set of correct responses, tilted by a random reward."""
    data = log_softmax(rng.uniform(0.5, 2.0) * rng.normal(size=responses))
    model = log_softmax(data + between(rng, 0.3, 3.0) * rng.normal(size=responses))
    correct = rng.random(responses) < rng.uniform(0.1, 0.9)
    correct[rng.integers(responses)] = True
    tilted = data + rng.uniform(0, 2) * rng.normal(size=responses)
    target = log_softmax(np.where(correct, tilted, -np.inf))
    return Triple(np.exp(target), np.exp(data), np.exp(model))


class Chains(NamedTuple):
    """Chains of thought with answers: log-probabilities under pi_D and pi_hat."""

    data: Float[np.ndarray, " responses"]
    model: Float[np.ndarray, " responses"]
    answers: np.ndarray


def random_chains(rng: np.random.Generator, responses: int) -> Chains:
    """A softmax pair whose K responses end in K/4 answers, at least 2, drawn for each response."""
    data = log_softmax(rng.uniform(0.5, 2.0) * rng.normal(size=responses))
    model = log_softmax(data + between(rng, 0.3, 3.0) * rng.normal(size=responses))
    return Chains(data, model, rng.integers(max(responses // 4, 2), size=responses))
