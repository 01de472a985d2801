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
