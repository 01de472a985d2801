"""Every check of `scaling_law` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers
from experiments.scaling_law.checks import checks
from experiments.scaling_law.measure import Measurements

RATIOS = np.array([4.0, 8.0, 24.0])
LAW = (np.exp(RATIOS) - 1) / RATIOS
SETTINGS = SimpleNamespace(ratios=(4.0, 8.0, 24.0), masses=(1e-4, 0.1), ns=(2, 64), epsilon=0.05)
RIGHT = Measurements(
    SETTINGS,  # type: ignore[arg-type]
    {
        "bits, one prompt": np.array([[0.5, 0.95], [0.1, 0.2]]),
        "softmax, one prompt": np.array([[0.3, 0.4], [0.96, 0.2]]),
    },
    np.stack([LAW, LAW * [0.95, 0.9, 0.9]]),
    np.array([[0.9995, 0.9999, 0.9998], [0.98, 0.97, 0.96]]),
    np.array([1.0, 3.0, 1e-4 * LAW[-1]]),
    np.log(LAW) + np.array([3.0, 2.0, 4.0]),
)


def slope(values: Any) -> float:
    """Least squares in r = 4, 8, 24, whose deviations from the mean 12 are -8, -4 and 12."""
    first, second, third = values
    return float((-8 * first - 4 * second + 12 * third) / 224)


def least(values: Any) -> Measurements:
    return dataclasses.replace(RIGHT, needed=np.stack([values, RIGHT.needed[1]]))


def family(name: str) -> Any:
    def at(value: float) -> Measurements:
        shares = {**RIGHT.shares, name: np.array([[0.95, 0.5], [0.1, value]])}
        return dataclasses.replace(RIGHT, shares=shares)

    return at


def near(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, shares={**RIGHT.shares, "bits, one prompt": np.array([[value, 0.1]])})


def rounded(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, needed=np.stack([LAW, [1.0, value * np.ceil(LAW[1]), 1.0]]))


def fewer(value: float) -> Measurements:
    return least(LAW * [1, value, 1])


def growing(value: float) -> Measurements:
    return least(np.exp(value * (RATIOS - 4)) * LAW[0] * 4 / RATIOS)


def plainly(value: float) -> Measurements:
    return least(np.exp(value * (RATIOS - 4)) * LAW[0])


def decades(value: float) -> Measurements:
    return least(np.array([1.0, 10 ** (value / 2), 10**value]))


def tight(row: int, place: int) -> Any:
    def at(value: float) -> Measurements:
        values = RIGHT.tight.copy()
        values[row, place] = value
        return dataclasses.replace(RIGHT, tight=values)

    return at


def printed(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, printed=np.log(LAW) + np.array([1.0, value, 40.0]))


def even(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, even=np.array([1e9, 1.0, value * LAW[-1]]))


GROWTH, PLAIN = slope(np.log(LAW * RATIOS)), slope(np.log(LAW))
TABLE = {
    "bits, one prompt: worst loss over KL/r(N), largest": Known(
        "<= 1.00000001", 0.95, None, family("bits, one prompt"), 2.0
    ),
    "softmax, one prompt: worst loss over KL/r(N), largest": Known(
        "<= 1.00000001", 0.96, None, family("softmax, one prompt"), 2.0
    ),
    "bits: worst loss over KL/r(N), largest": Known(">= 0.9", 0.95, None, near, 0.5),
    "samples needed over ceil((e^r - 1)/r), largest": Known(
        "<= 1", float((LAW / np.ceil(LAW)).max()), None, rounded, 2.0, ((1.0, True), (1.000001, False))
    ),
    "t = 0.0001: samples needed over (e^r - 1)/r, least": Known(">= 0.99", 1.0, None, fewer, 0.5),
    "t = 0.0001: slope of ln(N r) in r = KL/eps, from below": Known(
        ">= 0.99", GROWTH, None, growing, 0.5, alone=False
    ),
    "t = 0.0001: slope of ln(N r) in r = KL/eps, from above": Known(
        "<= 1.01", GROWTH, None, growing, 2.0, alone=False
    ),
    "t = 0.0001: slope of ln N in r = KL/eps, from below": Known(
        ">= 0.75", PLAIN, None, plainly, 0.5, alone=False
    ),
    "t = 0.0001: slope of ln N in r = KL/eps, from above": Known(
        "<= 1", PLAIN, None, plainly, 2.0, alone=False
    ),
    "t = 0.0001: decades of samples needed, at the largest r over the least": Known(
        ">= 4", float(np.log10(LAW[-1] / LAW[0])), None, decades, 1.0, alone=False
    ),
    "Cov_N (ln N - 1 + 1/N)/KL at N = e^r, largest": Known("<= 1.00000001", 0.9999, None, tight(1, 1), 2.0),
    "t = 0.0001: the same, least": Known(">= 0.999", 0.9995, None, tight(0, 2), 0.5),
    "ln N of Propositions D.1 and D.6 minus ln((e^r - 1)/r), least": Known("> 0", 2.0, None, printed, -1.0),
    "all ratios equal: samples needed over (e^r - 1)/r, largest r": Known("<= 0.001", 1e-4, None, even, 0.1),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)
