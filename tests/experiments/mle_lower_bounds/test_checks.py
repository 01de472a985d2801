"""Every check of `mle_lower_bounds` on measurements made by hand: right, wrong and at its threshold.

With two draws of each of two sizes the bootstrap's ends are the least and the largest slope that pairs of
draws give, and the least and the largest draw; sizes double, so that a slope is a logarithm to the base 2.
"""

from math import log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from covlab.claims.sweeps import Sweep
from covlab.report.rates import Rate
from covlab.testing.known_checks import Known, known_answers, power
from experiments.mle_lower_bounds.checks import checks
from experiments.mle_lower_bounds.measure import Measurements

SIZES = (8, 16)
SLOPES = {
    ("coarse", "n"): (-1.01, (-1.15, -0.85)),
    ("coarse", "d"): (1.02, (0.85, 1.15)),
    ("coarse", "ln N"): (0.005, (-0.02, 0.02)),
    ("fine", "n"): (-0.97, (-1.15, -0.85)),
    ("fine", "d"): (0.98, (0.85, 1.15)),
    ("fine", "ln N"): (-1.04, (-1.15, -0.85)),
    ("variance", "n"): (-1.03, (-1.15, -0.85)),
    ("variance", "H"): (0.99, (0.85, 1.15)),
    ("variance", "sigma*^2"): (0.51, (0.35, 0.65)),
    ("variance", "ln N"): (-0.99, (-1.15, -0.85)),
}
"""By sweep: the slope and where it may lie."""
BOUNDS = {"n": 0.3, "H": 0.6, "ln N": 0.4, "sigma*^2": 0.9}
"""Of the variance instance: the larger draw over the bound at its second size."""
SPREAD = 1.01
"""Of the second draw over the first."""


def rate(key: tuple[str, str]) -> Rate:
    values = np.outer([0.1, 0.1 * SPREAD], [1.0, 2.0 ** SLOPES[key][0]])
    bound = values[1] / BOUNDS[key[1]] * np.array([2.0, 1.0]) if key[0] == "variance" else None
    return Rate("", values, None, bound)


RIGHT = Measurements(
    SimpleNamespace(seed=3),  # type: ignore[arg-type]
    {key: Sweep(key[0], key[1], "", SIZES, (rate(key),)) for key in SLOPES},
    [np.array([True] * 9), np.array([True] * 10)],
    0.0,
    [np.array([True] * 4), np.array([True] * 3)],
    0.75,
)


def put(key: tuple[str, str], new: Rate) -> Measurements:
    return RIGHT._replace(sweeps={**RIGHT.sweeps, key: RIGHT.sweeps[key]._replace(rates=(new,))})


def exponents(name: str) -> dict[str, Known]:
    table = {}
    for key, (slope, (low, high)) in SLOPES.items():
        if key[0] == name:
            ends = (slope - log2(SPREAD), slope + log2(SPREAD))

            def at(value: float, key: tuple[str, str] = key) -> Measurements:
                return put(key, Rate("", power(SIZES, value, 0.1), None, np.ones(2)))

            text = f"{name}: exponent of Cov_N in {key[1]}"
            table[f"{text}, from below"] = Known(
                f"lower end of the interval >= {low}", slope, ends, at, low - 0.5
            )
            table[f"{text}, from above"] = Known(
                f"upper end of the interval <= {high}", slope, ends, at, high + 0.5
            )
    return table


def shares(field: str) -> Any:
    """All of n true where the argument is the lower end of Clopper and Pearson's interval, 1/40^(1/n)."""
    return lambda counts: RIGHT._replace(**{field: [np.arange(n) < k for k, n in counts]})


def over_bound(axis: str) -> Any:
    return lambda value: put(
        ("variance", axis), Rate("", np.array([[4.0, 1.0]] * 2), None, np.array([4 / value, 9 / value]))
    )


PROMISED = "coarse: probability of Cov_N >= (d - 1)/(10 n), least over n and d"
MISSED = "fine: probability of missing pi_D, least over n, d and ln N"
LARGEST = "variance: largest share of the upper bound"
TABLE = {
    PROMISED: Known("lower end of the interval >= 0.5", 1.0, (0.025 ** (1 / 9), 1.0), None),
    **exponents("coarse"),
    "coarse: Cov_N at the trivial N = e^2B, largest": Known(
        "<= 0", 0.0, None, lambda value: RIGHT._replace(trivial=value), 0.1, ((0.0, True), (1e-9, False))
    ),
    MISSED: Known("lower end of the interval >= 0.1", 1.0, (0.025 ** (1 / 3), 1.0), None),
    **exponents("fine"),
    "fine: ln(1/(1 - eps)) over sqrt(d/n), largest": Known(
        "<= 1", 0.75, None, lambda value: RIGHT._replace(spread=value), 2.0, ((1.0, True), (1.001, False))
    ),
    **exponents("variance"),
    LARGEST: Known(
        "upper end of the interval <= 1", 0.6 * 1.005 / 1.01, (0.6 / 1.01, 0.6), over_bound("H"), 2.0
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE, (PROMISED, MISSED))


@pytest.mark.parametrize(
    ("name", "field", "counts", "measured", "passes"),
    [
        # k of k has the lower end 1/40^(1/k): .478 at 5, .541 at 6; .025 at 1, .158 at 2.
        (PROMISED, "promised", ((9, 9), (5, 5)), 1.0, False),
        (PROMISED, "promised", ((6, 6), (9, 9)), 1.0, True),
        (PROMISED, "promised", ((9, 9), (0, 9), (9, 9)), 0.0, False),
        (MISSED, "missed", ((9, 9), (1, 1)), 1.0, False),
        (MISSED, "missed", ((2, 2), (9, 9)), 1.0, True),
        (MISSED, "missed", ((9, 9), (0, 9), (9, 9)), 0.0, False),
    ],
)
def test_probabilities_are_the_least(
    name: str, field: str, counts: Any, measured: float, passes: bool
) -> None:
    (check,) = (each for each in checks(shares(field)(counts)) if each.name == name)
    assert (check.measured, check.passed) == (measured, passes)


@pytest.mark.parametrize("axis", ["n", "H", "ln N"])
def test_the_share_of_the_bound_is_the_largest_over_the_axes(axis: str) -> None:
    (check,) = (each for each in checks(over_bound(axis)(1.5)) if each.name == LARGEST)
    assert (check.measured, check.interval, check.passed) == (1.5, (1.5, 1.5), False)


def test_the_share_of_the_bound_is_the_one_with_the_largest_upper_end() -> None:
    results = put(("variance", "n"), Rate("", np.array([[0.0, 1.0], [4.0, 1.0]]), None, np.array([4.0, 4.0])))
    (check,) = (each for each in checks(results) if each.name == LARGEST)
    assert (check.measured, check.interval, check.passed) == (0.5, (0.0, 1.0), True)
