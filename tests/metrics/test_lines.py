import re

import numpy as np
import pytest
from scipy import stats

from metrics import chord_deviation, line_fit


def test_line_fit_finds_exact_lines_row_by_row() -> None:
    x = (4.0, 6.0, 10.0)
    y = np.array([[2 * t - 1 for t in x], [0.5 for _ in x]])
    slope, intercept = line_fit(x, y)
    np.testing.assert_allclose(slope, [2, 0], atol=1e-12)
    np.testing.assert_allclose(intercept, [-1, 0.5], atol=1e-12)


def test_line_fit_agrees_with_an_independent_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(size=(3, 7))
    for row, slope, intercept in zip(y, *line_fit(x.tolist(), y), strict=True):
        expected = stats.linregress(x, row)
        assert slope == pytest.approx(expected.slope)
        assert intercept == pytest.approx(expected.intercept)


def test_chord_deviation_of_a_parabola() -> None:
    # y = x^2 between 0 and 4: the chord is 4x, so that the deviation at x is x^2 - 4x.
    x = np.array([0.0, 1.0, 2.0, 4.0])
    np.testing.assert_allclose(chord_deviation(x.tolist(), (x**2)[None]), [[-3, -4]], atol=1e-12)
    np.testing.assert_allclose(chord_deviation(x.tolist(), 3 * x - 1), [0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: line_fit((1, 1), np.zeros(2)), "x: [1.0, 1.0]; valid: finite, at least 2"),
        (lambda: line_fit((1, np.inf), np.zeros(2)), "x: [1.0, inf]"),
        (lambda: line_fit((1, 2), np.zeros((2, 3))), "y: shape (2, 3); valid: a last axis of 2"),
        (lambda: line_fit((1, 2), np.array([0, np.nan])), "y: contains NaN"),
        (lambda: chord_deviation((1, 2), np.zeros(2)), "x: [1.0, 2.0]; valid: finite, at least 3"),
        (lambda: chord_deviation((1, 3, 2), np.zeros(3)), "x: [1.0, 3.0, 2.0]; valid: increasing"),
        (lambda: chord_deviation((1, 2, 2, 3), np.zeros(4)), "x: [1.0, 2.0, 2.0, 3.0]; valid: increasing"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
