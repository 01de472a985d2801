"""Every check of `mle_horizon` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from math import log
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Known, agree, decides, power, turned
from experiments.mle_horizon.checks import checks
from experiments.mle_horizon.measure import Measurements, Settings, swept

HORIZONS, SAMPLES, DRAWS = (8, 16), 4, 8
SURE = 1 / (1 + np.exp(-2.0))
KL_OF_A_FAIR_COIN = SURE * log(2 * SURE) + (1 - SURE) * log(2 * (1 - SURE))
"""KL(Ber(sigma(2)) || Ber(1/2)) = .3278 nats; the claim's .1639 H/n is half of it times H/n."""
REACHED = KL_OF_A_FAIR_COIN / 2 * np.array(HORIZONS) / SAMPLES


def kl(missing: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """By theta* and H, so many of the 8 data sets are a thousandth below .1639 H/n, the others at it."""
    short = np.arange(DRAWS)[None, :, None] < np.array(missing)[:, None, :]
    return REACHED * np.where(short, 0.999, 1.0)


RIGHT = Measurements(
    Settings(HORIZONS, SAMPLES, n=16, seed=3, draws=DRAWS),
    # At theta* = -1 seven of 8 reach it at the longer H, at +1 six of 8 at the shorter one.
    kl(((0, 1), (2, 0))),
    np.tile([[0.1, 0.1]], (2, DRAWS, 1)),
    np.zeros((2, DRAWS, 2), bool),
)
PROBABILITY = "probability that KL >= .1639 H/n, least over H, larger of the two theta*"


def steep(value: float) -> Measurements:
    return RIGHT._replace(kl=np.stack([power(HORIZONS, value, 0.3, DRAWS)] * 2))


def covered(value: float) -> Measurements:
    return RIGHT._replace(coverage=np.stack([power(HORIZONS, value, 0.1, DRAWS)] * 2))


def share_of_bound(value: float) -> Measurements:
    coverage = np.full((2, DRAWS, 2), 0.01)
    coverage[1, 3, 0] = value / (2 * SAMPLES)
    return RIGHT._replace(coverage=coverage)


TABLE = {
    "KL: exponent in H, from below": Known(
        "lower end of the interval >= 0.95", 1.0001805, "some", steep, 0.5
    ),
    "KL: exponent in H, from above": Known(
        "upper end of the interval <= 1.05", 1.0001805, "some", steep, 1.5
    ),
    "Cov_N: exponent in H, from below": Known(
        "lower end of the interval >= -0.05", 0.0, (0.0, 0.0), covered, -0.5
    ),
    "Cov_N: exponent in H, from above": Known(
        "upper end of the interval <= 0.05", 0.0, (0.0, 0.0), covered, 0.5
    ),
    PROBABILITY: Known("lower end of the interval >= 0.25", 7 / 8, "some", None),
    "Cov_N over 1/(2n), largest over all data sets": Known(
        "<= 1.000000001", 0.8, None, share_of_bound, 2.0, ((1.0, True), (1.00001, False))
    ),
    "any tie-break: KL n/H without the rare prompt, worse theta*, least": Known(
        ">= 0.163906", KL_OF_A_FAIR_COIN / 2, None, None
    ),
}


def test_right_measurements() -> None:
    # Of 16 data sets 2 are short at H = 8 and one at H = 16.
    slope = 1 + np.log2((16 - 0.001) / (16 - 0.002))
    table = {
        name: known._replace(right=slope) if name.startswith("KL") else known for name, known in TABLE.items()
    }
    agree(checks(RIGHT), table)
    low, high = next(each.interval for each in checks(RIGHT) if each.name == PROBABILITY)
    assert 8 * low**7 - 7 * low**8 == pytest.approx(0.025)
    assert high**8 == pytest.approx(0.975)


@pytest.mark.parametrize("name", turned(TABLE))
def test_wrong_measurements_and_those_at_the_threshold(name: str) -> None:
    decides(checks, TABLE, name)


@pytest.mark.parametrize(
    ("missing", "measured", "passes"),
    [
        (((0, 8), (8, 0)), 0.0, False),
        # 5 of 8 has the lower end .245, 6 of 8 .349.
        (((0, 3), (8, 0)), 5 / 8, False),
        (((3, 3), (2, 0)), 6 / 8, True),
    ],
)
def test_probability_at_the_worst_horizon_for_the_better_truth(
    missing: Any, measured: float, passes: bool
) -> None:
    (check,) = (each for each in checks(RIGHT._replace(kl=kl(missing))) if each.name == PROBABILITY)
    assert (check.measured, check.passed) == (measured, passes)


def test_data_sets_a_rounding_error_short_count_as_reaching() -> None:
    for short, measured in ((1e-10, 1.0), (1e-8, 0.0)):
        results = RIGHT._replace(kl=kl(((0, 0), (0, 0))) * (1 - short))
        assert next(each.measured for each in checks(results) if each.name == PROBABILITY) == measured


def test_every_check_but_the_constant_is_turned() -> None:
    assert {*turned(TABLE), PROBABILITY} == set(list(TABLE)[:-1])


def test_the_bound_on_coverage_is_that_of_the_samples() -> None:
    results = RIGHT._replace(settings=dataclasses.replace(RIGHT.settings, samples=8))
    named = {each.name: each for each in checks(results)}
    assert named["Cov_N over 1/(2n), largest over all data sets"].measured == pytest.approx(1.6)


def test_drawn_bounds() -> None:
    """n = 4: the rare prompt is missing with probability (7/8)^4, coverage is at most 1/8."""
    kl, coverage = swept(RIGHT)
    np.testing.assert_allclose(kl.rates[0].bound, REACHED * (7 / 8) ** 4)
    np.testing.assert_allclose(coverage.rates[0].bound, [1 / 8, 1 / 8])
    by_kl = RIGHT.kl.reshape(16, 2) / (log(16) - 15 / 16)
    np.testing.assert_allclose(coverage.rates[1].values, by_kl)
    assert [rate.theory for rate in (*kl.rates, *coverage.rates)] == [1, 0, 1]
