"""Best-of-N and inference-time pessimism on finite sets of responses: thresholds, weights and output laws.

Rewards are those that the rules see, an estimate r^ of the true reward r. All numbers are float64 on the
host; `decoding.pessimism` implements the rules as decoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metrics.pass_rates import check_whole_ns
from tasks.checks import real, whole

_MASS_TOLERANCE = 1e-9


class Pessimism(NamedTuple):
    """Chi-squared regularised policy pi(y) = mass(y) w(y), one row per set of responses.

    Attributes:
        threshold: lambda, in units of the reward.
        weights: w = relu((r - lambda)/beta), with mean 1 under `mass`.
        excess: r - lambda, more exact than the difference where beta is tiny; determines w and acceptance
            probabilities.
        headroom: r_top - lambda > 0, with r_top the largest reward of positive mass.
    """

    threshold: Float[np.ndarray, "*sets"]
    weights: Float[np.ndarray, "*sets responses"]
    excess: Float[np.ndarray, "*sets responses"]
    headroom: Float[np.ndarray, "*sets"]


def pessimism(
    reward: Float[np.ndarray, "*sets responses"],
    beta: float,
    mass: Float[np.ndarray, "*sets responses"] | None = None,
) -> Pessimism:
    """Solve sum_i mass_i relu((r_i - lambda)/beta) = 1 for lambda, exactly, by sorting.

    `mass` None means the shares 1/N of a sample, the rule of Algorithm 1. mass = pi_ref is the limit N ->
    infinity, the maximiser of E_pi[r^] - (beta/2) E_pi[pi/pi_ref]. The left side decreases in lambda and is
    linear between rewards: with the k largest rewards above lambda,
    lambda = (sum_i<=k mass_i r_i - beta) / sum_i<=k mass_i.

    Args:
        reward: finite; a response of mass 0 has a weight but does not affect lambda.
        beta: positive, in units of the reward; to 0: all weight on the largest reward; to infinity: w = 1.
        mass: nonnegative, sums to 1 in every set.

    Raises:
        ValueError: in one line, for rewards that are not finite, a beta that is not a positive number, or
            masses that are not a distribution.

    Source: arXiv 2503.21878, Algorithm 1 (InferenceTimePessimism).

    >>> pessimism(np.array([0.0, 0.5, 1.0]), 0.5).weights.tolist()
    [0.0, 1.0, 2.0]
    """
    rewards = _rewards(reward)
    real("beta", beta, above=0)
    masses = _masses(mass, rewards)
    top = np.max(np.where(masses > 0, rewards, -np.inf), axis=-1, keepdims=True)
    order = np.argsort(-rewards, axis=-1, kind="stable")
    # Differences to the top reward keep lambda accurate for small beta.
    below = np.take_along_axis(rewards - top, order, axis=-1)
    share = np.take_along_axis(masses, order, axis=-1)
    held, sums = np.cumsum(share, axis=-1), np.cumsum(share * below, axis=-1)
    above = (sums - below * held < beta) & (held > 0)
    last = rewards.shape[-1] - 1 - np.argmax(above[..., ::-1], axis=-1)[..., None]
    headroom = (beta - np.take_along_axis(sums, last, axis=-1)) / np.take_along_axis(held, last, axis=-1)
    excess = rewards - top + headroom
    with np.errstate(over="ignore"):
        weights = np.maximum(excess / beta, 0.0)
    return Pessimism((top - headroom)[..., 0], weights, excess, headroom[..., 0])


def acceptance(found: Pessimism, ceiling: float | None = None) -> Float[np.ndarray, "*sets responses"]:
    """Acceptance probabilities min(w/M, 1) of rejection sampling, with M = (R_max - lambda)/beta.

    Args:
        ceiling: R_max; None means the largest reward of positive mass, which is the maximum of a sample.

    Raises:
        ValueError: a ceiling that is not above a threshold.
    """
    room = found.headroom
    if ceiling is not None:
        room = ceiling - found.threshold
        if not np.all(room > 0):
            raise ValueError(
                f"ceiling: {ceiling!r} is not above the threshold {float(np.max(found.threshold)):g}"
            )
    return np.clip(found.excess / room[..., None], 0.0, 1.0)


def rejection_law(
    reference: Float[np.ndarray, "responses"], accepted: Float[np.ndarray, "*sets responses"], tries: int
) -> Float[np.ndarray, "*sets responses"]:
    """Law of the first accepted among `tries` draws from the reference, else of one further draw.

    pi(y) = (1 - (1 - a)^n) pi_ref(y) a(y)/a + (1 - a)^n pi_ref(y), with a = sum_y pi_ref(y) a(y).
    """
    kept = reference * accepted
    chance = np.minimum(kept.sum(axis=-1, keepdims=True), 1.0)
    with np.errstate(divide="ignore"):
        none = np.exp(tries * np.log1p(-chance))
    # (1 - (1 - a)^n)/a tends to n as a tends to 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(chance > 0, -np.expm1(tries * np.log1p(-chance)) / chance, float(tries))
    return times * kept + none * reference


def best_of_n_law(
    reward: Float[np.ndarray, "responses"], reference: Float[np.ndarray, "responses"], ns: Sequence[float]
) -> Float[np.ndarray, "n responses"]:
    """Exact law of the draw of the largest reward among N draws from the reference; ties go to the first.

    With F(v) = pi_ref(r <= v), the largest reward is v with probability F(v)^N - F(v-)^N, which the responses
    of reward v share in proportion to pi_ref.

    Raises:
        ValueError: as `pessimism`, or an N that is not a whole number >= 1.
    """
    rewards = _rewards(reward)
    masses = _masses(reference, rewards)
    levels, which = np.unique(rewards, return_inverse=True)
    of_level = np.bincount(which, weights=masses, minlength=levels.size)
    upper = np.minimum(np.cumsum(of_level), 1.0)
    upper[-1] = 1.0
    columns = []
    for n in check_whole_ns(ns):
        powers = upper**n
        chance = np.diff(powers, prepend=0.0)
        shared = np.divide(chance, of_level, out=np.zeros_like(chance), where=of_level > 0)
        columns.append(masses * shared[which])
    return np.stack(columns)


def pessimism_laws(
    reward: Float[np.ndarray, "responses"],
    reference: Float[np.ndarray, "responses"],
    n: int,
    beta: float,
    draws: int,
    rng: np.random.Generator,
    ceiling: float | None = None,
    fresh: bool = True,
) -> Float[np.ndarray, "draws responses"]:
    """Exact output laws given the N responses that determine lambda, for `draws` such samples.

    The mean of the rows estimates the output law, with the error of a mean of `draws` independent rows.

    Args:
        ceiling: R_max; None: the largest reward of every sample.
        fresh: True for Algorithm 1: up to N fresh responses are accepted with probability min(w/M, 1), else
            draw N+1 is returned. False returns response i of the sample with probability w_i/N, at half the
            cost.

    Raises:
        ValueError: as `pessimism`, or an N or a number of draws that is not a whole number >= 1.
    """
    rewards = _rewards(reward)
    masses = _masses(reference, rewards)
    for name, value in (("n", n), ("draws", draws)):
        whole(name, value, 1)
    shares = rng.multinomial(n, masses / masses.sum(), size=draws) / n
    found = pessimism(np.broadcast_to(rewards, shares.shape), beta, shares)
    if not fresh:
        return shares * np.where(shares > 0, found.weights, 0.0)
    return rejection_law(masses, acceptance(found, ceiling), n)


def coverage_coefficient(
    policy: Float[np.ndarray, "*sets responses"], reference: Float[np.ndarray, "*sets responses"]
) -> Float[np.ndarray, "*sets"]:
    """C^pi = E_pi[pi/pi_ref] = sum pi^2/pi_ref, 1 plus the chi-squared divergence.

    Infinite off the support of the reference.

    Source: arXiv 2503.21878, section 2.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(policy > 0, np.square(policy) / reference, 0.0)
    return terms.sum(axis=-1)


def regret_bound(error: float, coverage: float, beta: float) -> float:
    """Regret bound eps sqrt(C) + beta C/2 + eps^2/(2 beta), with eps^2 = E_ref[(r^ - r)^2].

    It bounds the loss in true reward of pi = mass w of `pessimism` with mass = pi_ref, against a policy pi*
    of coverage coefficient C. Derived: E_pi*[r^] - beta C/2 <= E_pi[r^] - beta C^pi/2. The expectations of r^
    have errors of at most eps sqrt(C) and eps sqrt(C^pi), and eps sqrt(C^pi) <= beta C^pi/2 + eps^2/(2 beta).
    The minimum 2 eps sqrt(C) is at beta = eps/sqrt(C). After arXiv 2503.21878, Theorem 4.1.
    """
    return error * coverage**0.5 + beta * coverage / 2 + error**2 / (2 * beta)


def _rewards(reward: Float[np.ndarray, "*sets responses"]) -> Float[np.ndarray, "*sets responses"]:
    rewards = np.asarray(reward, np.float64)
    if rewards.ndim < 1 or rewards.shape[-1] < 1 or not np.isfinite(rewards).all():
        raise ValueError(f"reward: shape {rewards.shape}; valid: finite numbers, at least one in a set")
    return rewards


def _masses(
    mass: Float[np.ndarray, "*sets responses"] | None, rewards: Float[np.ndarray, "*sets responses"]
) -> Float[np.ndarray, "*sets responses"]:
    if mass is None:
        return np.full(rewards.shape, 1 / rewards.shape[-1])
    masses = np.asarray(mass, np.float64)
    fits = masses.shape == rewards.shape and bool(np.all(masses >= 0))
    if not fits or not np.all(np.abs(masses.sum(axis=-1) - 1) <= _MASS_TOLERANCE):
        raise ValueError(f"mass: shape {masses.shape}; valid: one distribution for each set of rewards")
    return masses
