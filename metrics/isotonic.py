"""How much of an outcome a monotone function of a predictor explains."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def isotonic_r2(
    predictor: Float[np.ndarray, " items"], outcome: Float[np.ndarray, " items"], increasing: bool = True
) -> float:
    """1 - sum_i (y_i - f(x_i))^2 / sum_i (y_i - mean y)^2, with f the monotone function of least squares.

    It is 1 where the outcome is a monotone function of the predictor, and 0 where the best such function is
    constant, because the outcome moves the other way. Items with equal predictors have one value of f. No
    shape of the relation is assumed, so that predictors in different units can be compared.

    Args:
        predictor: x, for example the KL of checkpoints.
        outcome: y, for example their Pass@N.
        increasing: False asks for a decreasing f.

    Returns:
        A number in [0, 1]; NaN if the outcome is constant.

    Source: isotonic regression (Barlow et al., Statistical Inference under Order Restrictions, 1972), by
    SciPy.

    Raises:
        ValueError: different lengths, fewer than two items, or a number that is not finite.
    """
    from scipy.optimize import isotonic_regression

    x, y = np.asarray(predictor, np.float64), np.asarray(outcome, np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise ValueError(f"predictor, outcome: shapes {x.shape}, {y.shape}; valid: as many items each, >= 2")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("predictor, outcome: contain NaN or an infinity; valid: finite numbers")
    spread = float(np.sum((y - y.mean()) ** 2))
    if np.ptp(y) == 0:
        return float("nan")
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(place, y) / count
    fitted = isotonic_regression(means, weights=count.astype(float), increasing=increasing).x[place]
    # Rounding would give a constant fit -1e-16.
    return max(0.0, 1 - float(np.sum((y - fitted) ** 2)) / spread)
