"""Exact laws of choices among N whole responses of a base model, in float64 on the host.

The base model is given by the probabilities p of its responses, the choice by their weights w >= 0. A law
that sums to less than 1 returns nothing with the missing probability.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Law = Float[np.ndarray, " leaves"]
Weights = Float[np.ndarray, " leaves"]


def race_law(reference: Law, weights: Weights, candidates: int) -> Law:
    """Law of the winner argmax_i w_i/U_i of a uniform race of N = `candidates` responses.

    Response i finishes at time T_i = U_i/w_i, and F(t) = P[T > t] = sum_y p(y) (1 - w(y) t)_+. So

        P[winner = y] = N p(y) w(y) int_0^(1/w(y)) F(t)^(N-1) dt

    F is linear between the times 1/w, on which the integral is (F(a)^N - F(b)^N)/(N |F'|) (derived).
    """
    reference, weights = _checked(reference, weights, candidates)
    levels = np.unique(weights[weights > 0])[::-1]
    edges = np.concatenate([[0.0], 1 / levels])
    survival = np.clip(1 - np.multiply.outer(edges, weights), 0, None) @ reference
    # Between two edges the responses that may still finish are those of smaller weight.
    rate = np.array([reference[weights <= level] @ weights[weights <= level] for level in levels])
    power = survival**candidates
    pieces = np.divide(power[:-1] - power[1:], rate, out=np.zeros_like(rate), where=rate > 0)
    return _by_weight(reference, weights, levels, np.cumsum(pieces))


def resampling_law(reference: Law, weights: Weights, candidates: int) -> Law:
    """Law of self-normalised importance resampling: response i of N with probability w_i / sum w.

    With exponential clocks of rates w,

        P[winner = y] = N p(y) w(y) int_0^inf e^(-w(y) t) G(t)^(N-1) dt,    G(t) = sum_y p(y) e^(-w(y) t)

    The integral over ln t is a sum of equal steps of .1. The integrand is analytic and bounded for |Im ln t|
    < pi/2, so that the error is of order e^(-pi^2/.1).
    """
    reference, weights = _checked(reference, weights, candidates)
    levels = np.unique(weights[weights > 0])[::-1]
    if not len(levels):
        return np.zeros_like(reference)
    step = 0.1
    t = np.exp(np.arange(math.log(1e-17 / (candidates * levels[0])), math.log(800 / levels[-1]), step))
    mass = np.array([reference[weights == level].sum() for level in levels])
    decay = np.exp(-np.multiply.outer(levels, t))
    power = (mass @ decay + reference[weights == 0].sum()) ** (candidates - 1)
    return _by_weight(reference, weights, levels, candidates * step * (decay * power * t).sum(axis=1))


def rejection_law(
    reference: Law,
    weights: Weights,
    candidates: int,
    threshold: float | Float[np.ndarray, " thresholds"],
    fallback: Literal["none", "last"] = "none",
) -> Float[np.ndarray, "*thresholds leaves"]:
    """Law of the first of N responses that is accepted, with probability a = min(w/M, 1), M = `threshold`.

        p a (1 - (1 - A)^N)/A,    A = sum_y p a

    Where none is accepted, nothing is returned, or the last response: (1 - A)^(N-1) p (1 - a) is added.

    Raises:
        ValueError: no candidate, a threshold that is not positive, or a weight that is negative.
    """
    reference, weights = _checked(reference, weights, candidates)
    if not np.all(np.asarray(threshold) > 0):
        raise ValueError(f"threshold: {threshold} is not a positive number")
    accept = np.minimum(weights / np.asarray(threshold, np.float64)[..., None], 1)
    rate = (accept @ reference)[..., None]
    # (1 - (1 - A)^N)/A, which tends to N.
    safe = np.clip(rate, 1e-300, 1 - 1e-16)
    tries = -np.expm1(candidates * np.log1p(-safe)) / safe
    law = reference * accept * tries
    if fallback == "last":
        law = law + (1 - rate) ** (candidates - 1) * reference * (1 - accept)
    return law


def majority_law(reference: Law, answers: Int[np.ndarray, " leaves"], candidates: int) -> Law:
    """Law of the first of N responses with the most frequent answer, ties to the answer drawn first.

    Given the counts of the answers, each of t tied answers is equally likely to come first, and the returned
    response has the base model's law among those with its answer. So the law is p(y)/q times

        sum_m sum_t (1/t) P[answer has count m, t - 1 others have m, the rest less],

    a coefficient of a product of truncated exponential series.
    """
    reference = np.asarray(reference, np.float64)
    names, place = np.unique(answers, return_inverse=True)
    shares = np.bincount(place, reference, len(names))
    wins = np.array([_wins(shares, index, candidates) for index in range(len(names))])
    return reference * np.divide(wins, shares, out=np.zeros_like(wins), where=shares > 0)[place]


def distance(law: Float[np.ndarray, "*rows leaves"], target: Law) -> Float[np.ndarray, "*rows"]:
    """Total variation of laws to `target`; where a law returns nothing, that is a response of its own."""
    return (np.abs(law - target).sum(axis=-1) + 1 - law.sum(axis=-1)) / 2


def _wins(shares: Float[np.ndarray, " answers"], index: int, candidates: int) -> float:
    """Probability that the answer at `index` wins."""
    others = np.delete(shares, index)
    counts = np.arange(candidates + 1)
    factorial = np.array([math.factorial(int(k)) for k in counts], np.float64)
    total = 0.0
    for most in range(1, candidates + 1):
        left = candidates - most
        # Row t, column n: t of the answers so far have `most` draws, and all of them n draws together.
        table = np.zeros((candidates // most + 1, left + 1))
        table[0, 0] = 1.0
        for share in others:
            terms = share**counts / factorial
            new = np.zeros_like(table)
            for drawn in range(min(most, left + 1)):
                new[:, drawn:] += terms[drawn] * table[:, : left + 1 - drawn]
            if most <= left:
                new[1:, most:] += terms[most] * table[:-1, : left + 1 - most]
            table = new
        ties = 1 / (1 + np.arange(len(table)))
        own = shares[index] ** most / factorial[most]
        total += own * float(ties @ table[:, left]) * factorial[candidates]
    return total


def _checked(reference: Law, weights: Weights, candidates: int) -> tuple[Law, Weights]:
    """The arguments in float64.

    Raises:
        ValueError: no candidate, or a weight that is negative or not finite.
    """
    if candidates < 1:
        raise ValueError(f"candidates: {candidates} is not an integer >= 1")
    weights = np.asarray(weights, np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights: negative or not finite; valid: numbers >= 0")
    return np.asarray(reference, np.float64), weights


def _by_weight(
    reference: Law, weights: Weights, levels: Float[np.ndarray, " levels"], integrals: np.ndarray
) -> Law:
    """p(y) w(y) times the integral of the response's weight; `levels` fall."""
    place = len(levels) - 1 - np.searchsorted(levels[::-1], weights)
    own = np.append(integrals, 0.0)[np.where(weights > 0, place, len(levels))]
    return reference * weights * own
