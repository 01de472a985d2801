"""Every check of `vgb_average` on measurements made by hand: right, wrong and at its threshold.

Two seeds with equal numbers, except where a check has an interval: Student's over two seeds is the mean
+- t |difference|/2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from oracles.reports import assert_rectangular

from covlab.testing.known_checks import Known, known_answers
from experiments.vgb_average import figures
from experiments.vgb_average.checks import checks, notes
from experiments.vgb_average.measure import Measurements, Sampler, Settings, Trained, Walk

SETTINGS = Settings(
    horizons=(4, 8, 16), rollouts=(10, 100), steps=(1, 8), children=(2, 4, 8), seeds=2, miss=0.05
)
K = np.array(SETTINGS.children, float)
H = np.array(SETTINGS.horizons, float)


def trained(h: int, n: int) -> Trained:
    """M/T = 1/4 after 8 H^2 steps; the action level's KL is H^2/n/100, VGB's a hundredth of it."""
    kl = h**2 / n / 100
    walks = tuple(
        Walk(Sampler(kl / 100, 0.01, 0.02), f * h**2, 0.1 * 2 / f, 0.2 * 2 / f, 1 / (2 * h)) for f in (1, 8)
    )
    return Trained(
        depth=h,
        over=1.25,
        under=1.1,
        uniform=100.0,
        leaf_mass=1 / (2 * h),
        way_back=2.0 * h**2,
        samples=6,
        action=Sampler(kl, 0.1, 0.3),
        first=Sampler(kl / 2, 0.05, 0.1),
        first_steps=2.0 * h**2,
        walks=walks,
    )


def right() -> Measurements:
    made = {(h, n): (trained(h, n),) * 2 for h in SETTINGS.horizons for n in SETTINGS.rollouts}
    few = np.sqrt(H + 3)[:, None] / K / 20
    return Measurements(
        SETTINGS, made, few, (H + 3) / 100, {n: np.stack([1 / K, 1 / K]) / 10 for n in (10, 100)}, 2 * H**2
    )


RIGHT = right()


def at(change: Callable[[Trained], Trained], h: int, n: int, seeds: tuple[int, ...] = (0, 1)) -> Measurements:
    """The right measurements with some seeds of one (H, n) changed."""
    own = [change(each) if i in seeds else each for i, each in enumerate(RIGHT.trained[h, n])]
    return dataclasses.replace(RIGHT, trained={**RIGHT.trained, (h, n): tuple(own)})


def changed(**values: Any) -> Callable[[Trained], Trained]:
    return lambda own: dataclasses.replace(own, **values)


def last_walk(**values: Any) -> Callable[[Trained], Trained]:
    return lambda own: dataclasses.replace(
        own, walks=(own.walks[0], dataclasses.replace(own.walks[-1], **values))
    )


def kl_exponent(value: float) -> Measurements:
    """The action level's KL and VGB's with another exponent in H, at 100 rollouts."""
    made = dict(RIGHT.trained)
    for h in SETTINGS.horizons:
        kl = (h / 16) ** value * 0.0256
        own = dataclasses.replace(
            made[h, 100][0],
            action=Sampler(kl, 0.1, 0.3),
            walks=tuple(
                dataclasses.replace(walk, law=Sampler(kl / 100, 0.01, 0.02)) for walk in trained(h, 100).walks
            ),
        )
        made[h, 100] = (own, own)
    return dataclasses.replace(RIGHT, trained=made)


def step_exponent(value: float) -> Measurements:
    """Steps to the first leaf with another exponent in H, at 100 rollouts."""
    made = dict(RIGHT.trained)
    for h in SETTINGS.horizons:
        made[h, 100] = (dataclasses.replace(made[h, 100][0], first_steps=32 * (h / 4) ** value),) * 2
    return dataclasses.replace(RIGHT, trained=made)


def few_trained(exponent: float) -> Measurements:
    rows = np.stack([K**exponent, 1 / K]) / 10
    return dataclasses.replace(RIGHT, few_trained={**RIGHT.few_trained, 100: rows})


def few_exact(exponent: float) -> Measurements:
    return dataclasses.replace(RIGHT, few_kl=(H + 3) ** exponent)


TOKENS = RIGHT.rejection()
TABLE = {
    "values: uniform error at the longest H, fewest rollouts, least": Known(
        ">= 10", 100.0, None, lambda value: at(changed(uniform=value), 16, 10, (1,)), 9.0
    ),
    "VGB: leaf mass * 2 (1 + eps) H, least": Known(
        ">= 1", 1.25, None, lambda value: at(changed(leaf_mass=value / 20), 8, 10, (1,)), 0.9
    ),
    "VGB: shortfall over M/T, largest": Known(
        "<= 1", 0.1, None, lambda value: at(last_walk(shortfall=value / 4), 8, 100, (1,)), 1.1
    ),
    "VGB: Cov_2N over 2M/T, largest": Known(
        "<= 1", 0.1, None, lambda value: at(last_walk(uncovered=value / 2), 8, 100, (1,)), 1.1
    ),
    "VGB: M/T after the most steps, largest": Known(
        "<= 0.5", 0.25, None, lambda value: at(changed(way_back=value * 8 * 64), 8, 10, (0,)), 0.6
    ),
    "Best-of-N on VGB: worst loss over its guarantee, largest": Known(
        "<= 1",
        0.02 / 0.55,
        None,
        lambda value: at(last_walk(law=Sampler(4e-4, 0.01, 0.55 * value)), 8, 100, (1,)),
        1.1,
    ),
    "Best-of-N at the longest H, fewest rollouts: action level's worst loss - VGB's": Known(
        "lower end of the interval > 0",
        0.28,
        (0.28, 0.28),
        lambda value: at(changed(action=Sampler(0.256, 0.1, 0.02 + value)), 16, 10),
        -0.01,
    ),
    "action level: exponent of KL in H, least over rollouts": Known(
        "lower end of the interval >= 1", 2.0, (2.0, 2.0), kl_exponent, 0.5
    ),
    "KL at the longest H: VGB's over the action level's, largest": Known(
        "upper end of the interval <= 0.1",
        0.01,
        (0.01, 0.01),
        lambda value: at(last_walk(law=Sampler(0.0256 * value, 0.01, 0.02)), 16, 100),
        0.2,
    ),
    "VGB, first leaf: exponent of steps in H, largest over rollouts": Known(
        "upper end of the interval <= 2.2", 2.0, (2.0, 2.0), step_exponent, 2.5
    ),
    "rejection: tokens over VGB's steps, shortest H, largest": Known(
        "<= 1",
        TOKENS[0] / 32,
        None,
        lambda value: at(changed(first_steps=TOKENS[0] / value), 4, 10, (1,)),
        1.01,
    ),
    "rejection: tokens over VGB's steps, longest H, least": Known(
        ">= 1",
        TOKENS[-1] / 512,
        None,
        lambda value: at(changed(first_steps=TOKENS[-1] / value), 16, 10, (1,)),
        0.9,
    ),
    "few children: exponent of TV in K, steepest": Known(">= -1.1", -1.0, None, few_trained, -1.2),
    "few children: exponent of TV in K, flattest": Known("<= -0.9", -1.0, None, few_trained, -0.8),
    "few children: exponent of KL in H + 3, most children, from below": Known(
        ">= 0.9", 1.0, None, few_exact, 0.8
    ),
    "few children: exponent of KL in H + 3, most children, from above": Known(
        "<= 1.1", 1.0, None, few_exact, 1.2
    ),
}

TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_an_interval_over_seeds_is_judged_by_its_lower_end() -> None:
    """.28 in one seed and .02 in the other: the mean is positive, the interval is not."""
    (check,) = (
        each
        for each in checks(at(changed(action=Sampler(0.256, 0.1, 0.04)), 16, 10, (1,)))
        if each.name.startswith("Best-of-N at the longest H")
    )
    assert check.measured is not None
    assert check.measured > 0
    assert check.state == "open"


def test_the_guarantee_is_asked_of_every_number_of_steps() -> None:
    def early(own: Trained) -> Trained:
        return dataclasses.replace(
            own, walks=(dataclasses.replace(own.walks[0], shortfall=2.1), own.walks[1])
        )

    failed = [each.name for each in checks(at(early, 4, 10, (0,))) if not each.passed]
    assert failed == ["VGB: shortfall over M/T, largest"]


def test_notes_and_tables() -> None:
    text = " ".join(notes(RIGHT))
    assert "H = 16, 10 rollouts" in text
    assert "uniform error 100, M/(2 H^2) 1.000" in text
    assert_rectangular(figures.tables(RIGHT))
