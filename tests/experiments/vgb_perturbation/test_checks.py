"""The checks on wrong values, on hand-made measurements: what each reads off them, where its target lies."""

import math
from typing import Any

import numpy as np
from oracles.answers import Case, Known, known_answers, two

from experiments.vgb_perturbation.checks import checks
from experiments.vgb_perturbation.measure import Measurements, Settings
from theory.vgb.laws import Goodness, Laws

HORIZONS, EPSILONS = (4, 8, 32), (0.01, 0.02, 0.08, 0.64)
PER_LN, PER_EPS = 14 * math.log(2), 21 * math.log(2)
"""Least-squares slopes: in ln H, and in ln of the first three eps, (-4 a - b + 5 c)/PER_LN; in ln of all eps
(-2.5 a - 1.5 b + .5 c + 3.5 d)/PER_EPS."""
OVER = 1 + 1e-9
SETTINGS = Settings(
    steps=8, longest=12, delta=math.exp(-2), seed=1, seeds=2, leaves=16,
    horizons=HORIZONS, epsilons=EPSILONS, sampled_horizon=3, sampled_epsilon=0.5, chains=16,
)  # fmt: skip
NAMES = ("action level", "first leaf", "fixed steps")
BOUND = np.minimum(np.array(EPSILONS) * np.sqrt(HORIZONS)[:, None], 1)
SHARE = np.array([[0.25, 0.25, 0.24, 0.5], [0.25, 0.2, 0.25, 0.6], [0.26, 0.25, 0.25, 0.8]])


def cells(default: Any, **other: Any) -> list[list[Any]]:
    """(horizons, eps): one value, and others at `ij`."""
    made = [[default] * 4 for _ in range(3)]
    for place, value in other.items():
        made[int(place[1])][int(place[2])] = value
    return made


def powers(*exponents: float, factors: tuple[float, ...] = (20, 8, 8, 8)) -> list[list[Any]]:
    """Steps that grow with H by a power for each eps."""
    return [[k * h**p for k, p in zip(factors, exponents, strict=True)] for h in HORIZONS]


def made(**changes: Any) -> Measurements:
    """Two seeds at three horizons and four eps. The largest factor between the values is 2 and ln(1/delta) 2:
    the guarantees are 512, 2048 and 32768 steps, and leaf masses of 1/64, 1/128 and 1/512."""
    given: dict[str, Any] = {
        "action": SHARE * BOUND,
        "first": cells(0.1, _03=0.2, _13=0.25, _23=0.26),
        "chain": cells(
            0.004,
            _03=0.002,
            _13=0.003,
            _23=(0.004, 1e-4),
            _20=0.001,
            _21=0.0015,
            _22=0.002,
            _11=(0.005, 1e-4),
        ),
        "mixing": powers(1.5, 2.0, 1.8, 1.9),
        "leaf_mass": cells(1.0, _02=0.1),
        "leaf_probability": cells(1.0, _11=0.06),
        "goodness": (Goodness(0.5, 1e-9), Goodness(0.25, 0.5), Goodness(0.125, 0.75)),
    }
    assert changes.keys() <= given.keys()
    given |= changes
    laws = {}
    for i, depth in enumerate(HORIZONS):
        for j, eps in enumerate(EPSILONS):
            laws[depth, eps] = Laws(
                depth=depth,
                error=2.0,
                action_level=given["action"][i][j],
                first_leaf=given["first"][i][j],
                first_leaf_steps=math.nan,
                steps=-1,
                chain=seeds(given["chain"][i][j]),
                divergence=np.zeros(2),
                mixing_steps=seeds(given["mixing"][i][j]),
                leaf_probability=given["leaf_probability"][i][j],
                leaf_mass=given["leaf_mass"][i][j],
                times=np.zeros(1),
                curve=np.zeros(1),
            )
    return Measurements(SETTINGS, laws, dict(zip(NAMES, given["goodness"], strict=True)), {})


def seeds(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    return two(*value) if isinstance(value, tuple) else two(value)


def action(share: float = 0.25, **other: float) -> dict[str, Any]:
    """The action level's total variation in units of min(eps sqrt H, 1)."""
    return {"action": np.array(cells(share, **other)) * BOUND}


def fit(law: list[float], target: float = 1e-9) -> dict[str, Any]:
    return {"goodness": (Goodness(law[0], target), Goodness(law[1], 0.5), Goodness(law[2], 0.75))}


def decoder(place: int) -> Known:
    law = [0.5, 0.25, 0.125]
    wrong, edge = ([*law[:place], p, *law[place + 1 :]] for p in (5e-4, 1e-3))
    return Known(
        ">= 0.001",
        Case({}, law[place], None, True),
        Case(fit(wrong), 5e-4, None, False),
        Case(fit(edge), 1e-3, None, True),
    )


def in_h(exponent: float) -> dict[str, Any]:
    """The total variation at the least eps grows with that power of H."""
    return {"action": np.array([[0.01 * h**exponent, 0.2, 0.2, 0.2] for h in HORIZONS])}


def in_eps(exponent: float) -> dict[str, Any]:
    """The total variation at the shortest H grows with that power of the first three eps."""
    row = [[0.2 * eps**exponent for eps in EPSILONS[:3]] + [0.9]]
    return {"action": np.array(row + [[0.2] * 4] * 2)}


SLOPE_H, SLOPE_EPS = 0.5 + 5 * math.log(1.04) / PER_LN, 1 + 5 * math.log(0.96) / PER_LN
LONGEST = SHARE[2] * np.array([0.01 * math.sqrt(32), 0.02 * math.sqrt(32), 0.08 * math.sqrt(32), 1])
CHECKS = {
    "action level: slope of ln TV in ln H, least eps, from below": Known(
        ">= 0.4",
        Case({}, SLOPE_H, None, True),
        Case(in_h(0.3), 0.3, None, False),
        Case(in_h(0.4 * OVER), 0.4 * OVER, None, True),
    ),
    "action level: slope of ln TV in ln H, least eps, from above": Known(
        "<= 0.6",
        Case({}, SLOPE_H, None, True),
        Case(in_h(0.7), 0.7, None, False),
        Case(in_h(0.6 / OVER), 0.6 / OVER, None, True),
    ),
    "action level: slope of ln TV in ln eps, shortest H, from below": Known(
        ">= 0.8",
        Case({}, SLOPE_EPS, None, True),
        Case(in_eps(0.7), 0.7, None, False),
        Case(in_eps(0.8 * OVER), 0.8 * OVER, None, True),
    ),
    "action level: slope of ln TV in ln eps, shortest H, from above": Known(
        "<= 1.1",
        Case({}, SLOPE_EPS, None, True),
        Case(in_eps(1.2), 1.2, None, False),
        Case(in_eps(1.1 / OVER), 1.1 / OVER, None, True),
    ),
    "action level: least TV / min(eps sqrt H, 1)": Known(
        ">= 0.1",
        Case({}, 0.2, None, True),
        Case(action(_21=0.05), 0.05, None, False),
        Case(action(_13=0.1), 0.1, None, True),
    ),
    "action level: largest TV / min(eps sqrt H, 1)": Known(
        "<= 1",
        Case({}, 0.8, None, True),
        Case(action(_02=1.1), 1.1, None, False),
        Case(action(_03=1.0), 1.0, None, True),
    ),
    "action level: TV at the longest H and largest eps": Known(
        ">= 0.7",
        Case({}, 0.8, None, True),
        Case(action(0.9, _23=0.6), 0.6, None, False),
        Case(action(_23=0.7), 0.7, None, True),
    ),
    "action level: slope of TV in ln H, largest eps": Known(
        "> 0.05",
        Case({}, 1.4 / PER_LN, None, True),
        Case(action(_03=0.7, _13=0.7, _23=0.75), 0.25 / PER_LN, None, False),
        Case(action(_03=0.0, _13=0.0, _23=0.01 * PER_LN / OVER), 0.05 / OVER, None, False),
    ),
    "VGB: slope of TV in ln H, largest eps": Known(
        "upper end of the interval < 0.005",
        Case({}, 0.009 / PER_LN, 5e-4 / PER_LN, True),
        Case({"chain": cells(0.001, _23=(0.005, 5e-4))}, 0.02 / PER_LN, 0.0025 / PER_LN, False),
        Case({"chain": cells(0.0, _23=0.001 * PER_LN * OVER)}, 0.005 * OVER, 0, False),
    ),
    "action level: slope of TV in ln eps, longest H": Known(
        "> 0.05",
        Case({}, float(LONGEST @ (-2.5, -1.5, 0.5, 3.5)) / PER_EPS, None, True),
        Case({"action": np.array([[0.1] * 4, [0.1] * 4, [0.5, 0.5, 0.5, 0.6]])}, 0.35 / PER_EPS, None, False),
        Case(
            {"action": np.array([*cells(0.1)[:2], [0.5, 0.5, 0.5, 0.5 + PER_EPS / 70 / OVER]])},
            0.05 / OVER,
            None,
            False,
        ),
    ),
    "VGB: slope of TV in ln eps, longest H": Known(
        "upper end of the interval < 0.005",
        Case({}, 0.01025 / PER_EPS, 3.5e-4 / PER_EPS, True),
        Case({"chain": cells(0.001, _23=(0.005, 0.002))}, 0.014 / PER_EPS, 0.007 / PER_EPS, False),
        Case({"chain": cells(0.0, _23=PER_EPS / 700 * OVER)}, 0.005 * OVER, 0, False),
    ),
    "VGB: largest TV over all H and eps": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.005, 1e-4, True),
        Case({"chain": cells(0.009, _01=(0.008, 0.001))}, 0.008, 0.001, False),
        Case({"chain": cells(0.002, _20=0.01)}, 0.01, 0, True),
    ),
    "VGB, first leaf: TV at the longest H over TV at a quarter of it, largest eps": Known(
        "<= 1.1",
        Case({}, 1.04, None, True),
        Case({"first": cells(0.9, _13=0.2, _23=0.3)}, 1.5, None, False),
        Case({"first": cells(0.1, _13=0.5, _23=0.55)}, 1.1, None, True),
    ),
    "VGB: exponent of H in the steps to mix, largest over eps": Known(
        "upper end of the interval <= 2.2",
        Case({}, 2.0, 0, True),
        Case({"mixing": cells(8, _00=16, _10=64, _20=1024 * np.exp([-0.1, 0.1]))}, 2.0, 0.5 / PER_LN, False),
        Case({"mixing": powers(1.5, 2.0, 2.2 / OVER, 1.9)}, 2.2 / OVER, 0, True),
    ),
    "VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest": Known(
        "upper end of the interval <= 1",
        Case({}, 160 / 512, 0, True),
        Case({"mixing": cells(8, _12=(1843.2, 20.48))}, 0.9, 0.01, False),
        Case({"mixing": cells(8, _21=32768 / OVER)}, 1 / OVER, 0, True),
    ),
    "VGB: leaf mass * 8 (1 + eps) H, least": Known(
        ">= 1",
        # .1 over 1/64; .06 over 1/128 is 7.68.
        Case({}, 6.4, None, True),
        Case({"leaf_probability": cells(1.0, _21=1 / 1024)}, 0.5, None, False),
        Case({"leaf_mass": cells(1.0, _13=1 / 128)}, 1.0, None, True),
    ),
    "decoder, action level: p-value against its exact law": decoder(0),
    "decoder, first leaf: p-value against its exact law": decoder(1),
    "decoder, fixed steps: p-value against its exact law": decoder(2),
    "decoder, action level: p-value against pi* (the test's power)": Known(
        "<= 1e-06",
        Case({}, 1e-9, None, True),
        Case(fit([0.5, 0.25, 0.125], 1e-5), 1e-5, None, False),
        Case(fit([0.5, 0.25, 0.125], 1e-6), 1e-6, None, True),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_a_chain_that_has_not_mixed_passes_no_check_on_its_steps() -> None:
    found = checks(made(mixing=cells(8, _12=np.array([8, np.nan]))))
    assert [check.name for check in found if not check.passed] == [
        "VGB: exponent of H in the steps to mix, largest over eps",
        "VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest",
    ]
