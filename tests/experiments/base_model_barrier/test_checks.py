"""Every check of `base_model_barrier` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from typing import Any

import numpy as np

from covlab.testing.known_checks import Known, known_answers, power
from experiments.base_model_barrier.checks import checks
from experiments.base_model_barrier.measure import Measurements, Settings

LOW, HIGH = (0.001, 0.01), (10, 100)
SETTINGS = Settings(likelihoods=LOW, errors=LOW, tokens=LOW, budgets=HIGH, tail=0.5)
RIGHT = Measurements(
    SETTINGS,
    power(LOW, -1.0, 1e6),
    power(LOW, 0.0, 100),
    power(LOW, -1.0, 1e3),
    power(LOW, -1.0, 1e5),
    power(HIGH, -0.5, 0.5),
    {"outcome": np.zeros(2), "process": np.ones(2)},
    np.ones(2),
)


def rate(name: str, sizes: tuple[float, ...], text: str, right: float) -> dict[str, Known]:
    def at(value: float) -> Measurements:
        return dataclasses.replace(RIGHT, **{name: power(sizes, value, 0.5)})

    low, high = right - 0.1, right + 0.1
    return {
        f"{text}, from below": Known(
            f"lower end of the interval >= {low:g}", right, (right, right), at, right - 0.5
        ),
        f"{text}, from above": Known(
            f"upper end of the interval <= {high:g}", right, (right, right), at, right + 0.5
        ),
    }


def moved(name: str) -> Any:
    return lambda value: dataclasses.replace(RIGHT, moved={**RIGHT.moved, name: np.full(2, value)})


TABLE = {
    **rate("outcome", LOW, "outcome: exponent of the base likelihood in the queries", -1.0),
    **rate("precision", LOW, "outcome: exponent of eps", -1.0),
    **rate("process", LOW, "process: exponent of the base likelihood", 0.0),
    **rate("tokens", LOW, "process: exponent of the tokens' likelihood", -1.0),
    **rate("unsolved", HIGH, "outcome: exponent of the budget in the share of unsolved prompts", -0.5),
    "outcome: share solved beyond the support": Known("<= 0", 0.0, None, moved("outcome"), 0.5),
    "process: share solved beyond the support": Known(">= 1", 1.0, None, moved("process"), 0.5),
    "outcome: share solved of the other clusters": Known(
        ">= 0.99", 1.0, None, lambda x: dataclasses.replace(RIGHT, others=np.full(2, x)), 0.5
    ),
}

TestKnownAnswers = known_answers(checks, RIGHT, TABLE)
