"""Every check of `particle_filtering` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers
from experiments.particle_filtering.checks import checks
from experiments.particle_filtering.measure import Late, Measurements, Rivals, Settings

HORIZONS, PARTICLES = (4, 16, 64), (2, 4, 8)
SETTINGS = Settings(horizons=HORIZONS, particles=PARTICLES, late_horizons=HORIZONS)


def late(
    in_h: float = 0.5, in_n: float = -1.0, grown: float | None = None, lost: float = 1.0, mass: float = 1.0
) -> dict[tuple[int, int], Late]:
    """Two equal groups: errors that are powers of H at the most particles and of N at the shortest H."""
    made = {}
    for h in HORIZONS:
        for n in PARTICLES:
            error = 0.1 * (n / 8) ** in_n * (h / 4) ** in_h
            if grown is not None and (h, n) == (64, 2):
                error = 0.1 * (2 / 8) ** in_n * grown
            loss = 0.1 * (lost if (h, n) == (64, 8) else 1.0)
            here = mass if (h, n) == (16, 4) else 1.0
            made[h, n] = Late(np.full(2, here), np.full(2, error), np.full(2, loss))
    return made


RIGHT = Measurements(
    SETTINGS,
    np.array([4, 8, 16]),
    np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.95, 0.3, 0.3]]),
    np.array([0.11, 0.1, 0.1]),
    np.array([0.1, 0.05, 0.025]),
    late(),
    {key: Rivals(0.9, 0.9, 0.1, 100.0) for key in late()},
    {"perfect": (0.5, 1e-9), "late": (0.25, 1e-8)},
)


def of_late(name: str, **others: Any) -> Any:
    return lambda value: dataclasses.replace(RIGHT, late=late(**{name: value}, **others))


def needed(value: float) -> Measurements:
    return dataclasses.replace(RIGHT, needed=4.0 * (np.array(HORIZONS) / 4) ** value)


def fit(name: str, place: int) -> Any:
    def at(value: float) -> Measurements:
        values = list(RIGHT.goodness[name])
        values[place] = value
        return dataclasses.replace(RIGHT, goodness={**RIGHT.goodness, name: (values[0], values[1])})

    return at


def both(text: str, right: float, low: float, high: float, at: Any, exact: bool = False) -> dict[str, Known]:
    ends = None if exact else (right, right)
    lower, upper = ("", "") if exact else ("lower end of the interval ", "upper end of the interval ")
    return {
        f"{text}, from below": Known(f"{lower}>= {low:g}", right, ends, at, low - 0.3, alone=False),
        f"{text}, from above": Known(f"{upper}<= {high:g}", right, ends, at, high + 0.3, alone=False),
    }


TABLE = {
    **both("perfect: exponent of H in the particles needed", 0.5, 0.4, 0.6, needed, exact=True),
    "perfect: error of sqrt(H) particles, largest over least": Known(
        "<= 1.2", 1.1, None, lambda x: dataclasses.replace(RIGHT, at_root=np.array([x, 1.0, 1.0])), 1.5
    ),
    "perfect: error at the longest H, fewest particles": Known(
        ">= 0.9",
        0.95,
        None,
        lambda x: dataclasses.replace(RIGHT, perfect=np.array([[1.0] * 3, [1.0] * 3, [x, 1.0, 1.0]])),
        0.5,
    ),
    **both("late: exponent of the error in H, most particles", 0.5, 0.4, 0.6, of_late("in_h", grown=4.0)),
    **both("late: exponent of the error in N, shortest H", -1.0, -1.1, -0.9, of_late("in_n")),
    "late: error at the longest over the shortest H, fewest particles": Known(
        "lower end of the interval >= 1.5", 4.0, (4.0, 4.0), of_late("grown"), 1.0
    ),
    **both(
        "late: share of ones lost at the longest over the shortest H, most particles",
        1.0,
        0.8,
        1.2,
        of_late("lost"),
    ),
    "late: mean of p/pi* minus 1, lower end, largest": Known(
        "<= 0.02", 0.0, None, lambda x: dataclasses.replace(RIGHT, late=late(mass=1 + x)), 0.1
    ),
    "late: mean of p/pi* minus 1, upper end, least": Known(
        ">= -0.02", 0.0, None, lambda x: dataclasses.replace(RIGHT, late=late(mass=1 + x)), -0.1
    ),
    "decoder, perfect: p-value against its law": Known(">= 0.001", 0.5, None, fit("perfect", 0), 1e-5),
    "decoder, late: p-value against its law": Known(">= 0.001", 0.25, None, fit("late", 0), 1e-5),
    "decoder, perfect: p-value against pi* (the test's power)": Known(
        "<= 1e-06", 1e-9, None, fit("perfect", 1), 1e-3
    ),
    "decoder, late: p-value against pi* (the test's power)": Known(
        "<= 1e-06", 1e-8, None, fit("late", 1), 1e-3
    ),
}

TestKnownAnswers = known_answers(checks, RIGHT, TABLE)
