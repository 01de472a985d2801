"""Every check of `uniform_race` on measurements made by hand, and the pairs that the claim draws."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Known, known_answers, power
from decoding.exact_selection import rejection_law
from experiments.uniform_race.checks import checks
from experiments.uniform_race.measure import (
    FAMILIES,
    METHODS,
    Measurements,
    Pair,
    Settings,
    best_rejection,
    draw_pair,
    tail_pair,
)

BUDGETS = (8, 16)
SETTINGS = Settings(alphabets=(3, 4), ns=(2, 16), tails=(0.5, 1.5), budgets=BUDGETS)
SHAPE = (len(FAMILIES), 2, 2, 2)
LEVELS = dict(zip(METHODS, (0.1, 0.2, 0.15, 0.12, 0.3, 0.45, 0.4), strict=True))
SLOPES = {(0.5, "race"): -0.5, (0.5, "resampling"): -0.5, (1.5, "race"): -1.5, (1.5, "resampling"): -1.0}
RIGHT = Measurements(
    SETTINGS,
    {name: np.full(SHAPE, level) for name, level in LEVELS.items()},
    {key: power(BUDGETS, slope, 0.1) for key, slope in SLOPES.items()},
    (0.5, 1e-9),
)


def excess(name: str) -> Any:
    """One race that is worse than another method by this much."""

    def at(value: float) -> Measurements:
        other = RIGHT.errors[name].copy()
        other[1, 0, 1, 0] = RIGHT.errors["race"][1, 0, 1, 0] - value
        return dataclasses.replace(RIGHT, errors={**RIGHT.errors, name: other})

    return at


def better(share: float) -> Measurements:
    """12 pairs at N = 16, this share of which the race wins by exactly a 20th, the others by less."""
    race = np.full(SHAPE, 0.1)
    best = np.full(SHAPE, 0.1)
    best[..., 1] = np.where(np.arange(12) < round(12 * share), 0.1 / 0.95 + 1e-12, 0.104).reshape(SHAPE[:3])
    wrong = {"threshold x 4": 2 * best, "threshold / 4": 3 * best}
    return dataclasses.replace(RIGHT, errors={**RIGHT.errors, "race": race, "rejection, none": best, **wrong})


def cost(name: str) -> Any:
    def at(value: float) -> Measurements:
        return dataclasses.replace(RIGHT, errors={**RIGHT.errors, name: np.full(SHAPE, 0.15 * value)})

    return at


def slope(alpha: float, name: str) -> dict[str, Known]:
    theory = SLOPES[alpha, name]

    def at(value: float) -> Measurements:
        return dataclasses.replace(RIGHT, tails={**RIGHT.tails, (alpha, name): power(BUDGETS, value, 0.1)})

    text = f"tail {alpha:g}: exponent of {name} in N"
    low, high = theory - 0.1, theory + 0.1
    return {
        f"{text}, from below": Known(
            f"lower end of the interval >= {low:g}", theory, (theory, theory), at, theory - 0.4
        ),
        f"{text}, from above": Known(
            f"upper end of the interval <= {high:g}", theory, (theory, theory), at, theory + 0.4
        ),
    }


TABLE = {
    "race - best rejection, nothing where none is accepted, largest": Known(
        "<= 1e-09", -0.05, None, excess("rejection, none"), 0.01
    ),
    "race - best rejection, the last response where none is accepted, largest": Known(
        "<= 1e-09", -0.02, None, excess("rejection, last"), 0.01
    ),
    "race - self-normalised resampling, largest": Known("<= 1e-09", -0.1, None, excess("resampling"), 0.01),
    "race - (1 - Z/w_max)^N (derived), largest": Known("<= 1e-09", -0.3, None, excess("bound"), 0.01),
    "share of pairs on which the race is better than the best rejection by a 20th": Known(
        ">= 0.5", 1.0, None, better, 0.25, ((0.5, True), (5 / 12, False))
    ),
    "rejection at 4 times the best threshold over the best, median": Known(
        ">= 1.5", 2.0, None, cost("threshold x 4"), 1.0
    ),
    "rejection at a quarter of the best threshold over the best, median": Known(
        ">= 1.5", 3.0, None, cost("threshold / 4"), 1.0
    ),
    **slope(0.5, "race"),
    **slope(0.5, "resampling"),
    **slope(1.5, "race"),
    **slope(1.5, "resampling"),
    "decoder: p-value against the race's law": Known(
        ">= 0.001", 0.5, None, lambda p: dataclasses.replace(RIGHT, goodness=(p, 1e-9)), 1e-5
    ),
    "decoder: p-value against resampling's law (the test's power)": Known(
        "<= 1e-06", 1e-9, None, lambda p: dataclasses.replace(RIGHT, goodness=(0.5, p)), 1e-3
    ),
}

TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_the_best_threshold_is_the_best_of_a_fine_grid() -> None:
    rng = np.random.default_rng(1)
    for family in FAMILIES:
        pair = draw_pair(family, 5, rng)
        assert pair.reference.sum() == pytest.approx(1)
        positive = pair.weights[pair.weights > 0]
        grid = np.geomspace(positive.min() / 2, 2 * positive.max(), 20001)
        for fallback in ("none", "last"):
            errors = pair.error(rejection_law(*pair, 6, grid, fallback))  # type: ignore[arg-type]
            best, at = best_rejection(pair, 6, fallback)
            assert best <= errors.min() + 1e-6
            assert pair.error(rejection_law(*pair, 6, at, fallback)) == pytest.approx(best)  # type: ignore[arg-type]


def test_the_error_counts_what_is_not_returned() -> None:
    pair = Pair(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    assert pair.error(np.array([0.25, 0.75])) == pytest.approx(0)
    assert pair.error(np.array([0.25, 0.25])) == pytest.approx(0.5)
    assert pair.error(np.array([0.5, 0.5])) == pytest.approx(0.25)


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_tails_have_their_law(alpha: float) -> None:
    pair = tail_pair(alpha, np.random.default_rng(0), atoms=4000)
    ratio = pair.target / pair.reference
    start = alpha / (1 + alpha)
    assert pair.reference.sum() == pytest.approx(1)
    assert np.all(np.diff(ratio) > 0)
    assert ratio[0] == pytest.approx(start, rel=0.02)
    for u in (3.0, 30.0, 300.0):
        assert pair.target[ratio >= u].sum() == pytest.approx((u / start) ** -alpha, rel=0.03)
