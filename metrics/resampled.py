"""Choices over resamples of the examples: how often another checkpoint would have been taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from metrics.coverage import RATIO_TOLERANCE, check_ns, check_tolerance
from metrics.pairwise import differences
from metrics.pass_rates import check_log_probs
from metrics.selection import TIE_TOLERANCE, TieBreak
from metrics.tournaments import select_many

GROUPS = 4096
"""Groups of examples that `bootstrap_tournament` resamples at most."""


@dataclass(frozen=True)
class Bootstrap:
    """Number of resamples of the examples in which each checkpoint was chosen: `times`, of `num_resamples`.

    `near` has further checkpoints that were not shown to be worse than the chosen one.
    """

    index: int
    times: Int[np.ndarray, " checkpoints"]
    num_resamples: int
    near: tuple[int, ...] = ()

    def alternatives(self, confidence: float = 0.95) -> tuple[int, ...]:
        """The checkpoints that the examples cannot tell apart from the chosen one, most frequent first.

        They are the chosen checkpoint, `near`, and every checkpoint of K that is chosen in at least
        (1 - confidence)/K of the resamples and at least once. The best of two equal checkpoints is chosen in
        a share of the resamples that is uniform on (0, 1), so that a smaller share is as rare.
        """
        least = max(1.0, (1 - confidence) / len(self.times) * self.num_resamples)
        kept = {self.index, *self.near, *np.flatnonzero(self.times >= least).tolist()}
        return tuple(sorted(kept, key=lambda i: (-int(self.times[i]), i)))


def resample_weights(
    examples: int, num_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resamples examples"]:
    """How often every example is drawn, for `num_resamples` draws of as many examples with replacement."""
    weights = np.empty((num_resamples, examples), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(examples, size=examples), minlength=examples)
    return weights


def bootstrap_tournament(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    n: float,
    rng: np.random.Generator,
    num_resamples: int = 400,
    tie_break: TieBreak = "min_cross_entropy",
    tolerance: float = RATIO_TOLERANCE,
    tie_tolerance: float = TIE_TOLERANCE,
) -> Bootstrap:
    """How often the simple tournament takes each checkpoint over resamples of the examples.

    Beyond `GROUPS` examples, random groups of nearly equal size are resampled instead of single examples:
    means over groups vary as means over examples do, and the work no longer grows with their number.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 6; equal weights.

    Raises:
        ValueError: as `simple_tournament`, or no resamples.
    """
    array = check_log_probs("log_probs", log_probs, 2)
    threshold = math.log(check_ns((n,))[0]) - check_tolerance(tolerance)
    if num_resamples < 1:
        raise ValueError(f"num_resamples: {num_resamples}; valid: a whole number >= 1")
    models, examples = array.shape
    groups = min(examples, GROUPS)
    if examples > groups:
        array = array[:, rng.permutation(examples)]
    pairs = models * (models - 1) // 2
    reached = np.zeros((2, pairs, groups), np.uint16 if examples < 2**16 * groups else np.uint32)
    first = 0
    for i, difference in differences(array, groups):
        first = first if i else 0
        rows = slice(first, first + len(difference))
        size = difference.shape[1]
        reached[0, rows, :size] += difference >= threshold
        reached[1, rows, :size] += difference <= -threshold
        first = rows.stop
    sizes = np.bincount(np.arange(examples) % groups, minlength=groups)
    # The first row has every group once: the choice itself.
    weights = np.concatenate([np.ones((1, groups), np.float32), resample_weights(groups, num_resamples, rng)])
    total = (weights.astype(np.float64) @ sizes)[:, None]
    scores = np.zeros((num_resamples + 1, models, models))
    chosen, challenger = np.triu_indices(models, 1)
    # Sums of whole numbers below 2^24 are exact in float32.
    kind = np.float32 if examples < 2**22 else np.float64
    for at, counts in (((chosen, challenger), reached[0]), ((challenger, chosen), reached[1])):
        scores[:, at[0], at[1]] = (weights.astype(kind) @ counts.T.astype(kind)) / total
    worst = scores.max(axis=2)
    picks = select_many(worst, tie_break, _cross_entropies(array, weights) / total, tie_tolerance)
    return Bootstrap(int(picks[0]), np.bincount(picks[1:], minlength=models), num_resamples)


def _cross_entropies(
    array: Float[np.ndarray, "checkpoints examples"], weights: Float[np.ndarray, "resamples groups"]
) -> Float[np.ndarray, "resamples checkpoints"]:
    """-sum_i w_i ln pi(y_i|x_i) of every resample; infinite where it draws a response of probability 0."""
    lost = np.isneginf(array)
    losses, counts = np.where(lost, 0.0, -array), lost.astype(np.float64)
    groups = weights.shape[1]
    sums, infinite = (
        sum(
            (_padded(each[:, at : at + groups], groups) for at in range(0, each.shape[1], groups)),
            np.zeros(1),
        )
        for each in (losses, counts)
    )
    finite = weights.astype(np.float64) @ sums.T
    return np.where(weights.astype(np.float64) @ infinite.T > 0, np.inf, finite) if lost.any() else finite


def _padded(block: Float[np.ndarray, "checkpoints some"], size: int) -> Float[np.ndarray, "checkpoints size"]:
    return np.pad(block, ((0, 0), (0, size - block.shape[1])))


def bootstrap_lowest(
    values: Float[np.ndarray, "checkpoints examples"],
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Bootstrap:
    """How often each checkpoint has the least mean over resamples of the examples; ties go to the earliest.

    `near` has the checkpoints whose mean is above the least by at most t s, where s is the standard error of
    the difference and t Student's quantile at 1 - (1 - confidence)/(K - 1). The best of K checkpoints is left
    out with a probability of at most 1 - confidence, however many are nearly as good.

    Source: multiple comparisons with the best (Hsu, 1981), by Bonferroni's inequality.

    Raises:
        ValueError: values that are not finite, or no resamples.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"values: shape {array.shape}; valid: (checkpoints, examples), finite numbers")
    if num_resamples < 1:
        raise ValueError(f"num_resamples: {num_resamples}; valid: a whole number >= 1")
    models, examples = array.shape
    weights = resample_weights(examples, num_resamples, rng)
    means = np.concatenate([array.mean(axis=1)[None], weights.astype(np.float64) @ array.T / examples])
    picks = select_many(means, "earliest", means)
    near: tuple[int, ...] = ()
    if models > 1 and examples > 1:
        gaps = array - array[picks[0]]
        errors = gaps.std(axis=1, ddof=1) / math.sqrt(examples)
        reach = float(stats.t.ppf(1 - (1 - confidence) / (models - 1), examples - 1))
        near = tuple(np.flatnonzero(gaps.mean(axis=1) <= reach * errors).tolist())
    return Bootstrap(int(picks[0]), np.bincount(picks[1:], minlength=models), num_resamples, near)
