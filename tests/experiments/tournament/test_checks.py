"""Every check of `tournament` on measurements made by hand: right, wrong and at its threshold.

Three of the six seeds are above and three below the mean by the same share, so that Student's half-width is
t/sqrt 5 times their distance. A slope fitted to three sizes that are evenly spaced is that of the outer two.
"""

import copy
import dataclasses
from math import log
from typing import Any

import numpy as np
import pytest
from oracles.tournament_measured import (
    ALIKE,
    EXACT,
    EXAMPLES,
    EXPECTED,
    FAR,
    FOUND,
    NEAR,
    SEEDS,
    SIGNS,
    SPECS,
    SPREAD,
    WIDE,
    broken,
    cell,
    changed,
    columns,
    flat,
    of_pair,
    pair,
    promise,
    taken,
    with_pair,
)

from covlab.testing.known_checks import Ends, Known, known_answers, power
from experiments.tournament.attempts import MIN_KL, OFFSET, OFFSET_EXACT, SIMPLE
from experiments.tournament.checks import checks
from experiments.tournament.measure import Measurements

HALF = 2.5705818356363146 / 5**0.5
"""Student's half-width over the distance of the seeds from their mean."""


def student(mean: float, distance: float) -> tuple[float, Ends]:
    return mean, (mean - HALF * distance, mean + HALF * distance)


def slope(key: tuple[str, int, int], rule: str, right: float, target: str, wrong: float) -> Known:
    return Known(
        target,
        right,
        "some",
        lambda value: changed(key, "regret", rule, value=power(EXAMPLES, value, 0.1, SEEDS)),
        wrong,
    )


def ends_in(key: tuple[str, int, int], kind: str, rule: str, of: Any) -> Any:
    """The last column of a rule's losses; the others stay."""

    def at(value: float) -> Measurements:
        values = np.asarray(SPECS[key][kind][rule]).copy()
        values[:, -1] = of(value)
        return changed(key, kind, rule, value=values)

    return at


def less_ten_times(value: float) -> Measurements:
    key = ("rare_prompts", 16, 64)
    found = copy.deepcopy(SPECS[key])
    found["regret"] = {MIN_KL: flat(0.5 + value), SIMPLE: flat(0.05)}
    return dataclasses.replace(FOUND, cells={**FOUND.cells, key: cell(found)})


def off(value: float) -> Measurements:
    """So many standard errors, spread/sqrt 5 each, below the exact value at n = 1,023."""
    below = 1 - value * SPREAD / 5**0.5 + SPREAD * SIGNS
    return with_pair("regret", SIMPLE, pair(EXPECTED[0] * (1 + SPREAD * SIGNS), EXPECTED[1] * below))


def sampled(value: float) -> Measurements:
    noisy = EXACT.copy()
    noisy[:, 1] += value / 256
    return changed(("rogue", 16, 256), "regret", OFFSET, value=noisy)


def at_rogue(value: float) -> Measurements:
    exact = np.full((SEEDS, 3), 1e-3)
    exact[:, 1] = value / 256
    return changed(("rogue", 16, 256), "regret", OFFSET_EXACT, value=exact)


def premise(share: float) -> Measurements:
    return changed(("rogue", 16, 256), "premise", value=[seed < 6 * share for seed in range(SEEDS)])


def beyond(field: str) -> Any:
    return lambda value: changed(
        ("checkpoints", 16, 4), "guarantees", 0.25, value=promise(**{field: broken(2, 3 * value, 3 * value)})
    )


def says(key: tuple[str, int, int], *path: Any) -> Any:
    def at(value: float) -> Measurements:
        return changed(key, *path, value=promise(bound=columns((FAR, NEAR), (FAR, NEAR), (value, WIDE))))

    return at


RARE_4, RARE, ROGUE = ("rare_prompts", 4, 64), ("rare_prompts", 16, 64), ("rogue", 16, 256)
BELOW, ABOVE = "lower end of the interval", "upper end of the interval"
WORST = log(0.98 / 1.01 * EXPECTED[1] / EXPECTED[0]) / log(1023 / 256)
AT_1024 = 0.05 * 4.0**-0.1 - 0.01
TABLE = {
    # 23 of 60: P[Binomial(60, 1/4) >= 23] = .017; 22: .031, above .025.
    "pair: share of held-out sets at which the MLE is pi_2, least over n and alpha": Known(
        f"{BELOW} >= 0.25",
        0.5,
        "some",
        lambda value: with_pair("wrong", MIN_KL, taken(value)),
        0.1,
        ((23 / 60, True), (22 / 60, False)),
    ),
    "pair: exponent of min-KL's regret in n, alpha = 1, from below": Known(
        f"{BELOW} >= -0.05",
        0.0,
        (0.0, 0.0),
        lambda value: with_pair("regret", MIN_KL, of_pair(power((256, 1023), value, 0.5, SEEDS))),
        -0.5,
    ),
    "pair: exponent of the tournament's regret in n, worst alpha, from above": Known(
        f"{ABOVE} <= -0.85",
        WORST,
        "some",
        lambda value: with_pair("regret", SIMPLE, pair(ALIKE, ALIKE * (1023 / 256) ** value)),
        -0.3,
    ),
    "pair: exponent of the tournament's regret in n, worst alpha, from below": Known(
        f"{BELOW} >= -1.15",
        WORST,
        "some",
        lambda value: with_pair("regret", SIMPLE, pair(ALIKE, ALIKE * (1023 / 256) ** value)),
        -1.6,
    ),
    # 2 % below the exact value, with seeds 2 % from their mean.
    "pair: tournament's regret less its exact value, standard errors, largest over n": Known(
        "<= 4", 0.02 / 0.98 * 0.98 * 5**0.5 / SPREAD, None, off, 10.0
    ),
    "rare prompts, |Pi| = 4: exponent of the tournament's regret in n, from above": slope(
        RARE_4, SIMPLE, -1.1, f"{ABOVE} <= -0.75", -0.3
    ),
    "rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from above": slope(
        RARE, SIMPLE, -1.0, f"{ABOVE} <= -0.75", -0.3
    ),
    "rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from below": slope(
        RARE, SIMPLE, -1.0, f"{BELOW} >= -1.25", -2.0
    ),
    "rare prompts: exponent of min-KL's regret in n, from below": slope(
        RARE, MIN_KL, -0.05, f"{BELOW} >= -0.25", -1.0
    ),
    "rare prompts: min-KL's regret less 10 times the tournament's, largest n": Known(
        f"{BELOW} > 0", *student(AT_1024, 0.01 * AT_1024), less_ten_times, -0.2
    ),
    "checkpoints: Pass@N of the tournament's choice less min-KL's, largest n": Known(
        f"{BELOW} > 0",
        *student(0.03, 0.0003),
        ends_in(("checkpoints", 16, 4), "pass_regret", MIN_KL, lambda value: 0.02 * NEAR + value),
        -0.2,
    ),
    # .128, .256 and .2048 +- half of it.
    "aligned: n times what the tournament loses to min-KL, largest over n": Known(
        f"{ABOVE} <= 1",
        *student(0.2048, 0.1024),
        ends_in(("aligned", 16, 64), "regret", SIMPLE, lambda value: 0.1 + value / 1024),
        2.0,
    ),
    "rogue: share of instances at which the offset tournament's premise holds": Known(
        ">= 1", 1.0, None, premise, 0.0, ((1.0, True), (5 / 6, False))
    ),
    "rogue: N times the simple tournament's regret, largest n": Known(
        f"{BELOW} >= 0.3",
        *student(0.6, 0.006),
        ends_in(ROGUE, "regret", SIMPLE, lambda value: value / 256),
        0.1,
    ),
    "rogue: exponent of the offset tournament's regret in n, from above": slope(
        ROGUE, OFFSET_EXACT, log(0.06) / log(16), f"{ABOVE} <= -0.75", -0.3
    ),
    # 1.28, 1.536 and 1.2288 +- half of it; 3 ln(3 16/.06) = 20.054.
    "rogue: n times the offset tournament's regret, largest over n": Known(
        f"{ABOVE} <= 20.05", *student(1.2288, 0.6144), at_rogue, 30.0
    ),
    # .064, .2048 and .1024 +- twice that.
    "rogue: n times what sampling the offset term costs, largest over n": Known(
        f"{ABOVE} <= 1", *student(0.1024, 0.2048), sampled, 2.0
    ),
    # The mean of .2, .04 and four zeros; of .15, .03; of .11, .01.
    "guarantee: share of sets beyond it, largest over cells": Known(
        "<= 0.06", 0.04, None, beyond("violated"), 0.2
    ),
    "guarantee, the paper's constants: share of sets beyond it, largest over cells": Known(
        "<= 0.06", 0.03, None, beyond("paper_violated"), 0.2
    ),
    "guarantee of the offset tournament: share of sets beyond it, largest over cells": Known(
        "<= 0.06",
        0.02,
        None,
        lambda value: changed(ROGUE, "offset", "violated", value=broken(1, 3 * value, 3 * value)),
        0.2,
    ),
    "guarantee: right-hand side, rare prompts, a = 1/4, largest n": Known(
        "< 1", 0.6, None, says(RARE, "guarantees", 0.25), 2.0
    ),
    "guarantee of the offset tournament: right-hand side, rogue, largest n": Known(
        "< 1", 0.7, None, says(ROGUE, "offset"), 2.0
    ),
}


TestKnownAnswers = known_answers(checks, FOUND, TABLE)


def test_a_premise_that_never_holds_passes_no_guarantee() -> None:
    cells = {key: cell({**each, "premise": [False] * SEEDS}) for key, each in SPECS.items()}
    named = {check.name: check for check in checks(dataclasses.replace(FOUND, cells=cells))}
    check = named["guarantee of the offset tournament: share of sets beyond it, largest over cells"]
    assert (check.measured, check.passed) == (None, False)


@pytest.mark.parametrize(("seeds", "measured"), [(5, None), (6, -1.0)])
def test_a_regret_of_few_seeds_has_no_exponent(seeds: int, measured: float | None) -> None:
    values = power(EXAMPLES, -1.0, 0.1, SEEDS)
    values[seeds:, 1] = 0
    named = {check.name: check for check in checks(changed(RARE, "regret", SIMPLE, value=values))}
    check = named["rare prompts, |Pi| = 16: exponent of the tournament's regret in n, from above"]
    assert check.measured == (None if measured is None else pytest.approx(measured))
    assert check.passed is (measured is not None)


@pytest.mark.parametrize("key", list(SPECS))
@pytest.mark.parametrize("a", [0.25, 0.5])
def test_guarantees_are_asked_of_every_cell_and_exponent(key: tuple[str, int, int], a: float) -> None:
    shares = promise(violated=broken(2, 0.6, 0.0), paper_violated=broken(1, 0.3, 0.0))
    found = {check.name: check for check in checks(changed(key, "guarantees", a, value=shares))}
    assert found["guarantee: share of sets beyond it, largest over cells"].measured == pytest.approx(0.1)
    name = "guarantee, the paper's constants: share of sets beyond it, largest over cells"
    assert found[name].measured == pytest.approx(0.05)
