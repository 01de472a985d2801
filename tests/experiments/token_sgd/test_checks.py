"""Every check of `token_sgd` on measurements made by hand: right, wrong and at its threshold.

With two draws of each of two sizes the bootstrap's ends are the least and the largest slope that pairs of
draws give, and the least and the largest draw. With sigma*^2 = 4 the theorem's step is 1/(2 sqrt T), and its
bound 4/(eta T) + 8 eta is 12/sqrt T: .5 at T = 576, .75 at 256 and .375 at 1024.
"""

import dataclasses
from math import log, log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Known, known_answers, power
from experiments.token_sgd.checks import checks
from experiments.token_sgd.measure import Measurements, Point, Robust
from theory.sgd.opposed_prompts import FamilyRun

HORIZONS, FAMILY_HORIZONS, COUNTS = (8, 16), (64, 128), (256, 1024)
WIDTH = log2(1.02)
"""Of a slope to either side: the two draws of each size are 2 % apart."""
# 8 H/T + sigma*^2/H at H = 8 and 16.
WHOLE = (64 / 576 + 4 / 8, 128 / 576 + 4 / 16)
SLOPES = {"TTT": 0.05, "TTT, best": -0.06, "fixed, best": 0.8, "sequence, best": 0.9, "sequence": 0.1}
FAMILY = {"TTT": 0.1, "fixed": 0.12, "sequence": 0.95}
TO_COVERAGE = log(16) - 15 / 16


def draws(value: float) -> np.ndarray:
    return value * np.array([1.0, 1.02])


def points(kl: dict[str, np.ndarray], floor: np.ndarray) -> tuple[Point, ...]:
    """One for each column."""
    return tuple(
        Point({name: each[:, i] for name, each in kl.items()}, {}, {}, floor[:, i])
        for i in range(floor.shape[1])
    )


KL = {name: np.outer([1.0, 1.02], [0.1, 0.1 * 2**slope]) for name, slope in SLOPES.items()}
KL_OF_COUNTS = np.outer([1.0, 1.02], [0.2, 0.09])
FLOOR = np.array([[0.9, 0.3], [0.9, 0.5]])
RIGHT = Measurements(
    SimpleNamespace(  # type: ignore[arg-type]
        seed=2,
        horizons=HORIZONS,
        sequences=576,
        sequence_counts=COUNTS,
        variance=4.0,
        n=16.0,
        family_horizons=FAMILY_HORIZONS,
    ),
    points(KL, FLOOR),
    points({"TTT": KL_OF_COUNTS}, FLOOR),
    Robust(
        {
            "trained": np.array([[7.0, 8.0], [0.1, 0.2]]),
            "new": np.array([[0.6, 1.0], [0.8, 0.9]]),
            "opposite": np.array([[9.0, 9.0], [0.45, 0.49]]),
        },
        {},
        {
            "trained": np.array([[1.0, np.nan], [1.0, 1.0]]),
            "new": np.array([[2.0, 2.0], [2.0, 2.0]]),
            "opposite": np.array([[np.nan, np.nan], [1.0, 1.0]]),
        },
    ),
    FamilyRun({name: np.outer([50.0, 51.0], [1.0, 2**slope]) for name, slope in FAMILY.items()}, {}),
)


def horizons(name: str, values: Any) -> Measurements:
    return dataclasses.replace(RIGHT, by_horizon=points({**KL, name: np.asarray(values)}, FLOOR))


def counts(values: Any) -> Measurements:
    return dataclasses.replace(RIGHT, by_count=points({"TTT": np.asarray(values)}, FLOOR))


def over(name: str, bounds: tuple[float, float]) -> Any:
    return lambda value: horizons(name, [[0.01 * bounds[0], value * bounds[1]]] * 2)


def longer(found: Measurements) -> Measurements:
    """A shorter H before the others, so that the longest one is neither the second nor the first."""
    settings = SimpleNamespace(**{**vars(found.settings), "horizons": (4, *HORIZONS)})
    first = found.by_horizon[0]
    return dataclasses.replace(found, settings=settings, by_horizon=(first, *found.by_horizon))


def slope(name: str, target: str, wrong: float) -> Known:
    found = SLOPES[name]
    return Known(
        target,
        found,
        (found - WIDTH, found + WIDTH),
        lambda value: horizons(name, power(HORIZONS, value, 0.1)),
        wrong,
    )


def family(name: str, target: str, wrong: float) -> Known:
    found = FAMILY[name]

    def at(value: float) -> Measurements:
        needed = {**RIGHT.family.needed, name: power(FAMILY_HORIZONS, value, 50)}
        return dataclasses.replace(RIGHT, family=FamilyRun(needed, {}))

    return Known(target, found, (found - WIDTH, found + WIDTH), at, wrong)


def of_bound(value: float) -> Measurements:
    """12/sqrt T over ln N - 1 + 1/N, by the number of sequences at every H."""
    sequences = (12 / (value * TO_COVERAGE)) ** 2
    settings = SimpleNamespace(**{**vars(RIGHT.settings), "sequences": sequences})
    return dataclasses.replace(RIGHT, settings=settings)


def robust(value: float) -> Measurements:
    kl = {**RIGHT.robust.kl, "opposite": np.full((2, 2), value)}
    return dataclasses.replace(RIGHT, robust=dataclasses.replace(RIGHT.robust, kl=kl))


def steep(value: float) -> Measurements:
    return counts(power(COUNTS, value, 0.1))


def three(low: float, high: float) -> tuple[float, tuple[float, float]]:
    return (low + high) / 2, (low, high)


TOP, TOP_AT_16 = "upper end of the interval <= 1", 0.1 * 2**0.05
IN_T = log(0.45) / log(4)
TABLE = {
    "TTT: KL over its bound, largest over H": Known(
        TOP, *three(TOP_AT_16 / 0.5, 1.02 * TOP_AT_16 / 0.5), over("TTT", (0.5, 0.5)), 2.0
    ),
    "TTT: KL over its bound, largest over T": Known(
        TOP, *three(0.2 / 0.75, 0.204 / 0.75), lambda value: counts([[0.01, 0.375 * value]] * 2), 2.0
    ),
    "TTT: the bound on Cov_N, largest": Known("< 1", 0.75 / TO_COVERAGE, None, of_bound, 2.0),
    "a step a sequence: KL over its bound, largest over H": Known(
        TOP, *three(0.1 * 2**0.1 / WHOLE[1], 0.102 * 2**0.1 / WHOLE[1]), over("sequence", WHOLE), 2.0
    ),
    "TTT, the theorem's step: exponent of H in KL, from above": slope(
        "TTT", "upper end of the interval < 0.25", 0.8
    ),
    "TTT, the theorem's step: exponent of H in KL, from below": slope(
        "TTT", "lower end of the interval > -0.25", -0.8
    ),
    "TTT, best step: exponent of H in KL, from above": slope(
        "TTT, best", "upper end of the interval < 0.25", 0.8
    ),
    "TTT, best step: exponent of H in KL, from below": slope(
        "TTT, best", "lower end of the interval > -0.25", -0.8
    ),
    "a step a token, fixed parameters, best step: exponent of H in KL": slope(
        "fixed, best", "lower end of the interval > 0.5", 0.1
    ),
    "a step a sequence, best step: exponent of H in KL": slope(
        "sequence, best", "lower end of the interval > 0.5", 0.1
    ),
    "TTT: KL over the least of any proper method, longest H": Known(
        "upper end of the interval < 1",
        *three(TOP_AT_16 / 0.4, 1.02 * TOP_AT_16 / 0.4),
        lambda value: longer(over("TTT", (9.0, 0.4))(value)),
        2.0,
    ),
    "TTT: exponent of T in KL": Known(
        "upper end of the interval < -0.35", IN_T, (IN_T - WIDTH / 2, IN_T + WIDTH / 2), steep, 0.0
    ),
    "family, a step a token, test-time training: exponent of H in the sequences needed": family(
        "TTT", "upper end of the interval < 0.25", 0.8
    ),
    "family, a step a token, fixed parameters: exponent of H in the sequences needed": family(
        "fixed", "upper end of the interval < 0.25", 0.8
    ),
    "family, a step a sequence: exponent of H in the sequences needed": family(
        "sequence", "lower end of the interval > 0.75", 0.3
    ),
    # Of new prompts at the first step .3 and .5, at the second .4 and .45; of opposite ones .45 and .49.
    "TTT, other steps and prompts: KL over its bound, largest": Known(TOP, 0.4, (0.3, 0.5), robust, 2.0),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_the_largest_ratio_is_the_one_with_the_largest_upper_end() -> None:
    named = {check.name: check for check in checks(horizons("TTT", [[0.01, 0.05], [0.2, 0.15]]))}
    check = named["TTT: KL over its bound, largest over H"]
    assert (check.measured, check.interval) == (pytest.approx(0.21), pytest.approx((0.02, 0.4)))
