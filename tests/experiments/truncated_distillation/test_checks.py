"""Every check of `truncated_distillation` on measurements made by hand: right, wrong and at its threshold.

With two draws of each of two sizes the bootstrap's ends are the least and the largest slope that pairs of
draws give, and the least and the largest draw. At ln N = 4, sigma*^2 = 1 and B^2 = 4 the theorem's step is
min{1/4096, 1/(2 sqrt T)}, and its bound 4/(eta T) + 258 eta is 137/sqrt T for T >= 2^22.
"""

import dataclasses
from math import exp, log, log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Known, known_answers, power
from experiments.truncated_distillation.checks import checks
from experiments.truncated_distillation.measure import Dense, Measurements, Point
from theory.sgd.opposed_prompts import FamilyRun

COUNTS, LOG_NS, STEPS, FAMILY_HORIZONS = (2**24, 2**26), (4.0, 16.0), 2**20, (64, 128)
WIDTH = log2(1.02)
BOUNDS = (137 / 2**12, 137 / 2**13)
TO_COVERAGE = 2 / 3
"""2/(ln N - 1)."""
RATES = (2**-13 + 2**-22, 2**-14 + 2**-24)
"""sqrt(sigma*^2/(T ln N)) + B^2/T at every T."""
RATES_OF_N = (2**-11 + 2**-18, 2**-12 + 2**-18)
FAMILY = {"truncated": 0.1, "sequence": 0.9}


def columns(*values: float) -> np.ndarray:
    """Two draws, 2 % apart, of every value."""
    return np.outer([1.0, 1.02], values)


def points(coverage: dict[str, np.ndarray], stopped: dict[str, np.ndarray]) -> tuple[Point, ...]:
    return tuple(
        Point(
            {name: each[:, i] for name, each in coverage.items()},
            {name: each[:, i] for name, each in stopped.items()},
            {},
        )
        for i in range(2)
    )


COVERAGE = {
    "truncated": columns(1e-5, 0.45e-5),
    "theorem": columns(0.2 * TO_COVERAGE * BOUNDS[0], 0.3 * TO_COVERAGE * BOUNDS[1]),
}
COVERAGE_OF_N = {"truncated": columns(1e-4, 0.48e-4), "theorem": columns(1.0, 1.0)}
STOPPED = {"truncated": columns(9.0, 9.0), "theorem": columns(0.5 * BOUNDS[0], 0.4 * BOUNDS[1])}
RIGHT = Measurements(
    SimpleNamespace(  # type: ignore[arg-type]
        seed=2,
        lengths=(16, 32, 64, 128),
        step_counts=COUNTS,
        n=exp(4),
        log_ns=LOG_NS,
        steps=STEPS,
        variance=1.0,
        family_horizons=FAMILY_HORIZONS,
    ),
    points(COVERAGE, STOPPED),
    points(COVERAGE_OF_N, STOPPED),
    Dense(np.array([5.0, 5.0]), np.array([0.2, 0.3]), np.array([0.8, 1.0]), start=np.array([0.6, 0.8])),
    FamilyRun(
        {
            "truncated": np.array([[10.0, 10 * 2**0.1], [10.2, 10.2 * 2**0.1]]),
            "sequence": np.array([[500.0, 500 * 2**0.9], [510.0, 510 * 2**0.9]]),
        },
        {},
    ),
)


def by_steps(name: str, values: Any, what: str = "coverage") -> Measurements:
    coverage, stopped = dict(COVERAGE), dict(STOPPED)
    (coverage if what == "coverage" else stopped)[name] = np.asarray(values)
    return dataclasses.replace(RIGHT, by_steps=points(coverage, stopped))


def by_n(values: np.ndarray) -> Measurements:
    return dataclasses.replace(RIGHT, by_n=points({**COVERAGE_OF_N, "truncated": values}, STOPPED))


def dense(**changes: Any) -> Measurements:
    return dataclasses.replace(RIGHT, dense=dataclasses.replace(RIGHT.dense, **changes))


def family(**needed: np.ndarray) -> Measurements:
    return dataclasses.replace(RIGHT, family=FamilyRun({**RIGHT.family.needed, **needed}, {}))


def of_bound(value: float) -> Measurements:
    """At the longest step, 1/4096, the bound is 16384/T + 258/4096."""
    few = 16384 / (value / TO_COVERAGE - 258 / 4096)
    settings = SimpleNamespace(**{**vars(RIGHT.settings), "step_counts": (2**26, few)})
    return dataclasses.replace(RIGHT, settings=settings)


def gain(value: float) -> Measurements:
    """At the longest of three H; at the others truncation loses."""
    found = family(
        truncated=np.array([[20.0, 20.0, 5.0]] * 2), sequence=np.array([[5.0, 5.0, 5 * value]] * 2)
    )
    settings = SimpleNamespace(**{**vars(RIGHT.settings), "family_horizons": (32, *FAMILY_HORIZONS)})
    return dataclasses.replace(found, settings=settings)


def needed(name: str, target: str, wrong: float) -> Known:
    slope = FAMILY[name]
    ends = (slope - WIDTH, slope + WIDTH)
    return Known(
        target, slope, ends, lambda value: family(**{name: power(FAMILY_HORIZONS, value, 50)}), wrong
    )


def two_percent(low: float) -> tuple[float, tuple[float, float]]:
    return 1.01 * low, (low, 1.02 * low)


ONE = "upper end of the interval <= 1"
IN_T, IN_N = log(0.45) / log(4), log(0.48) / log(4)
GAINS = (500 / 10 * 2**0.8, 510 / 10.2 * 2**0.8)
LARGEST = "truncated, best step: Cov_N over sqrt(sigma*^2/(T ln N)) + B^2/T, largest"
TABLE = {
    "ladder, the theorem's step: D_N over its bound, largest over T": Known(
        ONE,
        *two_percent(0.5),
        lambda value: by_steps("theorem", [[0.001, value * BOUNDS[1]]] * 2, "stopped"),
        2.0,
    ),
    "ladder, the theorem's step: Cov_N over its bound, largest over T": Known(
        ONE,
        *two_percent(0.3),
        lambda value: by_steps("theorem", [[value * TO_COVERAGE * BOUNDS[0], 0.001]] * 2),
        2.0,
    ),
    "ladder: the bound on Cov_N, largest": Known("< 1", TO_COVERAGE * BOUNDS[0], None, of_bound, 2.0),
    # .2/.8 and .3/1 of the two draws.
    "one prompt, the theorem's step: D_N over its bound": Known(
        ONE, 0.275, (0.25, 0.3), lambda value: dense(stopped=value * RIGHT.dense.bound), 2.0
    ),
    "one prompt: Cov_N at the start": Known(
        "> 0.5", 0.7, None, lambda value: dense(start=np.array([value - 0.1, value + 0.1])), 0.1
    ),
    "one prompt: the bound on Cov_N": Known(
        "< 1", 2 / 3, None, lambda value: dense(bound=np.array([0.1, 1.5 * value])), 2.0
    ),
    "truncated, best step: exponent of T in Cov_N": Known(
        "upper end of the interval < -0.35",
        IN_T,
        (IN_T - WIDTH / 2, IN_T + WIDTH / 2),
        lambda value: by_steps("truncated", power(COUNTS, value, 1e-5)),
        0.0,
    ),
    "truncated, best step: exponent of ln N in Cov_N": Known(
        "upper end of the interval < -0.35",
        IN_N,
        (IN_N - WIDTH / 2, IN_N + WIDTH / 2),
        lambda value: by_n(power(LOG_NS, value, 1e-5)),
        0.0,
    ),
    LARGEST: Known(
        ONE,
        *two_percent(1e-4 / RATES_OF_N[0]),
        lambda value: by_steps("truncated", [[1e-9, value * RATES[1]]] * 2),
        2.0,
    ),
    "family, truncated: exponent of H in the steps needed, from above": needed(
        "truncated", "upper end of the interval < 0.25", 0.8
    ),
    "family, truncated: exponent of H in the steps needed, from below": needed(
        "truncated", "lower end of the interval > -0.25", -0.8
    ),
    "family, not truncated: exponent of H in the steps needed": needed(
        "sequence", "lower end of the interval > 0.75", 0.3
    ),
    "family: steps needed without truncation over those with it, longest H": Known(
        "lower end of the interval > 16", sum(GAINS) / 2, (min(GAINS), max(GAINS)), gain, 2.0
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


@pytest.mark.parametrize("place", [0, 1])
def test_the_rate_is_asked_at_every_t_and_n(place: int) -> None:
    for made, rates in ((lambda each: by_steps("truncated", each), RATES), (by_n, RATES_OF_N)):
        values = np.full((2, 2), 1e-9)
        values[:, place] = 1.5 * rates[place]
        named = {check.name: check for check in checks(made(values))}
        assert (named[LARGEST].measured, named[LARGEST].passed) == (pytest.approx(1.5), False)


def test_the_largest_ratio_is_the_one_with_the_largest_upper_end() -> None:
    stopped = np.array([[0.0, 0.2], [0.8, 0.6]]) * BOUNDS
    named = {check.name: check for check in checks(by_steps("theorem", stopped, "stopped"))}
    check = named["ladder, the theorem's step: D_N over its bound, largest over T"]
    assert (check.measured, check.interval) == (pytest.approx(0.4), pytest.approx((0.0, 0.8)))
