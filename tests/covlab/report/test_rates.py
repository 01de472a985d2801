"""Known answers of the exponents, and their figures and tables."""

import numpy as np
import pytest

from covlab.report.rates import (
    Panel,
    Rate,
    at_sizes,
    exponent,
    rate_rows,
    rates_figure,
    resampled,
    size_intervals,
)

SIZES = (4, 8, 16, 32, 64)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_an_exact_power_law_has_its_exponent_and_no_width() -> None:
    values = np.tile(3.0 * np.asarray(SIZES) ** -1.5, (32, 1))
    found = exponent(SIZES, values, rng())
    assert [found.estimate, found.low, found.high] == pytest.approx([-1.5] * 3, abs=1e-12)


def test_what_is_fitted_can_be_derived_from_the_centres() -> None:
    values = np.tile(0.25 + 2.0 / np.asarray(SIZES), (8, 1))
    assert exponent(SIZES, values, rng(), of=lambda centre: centre - 0.25).estimate == pytest.approx(-1.0)
    assert exponent(SIZES, values, rng()).estimate > -0.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Gamma draws of shape 1 around a power law, 64 draws at 5 sizes; 200 repetitions. The percentile
    bootstrap is a little narrow; .95 and 200 repetitions give a standard deviation of .015."""
    chance = np.random.default_rng(1)
    truth = 2.0 / np.asarray(SIZES)
    inside = 0
    for _ in range(200):
        found = exponent(SIZES, chance.exponential(truth, (64, 5)), chance)
        inside += found.low <= -1.0 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_the_median_ignores_a_draw_that_is_infinite() -> None:
    values = np.tile(1.0 / np.asarray(SIZES), (9, 1))
    values[0] = np.inf
    assert exponent(SIZES, values, rng(), "median").estimate == pytest.approx(-1.0)
    assert at_sizes(values, "mean")[0] == np.inf


def test_sizes_are_resampled_independently() -> None:
    values = np.repeat(np.random.default_rng(2).random((200, 1)), 2, axis=1)
    many = resampled(values, rng())
    assert abs(np.corrcoef(many.T)[0, 1]) < 0.1
    assert many.std(axis=0) == pytest.approx(values.std(axis=0) / np.sqrt(200), rel=0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((3, 4)), r"values: shape \(3, 4\); valid: \(draws, 5\)"),
        (np.zeros((3, 5)), "finite and positive at every size"),
        (np.eye(5)[[0, 1, 2, 3, 4]], "resamples have a mean that is not positive; valid: more draws"),
    ],
)
def test_no_exponent_without_positive_centres(values: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exponent(SIZES, values, rng())


def test_figure_and_table_state_the_fit_and_the_numbers() -> None:
    values = np.tile(1.0 / np.asarray(SIZES), (32, 1))
    rates = [
        Rate("SGD", values, theory=-1, bound=4.0 / np.asarray(SIZES)),
        Rate("nothing seen", np.zeros((32, 5))),
    ]
    figure = rates_figure([Panel("Coverage", "n", "Cov", SIZES, rates)], rng())
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["SGD: slope -1.00 [-1.00, -1.00], theory -1", "nothing seen"]
    rows = rate_rows(SIZES, rates, rng())
    assert len(rows) == 10
    assert rows[0] == ["SGD", 4, 0.25, "[0.25, 0.25]", 1.0]
    assert rows[-1][-1] == ""
    assert size_intervals(values, rng())[1].estimate == 0.125


def test_two_draws_of_two_sizes_have_their_extreme_slopes_and_ends() -> None:
    """Half of the resampled pairs of two draws are the draws themselves; a sixteenth of the slopes is the
    least and a sixteenth the largest that draws give."""
    values = np.array([[1.0, 2.0], [2.0, 8.0]])
    found = exponent((1, 2), values, rng())
    assert [found.estimate, found.low, found.high] == pytest.approx([np.log2(5 / 1.5), 0.0, 3.0])
    less = exponent((1, 2), values, rng(), of=lambda centre: centre - 0.5)
    assert [less.estimate, less.low, less.high] == pytest.approx([np.log2(4.5), 0.0, np.log2(15)])
    ends = [(each.estimate, each.low, each.high) for each in size_intervals(values, rng())]
    assert ends == [(1.5, 1.0, 2.0), (5.0, 2.0, 8.0)]


def test_the_median_and_its_ends() -> None:
    """The median of a resample of three draws is the least with probability 7/27, as is the largest."""
    (found,) = size_intervals(np.array([[1.0], [2.0], [9.0]]), rng(), "median")
    assert (found.estimate, found.low, found.high) == (2.0, 1.0, 9.0)
    slope = exponent((1, 4), np.array([[1.0, 16.0], [4.0, 16.0], [2.0, 8.0]]), rng(), "median")
    assert [slope.estimate, slope.low, slope.high] == pytest.approx([1.5, 0.5, 2.0])


@pytest.mark.parametrize(("draws", "enough"), [(6, True), (4, False)])
def test_up_to_one_resample_in_twenty_may_see_nothing(draws: int, enough: bool) -> None:
    """Half of the draws are 0 at each of two sizes: of six all are missed with probability 2/64 or less, of
    four with 2/16 or a little less."""
    values = np.tile((np.arange(draws) % 2).astype(float)[:, None], (1, 2))
    if enough:
        assert exponent((1, 2), values, rng()).estimate == pytest.approx(0.0, abs=1e-12)
    else:
        with pytest.raises(ValueError, match="valid: more draws"):
            exponent((1, 2), values, rng())


@pytest.mark.parametrize("worst", [np.inf, -1.0, np.nan])
def test_a_centre_must_be_finite_and_positive(worst: float) -> None:
    with pytest.raises(ValueError, match="valid: finite and positive at every size"):
        exponent((1, 2), np.array([[1.0, worst], [1.0, worst]]), rng())
    with pytest.raises(ValueError, match="at least 2 sizes"):
        exponent((1,), np.ones((2, 1)), rng())
