"""Rank correlations of predictors with an outcome, and differences between predictors."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from metrics.intervals import Interval
from tasks.checks import real


def mean_ranks(values: Float[np.ndarray, "*rest items"]) -> Float[np.ndarray, "*rest items"]:
    """Ranks from 1 along the last axis; ties get the mean rank."""
    one, other = values[..., :, None], values[..., None, :]
    return np.sum(other < one, axis=-1) + (np.sum(other == one, axis=-1) + 1) / 2


def spearman(
    first: Float[np.ndarray, "*#rest items"], second: Float[np.ndarray, "*#rest items"]
) -> Float[np.ndarray, "*rest"]:
    """Spearman's rank correlation along the last axis, with mean ranks for ties; 0 if either is constant.

    Raises:
        ValueError: different numbers of items, fewer than two, or a NaN.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not one.ndim or not two.ndim or one.shape[-1] != two.shape[-1] or one.shape[-1] < 2:
        raise ValueError(f"first, second: shapes {one.shape}, {two.shape}; valid: as many items each, >= 2")
    if np.isnan(one).any() or np.isnan(two).any():
        raise ValueError("first, second: contain NaN; valid: numbers")
    ranks = [mean_ranks(each) for each in (one, two)]
    centred = [rank - rank.mean(axis=-1, keepdims=True) for rank in ranks]
    scale = np.sqrt(np.sum(centred[0] ** 2, axis=-1) * np.sum(centred[1] ** 2, axis=-1))
    product = np.sum(centred[0] * centred[1], axis=-1)
    return np.where(scale > 0, product / np.where(scale > 0, scale, 1.0), 0.0)


def spearman_interval(
    first: Float[np.ndarray, " items"], second: Float[np.ndarray, " items"], confidence: float = 0.95
) -> Interval:
    """Spearman's rank correlation r of independent items: tanh(artanh r +- z sqrt((1 + r^2/2)/(items - 3))).

    r is taken no nearer to 1 and -1 than half the step to the next possible value, 3/(items^3 - items), so
    that perfect order of few items leaves an interval of positive width.

    Source: Bonett and Wright, Psychometrika 65 (2000).

    Raises:
        ValueError: as `spearman`, or fewer than five items, of which no interval says anything.
    """
    from scipy import special

    estimate, items = float(spearman(first, second)), np.size(first)
    if items < 5:
        raise ValueError(f"first, second: {items} items; valid: at least 5 for a rank correlation's interval")
    largest = 1 - 3 / (items**3 - items)
    near = min(max(estimate, -largest), largest)
    z = float(special.ndtri((1 + real("confidence", confidence, above=0, below=1)) / 2))
    half = z * math.sqrt((1 + near**2 / 2) / (items - 3))
    low, high = (float(np.tanh(np.arctanh(near) + sign * half)) for sign in (-1, 1))
    return Interval(estimate, min(low, estimate), max(high, estimate))


def rank_correlation_intervals(
    predictors: Float[np.ndarray, "predictors groups items"],
    outcome: Float[np.ndarray, "groups items"],
    pairs: tuple[tuple[int, int], ...],
    rng: np.random.Generator,
    num_resamples: int = 4000,
    confidence: float = 0.95,
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """Mean `spearman` of predictors with the outcome and differences, with percentile intervals.

    The mean is over groups, the bootstrap paired. A resample draws groups with replacement, then items within
    every group with replacement. All predictors share the resamples, so that the difficulty of predicting the
    outcome cancels in a difference.

    Args:
        predictors, outcome: values for example of starting checkpoints (items) of several seeds (groups).
        pairs: (a, b) for every difference, the correlation of a minus the correlation of b.

    Returns:
        One interval per predictor, and one per pair.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), sections 8 and 13.3; two levels.

    Raises:
        ValueError: shapes that do not match, a NaN, or fewer than two groups.
    """
    given, reached = np.asarray(predictors, np.float64), np.asarray(outcome, np.float64)
    if given.ndim != 3 or given.shape[1:] != reached.shape or reached.shape[0] < 2:
        raise ValueError(
            f"predictors, outcome: shapes {given.shape}, {reached.shape}; valid: (predictors, groups, items) "
            f"and (groups, items), with at least two groups"
        )
    groups, items = reached.shape
    rows = rng.integers(groups, size=(num_resamples, groups))[..., None]
    columns = rng.integers(items, size=(num_resamples, groups, items))
    estimates = spearman(given, reached).mean(axis=-1)
    draws = np.stack([spearman(each[rows, columns], reached[rows, columns]).mean(axis=-1) for each in given])
    levels = ((1 - confidence) / 2, (1 + confidence) / 2)

    def interval(estimate: float, resampled: np.ndarray) -> Interval:
        low, high = np.quantile(resampled, levels)
        return Interval(float(estimate), float(low), float(high))

    return (
        tuple(interval(*each) for each in zip(estimates, draws, strict=True)),
        tuple(interval(estimates[a] - estimates[b], draws[a] - draws[b]) for a, b in pairs),
    )
