"""Rare prompts with long responses, and SGD on them in float64 on the host.

The variance of a prompt grows with the length of its responses, and its probability falls with the length.
Only the visits of a prompt are computed. A coordinate moves only when its prompt is drawn, because no other
prompt's features have it and Theta is the box |theta_k| <= radius, a convex part of the unit ball for radius
<= 1/sqrt(K). So a coordinate's iterates t = 1..T are the values after 0, 1, 2, ... visits, each repeated
until the next visit, and a mean over all T iterates costs one response per visit. All coordinates are written
as u = B theta_k: a token is s = +1 with probability 1/(1 + e^(-2u)), and the gradient in u is
B^2 (s - tanh u).

Axes: `rates` (step sizes, or other settings of one method) first, then `draws` (instances). All rates share
the tokens of a draw.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from tasks import numpy_stream

Draws = Float[np.ndarray, " draws"]
PerRate = Float[np.ndarray, "rates draws"]


class Rung(NamedTuple):
    """One prompt of many instances.

    Attributes:
        length: L_k, number of informative tokens.
        mass: mu(k) in each draw.
        truth: u* = B theta*_k in each draw.
        bound: B.
        radius: radius of the box, |theta_k| <= radius.
    """

    length: int
    mass: Draws
    truth: Draws
    bound: float = 1.0
    radius: float = 1.0

    @property
    def variance(self) -> Draws:
        """mu(k) L_k B^2 (1 - tanh^2 u*), the prompt's part of sigma*^2."""
        return self.mass * self.length * self.bound**2 * (1 - np.tanh(self.truth) ** 2)

    def clip(self, u: np.ndarray) -> np.ndarray:
        """Projection on the box."""
        most = self.bound * self.radius
        return np.clip(u, -most, most)

    def plus(self) -> Draws:
        """pi_D(s = +1)."""
        return special.expit(2 * self.truth)


class Values(NamedTuple):
    """KL(pi_D(.|k) || pi(.|k)) in nats, Cov_N and D_N = E min{ln N, sum_h eps_h} of a prompt's responses."""

    kl: np.ndarray
    coverage: np.ndarray
    stopped: np.ndarray


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """NumPy's generator on a named stream."""
    return numpy_stream(seed, "rare prompts", *path)


def rare_prompt(
    length: int,
    variance: float,
    draws: int,
    rng: np.random.Generator,
    bound: float = 1.0,
    radius: float = 1.0,
) -> Rung:
    """Instances with |u*| uniform on [1/2, 1] B radius, a fair sign, and the probability for which the
    prompt's part of the inherent variance is `variance`."""
    truth = bound * radius * rng.uniform(0.5, 1, draws) * rng.choice([-1.0, 1.0], draws)
    mass = variance / (length * bound**2 * (1 - np.tanh(truth) ** 2))
    return Rung(length, mass, truth, bound, radius)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """ln 1/(1 + e^-x)."""
    return -np.logaddexp(0, -x)


def token_kl(truth: np.ndarray, u: np.ndarray) -> np.ndarray:
    """KL of one token in nats."""
    p = special.expit(2 * truth)
    ahead = log_sigmoid(2 * truth) - log_sigmoid(2 * u)
    behind = log_sigmoid(-2 * truth) - log_sigmoid(-2 * u)
    return np.maximum(p * ahead + (1 - p) * behind, 0.0)


def binomial_cdf(count: np.ndarray, trials: int, p: np.ndarray) -> np.ndarray:
    """P(Binomial(trials, p) <= count) for whole numbers and infinities."""
    return np.where(count >= 0, special.bdtr(np.clip(count, 0, trials), trials, p), 0.0)


def kept_tokens(eps: np.ndarray, horizon: int, budget: float) -> np.ndarray:
    """sum_h alpha_h of the truncation if every token has the KL `eps`: min{H, A/eps}."""
    with np.errstate(over="ignore"):
        return np.minimum(horizon, np.divide(budget, eps, out=np.full(eps.shape, np.inf), where=eps > 0))


def fixed_values(rung: Rung, u: np.ndarray, n: float, length: int | None = None) -> Values:
    """Exact values for a parameter that is fixed during a response: the log ratio is linear in the binomial
    number of +1."""
    size = rung.length if length is None else length
    ahead = log_sigmoid(2 * rung.truth) - log_sigmoid(2 * u)
    behind = log_sigmoid(-2 * rung.truth) - log_sigmoid(-2 * u)
    slope = ahead - behind
    needed = math.log(n) - size * behind
    # A number of +1 within 1e-9 of the edge is on it.
    edge = np.divide(needed, slope, out=np.zeros_like(needed), where=slope != 0)
    above = 1 - binomial_cdf(np.ceil(edge - 1e-9) - 1, size, rung.plus())
    below = binomial_cdf(np.floor(edge + 1e-9), size, rung.plus())
    coverage = np.where(slope > 0, above, np.where(slope < 0, below, (needed <= 0).astype(float)))
    kl = size * token_kl(rung.truth, u)
    return Values(kl, coverage, np.minimum(math.log(n), kl))


def running_values(
    rung: Rung,
    u: np.ndarray,
    gain: np.ndarray | float,
    signs: Float[np.ndarray, "length *responses draws"],
    n: float,
) -> tuple[Values, np.ndarray]:
    """Values of test-time training from `u` with eta B^2 = `gain`, averaged over the axis of responses (the
    last but one), and the parameters after each response.

    The KL of the tokens is exact at every prefix, so the mean over responses of pi_D is unbiased.
    """
    shape = np.broadcast_shapes(np.shape(u), np.shape(gain), signs.shape[1:])
    running = np.broadcast_to(u, shape).copy()
    kl, ratio = np.zeros_like(running), np.zeros_like(running)
    for sign in signs:
        kl += token_kl(rung.truth, running)
        ratio += log_sigmoid(2 * sign * rung.truth) - log_sigmoid(2 * sign * running)
        running = rung.clip(running + gain * (sign - np.tanh(running)))
    covered = (ratio >= math.log(n)).astype(float)
    return Values(kl.mean(-2), covered.mean(-2), np.minimum(math.log(n), kl).mean(-2)), running


class Visits(NamedTuple):
    """Visits of a prompt among T sequences.

    Attributes:
        durations: number of iterates after exactly 0, 1, 2, ... visits; each draw's sum is T.
    """

    durations: Float[np.ndarray, "visits draws"]

    @property
    def most(self) -> int:
        """The largest number of visits in any draw."""
        return len(self.durations) - 1

    def mean(self, values: Float[np.ndarray, "visits *rates draws"]) -> Float[np.ndarray, "*rates draws"]:
        """Mean over the T iterates of `values`, given per number of visits."""
        share = self.durations / self.durations.sum(axis=0)
        middle = (slice(None), *(None,) * (values.ndim - 2), slice(None))
        return np.sum(share[middle] * values, axis=0)


def draw_visits(mass: Draws, steps: int, rng: np.random.Generator) -> Visits:
    """Visits for prompts x_1..x_T ~ mu; iterate t has seen x_1..x_{t-1}."""
    numbers = rng.binomial(steps, mass)
    durations = np.zeros((int(numbers.max()) + 1, len(mass)))
    for draw, number in enumerate(numbers):
        places = np.sort(rng.choice(steps, size=number, replace=False)) + 1
        durations[: number + 1, draw] = np.diff(np.concatenate([[0], places, [steps]]))
    return Visits(durations)


def draw_signs(
    rung: Rung, shape: tuple[int, ...], rng: np.random.Generator
) -> Float[np.ndarray, "*shape draws"]:
    """Tokens of pi_D as +1 and -1."""
    plus: Bool[np.ndarray, "*shape draws"] = rng.random((*shape, len(rung.truth))) < rung.plus()
    return np.where(plus, 1.0, -1.0)


def token_means(
    rung: Rung,
    gains: Float[np.ndarray, " rates"],
    visits: Visits,
    responses: int,
    n: float,
    rng: np.random.Generator,
) -> tuple[Values, Values, PerRate]:
    """Token-level SGD from u = 0 with eta B^2 = `gains`. Returns means over the T iterates of mu(k) times the
    values, of test-time training with an equal step and of decoding with the parameters at the sequence's
    start, and the last iterate.

    The values of test-time training are means over `responses` responses. One of them is the next training
    response, which is a draw from pi_D given the parameters at its start.
    """
    u = np.zeros((len(gains), len(rung.truth)))
    running, fixed = [], []
    for _ in range(visits.most + 1):
        fixed.append(fixed_values(rung, u, n))
        signs = draw_signs(rung, (rung.length, 1, responses), rng)
        values, after = running_values(rung, u[:, None], gains[:, None, None], signs, n)
        running.append(values)
        u = after[:, 0]
    return _means(rung, visits, running), _means(rung, visits, fixed), u


Gradient = Literal["sampled", "truncated", "soft"]


def sequence_means(
    rung: Rung,
    gains: Float[np.ndarray, " rates"],
    visits: Visits,
    n: float,
    rng: np.random.Generator,
    gradient: Gradient = "sampled",
    every: int = 1,
) -> Values:
    """One step per sequence from u = 0 with eta B^2 = `gains`. Returns means over the T iterates of mu(k)
    times the exact values.

    `gradient` is that of the sampled tokens, that truncated at A = ln N, or (untruncated) the mean given the
    prefixes, from a teacher's next-token law. All tokens have equal KL here, so the truncation keeps the
    first min{L, A/eps} tokens, the last one in part. Values are computed after every `every`-th visit and
    held until the next.
    """
    u = np.zeros((len(gains), len(rung.truth)))
    step = gains[:, None]
    values: list[Values] = []
    for visit in range(visits.most + 1):
        values.append(fixed_values(rung, u, n) if visit % every == 0 else values[-1])
        kept = np.full(u.shape, float(rung.length))
        if gradient == "truncated":
            kept = kept_tokens(token_kl(rung.truth, u), rung.length, math.log(n))
        total = kept * np.tanh(rung.truth)
        if gradient != "soft":
            whole = np.floor(kept).astype(np.int64)
            plus = rng.binomial(whole, np.broadcast_to(rung.plus(), u.shape))
            part = np.where(rng.random(u.shape) < rung.plus(), 1.0, -1.0)
            total = 2.0 * plus - whole + (kept - whole) * part
        u = rung.clip(u + step * (total - kept * np.tanh(u)))
    return _means(rung, visits, values)


def _means(rung: Rung, visits: Visits, values: list[Values]) -> Values:
    parts = (np.stack(part) for part in zip(*values, strict=True))
    return Values(*(rung.mass * visits.mean(part) for part in parts))
