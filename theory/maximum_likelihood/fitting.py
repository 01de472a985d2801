"""Maximum likelihood in small classes, exactly or by a convex solver, in NumPy and float64.

Draws of data sets are leading axes, and one call fits all of them. No function is random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

KKT_TOLERANCE = 1e-9
"""Largest violation of a fit's optimality conditions, relative to the number of trials and the radius."""
_STEPS = 200


class BallFit(NamedTuple):
    """Log-odds u per coordinate, and the multiplier lambda >= 0 of the ball."""

    log_odds: Float[np.ndarray, "draws coordinates"]
    multiplier: Float[np.ndarray, " draws"]


def fit_logistic_on_ball(
    ones: Int[np.ndarray, "draws coordinates"], trials: Int[np.ndarray, "draws coordinates"], radius: float
) -> BallFit:
    """argmax over |u| <= R of sum_j [k_j u_j - m_j ln(1 + e^u_j)].

    One logistic regression per coordinate, with k_j ones among m_j trials, coupled only by the ball: the
    likelihood of autoregressive linear models whose tokens are independent bits. A coordinate without trials
    is 0, so that the fit has the least norm of all maximisers.

    The optimality conditions are k_j - m_j sigma(u_j) = lambda u_j with lambda >= 0, and lambda = 0 or |u| =
    R. For given lambda, Newton's method solves for u_j from the side on which it is monotone. A safeguarded
    Newton's method on 1/R - 1/|u| solves for lambda, as 1/|u| is nearly linear in lambda. Coordinates with
    equal data have equal optima and are solved once.

    Raises:
        ValueError: a radius that is not positive, or invalid counts.
        ArithmeticError: conditions not met to `KKT_TOLERANCE`.
    """
    ones, trials = np.asarray(ones), np.asarray(trials)
    if not radius > 0:
        raise ValueError(f"radius: {radius}; valid: a positive number")
    if ones.shape != trials.shape or ones.ndim != 2 or not ((ones >= 0) & (ones <= trials)).all():
        raise ValueError("ones: valid: whole numbers from 0 to trials, (draws, coordinates)")
    # Kind 0 is a coordinate without trials, as there may be very many.
    seen = trials > 0
    kinds, kind_of_seen = np.unique((trials + 1j * ones)[seen], return_inverse=True)
    where = np.zeros(ones.shape, np.int64)
    where[seen] = kind_of_seen + 1
    m, k = (np.append(0.0, part) for part in (kinds.real, kinds.imag))
    c = np.stack([np.bincount(row, minlength=len(m)) for row in where]) * (m > 0)
    inside = (k > 0) & (k < m)
    free = np.zeros_like(k)
    free[inside] = np.log(k[inside]) - np.log((m - k)[inside])
    fits = (np.sqrt(c @ free**2) <= radius) & (c @ (~inside).astype(np.float64) == 0)
    u, multiplier = np.tile(free, (len(c), 1)), np.zeros(len(c))
    if not fits.all():
        u[~fits], multiplier[~fits] = _on_sphere(k, m, c[~fits], radius)
    _require_optimal(k, m, c, u, multiplier, radius)
    return BallFit(np.take_along_axis(u, where, 1), multiplier)


def fit_categorical_in_box(
    counts: Int[np.ndarray, "draws categories"], log_bound: float
) -> Float[np.ndarray, "draws categories"]:
    """ln p_y of argmax over p_y = e^w_y / sum e^w, |w_y| <= `log_bound`, of sum_y n_y ln p_y.

    The optimality conditions are p_y = n_y/n where w_y is inside, p_y >= n_y/n at w_y = -log_bound and
    p_y <= n_y/n at w_y = +log_bound. Hence e^w_y = clip(Z n_y/n, e^-b, e^b) with Z = sum_y e^w_y. The
    difference of sum_y clip(Z n_y/n, e^-b, e^b) and Z decreases in Z and is linear between the Z at which
    some w_y reaches a bound, so the zero is exact. p is unique, w up to a common constant.

    Source of the class: Coverage Principle, arXiv 2510.15020, proof of Proposition 4.1 (a).

    Raises:
        ValueError: no count in some draw, or a bound that is not positive.
    """
    n = np.asarray(counts, np.float64)
    total = n.sum(axis=1, keepdims=True)
    if not log_bound > 0 or not (n >= 0).all() or not (total > 0).all():
        raise ValueError(f"log_bound: {log_bound}; valid: positive, with at least one count in each draw")
    low, high = np.exp(-log_bound), np.exp(log_bound)
    share = n / total
    # Z at which a coordinate leaves the lower and reaches the upper bound; infinite without counts.
    with np.errstate(divide="ignore"):
        leaves, reaches = low / share, high / share
    knots = np.sort(np.concatenate([leaves, reaches], axis=1), axis=1)
    first, beyond = np.zeros(len(n), int), np.sum(np.isfinite(knots), axis=1)
    while (first + 1 < beyond).any():
        half = (first + beyond) // 2
        z = np.take_along_axis(knots, half[:, None], 1)
        falls = np.sum(np.clip(z * share, low, high), axis=1) < z[:, 0]
        first, beyond = np.where(falls, first, half), np.where(falls, half, beyond)
    left = np.take_along_axis(knots, first[:, None], 1)
    below, above = leaves > left, reaches <= left
    fixed = np.sum(low * below + high * above, axis=1, keepdims=True)
    # Without a coordinate at a bound every Z up to the next knot has the same p.
    slack = np.sum(share, axis=1, where=below | above, keepdims=True)
    z = np.divide(fixed, slack, out=left.copy(), where=slack > 0)
    w = np.clip(z * share, low, high)
    return np.log(w) - np.log(np.sum(w, axis=1, keepdims=True))


def best_of_class(
    log_probs: Float[np.ndarray, "models outcomes"], counts: Int[np.ndarray, "outcomes draws"]
) -> Int[np.ndarray, " draws"]:
    """First model with the largest sum of count * ln pi over the outcomes with a positive count.

    Raises:
        ValueError: shapes that do not match.
    """
    if log_probs.ndim != 2 or counts.ndim != 2 or log_probs.shape[1] != counts.shape[0]:
        raise ValueError(f"counts: shape {counts.shape}; valid: ({log_probs.shape[-1]}, draws)")
    if np.isfinite(log_probs).all():
        return np.argmax(log_probs @ counts, axis=0)
    finite = np.where(np.isneginf(log_probs), 0.0, log_probs)
    missed = np.isneginf(log_probs).astype(np.float64) @ counts
    return np.argmax(np.where(missed > 0, -np.inf, finite @ counts), axis=0)


def _roots(k: np.ndarray, m: np.ndarray, multiplier: np.ndarray, start: np.ndarray) -> np.ndarray:
    """u with k - m sigma(u) = lambda u, by Newton's method.

    v = |u| solves lambda v + m sigma(v) = max(k, m - k), concave and increasing in v. From the left, Newton
    steps are monotone; from the right, the first step moves to the left.
    """
    sign = np.where(2 * k >= m, 1.0, -1.0)
    target = np.maximum(k, m - k)
    v = np.maximum(start * sign, 0.0)
    for _ in range(_STEPS):
        # 1 - sigma(v) instead of sigma(v), because with only ones the gap reduces to this tiny number.
        rest = 1 / (1 + np.exp(v))
        gap = (target - m) + m * rest - multiplier * v
        new = np.maximum(v + gap / (multiplier + m * rest * (1 - rest)), 0.0)
        if np.all(np.abs(new - v) <= 1e-12 * (1 + v)):
            return sign * new
        v = new
    return sign * v


def _on_sphere(k: np.ndarray, m: np.ndarray, c: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """u and lambda with |u| = R, for draws whose free optimum is outside the ball."""
    # |k - m/2| bounds lambda |u|, so at this lambda the norm is at most R.
    high = np.sqrt(c @ (k - m / 2) ** 2) / radius
    low = np.zeros_like(high)
    lam, u = high.copy(), np.zeros(c.shape)
    for _ in range(_STEPS):
        u = _roots(k, m, lam[:, None], u)
        norm = np.sqrt(np.sum(c * u**2, axis=-1))
        if np.all(np.abs(norm - radius) <= 1e-11 * radius):
            break
        low, high = np.where(norm > radius, lam, low), np.where(norm > radius, high, lam)
        rest = 1 / (1 + np.exp(np.abs(u)))
        curve = np.sum(c * u**2 / (lam[:, None] + m * rest * (1 - rest)), axis=-1)
        new = lam + norm**2 * (norm - radius) / (radius * curve)
        middle = np.where(low > 0, np.sqrt(low * high), high / 16)
        lam = np.where((new > low) & (new < high), new, middle)
    return u, lam


def _require_optimal(
    k: np.ndarray, m: np.ndarray, c: np.ndarray, u: np.ndarray, multiplier: np.ndarray, radius: float
) -> None:
    from scipy import special

    slope = (k - m * special.expit(u) - multiplier[:, None] * u) * (c > 0)
    norm = np.sqrt(np.sum(c * u**2, axis=-1))
    off = np.where(multiplier > 0, np.abs(norm - radius), np.maximum(norm - radius, 0.0)) / radius
    worst = max(float(np.max(np.abs(slope) / (1 + m), initial=0.0)), float(np.max(off, initial=0.0)))
    if not worst <= KKT_TOLERANCE:
        raise ArithmeticError(f"optimality conditions violated by {worst:.2g}, more than {KKT_TOLERANCE:g}")
