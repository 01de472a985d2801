import re

import numpy as np
import pytest
from scipy import stats

from metrics import chord_deviation, line_fit, line_misfit, power_law_exponent


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


def test_the_exponent_of_a_power_law_and_of_others() -> None:
    x = (2.0, 3.0, 8.0)
    y = np.array([[3 * t**0.5 for t in x], [0.1 * t**-2 for t in x], [7.0 for _ in x]])
    np.testing.assert_allclose(power_law_exponent(x, y), [0.5, -2, 0], atol=1e-12)
    # An intercept changes it: an independent least-squares through the logarithms.
    line = [1 + t for t in x]
    expected = stats.linregress(np.log(x), np.log(line)).slope
    assert power_law_exponent(x, np.array(line)) == pytest.approx(expected)
    assert expected < 0.8


def test_the_misfit_of_a_line_is_the_sum_of_squared_residuals() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=5), rng.normal(size=(4, 5))
    for row, found in zip(y, line_misfit(x.tolist(), y), strict=True):
        assert found == pytest.approx(np.polyfit(x, row, 1, full=True)[1].item())
    assert line_misfit((1, 2, 4), np.array([3.0, 5.0, 9.0])) == pytest.approx(0, abs=1e-24)
    # y = x - 1 has a negative intercept: through 0 the slope is 8/14, the residuals -4/7, -1/7, 2/7.
    assert line_misfit((1, 2, 3), np.array([0.0, 1, 2]), from_zero=True) == pytest.approx(21 / 49)
    assert line_misfit((1, 2, 3), np.array([2.0, 3, 4]), from_zero=True) == pytest.approx(0, abs=1e-24)
    # Means on a line: three free directions of five, whatever the line's x.
    noise = line_misfit((1, 2, 3, 4, 5), 0.1 * rng.normal(size=(20000, 5)))
    assert noise.mean() == pytest.approx(0.03, rel=0.03)


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
        (lambda: line_misfit((1, 1), np.zeros(2)), "x: [1.0, 1.0]; valid: finite, at least 2"),
        (lambda: power_law_exponent((0, 1), np.ones(2)), "x: 0.0; valid: positive numbers"),
        (lambda: power_law_exponent((1, 2), np.array([1.0, -2.0])), "y: -2.0; valid: positive numbers"),
        (lambda: chord_deviation((1, 2), np.zeros(2)), "x: [1.0, 2.0]; valid: finite, at least 3"),
        (lambda: chord_deviation((1, 3, 2), np.zeros(3)), "x: [1.0, 3.0, 2.0]; valid: increasing"),
        (lambda: chord_deviation((1, 2, 2, 3), np.zeros(4)), "x: [1.0, 2.0, 2.0, 3.0]; valid: increasing"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
