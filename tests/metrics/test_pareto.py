"""Hypervolumes, against counting the cells of a fine grid; the interval, against plain resampling and in
simulations in which the truth is known."""

import numpy as np
import pytest
from scipy import stats

from metrics import hypervolume, hypervolume_difference

CELLS = 50


def counted(points: np.ndarray) -> float:
    """Share of the cells of [0, 1]^2 that a rectangle covers, for coordinates that are multiples of 1/50."""
    covered = 0
    for column in range(CELLS):
        for row in range(CELLS):
            middle = np.array([column + 0.5, row + 0.5]) / CELLS
            covered += bool(np.any(np.all(points > middle, axis=1)))
    return covered / CELLS**2


@pytest.mark.parametrize("settings", [1, 2, 3, 8])
def test_hypervolume_is_the_share_of_covered_cells(settings: int) -> None:
    rng = np.random.default_rng(settings)
    points = rng.integers(0, CELLS + 1, (5, settings, 2)) / CELLS
    # Equal points, and equal coordinates.
    points[0] = points[0, :1]
    points[1, :, 0] = points[1, 0, 0]
    np.testing.assert_allclose(hypervolume(points), [counted(each) for each in points], atol=1e-12)


def test_hypervolume_of_negative_coordinates_is_that_of_zeros() -> None:
    assert hypervolume(np.array([[-1.0, 0.5], [0.5, -2.0], [0.5, 0.5]])) == pytest.approx(0.25)
    assert hypervolume(np.array([[-1.0, 0.5]])) == 0.0


def resampled(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Differences over resamples, drawn index by index."""
    seeds, prompts = first.shape[:2]
    found = []
    for _ in range(count):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(prompts, size=prompts)
        own = [hypervolume(each[rows][:, columns].mean(axis=(0, 1))) for each in (first, second)]
        found.append(own[0] - own[1])
    return np.array(found)


def test_the_interval_is_that_of_plain_resampling() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=(2, 6, 4, 3, 2))
    first += rng.uniform(size=(6, 1, 1, 1)) + rng.uniform(size=(1, 4, 1, 1))
    interval = hypervolume_difference(first, second, np.random.default_rng(1), 4000)
    expected = hypervolume(first.mean(axis=(0, 1))) - hypervolume(second.mean(axis=(0, 1)))
    assert interval.estimate == pytest.approx(expected)
    half = stats.t.ppf(0.975, 3) * resampled(first, second, rng, 4000).std(ddof=1)
    for own in (interval.high - expected, expected - interval.low):
        assert own == pytest.approx(half, rel=0.05)
    narrow = hypervolume_difference(first, second, np.random.default_rng(1), 4000, 0.5)
    ratio = (narrow.high - narrow.low) / (interval.high - interval.low)
    assert ratio == pytest.approx(stats.t.ppf(0.75, 3) / stats.t.ppf(0.975, 3))


def test_equal_answers_differ_by_nothing() -> None:
    points = np.random.default_rng(0).uniform(size=(4, 5, 3, 2))
    interval = hypervolume_difference(points, points[:, :, ::-1], np.random.default_rng(1), 100)
    assert (interval.low, interval.high) == pytest.approx((0, 0), abs=1e-12)


FRONT = np.array([(0.9, 0.2), (0.8, 0.4), (0.6, 0.6), (0.4, 0.7)])
TIED = np.tile([0.6, 0.5], (4, 1))
ALONE = np.array([(0.6, 0.5), (0.2, 0.2), (0.2, 0.2), (0.2, 0.2)])
SEEDS = PROMPTS = 8


def drawn(rng: np.random.Generator, settings: np.ndarray) -> np.ndarray:
    """Points with effects of seeds, of prompts, of a seed on a setting and of each answer."""
    effects = (
        rng.normal(0, 0.07, (SEEDS, 1, 1, 1)),
        rng.normal(0, 0.07, (1, PROMPTS, 1, 1)),
        rng.normal(0, 0.03, (SEEDS, 1, len(settings), 1)),
        rng.normal(0, 0.1, (SEEDS, PROMPTS, len(settings), 2)),
    )
    found: np.ndarray = settings + sum(effects)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "second", "most_above", "most_below"),
    [
        pytest.param(FRONT, FRONT, 0.05, 0.05, id="equal"),
        pytest.param(TIED, TIED, 0.05, 0.05, id="equal and tied"),
        pytest.param(FRONT, ALONE, 0.05, 0.05, id="different"),
        # The maximum over tied settings is too large, which nothing on the other side makes up for.
        pytest.param(TIED, ALONE, 0.08, 0.03, id="tied against one"),
    ],
)
def test_how_often_the_interval_is_wrong(
    first: np.ndarray, second: np.ndarray, most_above: float, most_below: float
) -> None:
    """The truth is below the interval, or above it, at most so often in 400 draws. A rate of .025 exceeds .05
    with probability .002."""
    truth = float(hypervolume(first) - hypervolume(second))
    rng = np.random.default_rng(3)
    above = below = 0
    for _ in range(400):
        interval = hypervolume_difference(drawn(rng, first), drawn(rng, second), rng, 200)
        above += interval.low > truth
        below += interval.high < truth
    assert above / 400 <= most_above
    assert below / 400 <= most_below


def test_a_difference_is_seen() -> None:
    rng = np.random.default_rng(4)
    seen = [
        hypervolume_difference(drawn(rng, FRONT), drawn(rng, FRONT - 0.15), rng, 200).low > 0
        for _ in range(50)
    ]
    assert np.mean(seen) > 0.8


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 2)), "at least one setting"),
        (np.zeros((3, 3)), "settings, 2"),
        (np.zeros(2), "settings, 2"),
        (np.array([[0.1, np.nan]]), "finite"),
    ],
)
def test_points_that_are_none_are_refused(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(points)


def test_families_of_unequal_numbers_are_refused() -> None:
    points, rng = np.zeros((3, 3, 2, 2)), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"second: shape .* valid: that of first"):
        hypervolume_difference(points, points[:, :, :1], rng)
    with pytest.raises(ValueError, match="first: shape"):
        hypervolume_difference(points[:1], points[:1], rng)
    with pytest.raises(ValueError, match="num_resamples: 1"):
        hypervolume_difference(points, points, rng, 1)
    with pytest.raises(ValueError, match="confidence"):
        hypervolume_difference(points, points, rng, confidence=1.0)
