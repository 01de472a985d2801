"""Straight-line fits through a few points, one per seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def line_fit(
    x: Sequence[float], y: Float[np.ndarray, "*batch points"]
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Least-squares (slope, intercept) of y = slope x + intercept along the last axis.

    slope = sum_j (x_j - mean x) y_j / sum_j (x_j - mean x)^2. With one row per seed, Student's interval over
    the slopes (`mean_interval`) is valid for independent seeds, for any scatter of the points about the line
    and any dependence between the points of one seed.

    >>> slope, intercept = line_fit((1, 2, 3), np.array([[5.0, 7.0, 9.0]]))
    >>> slope.tolist(), intercept.tolist()
    ([2.0], [3.0])

    Raises:
        ValueError: fewer than two distinct x, another number of points, or a value that is not finite.
    """
    position, value = _checked(x, y, at_least=2)
    centred = position - position.mean()
    slope = value @ centred / (centred @ centred)
    return slope, value.mean(axis=-1) - slope * position.mean()


def power_law_exponent(
    x: Sequence[float], y: Float[np.ndarray, "*batch points"]
) -> Float[np.ndarray, "*batch"]:
    """Least-squares slope p of ln y = p ln x + intercept along the last axis: the exponent of y = c x^p.

    >>> power_law_exponent((1, 2, 4), np.array([3.0, 12.0, 48.0])).round(9).item()
    2.0

    Raises:
        ValueError: an x or y that is not positive, or as `line_fit`.
    """
    position, value = _checked(x, y, at_least=2)
    for name, numbers in (("x", position), ("y", value)):
        if not (numbers > 0).all():
            raise ValueError(
                f"{name}: {float(numbers.min())!r}; valid: positive numbers, for their logarithms"
            )
    return line_fit(np.log(position), np.log(value))[0]


def line_misfit(
    x: Sequence[float], y: Float[np.ndarray, "*batch points"], from_zero: bool = False
) -> Float[np.ndarray, "*batch"]:
    """Sum of squared residuals of the least-squares line through the points, in squared units of y.

    With `from_zero` the intercept is at least 0: where it would be negative, the line goes through 0. With
    noise of equal variance in all points its expectation is, without this, (points - 2) variances more than
    for the points' means, whatever x is.

    >>> float(line_misfit((1, 2, 3), np.array([0.0, 1.0, 2.0]), from_zero=True).round(4))
    0.4286

    Raises:
        ValueError: as `line_fit`.
    """
    position, value = _checked(x, y, at_least=2)
    slope, intercept = line_fit(x, value)
    if from_zero:
        through_zero = value @ position / (position @ position)
        slope, intercept = np.where(intercept < 0, through_zero, slope), np.maximum(intercept, 0)
    return np.square(value - slope[..., None] * position - intercept[..., None]).sum(axis=-1)


def chord_deviation(
    x: Sequence[float], y: Float[np.ndarray, "*batch points"]
) -> Float[np.ndarray, "*batch inner"]:
    """Height of every inner point above the straight line through the first and the last, in units of y.

    0 everywhere for linear y, negative for convex y.

    Raises:
        ValueError: fewer than three points, x that does not increase, or as `line_fit`.
    """
    position, value = _checked(x, y, at_least=3)
    if (np.diff(position) <= 0).any():
        raise ValueError(f"x: {position.tolist()}; valid: increasing numbers")
    share = (position[1:-1] - position[0]) / (position[-1] - position[0])
    return value[..., 1:-1] - (value[..., :1] + share * (value[..., -1:] - value[..., :1]))


def _checked(x: Sequence[float], y: np.ndarray, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    position, value = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if position.ndim != 1 or np.unique(position).size < at_least or not np.isfinite(position).all():
        raise ValueError(f"x: {position.tolist()}; valid: finite, at least {at_least} different numbers")
    if value.ndim == 0 or value.shape[-1] != position.size:
        raise ValueError(f"y: shape {value.shape}; valid: a last axis of {position.size}, one for each x")
    if not np.isfinite(value).all():
        raise ValueError("y: contains NaN or an infinity; valid: finite numbers")
    return position, value
