"""Every check of `mle_rates` on measurements made by hand: right, wrong and at its threshold.

With two draws of each of two sizes the bootstrap's ends are the least and the largest slope that pairs of
draws give, and the least and the largest draw; sizes double, so that a slope is a logarithm to the base 2.
"""

from math import log2
from types import SimpleNamespace

import numpy as np
import pytest

from covlab.claims.sweeps import Sweep, least_share, share_of_bound
from covlab.report.rates import Rate
from covlab.testing.known_checks import Known, known_answers, power
from experiments.mle_rates.checks import checks
from experiments.mle_rates.measure import Measurements
from metrics import Interval

SIZES = (8, 16)
WIDTH = log2(1.02)
"""Of a slope to either side: the two draws of each size are 2 % apart."""


def rate(slope: float, share: float | None = None) -> Rate:
    """Draws 1 and 1.02 times a power law; the larger is `share` of the bound at the second size, and half of
    that at the first, where the bound has twice the law's value."""
    values = np.outer([0.1, 0.102], [1.0, 2.0**slope])
    bound = None if share is None else values[1] / share * np.array([2.0, 1.0])
    return Rate("", values, None, bound)


RATES = {
    ("Bernoulli", "n"): (rate(-1.01), rate(-0.99, 0.5)),
    ("Bernoulli", "ln 1/delta"): (rate(1.02, 0.51),),
    ("linear", "n"): (rate(-0.7, 0.52),),
    ("linear", "sigma*^2"): (rate(0.3, 0.53),),
    ("linear", "ln N"): (rate(-0.8, 0.54),),
    ("finite class", "n"): (rate(-1.2, 0.55),),
    ("finite class", "ln |Pi|"): (rate(0.4, 0.56),),
    ("finite class", "ln N"): (rate(-0.3, 0.57),),
    ("convex hull", "ln N"): (rate(-1.05),),
    ("convex hull", "N"): (rate(-0.95, 0.58),),
}
RIGHT = Measurements(
    SimpleNamespace(seed=3, linear_samples=(32, 64)),  # type: ignore[arg-type]
    {key: Sweep(key[0], key[1], "", SIZES, rates) for key, rates in RATES.items()},
    # 31 and 30 of 32 data sets; 40 and 39 of 40.
    np.arange(32)[:, None] < np.array([31, 30]),
    96,
    np.arange(40)[:, None] < np.array([40, 39]),
)


def put(key: tuple[str, str], index: int, new: Rate) -> Measurements:
    rates = list(RIGHT.sweeps[key].rates)
    rates[index] = new
    return RIGHT._replace(sweeps={**RIGHT.sweeps, key: RIGHT.sweeps[key]._replace(rates=tuple(rates))})


def share(name: str, axis: str, index: int = 0) -> Known:
    """The mean is 1.01/1.02 of the larger draw, the least 1/1.02 of it."""
    shares = {
        key: np.asarray(each[-1].values / each[-1].bound)
        for key, each in RATES.items()
        if each[-1].bound is not None
    }
    top = float(shares[name, axis].max())

    def at(value: float) -> Measurements:
        return put(
            (name, axis),
            index,
            Rate("", np.array([[4.0, 1.0]] * 2), None, np.array([4.0 / value, 9.0 / value])),
        )

    return Known("upper end of the interval <= 1", top * 1.01 / 1.02, (top / 1.02, top), at, 2.0)


def exponent(name: str, axis: str, right: float, index: int, place: str, wrong: float) -> Known:
    return Known(
        place,
        right,
        (right - WIDTH, right + WIDTH),
        lambda value: put((name, axis), index, Rate("", power(SIZES, value, 0.1), None, np.ones(2))),
        wrong,
    )


def near(
    text: str, name: str, axis: str, right: float, ends: tuple[float, float], index: int = 0
) -> dict[str, Known]:
    low, high = ends
    return {
        f"{text}, from below": exponent(
            name, axis, right, index, f"lower end of the interval >= {low}", low - 0.5
        ),
        f"{text}, from above": exponent(
            name, axis, right, index, f"upper end of the interval <= {high}", high + 0.5
        ),
    }


# Clopper and Pearson: k of n has the lower end p with P[Binomial(n, p) >= k] = 1/40. For n - 1 of n that is
# n p^(n-1) - (n-1) p^n; the upper end of n - 1 is the n-th root of 39/40.
def infinite(of: tuple[int, int]) -> Measurements:
    return RIGHT._replace(infinite=np.arange(of[1])[:, None] < np.array([of[1], of[0]]))


def spared(of: tuple[int, int]) -> Measurements:
    return RIGHT._replace(spared=np.arange(of[1])[:, None] < np.array([of[1], of[0]]))


TABLE = {
    "Bernoulli: largest share of the bound, against n": share("Bernoulli", "n", 1),
    "Bernoulli: largest share of the bound, against ln 1/delta": share("Bernoulli", "ln 1/delta"),
    **near("Bernoulli: exponent of E Cov_N in n", "Bernoulli", "n", -1.01, (-1.1, -0.9)),
    **near("Bernoulli: exponent of the quantile in n", "Bernoulli", "n", -0.99, (-1.1, -0.9), 1),
    **near("Bernoulli: exponent of the quantile in ln 1/delta", "Bernoulli", "ln 1/delta", 1.02, (0.9, 1.1)),
    "Bernoulli: share of data sets with infinite KL, least over n": Known(
        "lower end of the interval > 0.1", 30 / 32, "some", None
    ),
    "linear: largest share of the bound, against n": share("linear", "n"),
    "linear: largest share of the bound, against sigma*^2": share("linear", "sigma*^2"),
    "linear: largest share of the bound, against ln N": share("linear", "ln N"),
    "linear: exponent in n": exponent("linear", "n", -0.7, 0, "upper end of the interval <= -0.5", 0.0),
    "linear: exponent in sigma*^2": exponent(
        "linear", "sigma*^2", 0.3, 0, "upper end of the interval <= 0.5", 1.0
    ),
    "linear: exponent in ln N": exponent("linear", "ln N", -0.8, 0, "upper end of the interval <= -0.5", 0.0),
    "linear: parameters over examples, least": Known(
        "> 1",
        1.5,
        None,
        lambda value: RIGHT._replace(dimension=round(64 * value)),
        0.5,
        ((1.0, False), (65 / 64, True)),
    ),
    "finite class: largest share of the bound, against n": share("finite class", "n"),
    "finite class: largest share of the bound, against ln |Pi|": share("finite class", "ln |Pi|"),
    "finite class: largest share of the bound, against ln N": share("finite class", "ln N"),
    "finite class: exponent in n": exponent(
        "finite class", "n", -1.2, 0, "upper end of the interval <= -0.85", 0.0
    ),
    **near("class: exponent of Cov_N in ln N", "convex hull", "ln N", -1.05, (-1.15, -0.85)),
    **near("hull: exponent of Cov_N in N", "convex hull", "N", -0.95, (-1.15, -0.85)),
    "convex hull: largest share of the bound, against N": share("convex hull", "N"),
    "hull: share of data sets with Cov_N = 0 where the class fails, least over N": Known(
        "lower end of the interval >= 0.8", 39 / 40, "some", None
    ),
}
SHARES = {
    # 1 of 1: the lower end is 1/40. k of k has the k-th root of 1/40: above .1 from k = 2 on, above .8 from
    # 17 on. 2 of 3 has 3 p^2 - 2 p^3 = 1/40, so p = .0943.
    "Bernoulli: share of data sets with infinite KL, least over n": (
        infinite,
        {(0, 32): False, (1, 1): False, (2, 3): False, (2, 2): True, (3, 3): True},
    ),
    "hull: share of data sets with Cov_N = 0 where the class fails, least over N": (
        spared,
        {(0, 40): False, (16, 16): False, (17, 17): True},
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE, SHARES)


@pytest.mark.parametrize("name", SHARES)
def test_shares_of_data_sets(name: str) -> None:
    made, cases = SHARES[name]
    for (hits, draws), passes in cases.items():
        (check,) = (each for each in checks(made((hits, draws))) if each.name == name)
        assert (check.measured, check.passed) == (pytest.approx(hits / draws), passes), (hits, draws)
        low = check.interval[0] if check.interval else 0.0
        if hits == draws:
            assert low == pytest.approx(0.025 ** (1 / draws))
        elif hits == 2:
            assert 3 * low**2 - 2 * low**3 == pytest.approx(0.025)


def test_a_rate_of_which_nothing_was_seen_passes_no_exponent() -> None:
    results = put(("linear", "n"), 0, RATES["linear", "n"][0]._replace(values=np.zeros((2, 2))))
    named = {check.name: check for check in checks(results)}
    assert (named["linear: exponent in n"].measured, named["linear: exponent in n"].passed) == (None, False)


def test_the_largest_share_is_the_one_with_the_largest_upper_end() -> None:
    wide = Rate("", np.array([[0.0, 0.8], [10.0, 0.9]]), None, np.array([10.0, 1.0]))
    assert share_of_bound(Sweep("", "n", "", SIZES, (wide,)), 0, 1) == Interval(0.5, 0.0, 1.0)


def test_the_least_share_is_the_one_with_the_least_lower_end() -> None:
    few, many = np.array([True]), np.arange(100) < 50
    assert least_share([many, few]) == Interval(1.0, pytest.approx(0.025), 1.0)
