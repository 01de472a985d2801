"""Exponents, shares of bounds and shares of draws along an axis."""

import numpy as np

from covlab.claims import sweeps
from covlab.report.rates import Rate


def test_exponents_bounds_and_shares_by_hand() -> None:
    sizes = (1.0, 10.0, 100.0)
    values = np.array([[1.0, 0.1, 0.01]] * 4)
    sweep = sweeps.Sweep("a", "n", "", sizes, (Rate("b", values, -1.0, np.array([2.0, 1.0, 0.02])),))
    np.testing.assert_allclose(sweeps.slope(sweep, 0, 1).estimate, -1)
    np.testing.assert_allclose(sweeps.share_of_bound(sweep, 0, 1).high, 0.5)
    np.testing.assert_allclose(sweeps.slope_of_bound(sizes, np.array([1.0, 10.0, 100.0])), 1)
    nothing = sweep._replace(rates=(Rate("b", 0 * values),))
    assert np.isnan(sweeps.slope(nothing, 0, 1).estimate)
    least = sweeps.least_share([np.array([True] * 9 + [False]), np.array([True] * 10)])
    np.testing.assert_allclose(least.estimate, 0.9)
