"""Exact sums over all responses of linear models with `MarkovFeatures`.

Dynamic programming over (h, y_h-1) in float64 on the host: O(H V^2) per prompt. Every function returns one
value per prompt; average with weights mu for the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tasks.markov_features import MarkovFeatures

_FINEST = 1e-13


def transitions(
    features: MarkovFeatures, theta: Float[np.ndarray, " dimension"]
) -> Float[np.ndarray, "prompts horizon before vocab"]:
    """ln pi_theta(y_h | x, y_h-1) in nats; row V of `before` stands for h = 1, without an earlier token."""
    # A local import, because every command imports the tasks and few use SciPy.
    from scipy import special

    scores = features.table() @ np.asarray(theta, np.float64)
    shape = (*scores.shape[:2], features.vocab + 1, features.vocab)
    return np.broadcast_to(special.log_softmax(scores, axis=-1), shape)


def visits(
    log_probs: Float[np.ndarray, "prompts horizon before vocab"],
) -> Float[np.ndarray, "prompts horizon before"]:
    """P(y_h-1 = `before` | x) for every h; row V is 1 at h = 1 and 0 after."""
    prompts, horizon, before, vocab = log_probs.shape
    found = np.zeros((prompts, horizon, before))
    found[:, 0, vocab] = 1
    for h in range(1, horizon):
        found[:, h, :vocab] = np.einsum("pb,pbv->pv", found[:, h - 1], np.exp(log_probs[:, h - 1]))
    return found


def entropies(
    features: MarkovFeatures, theta: Float[np.ndarray, " dimension"]
) -> Float[np.ndarray, " prompts"]:
    """H(pi_theta(.|x)) = -E ln pi_theta(y|x), in nats."""
    law = transitions(features, theta)
    return -np.einsum("phb,phbv->p", visits(law), np.exp(law) * law) + 0.0


def kls(
    features: MarkovFeatures,
    theta_star: Float[np.ndarray, " dimension"],
    theta: Float[np.ndarray, " dimension"],
) -> Float[np.ndarray, " prompts"]:
    """KL(pi_theta*(.|x) || pi_theta(.|x)), in nats."""
    star, law = transitions(features, theta_star), transitions(features, theta)
    return np.einsum("phb,phbv->p", visits(star), np.exp(star) * (star - law))


def variances(
    features: MarkovFeatures, theta_star: Float[np.ndarray, " dimension"]
) -> Float[np.ndarray, " prompts"]:
    """E sum_h |phi(x, y_1:h) - E[phi | y_<h]|^2 under pi_theta*(.|x); the mean over prompts is sigma*^2."""
    star, table = transitions(features, theta_star), features.table()
    probs = np.exp(star[:, :, : table.shape[2]])
    mean = np.einsum("phbv,phbvd->phbd", probs, table)
    squares = np.einsum("phbv,phbv->phb", probs, np.square(table).sum(axis=-1)) - np.square(mean).sum(axis=-1)
    return np.einsum("phb,phb->p", visits(star), np.broadcast_to(squares, star.shape[:3]))


def coverages(
    features: MarkovFeatures,
    theta_star: Float[np.ndarray, " dimension"],
    theta: Float[np.ndarray, " dimension"],
    ns: Sequence[float],
    bins: int = 2**16,
) -> tuple[Float[np.ndarray, "prompts ns"], Float[np.ndarray, "prompts ns"]]:
    """Lower and upper bounds on Cov_N(pi_theta* || pi_theta) for every prompt and N.

    The law of X = sum_h ln(pi_theta*/pi_theta)(y_h | y_h-1) is computed on a grid of `bins` points with
    spacing d, every term rounded down by less than d. Hence X_down <= X < X_down + H d, and

        P[X_down >= ln N] <= Cov_N <= P[X_down > ln N - H d].

    The bounds converge as `bins` grows, unless X has atoms at ln N.

    Raises:
        ValueError: an N < 1, or fewer bins than 2 H.
    """
    if not len(ns) or min(ns) < 1:
        raise ValueError(f"ns: {list(ns)}; valid: numbers N >= 1, at least one")
    if bins < 2 * features.horizon + 4:
        raise ValueError(f"bins: {bins}; valid: at least 2 H + 4 = {2 * features.horizon + 4}")
    star, law = transitions(features, theta_star), transitions(features, theta)
    pairs = [
        _coverage(np.exp(a), a - b, np.log(np.asarray(ns, np.float64)), bins)
        for a, b in zip(star, law, strict=True)
    ]
    return np.stack([low for low, _ in pairs]), np.stack([high for _, high in pairs])


def _coverage(
    probs: Float[np.ndarray, "horizon before vocab"],
    terms: Float[np.ndarray, "horizon before vocab"],
    levels: Float[np.ndarray, " ns"],
    bins: int,
) -> tuple[Float[np.ndarray, " ns"], Float[np.ndarray, " ns"]]:
    horizon, before, vocab = probs.shape
    reach = (terms.max(axis=(1, 2)) - terms.min(axis=(1, 2))).sum()
    # Rounding down widens the range of every step by up to one point.
    spacing = max(reach / (bins - horizon - 2), _FINEST)
    whole = np.floor(terms / spacing).astype(np.int64)
    lowest = whole.min(axis=(1, 2))
    mass = np.zeros((before, bins))
    mass[vocab, 0] = 1
    for h in range(horizon):
        moved = np.zeros_like(mass)
        for b in range(before):
            for v in range(vocab):
                shift = whole[h, b, v] - lowest[h]
                moved[v, shift:] += probs[h, b, v] * mass[b, : bins - shift]
        mass = moved
    points = (np.arange(bins) + lowest.sum()) * spacing
    total = mass.sum(axis=0)
    # Rounding in float64 must not decide whether a level is reached.
    slack = 1e-9 + 1e-9 * np.abs(levels)
    low = (total * (points >= (levels + slack)[:, None])).sum(axis=1)
    high = (total * (points > (levels - slack - horizon * spacing)[:, None])).sum(axis=1)
    return np.minimum(low, 1), np.minimum(high, 1)
