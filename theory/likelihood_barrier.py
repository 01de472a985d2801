"""Policy gradient on an autoregressive linear model whose right response has a given base likelihood.

Prompts come in clusters with orthonormal features u_c, and pi(y_h = a | x) prop. to exp<w_r, u_c>, where r is
the rank of the token a at position h of the cluster: rank 1 is the right token of k. The right response has H
right tokens and likelihood p^H, p = e^m/(e^m + k - 1), with the margin m between the right logit and the
others, which stay equal. Clusters do not interact.

One query draws a response and gets its reward; REINFORCE then adds eta times reward times gradient:

    outcome reward  1 if all tokens are right:  m += eta H (1 - p) k/(k - 1)
    process reward  1 for each right token, R:  m += eta R (1 - p) k/(k - 1)

A query without reward changes nothing, so the waiting time for the next rewarded one is geometric and is
drawn at once. Simulations are exact at any likelihood.

Source: the setting of arXiv 2603.06957, read second-hand; the reduction to a margin is derived.
"""

from __future__ import annotations

import math

import numpy as np


def margin_of(share: float, symbols: int) -> float:
    """m with p = e^m/(e^m + k - 1)."""
    return math.log(share * (symbols - 1) / (1 - share))


def share_of(margin: float, symbols: int) -> float:
    """p, without overflow."""
    return 1 / (1 + (symbols - 1) * math.exp(-margin))


def outcome_queries(
    likelihood: float, error: float, length: int, symbols: int, step: float, rng: np.random.Generator
) -> float:
    """Queries with outcome rewards until the right response has probability >= 1 - `error`."""
    margin = margin_of(likelihood ** (1 / length), symbols)
    total = 0.0
    while (success := share_of(margin, symbols) ** length) < 1 - error:
        total += _waiting(success, rng)
        margin += step * length * _slope(margin, symbols)
    return total


def process_queries(
    share: float, error: float, length: int, symbols: int, step: float, rng: np.random.Generator
) -> float:
    """Queries with process rewards until the right response has probability >= 1 - `error`.

    `share` is the base probability p of a right token.
    """
    margin = margin_of(share, symbols)
    total = 0.0
    while (right := share_of(margin, symbols)) ** length < 1 - error:
        some = -math.expm1(length * math.log1p(-right))
        total += _waiting(some, rng)
        # The first right token, given that there is one, and the right ones among those after it.
        first = math.ceil(math.log1p(-rng.random() * some) / math.log1p(-right))
        first = min(max(first, 1), length)
        margin += step * (1 + rng.binomial(length - first, right)) * _slope(margin, symbols)
    return total


def _slope(margin: float, symbols: int) -> float:
    """Change of the margin for each rewarded token: (1 - p) + (1 - p)/(k - 1)."""
    return (1 - share_of(margin, symbols)) * symbols / (symbols - 1)


def _waiting(chance: float, rng: np.random.Generator) -> float:
    """Geometric waiting time, also where it exceeds what an integer holds."""
    if chance >= 1:
        return 1.0
    return float(max(math.ceil(math.log(1 - rng.random()) / math.log1p(-chance)), 1))
