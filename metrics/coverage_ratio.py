"""The coverage ratio: coverage that a stage of training destroyed, over coverage that it made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.counts import check_counts, pass_at_n_of_counts
from metrics.intervals import Interval

UNDECIDED = (0.05, 0.95)
"""Prompts count whose Pass@K at the start is strictly between."""


@dataclass(frozen=True)
class CoverageRatio:
    """rho_K = lost/gained: infinite without gain, NaN where nothing was lost or gained.

    Attributes:
        ratio: rho_K, with an interval if it comes from counts, else the number three times.
        lost, gained: the sums over the counted prompts.
        prompts: their number.
        noise: loss, and gain, that the sampling of c from n alone would show between two equal checkpoints;
            0 for exact probabilities. Noise adds to both, and so pulls the ratio towards 1.
    """

    ratio: Interval
    lost: float
    gained: float
    prompts: int
    noise: float = 0.0


def coverage_ratio(
    pass_start: Float[np.ndarray, " prompts"], pass_end: Float[np.ndarray, " prompts"]
) -> CoverageRatio:
    """rho_K = sum (f_start - f_end)_+ / sum (f_end - f_start)_+ over prompts with f_start in (.05, .95).

    f is Pass@K.

    Source: TailSFT, arXiv 2608.25756, definition 4.1. rho_K > 1: more coverage was destroyed than made.

    Raises:
        ValueError: different shapes, or a value outside [0, 1].
    """
    start, end = np.asarray(pass_start, np.float64), np.asarray(pass_end, np.float64)
    if start.ndim != 1 or start.shape != end.shape or not start.size:
        raise ValueError(f"pass_start, pass_end: shapes {start.shape}, {end.shape}; valid: (prompts,), equal")
    for name, array in (("pass_start", start), ("pass_end", end)):
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name}: from {array.min()} to {array.max()}; valid: 0 to 1")
    counted = _counted(start)
    lost, gained = _sums(start, end, counted)
    ratio = _ratio(lost, gained)
    return CoverageRatio(Interval(ratio, ratio, ratio), lost, gained, int(counted.sum()))


def coverage_ratio_of_counts(
    start: tuple[Int[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]],
    end: tuple[Int[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]],
    k: int,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> CoverageRatio:
    """`coverage_ratio` of the unbiased estimates of Pass@K from (num_samples, num_correct) of equal prompts.

    The interval is a percentile bootstrap over prompts, of the estimate with the noise of c/n in it. `noise`
    is the mean loss between two draws of the start, at p = c/n and with the numbers of samples of both
    checkpoints.

    Raises:
        ValueError: as `check_counts`; different numbers of prompts.
    """
    (n1, c1), (n2, c2) = check_counts(*start, (k,)), check_counts(*end, (k,))
    if n1.shape != n2.shape:
        raise ValueError(f"end: {n2.size} prompts; valid: as many as start has, {n1.size}")
    before, after = (pass_at_n_of_counts(n, c, (k,))[:, 0] for n, c in ((n1, c1), (n2, c2)))
    exact = coverage_ratio(before, after)
    counted = _counted(before)
    losses = np.where(counted, np.maximum(before - after, 0), 0)
    gains = np.where(counted, np.maximum(after - before, 0), 0)
    rows = rng.integers(n1.size, size=(num_resamples, n1.size))
    drawn = np.array([_ratio(float(losses[row].sum()), float(gains[row].sum())) for row in rows])
    drawn = drawn[~np.isnan(drawn)]
    low = high = math.nan
    if drawn.size:
        levels = ((1 - confidence) / 2, (1 + confidence) / 2)
        low, high = (float(x) for x in np.quantile(drawn, levels, method="inverted_cdf"))
    noise = float(np.mean([_noise(n1, c1 / n1, n2, k, counted, rng) for _ in range(200)]))
    return CoverageRatio(
        Interval(exact.ratio.estimate, low, high), exact.lost, exact.gained, exact.prompts, noise
    )


def _noise(
    n1: Int[np.ndarray, " prompts"],
    p: Float[np.ndarray, " prompts"],
    n2: Int[np.ndarray, " prompts"],
    k: int,
    counted: Bool[np.ndarray, " prompts"],
    rng: np.random.Generator,
) -> float:
    first, second = (pass_at_n_of_counts(n, rng.binomial(n, p), (k,))[:, 0] for n in (n1, n2))
    return _sums(first, second, counted)[0]


def _counted(start: Float[np.ndarray, " prompts"]) -> Bool[np.ndarray, " prompts"]:
    return (start > UNDECIDED[0]) & (start < UNDECIDED[1])


def _sums(
    start: Float[np.ndarray, " prompts"],
    end: Float[np.ndarray, " prompts"],
    counted: Bool[np.ndarray, " prompts"],
) -> tuple[float, float]:
    change = (end - start)[counted]
    return float(np.maximum(-change, 0).sum()), float(np.maximum(change, 0).sum())


def _ratio(lost: float, gained: float) -> float:
    if gained > 0:
        return lost / gained
    return math.inf if lost > 0 else math.nan
