"""Every check of `rl_from_checkpoint` on measurements made by hand: right, wrong and at its threshold.

Two kinds of prompts, three seeds, eight starts. Spearman's correlation of eight ranks is 1 - D/84, D the sum
of squared differences of ranks.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from covlab.testing.known_checks import Ends, Known, known_answers
from experiments.rl_from_checkpoint.checks import checks
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Measurements, Outcome

T = 4.302652729911275
"""The .975 quantile of Student's law with two degrees of freedom."""
RISING = np.arange(1.0, 9.0)
KINDS = ("as trained", "rare")


def student(values: list[float]) -> tuple[float, Ends]:
    mean = sum(values) / 3
    half = T * (sum((each - mean) ** 2 for each in values) / 2) ** 0.5 / 3**0.5
    return mean, (mean - half, mean + half)


def outcome(reward: np.ndarray) -> Outcome:
    """Curves that end in the reward, after a start which would order the starts the other way round."""
    curve = np.stack([reward[:, ::-1], reward], axis=-1)
    return Outcome({1: curve, 8: 1 - curve}, np.array([0, 60]))


# Rewards of the starts in percent. At "as trained" they rise with the start, at "rare" the first two starts
# have changed places.
TRAINED = np.tile(RISING / 100, (3, 1))
RARE = np.tile(np.array([2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]) / 100, (3, 1))
# Lower is better, so coverage falls. Changing the places of neighbours has D = 2; of ranks 1 and 8, D = 98.
FALLING = RISING[::-1]
SWAPPED = np.array([7.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
ENDS_SWAPPED = np.array([1.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 8.0])
RIGHT = Measurements(
    (5, 6, 7),
    tuple(range(0, 800, 100)),
    {
        CROSS_ENTROPY: np.array([RISING, ENDS_SWAPPED, RISING]),
        COVERAGE: np.array([FALLING, SWAPPED, FALLING]),
        TOURNAMENT: np.ones((3, 8)),
    },
    {TOURNAMENT: np.array([7, 6, 7]), CROSS_ENTROPY: np.array([4, 4, 3]), COVERAGE: np.array([0, 0, 0])},
    {KINDS[0]: outcome(TRAINED), KINDS[1]: outcome(RARE)},
    4.0,
)
# With the reward of "as trained" coverage has 1, 1 - 2/84, 1 and the cross-entropy -1, 1 - 98/84, -1. With
# that of "rare" it has 1 - 2/84, 1, 1 - 2/84 and the cross-entropy -(1 - 2/84), 1 - (36 + 1 + 49)/84 = -2/84
# (ranks 1, 7 and 8 of the first two starts and the last), -(1 - 2/84).
COVERED = {KINDS[0]: 1 - 2 / 84 / 3, KINDS[1]: 1 - 4 / 84 / 3}
ENTROPY = {KINDS[0]: (-2 - 14 / 84) / 3, KINDS[1]: (-2 * 82 / 84 - 2 / 84) / 3}


def predicted(**new: np.ndarray) -> Measurements:
    names = {"coverage": COVERAGE, "entropy": CROSS_ENTROPY}
    return dataclasses.replace(
        RIGHT, predictors={**RIGHT.predictors, **{names[key]: each for key, each in new.items()}}
    )


def ordered(value: float) -> Measurements:
    """A coverage that orders the starts wrongly (-1), or says the same of all: 0 on every resample."""
    order = RISING if value < 0 else 0 * RISING
    reward = {kind: outcome(TRAINED) for kind in KINDS}
    return dataclasses.replace(predicted(coverage=np.tile(order, (3, 1))), outcomes=reward)


def better(value: float) -> Measurements:
    """A cross-entropy that is as good as coverage, or right where coverage says nothing."""
    order = FALLING if value == 0 else 0 * RISING
    return dataclasses.replace(
        predicted(coverage=np.tile(order, (3, 1)), entropy=np.tile(FALLING, (3, 1))),
        outcomes={kind: outcome(TRAINED) for kind in KINDS},
    )


def lost(value: float) -> Measurements:
    """The best start has .5, the tournament's `value` less, that of the least cross-entropy .5 as well."""
    reward = np.full((3, 8), 0.1)
    reward[:, 1], reward[:, 2], reward[:, 3] = 0.5, 0.5 - value, 0.5
    return dataclasses.replace(
        RIGHT,
        chosen={TOURNAMENT: np.full(3, 2), CROSS_ENTROPY: np.full(3, 3), COVERAGE: np.zeros(3, int)},
        outcomes={kind: outcome(reward) for kind in KINDS},
    )


def about(kind: str) -> dict[str, Known]:
    # In percent: the tournament's starts are 1st, 2nd, 1st from the best, the other rule's have 5, 5, 4.
    tournament = student([0.0, 0.01, 0.0])
    difference = student([-0.03, -0.02, -0.04])
    return {
        f"{kind}: rank correlation of a lower Cov_4 at the start with a higher reward reached": Known(
            "lower end of the interval > 0", COVERED[kind], "some", ordered, -1.0, ((0.0, False),)
        ),
        f"{kind}: the same minus that of the cross-entropy": Known(
            "lower end of the interval > 0",
            COVERED[kind] - ENTROPY[kind],
            "some",
            better,
            -1.0,
            ((0.0, False),),
        ),
        f"{kind}: reward lost by the tournament's start against the best": Known(
            "<= 0.02", *tournament, lost, 0.2, alone=False
        ),
        f"{kind}: the same minus that of the least cross-entropy": Known(
            "upper end of the interval <= 0", *difference, lost, 0.2, alone=False
        ),
    }


TABLE = {name: known for kind in KINDS for name, known in about(kind).items()}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_a_kind_of_prompts_is_judged_by_its_own_outcome() -> None:
    found: Any = dataclasses.replace(RIGHT, outcomes={"a": outcome(TRAINED[:, ::-1])})
    named = {check.name: check for check in checks(found)}
    name = "a: rank correlation of a lower Cov_4 at the start with a higher reward reached"
    assert named[name].measured == pytest.approx(-COVERED[KINDS[0]])
    assert not named[name].passed
