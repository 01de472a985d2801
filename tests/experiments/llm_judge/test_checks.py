"""Every check of `llm_judge` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers
from experiments.llm_judge.checks import checks
from experiments.llm_judge.measure import SIMULATED, Measurements, Settings, Simulated
from theory.judged_regression import predictive

SETTINGS = Settings(ks=(1, 4, 16), many=(16, 64), temperatures=(0.1, 1.0, 10.0), difficulties=(1.0, 2.0, 4.0))
LAW = predictive(4.0, 0.5, 1.0)


def falling(exponent: float) -> np.ndarray:
    return np.array([1.0, 4.0**exponent])


RIGHT = Measurements(
    SETTINGS,
    LAW,
    {
        "teacher": np.array([1.0, 0.1, 0.01]),
        "near": np.array([1.0, 0.5, 0.25]),
        "far": np.array([1.2, 1.0, 1.5]),
    },
    {"alpha": falling(-2.0), "few": falling(-1.4)},
    1.0,
    {"teacher": np.array([1.0, 2.0, 3.0, 4.0]), "far": np.array([1.5, 1.25, 1.0, 2.0])},
    (1.02, 1.0),
    np.array([4.0, 5.0, 8.0]),
    np.array([1.0, 2.0, 3.0]),
    {name: Simulated(np.array([2.0, 2.0]), 2.0) for name in SIMULATED},
)


def one(field: str, key: str, values: Any) -> Measurements:
    return dataclasses.replace(RIGHT, **{field: {**getattr(RIGHT, field), key: np.asarray(values, float)}})


def exponent(key: str) -> Any:
    return lambda value: one("at_many", key, falling(value))


def simulated(name: str) -> dict[str, Known]:
    def at(value: float) -> Measurements:
        return dataclasses.replace(
            RIGHT, simulated={**RIGHT.simulated, name: Simulated(np.full(2, 2 * value), 2.0)}
        )

    text = f"simulation, {name}: error over the closed form"
    return {
        f"{text}, from below": Known("lower end of the interval >= 0.85", 1.0, (1.0, 1.0), at, 0.5),
        f"{text}, from above": Known("upper end of the interval <= 1.15", 1.0, (1.0, 1.0), at, 1.5),
    }


TABLE = {
    "teacher: exponent of the error in k, from below": Known(">= -2.02", -2.0, None, exponent("alpha"), -2.5),
    "teacher: exponent of the error in k, from above": Known("<= -1.98", -2.0, None, exponent("alpha"), -1.0),
    "teacher: k^2 error over its limit at the largest k, from below": Known(
        ">= 0.99", 1.0, None, lambda x: dataclasses.replace(RIGHT, coefficient=x), 0.5
    ),
    "teacher: k^2 error over its limit at the largest k, from above": Known(
        "<= 1.01", 1.0, None, lambda x: dataclasses.replace(RIGHT, coefficient=x), 1.5
    ),
    "teacher, few examples: exponent of the error in k (derived)": Known(
        "> -1.6", -1.4, None, exponent("few"), -2.0
    ),
    "near judge: largest relative change from one k to the next": Known(
        "<= 1e-09", -0.5, None, lambda x: one("at_k", "near", [1, 0.5, 0.5 * (1 + x)]), 0.1
    ),
    "far judge: error at k = 1 over the least": Known(
        ">= 1.1", 1.2, None, lambda x: one("at_k", "far", [x, 1.0, 1.5]), 1.01
    ),
    "far judge: error at the largest k over the least": Known(
        ">= 1.1", 1.5, None, lambda x: one("at_k", "far", [1.2, 1.0, x]), 1.01
    ),
    "far judge: error at T = 0 over that at the best T": Known(
        ">= 1.02", 1.5, None, lambda x: one("at_temperature", "far", [x, 1.25, 1.0, 2.0]), 1.0
    ),
    "far judge: error at the largest T over that at the best T": Known(
        ">= 1.02", 2.0, None, lambda x: one("at_temperature", "far", [1.5, 1.25, 1.0, x]), 1.0
    ),
    "teacher: error at T = 0 over that at the best T (derived)": Known(
        "<= 1.000000001",
        1.0,
        None,
        lambda x: one("at_temperature", "teacher", [x, 1.0, 3.0, 4.0]),
        1.1,
        ((1 + 5e-10, True), (1 + 2e-9, False)),
    ),
    "far judge: error of 512 predictions at the best T over its closed form, from below": Known(
        ">= 0.95", 1.02, None, lambda x: dataclasses.replace(RIGHT, far_limit=(x, 1.0)), 0.5
    ),
    "far judge: error of 512 predictions at the best T over its closed form, from above": Known(
        "<= 1.05", 1.02, None, lambda x: dataclasses.replace(RIGHT, far_limit=(x, 1.0)), 1.5
    ),
    "gain of a task over that of the next easier one, largest": Known(
        "< 1", 0.8, None, lambda x: dataclasses.replace(RIGHT, gains=np.array([4 * x, 4.0, 8.0])), 1.5
    ),
    **{name: known for case in SIMULATED for name, known in simulated(case).items()},
}

TestKnownAnswers = known_answers(checks, RIGHT, TABLE)
