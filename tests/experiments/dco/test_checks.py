"""The checks on over-confidence, on hand-made measurements: what each reads off them, and where its target
lies."""

import dataclasses
from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, columns, known_answers

from experiments.dco.checks import best_far, best_near, checks
from experiments.dco.measure import Arm, Measurements

Value = float | tuple[float, float]
NS = (1, 4, 64)
"""N' of the arms, cross-entropy first: 64 is far from 1 and 4, 4 is near 1."""


def arm(passes: dict[int, Value], **more: Any) -> Arm:
    """An arm with the given Pass@N at the end."""
    ends = {n: columns(0.3, 0.2, 0.1, value) for n, value in passes.items()}
    flat = columns(0.9, 0.8, 0.7, 0.6)
    fields = {"passes": ends, "coverage": dict.fromkeys(NS, flat), "confidence": flat, "right": flat} | more
    return Arm(steps=np.array([0, 10, 20, 30]), kl=flat, **fields)


def made(**changes: Any) -> Measurements:
    """Two seeds of cross-entropy and of DCO with N' = 4 and 64, and an arm that no check is about."""
    given: dict[str, Any] = {
        # Of cross-entropy: at the start, at the early evaluation, after it, at the end.
        "pass_1": (0.1, 0.3, 0.2, (0.5, 0.002)),
        "pass_64": (0.2, 0.9, 0.95, (0.8, 0.003)),
        "cov_64": (0.9, 0.05, 0.04, (0.15, 0.001)),
        "confidence": (0.95, (0.8, 0.002)),
        "right": (0.1, (0.65, 0.001)),
        "four": {1: 0.45, 4: (0.72, 0.002), 64: 0.82},
        "many": {1: (0.42, 0.002), 4: 0.66, 64: (0.88, 0.004)},
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    base = arm(
        {4: 0.61},
        coverage={1: columns(1, 0.9, 0.8, 0.7), 4: columns(0, 0, 0, 0), 64: columns(*given["cov_64"])},
        confidence=columns(0.4, 0.3, *given["confidence"]),
        right=columns(0.5, 0.2, *given["right"]),
    )
    base.passes.update({1: columns(*given["pass_1"]), 64: columns(*given["pass_64"])})
    arms = {"CE": base, "near": arm(given["four"]), "far": arm(given["many"])}
    arms["ensemble"] = arm(dict.fromkeys(NS, 0.99))
    return Measurements((1, 2), (), arms, {"CE": 1, "near": 4, "far": 64}, 1, 64, 8.0, given["excess"])


CHECKS = {
    "CE, from step 10 to 30: change of Pass@1": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.002, True),
        Case({"pass_1": (0.1, 0.3, 0.2, (0.31, 0.002))}, 0.01, 0.002, False),
        Case({"pass_1": (0.1, 0.3, 0.2, 0.3)}, 0.0, 0, False),
    ),
    "CE, from step 10 to 30: change of Pass@64": Known(
        "upper end of the interval < 0",
        Case({}, -0.1, 0.003, True),
        Case({"pass_64": (0.2, 0.9, 0.95, (0.89, 0.002))}, -0.01, 0.002, False),
        Case({"pass_64": (0.2, 0.9, 0.95, 0.9)}, 0.0, 0, False),
    ),
    "CE, from step 10 to 30: change of Cov_64": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.001, True),
        Case({"cov_64": (0.9, 0.05, 0.04, (0.06, 0.001))}, 0.01, 0.001, False),
        Case({"cov_64": (0.9, 0.05, 0.04, 0.05)}, 0.0, 0, False),
    ),
    "CE: by how much the likeliest response is over-rated at the end": Known(
        "lower end of the interval > 0.05",
        Case({}, 0.15, 0.001, True),
        Case({"confidence": (0.9, (0.71, 0.002))}, 0.06, 0.001, False),
        Case({"confidence": (0.9, 0.05), "right": (0.5, 0.0)}, 0.05, 0, False),
    ),
    "Pass@64 at the end: DCO with N' = 64 minus CE": Known(
        "lower end of the interval > 0",
        Case({}, 0.08, 0.001, True),
        Case({"pass_64": (0.2, 0.9, 0.95, (0.87, 0.003))}, 0.01, 0.001, False),
        Case({"many": {1: 0.4, 4: 0.6, 64: (0.8, 0.003)}}, 0.0, 0, False),
    ),
    "Pass@1 at the end: N' = 1 minus the best of far N' (64)": Known(
        "lower end of the interval > 0",
        # Near N' = 4, better than far N' = 64, is not compared.
        Case({}, 0.08, 0.0, True),
        Case({"many": {1: (0.49, 0.001), 4: 0.66, 64: 0.88}}, 0.01, 0.001, False),
        Case({"many": {1: (0.5, 0.002), 4: 0.66, 64: 0.88}}, 0.0, 0, False),
    ),
    "Pass@1 at the end: N' = 1 minus the best of neighbouring N' (4)": Known(
        "lower end of the interval > 0",
        Case({}, 0.05, 0.002, True),
        Case({"four": {1: (0.49, 0.003), 4: 0.72, 64: 0.82}}, 0.01, 0.001, False),
        Case({"four": {1: (0.5, 0.002), 4: 0.72, 64: 0.82}}, 0.0, 0, False),
    ),
    "Pass@4 at the end: N' = 4 minus the best of far N' (64)": Known(
        "lower end of the interval > 0",
        Case({}, 0.06, 0.002, True),
        Case({"four": {1: 0.45, 4: (0.67, 0.001), 64: 0.82}}, 0.01, 0.001, False),
        Case({"four": {1: 0.45, 4: 0.66, 64: 0.82}}, 0.0, 0, False),
    ),
    # Cross-entropy has .61 at 4; N' = 64 is far.
    "Pass@4 at the end: N' = 4 minus the best of neighbouring N' (1)": Known(
        "lower end of the interval > 0",
        Case({}, 0.11, 0.002, True),
        Case({"four": {1: 0.45, 4: (0.62, 0.001), 64: 0.82}}, 0.01, 0.001, False),
        Case({"four": {1: 0.45, 4: 0.61, 64: 0.82}}, 0.0, 0, False),
    ),
    "Pass@64 at the end: N' = 64 minus the best of far N' (4)": Known(
        "lower end of the interval > 0",
        Case({}, 0.06, 0.004, True),
        Case({"many": {1: 0.42, 4: 0.66, 64: (0.83, 0.001)}}, 0.01, 0.001, False),
        Case({"four": {1: 0.45, 4: 0.72, 64: (0.88, 0.004)}}, 0.0, 0, False),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_far_begins_at_sixteen_times() -> None:
    found = made()
    assert [best_far(found, n) for n in (1, 4, 64)] == ["far", "far", "near"]
    # 4 and 1 are far from 256, 64 is not; the mean over the seeds decides, not the best or the worst seed.
    found.arms["far"].passes[256] = columns(0, 0, 0, 0.9)
    found.arms["CE"].passes[256] = columns(0, 0, 0, 0.6)
    for near in ((0.5, 0.2), 0.55):
        found.arms["near"].passes[256] = columns(0, 0, 0, near)
        assert best_far(found, 256) == "CE"
    found.arms["CE"].passes[256] = columns(0, 0, 0, (0.6, 0.2))
    assert best_far(found, 256) == "CE"
    # 8 is at least 16 times smaller or larger than none.
    found.arms["CE"].passes[8] = found.arms["far"].passes[8] = columns(0, 0, 0, 0.5)
    assert best_far(found, 8) is None


def test_a_run_is_not_its_own_neighbour() -> None:
    found = made()
    assert [best_near(found, n) for n in (1, 4, 64)] == ["near", "CE", None]
    # 4 and 64 lie on both sides of 16; the higher mean decides.
    found.arms["near"].passes[16], found.arms["far"].passes[16] = (
        columns(0, 0, 0, value) for value in (0.6, 0.5)
    )
    assert best_near(found, 16) == "near"
    found.arms["far"].passes[16] = columns(0, 0, 0, 0.7)
    assert best_near(found, 16) == "far"


def test_an_n_without_a_far_one_is_not_compared() -> None:
    found = dataclasses.replace(made(), trained_for={"CE": 1, "near": 4}, large=4)
    found.arms["CE"].coverage[4] = columns(0.1, 0.2, 0.3, 0.4)
    found.arms["CE"].passes[4] = columns(0.1, 0.2, 0.3, 0.4)
    assert [check.name for check in checks(found) if "far N'" in check.name] == []
    assert len(checks(found)) == 8
