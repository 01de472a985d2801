"""Exploration's checks on hand-made measurements: what each reads off them, and where its target lies."""

import math
from typing import Any

import numpy as np
from oracles.answers import T2, Case, Known, columns, known_answers

from experiments.exploration.checks import checks
from experiments.exploration.measure import Arm, Measurements, TestTime

Value = float | tuple[float, float] | np.ndarray
BIT = 1 - 1e-10


def made(**changes: Any) -> Measurements:
    """Two seeds; ln of verifier calls on the weakest, a middle and the strongest checkpoint; runs of three
    arms, measured at their start, on their way and at their end."""
    given: dict[str, Any] = {
        "random": (2.0, 5.0, (1.5, 0.001)),
        "distinct": (1.96, 6.0, (1.4, 0.002)),
        "representation": ((1.95, 0.0005), 7.0, 1.2),
        "whitened": (1.9, 4.0, 1.0),
        "plain_1": (0.5, 0.6, (0.7, 0.0001)),
        "plain_8": (0.9, 0.9, (0.8, 0.001)),
        "plain_distinct": (3.0, 3.0, (2.0, 0.01)),
        "bonus_1": (0.5, 0.55, (0.695, 0.0002)),
        "bonus_8": (0.9, 0.95, (0.85, 0.002)),
        "bonus_distinct": (3.0, 3.1, (2.5, 0.03)),
        "copies_distinct": (3.0, 3.2, (1.75, 0.01)),
        "repeats": "G2",
    }
    assert changes.keys() <= given.keys()
    given |= changes
    made = {name: columns(*value) for name, value in given.items() if name != "repeats"}
    calls = {
        "random k": np.exp(made["random"]),
        "distinct, random k": np.exp(made["distinct"]),
        "representation": np.exp(made["representation"]),
        "representation, whitened": np.exp(made["whitened"]),
        "first k": np.full((2, 3), 3.0),
    }
    some = np.full((2, 3), 0.5)
    test_time = TestTime((1, 2), (10, 20, 30), {}, calls, some, some, some, {}, 8.0, given["repeats"])

    def arm(name: str, draws: int) -> Arm:
        passes = {8: made.get(f"{name}_8", some), 1: made.get(f"{name}_1", some), 4: some}
        return Arm((0, 5, 10), passes, made[f"{name}_distinct"], some, some, draws)

    arms = {"GRPO": arm("plain", 8), "bonus": arm("bonus", 9), "copies": arm("copies", 10)}
    return Measurements({"graph": test_time}, {"graph": arms}, (1, 2))


def around(log: float, spread: float) -> tuple[float, float]:
    """The interval of a ratio from its logarithm's."""
    return math.exp(log - T2 * spread), math.exp(log + T2 * spread)


AT = "graph, prompts of G2, strongest checkpoint, representation"
GAIN, WHITE = f"{AT}: efficiency over random choice", f"{AT}, whitened: efficiency over random choice"
RL = "graph, reinforcement learning"
CHECKS = {
    GAIN: Known(
        "lower end of the interval > 1",
        Case({}, math.exp(0.3), around(0.3, 0.001), True),
        Case({"random": (2, 5, (1.3, 0.01))}, math.exp(0.1), around(0.1, 0.01), False),
        Case({"random": (2, 5, 1.2)}, 1.0, 0, False),
    ),
    f"{GAIN} among different responses": Known(
        "lower end of the interval > 1",
        Case({}, math.exp(0.2), around(0.2, 0.002), True),
        Case({"distinct": (3, 6, (1.3, 0.01))}, math.exp(0.1), around(0.1, 0.01), False),
        Case({"distinct": (3, 6, 1.2)}, 1.0, 0, False),
    ),
    WHITE: Known(
        "lower end of the interval > 1",
        Case({}, math.exp(0.5), around(0.5, 0.001), True),
        Case({"random": (2, 5, (1.1, 0.01))}, math.exp(0.1), around(0.1, 0.01), False),
        Case({"whitened": (1, 4, 1.4), "random": (2, 5, 1.4)}, 1.0, 0, False),
    ),
    f"{WHITE} among different responses": Known(
        "lower end of the interval > 1",
        Case({}, math.exp(0.4), around(0.4, 0.002), True),
        Case({"distinct": (3, 6, (1.1, 0.01))}, math.exp(0.1), around(0.1, 0.01), False),
        Case({"distinct": (3, 6, 1.0)}, 1.0, 0, False),
    ),
    f"{RL}: Pass@8, bonus less GRPO": Known(
        "lower end of the interval > 0",
        Case({}, 0.05, 0.001, True),
        Case({"bonus_8": (0.9, 0.95, (0.81, 0.002))}, 0.01, 0.001, False),
        Case({"bonus_8": (0.9, 0.95, (0.8, 0.001))}, 0.0, 0, False),
    ),
    f"{RL}: Pass@1, bonus less GRPO": Known(
        "lower end of the interval >= -0.02",
        Case({}, -0.005, 0.0001, True),
        Case({"bonus_1": (0.5, 0.55, (0.69, 0.0011))}, -0.01, 0.001, False),
        Case({"plain_1": (0, 0, 0.02), "bonus_1": (0, 0, 0.0)}, -0.02, 0, True),
    ),
    f"{RL}: different correct among 8, bonus less GRPO": Known(
        "lower end of the interval > 0",
        Case({}, 0.5, 0.02, True),
        Case({"bonus_distinct": (3, 3.1, (2.1, 0.03))}, 0.1, 0.02, False),
        Case({"bonus_distinct": (3, 3.1, (2, 0.01))}, 0.0, 0, False),
    ),
    f"{RL}: different correct among 10, bonus less copies": Known(
        "lower end of the interval > 0",
        Case({}, 0.75, 0.02, True),
        Case({"copies_distinct": (3, 3.2, (2.4, 0.01))}, 0.1, 0.02, False),
        Case({"copies_distinct": (3, 3.2, (2.5, 0.03))}, 0.0, 0, False),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_a_seed_without_a_correct_response_passes_no_check_on_efficiency() -> None:
    found = checks(made(random=(2.0, 5.0, np.array([1.5, np.nan]))))
    assert [check.passed for check in found[:4]] == [False, True, False, True]
    assert found[0].measured is found[2].measured is None


def test_choosing_is_not_judged_where_no_wrong_answer_repeats() -> None:
    assert [check.name for check in checks(made(repeats=None))] == list(CHECKS)[4:]
