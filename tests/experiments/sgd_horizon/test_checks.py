"""Every check of `sgd_horizon` on measurements made by hand: right, wrong and at its threshold."""

import dataclasses
from math import e, exp, log
from types import SimpleNamespace

import numpy as np
import pytest
from oracles.sgd_measured import FAMILY, GOOD, HORIZONS, MEAN, RIGHT, WIDTH, at_ends, averages, needing, put

from covlab.testing.known_checks import Known, known_answers, power
from experiments.sgd_horizon.checks import checks
from theory.sgd.horizon_sweep import Measurements

PLAIN = ("SGD", "SGD, batch 8")
NORMALISED = ("normalised SGD", "normalised SGD, batch 8", "normalised SGD, batch 100")


def variance(letters: float) -> float:
    """16 B'^2 Var(a) at the longest H; a is 1, 0 or -1 with odds 1, e^(-B'/2), e^-B'."""
    zero, low = exp(-letters / 2), exp(-letters)
    total = 1 + zero + low
    first, second = (zero + 2 * low) / total, (zero + 4 * low) / total
    return 16 * letters**2 * (second - first**2)


def of_variance(value: float) -> Measurements:
    short, long = 10.0, 40.0
    for _ in range(200):
        middle = (short + long) / 2
        short, long = (middle, long) if variance(middle) > value else (short, middle)
    return dataclasses.replace(RIGHT, family=dataclasses.replace(FAMILY, letters=short))


def trapped(value: float) -> Measurements:
    found = averages()
    found[1, 1, 0] = value
    return dataclasses.replace(RIGHT, numbers={"sgd": SimpleNamespace(average=found)})


# B = B'^2, so the lemma's HB/(512 e mu(+) B'^2 ln N) is H/(128 e ln 16).
LEMMA = 16 / (128 * e * log(16))


def waited(value: float) -> Measurements:
    tuning = RIGHT.chosen["SGD"].tuning.mean.copy()
    tuning[1, 1, 1] = value * LEMMA
    return put("SGD", tuning=SimpleNamespace(mean=tuning))


def over_bound(value: float) -> Measurements:
    letters, numbers = RIGHT.bound.letters, RIGHT.bound.numbers
    bound = np.maximum(letters, numbers) / value
    found = SimpleNamespace(letters=letters, numbers=numbers, bound=bound)
    return dataclasses.replace(RIGHT, bound=found)


def slope(name: str, criterion: str, target: str, wrong: float) -> Known:
    right = (MEAN if criterion == "mean" else GOOD)[name]
    width = WIDTH if criterion == "mean" else 0.0
    return Known(
        target,
        right,
        (right - width, right + width),
        lambda value: needing(name, criterion, power(HORIZONS, value, 100)),
        wrong,
    )


FROM_BELOW, FROM_ABOVE = "lower end of the interval >= 0.75", "upper end of the interval <= 1.25"
FLAT = "upper end of the interval <= 0.25"
UPDATES, SETTLED = (
    "exponent of H in the updates, mean over iterates",
    "exponent of H in the updates, for good",
)
TABLE = {
    "small-step instance: sigma*^2, largest": Known("<= 1", variance(20.0), None, of_variance, 2.0),
    "SGD, steps >= 8/(HB): mean Cov on the number-prompt that is the step, least": Known(
        ">= 0.9995", 0.9997, None, trapped, 0.5
    ),
    "SGD, steps <= 8/(HB): updates on the letters over the lemma's, least": Known(
        ">= 1", 50 / LEMMA, None, waited, 0.5
    ),
    **{
        f"{name}: {text}": slope(name, criterion, target, wrong)
        for name in PLAIN
        for text, criterion, target, wrong in (
            (f"{UPDATES}, from below", "mean", FROM_BELOW, 0.3),
            (f"{UPDATES}, from above", "mean", FROM_ABOVE, 1.6),
            (f"{SETTLED}, from below", "good", FROM_BELOW, 0.3),
        )
    },
    **{f"{name}: {UPDATES}": slope(name, "mean", FLAT, 0.8) for name in NORMALISED},
    **{f"{name}: {SETTLED}": slope(name, "good", FLAT, 0.8) for name in NORMALISED[:2]},
    "chosen step sizes at an end of the grid": Known(
        "<= 0", 0.0, None, lambda count: at_ends((*PLAIN, *NORMALISED), count), 10, ((0, True), (1, False))
    ),
    # 6/8 on the number-prompt, 4/5 on the letters.
    "SGD, eta = 1/(2HB^2): mean KL over its bound, largest": Known("<= 1", 0.8, None, over_bound, 2.0),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


@pytest.mark.parametrize("which", ["letters", "numbers"])
def test_the_bound_is_asked_of_both_instances(which: str) -> None:
    values = {"letters": RIGHT.bound.letters, "numbers": RIGHT.bound.numbers, "bound": RIGHT.bound.bound}
    values[which] = np.array([[1.0, 2.0], [25.0, 4.0]])
    named = {each.name: each for each in checks(dataclasses.replace(RIGHT, bound=SimpleNamespace(**values)))}
    assert named["SGD, eta = 1/(2HB^2): mean KL over its bound, largest"].measured == 2.5


@pytest.mark.parametrize(("criterion", "text"), [("mean", UPDATES), ("good", SETTLED)])
def test_updates_that_were_never_enough_pass_nothing(criterion: str, text: str) -> None:
    values = RIGHT.chosen["normalised SGD"].worst[criterion].copy()
    values[: 1 if criterion == "mean" else 5, 1] = np.inf
    named = {each.name: each for each in checks(needing("normalised SGD", criterion, values))}
    check = named[f"normalised SGD: {text}"]
    assert (check.measured, check.passed) == (None, False)


def test_updates_count_up_to_the_longest_run() -> None:
    """Nine draws, of which the median is 100 at H = 8 and above the 1,000 updates of a run at H = 16."""
    values = np.tile([100.0, 4000.0], (9, 1))
    named = {each.name: each for each in checks(needing("SGD", "good", values))}
    check = named[f"SGD: {SETTLED}, from below"]
    assert check.measured == pytest.approx(np.log2(10))


def test_steps_of_exactly_8_over_hb_count_on_both_sides() -> None:
    """At H = 16 the second step is 8/(HB): it must trap, and must wait."""
    assert FAMILY.member(16).least_number == RIGHT.step_sizes[1]
    named = {each.name: each for each in checks(trapped(0.5))}
    assert (
        named["SGD, steps >= 8/(HB): mean Cov on the number-prompt that is the step, least"].measured == 0.5
    )
    named = {each.name: each for each in checks(waited(0.5))}
    name = "SGD, steps <= 8/(HB): updates on the letters over the lemma's, least"
    assert named[name].measured == pytest.approx(0.5)
