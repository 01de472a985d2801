"""The coverage ratio: coverage that a stage of training destroyed, over coverage that it made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.counts import check_counts, pass_at_n_of_counts, sampling_variance
from metrics.coverage import check_values
from metrics.intervals import Interval

UNDECIDED = (0.05, 0.95)
"""Prompts count whose Pass@K at the start is strictly between."""
LEAST_PROMPTS = 10
"""Sum of weights below which counts tell nothing of rho_K: its interval is (0, inf)."""


@dataclass(frozen=True)
class CoverageRatio:
    """rho_K = lost/gained: infinite without gain, NaN where nothing was lost or gained.

    Attributes:
        ratio: rho_K, with an interval if it comes from counts, else the number three times.
        lost, gained: the sums over the counted prompts.
        prompts: their number; from counts, or with weights, the sum of their weights.
        noise: the most that sampling adds to `lost`, and to `gained`; 0 for exact probabilities. It adds to
            both, and so pulls the ratio towards 1.
    """

    ratio: Interval
    lost: float
    gained: float
    prompts: float
    noise: float = 0.0


def coverage_ratio(
    pass_start: Float[np.ndarray, " prompts"],
    pass_end: Float[np.ndarray, " prompts"],
    weights: Float[np.ndarray, " prompts"] | None = None,
) -> CoverageRatio:
    """rho_K = sum (f_start - f_end)_+ / sum (f_end - f_start)_+ over prompts with f_start in (.05, .95).

    f is Pass@K. With `weights`, the sums are weighted, and so is the number of prompts.

    Source: TailSFT, arXiv 2608.25756, definition 4.1. rho_K > 1: more coverage was destroyed than made.

    Raises:
        ValueError: different shapes, a value outside [0, 1], bad weights (see `check_values`).
    """
    start, end = np.asarray(pass_start, np.float64), np.asarray(pass_end, np.float64)
    if start.ndim != 1 or start.shape != end.shape or not start.size:
        raise ValueError(f"pass_start, pass_end: shapes {start.shape}, {end.shape}; valid: (prompts,), equal")
    for name, array in (("pass_start", start), ("pass_end", end)):
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name}: from {array.min()} to {array.max()}; valid: 0 to 1")
    (start, end), weight = check_values(np.stack([start, end]), weights)
    weight = weight * _counted(start)
    change = end - start
    lost, gained = float(weight @ np.maximum(-change, 0)), float(weight @ np.maximum(change, 0))
    ratio = _ratio(lost, gained)
    return CoverageRatio(Interval(ratio, ratio, ratio), lost, gained, float(weight.sum()))


def coverage_ratio_of_counts(
    start: tuple[Int[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]],
    end: tuple[Int[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]],
    k: int,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> CoverageRatio:
    """`coverage_ratio` from (num_samples, num_correct) of equal prompts, with an interval over prompts.

    Half of a prompt's responses at the start decide whether it counts, and the others estimate its Pass@K, in
    the mean over all halves: a prompt that counts because of lucky responses would show a loss with other
    ones. Lost minus gained, D, is then unbiased for prompts weighted by the probability w of being counted.
    Each of the two sums is too large by at most E|e|/2 <= s/2 per prompt, where e is the noise of the
    difference and s its standard deviation: with V the sum of w s/2, the true gains G are between gained - V
    and gained, and rho_K = 1 + D/G.

    Which prompts near the ends of (.05, .95) count is not known, and w, which is not 0 or 1 there, weighs
    them differently from rho_K. All responses that both choose and measure weigh them in another way. The
    interval is over both ways and over all G in their ranges. Its ends are percentiles, over a bootstrap of
    the prompts, of the least rho_K with one prompt more that gained everything, and of the largest with one
    more that lost everything, since a few prompts do not show what is rare. Below `LEAST_PROMPTS` it is
    (0, inf).

    Raises:
        ValueError: as `check_counts`; different numbers of prompts; k not below half the smallest number
            of samples at the start.
    """
    (n1, c1), (n2, c2) = check_counts(*start, (k,)), check_counts(*end, (k,))
    if n1.shape != n2.shape:
        raise ValueError(f"end: {n2.size} prompts; valid: as many as start has, {n1.size}")
    # With k of k responses Pass@K is 0 or 1, and no prompt is between.
    if k >= n1.min() // 2:
        raise ValueError(f"k: {k}; valid: less than half the smallest num_samples at the start, {n1.min()}")
    apart, together = _by_prompt(n1, c1, n2, c2, k)
    lost, gained, noise, weight = (float(x) for x in apart.sum(axis=0))
    ratio = _ratio(lost, gained)
    if weight < LEAST_PROMPTS:
        return CoverageRatio(Interval(ratio, 0.0, math.inf), lost, gained, weight, noise)
    sums = np.concatenate([apart[:, :3], together[:, :3]], axis=1)
    ends = np.empty((num_resamples, 2))
    for i in range(num_resamples):
        # Resample by resample: the weights of all at once would need gigabytes.
        times = np.bincount(rng.integers(n1.size, size=n1.size), minlength=n1.size)
        ways: list[tuple[float, float, float]] = (times @ sums).reshape(2, 3).tolist()
        ends[i] = (
            min(_range(*way, 0.0, 1.0)[0] for way in ways),
            max(_range(*way, 1.0, 0.0)[1] for way in ways),
        )
    levels = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = (
        float(np.quantile(column, level, method="inverted_cdf"))
        for column, level in zip(ends.T, levels, strict=True)
    )
    if not math.isnan(ratio):
        # Few resamples must not leave the estimate outside.
        low, high = min(low, ratio), max(high, ratio)
    return CoverageRatio(Interval(ratio, low, high), lost, gained, weight, noise)


def _by_prompt(
    n1: Int[np.ndarray, " prompts"],
    c1: Int[np.ndarray, " prompts"],
    n2: Int[np.ndarray, " prompts"],
    c2: Int[np.ndarray, " prompts"],
    k: int,
) -> tuple[Float[np.ndarray, "prompts 4"], Float[np.ndarray, "prompts 4"]]:
    """Loss, gain, bound of the noise and weight of every prompt: chosen and measured by different responses
    at the start, then by the same ones.
    """
    from scipy import stats

    cells, places = np.unique(np.stack([n1, c1, n2, c2]), axis=1, return_inverse=True)
    estimates: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for size in {*(n1 // 2).tolist(), *(n1 - n1 // 2).tolist(), *n1.tolist(), *n2.tolist()}:
        whole, right = np.full(size + 1, size), np.arange(size + 1)
        estimates[size] = (
            pass_at_n_of_counts(whole, right, (k,))[:, 0],
            sampling_variance(whole, right, k),
        )
    halves: dict[tuple[int, int], list[np.ndarray]] = {}
    found = np.zeros((2, cells.shape[1], 4))
    for i, (first, right, second, later) in enumerate(cells.T.tolist()):
        if (first, right) not in halves:
            half = first // 2
            among = np.arange(max(0, right - (first - half)), min(half, right) + 1)
            law = stats.hypergeom.pmf(among, first, right, half) * _counted(estimates[half][0][among])
            halves[first, right] = [law, *(each[right - among] for each in estimates[first - half])]
        whole_estimate, whole_variance = (each[[right]] for each in estimates[first])
        after, other = (each[later] for each in estimates[second])
        ways = (halves[first, right], [_counted(whole_estimate) * 1.0, whole_estimate, whole_variance])
        for way, (weight, before, variance) in enumerate(ways):
            found[way, i] = [
                weight @ np.maximum(before - after, 0),
                weight @ np.maximum(after - before, 0),
                weight @ np.sqrt(variance + other) / 2,
                weight.sum(),
            ]
    return found[0][places.reshape(-1)], found[1][places.reshape(-1)]


def _range(
    lost: float, gained: float, noise: float, more_lost: float, more_gained: float
) -> tuple[float, float]:
    """Least and largest 1 + D/G over G from gained - noise to gained, with D = lost - gained and D + G >= 0.

    `more_lost` and `more_gained` are added to the true sums.
    """
    difference = lost - gained + more_lost - more_gained
    most = gained + more_gained
    least = max(gained - noise, 0.0) + more_gained
    ends = [_ratio(max(difference + gain, 0.0), gain) for gain in (most, max(least, -difference))]
    known = [end for end in ends if not math.isnan(end)]
    return (min(known), max(known)) if known else (0.0, math.inf)


def _counted(start: Float[np.ndarray, " prompts"]) -> Bool[np.ndarray, " prompts"]:
    return (start > UNDECIDED[0]) & (start < UNDECIDED[1])


def _ratio(lost: float, gained: float) -> float:
    if gained > 0:
        return lost / gained
    return math.inf if lost > 0 else math.nan
