"""Primitives of the figures."""

from covlab.report.plotting import error_bars
from metrics import Interval


def test_error_bars_are_the_lengths_on_both_sides_and_never_negative() -> None:
    """An end on the wrong side of its estimate, as rounding leaves it, has length 0."""
    found = error_bars(Interval(1.0, 0.75, 1.5), Interval(2.0, 2.0 + 1e-16, 2.0 - 1e-9))
    assert found.tolist() == [[0.25, 0.0], [0.5, 0.0]]
