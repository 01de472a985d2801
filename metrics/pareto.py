"""Fronts of accuracy and diversity: dominated hypervolume, and its difference between two families.

A family is a list of settings; a setting is a point with two coordinates >= 0, both better when larger.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metrics.intervals import Interval, check_confidence


def hypervolume(points: Float[np.ndarray, "*batch settings 2"]) -> Float[np.ndarray, "*batch"]:
    """Area of the union of the rectangles [0, x_i] x [0, y_i]: the hypervolume that points dominate, with the
    reference point (0, 0).

    Negative coordinates count as 0. A dominated point adds nothing.

    Source: Zitzler and Thiele, Multiobjective evolutionary algorithms, IEEE Trans. Evolutionary Computation
    3(4), 1999.

    Raises:
        ValueError: no point, a last axis that is not 2, or a coordinate that is not finite.

    >>> float(hypervolume(np.array([[1.0, 0.25], [0.5, 0.5], [0.25, 0.25]])))
    0.375
    """
    array = np.asarray(points, np.float64)
    if array.ndim < 2 or array.shape[-1] != 2 or array.shape[-2] < 1:
        raise ValueError(f"points: shape {array.shape}; valid: (..., settings, 2), at least one setting")
    if not np.isfinite(array).all():
        raise ValueError("points: contain NaN or an infinity; valid: finite numbers")
    x, y = np.moveaxis(np.maximum(array, 0.0), -1, 0)
    order = np.argsort(-x, axis=-1)
    x, y = (np.take_along_axis(each, order, axis=-1) for each in (x, y))
    # From right to left, a point adds a strip above the highest point so far.
    rises = np.diff(np.maximum.accumulate(y, axis=-1), axis=-1, prepend=0.0)
    return np.asarray(np.sum(x * rises, axis=-1))


def hypervolume_difference(
    first: Float[np.ndarray, "seeds prompts settings 2"],
    second: Float[np.ndarray, "seeds prompts others 2"],
    rng: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Hypervolume of the first family minus the second's, with an interval over seeds and prompts.

    The front is that of the settings' means over all seeds and prompts, so that a setting is the same for all
    of them. A resample draws as many seeds and, independently, as many prompts with replacement, the same
    ones for both families. The interval is estimate +- t s: s the standard deviation over resamples, t
    Student's quantile with min(seeds, prompts) - 1 degrees of freedom. Conservative: what belongs to a seed
    and a prompt together counts in both draws.

    The hypervolume of noisy means is too large where settings are nearly tied. Between families with equal
    numbers of settings this favours neither, unless the settings of one are tied and those of the other are
    not: the more frequent error is then up to .05 instead of .025 (simulated in
    tests/metrics/test_pareto.py).

    Source: crossed bootstrap, Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007.

    Raises:
        ValueError: families of different seeds, prompts or numbers of settings, fewer than two seeds or
            prompts, no resamples, a value that is not finite.
    """
    from scipy import stats

    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 4 or one.shape[-1] != 2 or min(one.shape[:2]) < 2:
        raise ValueError(f"first: shape {one.shape}; valid: (seeds, prompts, settings, 2), 2 of each")
    if one.shape != two.shape:
        raise ValueError(f"second: shape {two.shape}; valid: that of first, {one.shape}")
    if num_resamples < 2:
        raise ValueError(f"num_resamples: {num_resamples}; valid: a whole number >= 2")
    seeds, prompts = one.shape[:2]
    estimate = float(hypervolume(one.mean(axis=(0, 1))) - hypervolume(two.mean(axis=(0, 1))))
    drawn = [
        rng.multinomial(size, np.full(size, 1 / size), num_resamples) / size for size in (seeds, prompts)
    ]
    resampled = [
        hypervolume(np.einsum("rs,rp,spkc->rkc", *drawn, family, optimize=True)) for family in (one, two)
    ]
    quantile = float(stats.t.ppf((1 + check_confidence(confidence)) / 2, min(seeds, prompts) - 1))
    half = quantile * float(np.std(resampled[0] - resampled[1], ddof=1))
    return Interval(estimate, estimate - half, estimate + half)
