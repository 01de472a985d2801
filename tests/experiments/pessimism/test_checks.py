"""The checks on pessimism, on hand-made measurements: what each reads off them, and where its target lies."""

import math
from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import T2, Case, Known, columns, known_answers, two

from experiments.pessimism.brackets import Arm, PoolSettings
from experiments.pessimism.checks import checks, on_strings
from experiments.pessimism.finite_sets import Tabular, TabularSettings
from experiments.pessimism.measure import Measurements, Settings

Value = float | tuple[float, float] | np.ndarray
Curve = tuple[Value, Value, Value, Value]
ERRORS, COVERAGES, NS = (0.02, 0.08), (4.0, 16.0), (1, 4, 16, 64)
CELLS = [(error, coverage) for error in ERRORS for coverage in COVERAGES]
TABULAR = TabularSettings(7, 2, COVERAGES, ERRORS, NS, (0.5, 1.0), 2)
SETTINGS = Settings(TABULAR, PoolSettings(NS, 64, 2, 2), {})
BIT = 1 - 1e-9

# True rewards at every N, by cell: of Best-of-N, of pessimism.
BEST: tuple[Curve, ...] = (
    (0.4, 0.96, 0.7, 0.3),
    (0.35, 0.8, 0.91, 0.2),
    (0.3, 0.85, 0.5, 0.1),
    ((0.2, 0.001), 0.6, 0.5, (0.25, 0.002)),
)
OWN: tuple[Curve, ...] = (
    (0.45, 0.7, 0.9, 0.98),
    (0.45, 0.8, (0.96, 0.0005), 0.95),
    (0.45, 0.7, 0.685, 0.9),
    (0.45, 0.5, 0.7, (0.76, 0.0008)),
)
COVERED = {"best": (0.25, 0.9, 0.85, 0.8), "own": (0.26, 0.6, 0.65, (0.64, 0.0003))}
RARE = {
    # The best N on average is the third, which is not the first network's own.
    "best": (0.05, np.array([0.4, 0.39]), np.array([0.392, 0.402]), 0.1),
    "own": (0.06, 0.2, 0.19, (0.185, 0.0002)),
}


def made(**changes: Any) -> Measurements:
    """Two instances, and two seeds; `best_3` and `own_3` replace the rewards of cell 3."""
    given: dict[str, Any] = {f"best_{i}": curve for i, curve in enumerate(BEST)}
    given |= {f"own_{i}": curve for i, curve in enumerate(OWN)}
    given |= {f"covered_{name}": curve for name, curve in COVERED.items()}
    given |= {f"rare_{name}": curve for name, curve in RARE.items()}
    given["limit"] = 0.45
    assert changes.keys() <= given.keys()
    given |= changes
    found = Tabular(SETTINGS.tabular, {}, {}, {}, {})
    for i, cell in enumerate(CELLS):
        found.reward[cell] = rules(given[f"best_{i}"], given[f"own_{i}"])
        found.limit[cell], found.bound[cell] = np.full((2, 2), 0.3), np.full((2, 2), 0.5)
        # The error as it came out is a quarter larger than what was asked.
        found.error[cell] = two(1.25 * cell[0])
    found.limit[CELLS[2]][1, 0] = given["limit"]
    arms = {name: arm(given[f"{name}_best"], given[f"{name}_own"]) for name in ("covered", "rare")}
    return Measurements(SETTINGS, found, arms)


def rules(best: Curve, own: Curve) -> dict[str, np.ndarray]:
    junk = columns(0.5, 0.1, 0.9, 0.05)
    return {
        "Best-of-N": columns(*best),
        "pessimism, beta x 0.5": junk,
        "pessimism": columns(*own),
        "pessimism, R_max of the sample": junk,
    }


def arm(best: Curve, own: Curve) -> Arm:
    unused = cast(Any, None)
    return Arm((1, 2), 8, unused, unused, unused, rules(best, own))


def cells(rule: str, *curves: Curve) -> dict[str, Any]:
    """The same curve in every cell, or one for each."""
    return {f"{rule}_{i}": curves[i % len(curves)] for i in range(4)}


def pair(low: float, high: float) -> tuple[float, float]:
    """Exponents in C, 4 and 16, of regrets that are so many times as large."""
    return math.log(low) / math.log(4), math.log(high) / math.log(4)


def growth(factor: float) -> float:
    """The exponent in C of a regret that is so many times as large at 16 as at 4."""
    return math.log(factor) / math.log(4)


def power(exponent: float) -> dict[str, Any]:
    """Pessimism's regret at eps .02: .01 at C = 4, and by that power of C more at 16."""
    return {"own_0": (0, 0, 0, 0.99), "own_1": (0, 0, 0, 1 - 0.01 * 4**exponent)}


BESTS = "exponent in C of the regret of Best-of-N at its best N, from below"
OWNS = "exponent in C of the regret of pessimism at N = 64"
EXPONENTS = {
    f"finite sets, eps 0.02: {OWNS}, from below": Known(
        "lower end of the interval >= 0.4",
        Case({}, growth(2.5), (growth(2.5),) * 2, True),
        # Twice as large on one instance, 1.5 times on the other: resamples lie between these.
        Case(
            {"own_0": (0, 0, 0, 0.9), "own_1": (0, 0, 0, np.array([0.8, 0.85]))},
            growth(1.75),
            pair(1.5, 2),
            False,
        ),
        Case(power(0.4 / BIT), 0.4 / BIT, 0, True),
    ),
    f"finite sets, eps 0.02: {OWNS}, from above": Known(
        "upper end of the interval <= 1.1",
        Case({}, growth(2.5), (growth(2.5),) * 2, True),
        Case(
            {"own_0": (0, 0, 0, 0.9), "own_1": (0, 0, 0, np.array([0.6, 0.5]))},
            growth(4.5),
            pair(4, 5),
            False,
        ),
        Case(power(1.1 * BIT), 1.1 * BIT, 0, True),
    ),
    f"finite sets, eps 0.02: {BESTS}": Known(
        "lower end of the interval >= 0",
        Case({}, growth(0.09 / 0.04), 0, True),
        # The second N is better for one instance alone.
        Case(
            {"best_1": (0, np.array([0.99, 0.5]), np.array([0.96, 0.965]), 0)},
            growth(0.0375 / 0.04),
            pair(0.875, 1),
            False,
        ),
        Case({"best_0": (0, 0, 0, 0), "best_1": (0, 0, 0, 0)}, 0.0, 0, True),
    ),
    f"finite sets, eps 0.08: {OWNS}, from below": Known(
        "lower end of the interval >= 0.4",
        Case({}, growth(2.4), pair(2.392, 2.408), True),
        Case({"own_3": (0, 0, 0, 0.85)}, growth(1.5), 0, False),
        Case({"own_2": (0, 0, 0, 0), "own_3": (0, 0, 0, 0)}, 0.0, 0, False),
    ),
    f"finite sets, eps 0.08: {OWNS}, from above": Known(
        "upper end of the interval <= 1.1",
        Case({}, growth(2.4), pair(2.392, 2.408), True),
        Case({"own_3": (0, 0, 0, 0.5)}, growth(5), 0, False),
        Case({"own_3": (0, 0, 0, 0.6)}, 1.0, 0, True),
    ),
    f"finite sets, eps 0.08: {BESTS}": Known(
        "lower end of the interval >= 0",
        Case({}, growth(0.4 / 0.15), 0, True),
        Case({"best_3": (0, 0.9, 0, 0)}, growth(0.1 / 0.15), 0, False),
        Case({"best_2": (0, 0, 0, 0), "best_3": (0, 0, 0, 0)}, 0.0, 0, True),
    ),
}
TABULAR = {
    "finite sets: Best-of-N, best N over N = 1, least": Known(
        "lower end of the interval >= 0.1",
        Case({}, 0.4, 0.001, True),
        Case({"best_0": ((0.8, 0.01), 0.96, 0.7, 0.3)}, 0.16, 0.01, False),
        Case(cells("best", (0.0, 0.5, 0.2, 0.0), (0.0, 0.1, 0.0, 0.0)), 0.1, 0, True),
    ),
    "finite sets: Best-of-N, best N over N = 64, least": Known(
        "lower end of the interval >= 0.1",
        Case({}, 0.35, 0.002, True),
        Case({"best_0": (0.8, 0.96, 0.7, (0.8, 0.01))}, 0.16, 0.01, False),
        Case(cells("best", (0.0, 0.5, 0.2, 0.0), (0.0, 0.1, 0.0, 0.0)), 0.1, 0, True),
    ),
    "finite sets: pessimism, best N over N = 64, largest": Known(
        "upper end of the interval <= 0.02",
        Case({}, 0.01, 0.0005, True),
        Case({"own_2": (0.4, 0.91, 0.8, (0.895, 0.001))}, 0.015, 0.001, False),
        Case(cells("own", (0.0, 0.02, 0.01, 0.0), (0.0, 0.01, 0.0, 0.0)), 0.02, 0, True),
    ),
    "finite sets: pessimism, largest fall of a mean from one N to a larger": Known(
        "<= 0.02",
        Case({}, 0.015, None, True),
        # The instances' own falls are .2 and .0, to an N that is not the last one.
        Case({"own_0": (0.4, np.array([0.8, 0.6]), 0.6, 0.98)}, 0.1, None, False),
        Case(cells("own", (0.0, 0.02, 0.0, 0.5), (0.0, 0.01, 0.0, 0.5)), 0.02, None, True),
    ),
    "finite sets: pessimism at N = 64 over Best-of-N, least": Known(
        "lower end of the interval >= 0.1",
        Case({}, 0.51, 0.0012, True),
        Case({"own_1": (0.4, 0.8, 0.7, (0.35, 0.01))}, 0.15, 0.01, False),
        Case({"own_1": (0, 0, 0, 0.1), "best_1": (0, 0.5, 0, 0.0)}, 0.1, 0, True),
    ),
    "finite sets: pessimism at N = 64 over the reference, least": Known(
        "lower end of the interval >= 0.1",
        Case({}, 0.56, 0.0002, True),
        Case({"own_1": (0.4, 0.8, 0.7, (0.5, 0.01))}, 0.15, 0.01, False),
        Case({"own_1": (0, 0, 0, 0.1), "best_1": (0.0, 0.5, 0, 0.9)}, 0.1, 0, True),
    ),
    "finite sets: regret of the limit less its bound, largest of all": Known(
        "<= 1e-09",
        Case({}, -0.05, None, True),
        Case({"limit": 0.5 + 2e-9}, 2e-9, None, False),
        Case({"limit": 0.5}, 0.0, None, True),
    ),
    "finite sets: regret at N = 64 over 2 eps sqrt(C), largest": Known(
        "upper end of the interval <= 1",
        # The promises are .1, .2, .4 and .8.
        Case({}, 0.3, 0.001, True),
        Case({"own_0": (0, 0, 0, (0.905, 0.001))}, 0.95, 0.01, False),
        Case({"own_0": (0, 0, 0, 0.9 / BIT)}, 1.0 - 9e-9, 0, True),
    ),
    **EXPONENTS,
}
ARMS = {
    "brackets, covered: pessimism, best N over the largest": Known(
        "upper end of the interval <= 0.02",
        Case({}, 0.01, 0.0003, True),
        Case({"covered_own": (0.3, 0.6, 0.655, (0.64, 0.001))}, 0.015, 0.001, False),
        Case({"covered_own": (0, 0.02, 0.01, 0.0)}, 0.02, 0, True),
    ),
    "brackets, rare: pessimism, best N over the largest": Known(
        "upper end of the interval <= 0.02",
        Case({}, 0.015, 0.0002, True),
        Case({"rare_own": (0.1, 0.2, 0.19, (0.185, 0.001))}, 0.015, 0.001, False),
        Case({"rare_own": (0, 0.02, 0.01, 0.0)}, 0.02, 0, True),
    ),
}
CHECKS = TABULAR | ARMS


@pytest.fixture(autouse=True)
def quick_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends of these bootstrap intervals do not depend on the generator, and JAX's streams take long."""
    monkeypatch.setattr("experiments.pessimism.checks.numpy_stream", lambda *path: np.random.default_rng(0))


TestKnownAnswers = known_answers(checks, made, CHECKS)


MEASURED = {
    "covered: Best-of-N, best N over N = 1": (0.65, 0.0),
    "covered: Best-of-N, best N over the largest": (0.1, 0.0),
    # .9 - .8, less .65 - .6403 and .65 - .6397.
    "covered: largest fall with N, Best-of-N less pessimism": (0.09, 0.0003),
    "covered: pessimism at the largest N over the reference": (0.39, 0.0003),
    # The best N on average is the third: .392 and .402.
    "rare: Best-of-N, best N over N = 1": (0.347, 0.005),
    "rare: Best-of-N, best N over the largest": (0.297, 0.005),
    # .4 - .1 and .402 - .1, less .2 - .1848 and .2 - .1852.
    "rare: largest fall with N, Best-of-N less pessimism": (0.286, 0.0012),
    "rare: pessimism at the largest N over the reference": (0.135, 0.0002),
    "covered over rare: Best-of-N at its best N": (0.503, 0.005),
    "covered over rare: pessimism at the largest N": (0.455, 0.0001),
}


def test_what_is_measured_on_strings_without_a_check() -> None:
    found = on_strings(made().arms)
    assert list(found) == list(MEASURED)
    for text, (mean, spread) in MEASURED.items():
        ends = (found[text].estimate, found[text].low, found[text].high)
        assert ends == pytest.approx((mean, mean - T2 * spread, mean + T2 * spread), abs=1e-9), text


def test_the_first_arm_is_compared_with_the_last() -> None:
    """However many lie between."""
    arms = made().arms
    middle = {"covered": arms["covered"], "between": arms["covered"], "rare": arms["rare"]}
    found, two_arms = on_strings(middle), on_strings(arms)
    assert (
        found["covered over rare: pessimism at the largest N"]
        == two_arms["covered over rare: pessimism at the largest N"]
    )
    assert not any(text.startswith("covered over between") for text in found)
