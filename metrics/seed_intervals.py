"""Intervals over seeds where Student's interval does not apply: stuck seeds, few seeds of unknown law, and
prompts that all seeds share. At 95 % by default.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metrics.intervals import Interval, check_confidence, check_finite, mean_interval, proportion_interval

MOST_FLIPPED = 20
"""Largest number of seeds of `sign_flip_interval`: 2^20 means of subsets are computed."""


class StuckSeeds(NamedTuple):
    """Seeds of which some are stuck or diverged.

    Attributes:
        stuck: the share of stuck seeds, with its exact interval.
        others: the mean over the other seeds, with Student's interval.
    """

    stuck: Interval
    others: Interval


def stuck_seeds_interval(
    values: Float[np.ndarray, " seeds"], stuck: Bool[np.ndarray, " seeds"], confidence: float = 0.95
) -> StuckSeeds:
    """The share of stuck seeds (Clopper-Pearson), and mean +- t_{m-1} s/sqrt(m) over the m other seeds.

    A mean over all seeds describes neither kind, and Student's interval of it fails: with a stuck seed in ten
    it contains the truth 34 % of the time at four seeds, because most often none of the four is stuck and no
    spread shows. Each of the two intervals here contains its own truth at least as often as it says if the
    other seeds are normal.

    `stuck` must be decided by something else than `values`: a loss that is not finite, or a training loss
    above a threshold that was set before the run. Values of stuck seeds are not read and may be NaN.

    Raises:
        ValueError: arrays of different lengths, `stuck` that is not boolean, fewer than two other seeds, a
            value of one that is not finite.
    """
    array, out = np.asarray(values, np.float64), np.asarray(stuck)
    if out.dtype != np.bool_ or out.ndim != 1 or out.shape != array.shape:
        raise ValueError(f"stuck: {out.dtype} of shape {out.shape}; valid: booleans, {array.shape}")
    others = check_finite("values of seeds that are not stuck", array[~out], 2)
    share = proportion_interval(int(out.sum()), out.size, confidence)
    return StuckSeeds(share, mean_interval(others, confidence))


def sign_flip_interval(values: Float[np.ndarray, " seeds"], confidence: float = 0.95) -> Interval:
    """The centres that an exact sign-flip test does not reject; nothing is assumed on the tails.

    The means of the 2^S - 1 subsets of S seeds that are not empty cut the line into 2^S parts, each of which
    contains the centre of a symmetric continuous law with probability 2^-S (Hartigan's typical values). The
    interval goes from the k-th smallest to the k-th largest of these means, with the largest k for which
    2k/2^S <= 1 - confidence, so that it contains the centre with probability 1 - 2k/2^S exactly. The estimate
    is the mean.

    Seeds of which some are stuck have no symmetric law: `stuck_seeds_interval`.

    Source: Hartigan, Using subsample values as typical values, JASA 64 (1969), theorem 1.

    Raises:
        ValueError: a number of values with which no k >= 1 has this confidence (fewer than 6 at 95 %), more
            than `MOST_FLIPPED` values, or a value that is not finite.
    """
    check_confidence(confidence)
    # 1 - .95 is not .05 in binary.
    least = math.ceil(math.log2(2 / (1 - confidence)) - 1e-9)
    array = check_finite("values", values, 1)
    if not least <= array.size <= MOST_FLIPPED:
        raise ValueError(
            f"values: {array.size}; valid: {least} to {MOST_FLIPPED} at confidence {confidence:g}"
        )
    total, count = np.zeros(1), np.zeros(1)
    for value in array:
        total, count = np.concatenate([total, total + value]), np.concatenate([count, count + 1])
    means = np.sort(total[1:] / count[1:])
    k = math.floor((1 - confidence) / 2 * 2**array.size + 1e-9)
    return Interval(float(array.mean()), float(means[k - 1]), float(means[-k]))


def seeds_and_prompts_interval(
    values: Float[np.ndarray, "seeds prompts"],
    weights: Float[np.ndarray, " prompts"] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean over seeds and over prompts that all seeds share, with an interval over both:

    m +- t sqrt(a^2/S + P/(P - 1) sum_p w_p^2 (m_p - m)^2), a the standard deviation of the seeds' means and
    m_p the mean over seeds at prompt p; t has Welch-Satterthwaite degrees of freedom.

    Student's interval over seeds alone says nothing about other prompts. Conservative: what belongs to a seed
    and a prompt together counts in both terms. `interval_over_shared_prompts` needs the seeds' own intervals
    only, and is wider with many seeds.

    Args:
        weights: of the prompts, with sum 1; None for equal ones.

    Raises:
        ValueError: fewer than two seeds or prompts, a value that is not finite, weights that are negative or
            do not sum to 1.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    if array.ndim != 2 or min(array.shape) < 2:
        raise ValueError(f"values: shape {array.shape}; valid: (seeds, prompts), at least 2 of each")
    check_finite("values", array.ravel(), 4)
    seeds, prompts = array.shape
    share = np.full(prompts, 1 / prompts) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (prompts,) or not (share >= 0).all() or not abs(share.sum() - 1) <= 1e-6:
        raise ValueError(f"weights: shape {share.shape}; valid: {prompts} numbers >= 0 that sum to 1")
    by_seed, by_prompt = array @ share, array.mean(axis=0)
    estimate = float(by_seed.mean())
    over_prompts = float(np.sum((share * (by_prompt - estimate)) ** 2)) * prompts / (prompts - 1)
    parts = np.array([float(by_seed.var(ddof=1)) / seeds, over_prompts])
    total = float(parts.sum())
    if total == 0:
        return Interval(estimate, estimate, estimate)
    freedom = 1 / float(np.sum((parts / total) ** 2 / (np.array([seeds, prompts]) - 1)))
    half = float(stats.t.ppf((1 + check_confidence(confidence)) / 2, freedom)) * math.sqrt(total)
    return Interval(estimate, estimate - half, estimate + half)
