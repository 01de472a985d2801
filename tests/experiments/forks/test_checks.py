"""The checks on forks, on hand-made measurements: what each reads off them, and where its target lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, columns, known_answers, two

from experiments.forks.checks import checks, notes
from experiments.forks.measure import FIRST, FORKS, Arm, Cell, Measurements

Value = float | tuple[float, float]


def arm(lost: Value, gained: Value, uncovered: Value) -> Arm:
    """Pass@64 of .9 before fine-tuning, and .95 at its best; Pass@1 of .1 and Cov_64 of .05 before it."""

    def by_seed(value: Value) -> np.ndarray:
        return two(*value) if isinstance(value, tuple) else two(value)

    return Arm(
        np.array([0, 10, 20]),
        columns(0.1, 0.2, 0.1 + by_seed(gained)),
        columns(0.9, 0.95, 0.9 - by_seed(lost)),
        columns(1.0, 0.4, 0.8),
        {64.0: columns(0.05, 0.0, 0.05 + by_seed(uncovered))},
    )


LOST: dict[str, Value] = {
    "forks_0": (0.0, 0.0005),
    "forks_1": (0.1, 0.001),
    "forks_2": (0.19, 0.002),
    "forks_3": (0.27, 0.004),
    "first_fork_2": (0.11, 0.001),
    "first_fork_3": (0.12, 0.001),
}


def made(excess: float = -0.25, gained: Any = None, uncovered: Any = None, **lost: Value) -> Measurements:
    """Two seeds; Cov_64 rises by as much as Pass@64 falls, and Pass@1 by .2 unless told otherwise."""
    lost = LOST | lost
    gains = {"forks_0": (0.0, 0.0005), **(gained or {})}
    rises = lost | (uncovered or {})
    arms = {}
    for group, numbers in ((FORKS, range(4)), (FIRST, (2, 3))):
        for count in numbers:
            cell = Cell(group, count)
            arms[cell] = arm(lost[cell.run], gains.get(cell.run, (0.2, 0.01)), rises[cell.run])
    return Measurements(64, 0.1, 5, (1, 2), arms, 100.0, excess)


EQUAL = dict.fromkeys(("forks_1", "forks_2", "forks_3"), 0.2)
LINE = {"forks_0": 0.0, "forks_1": 0.1, "forks_2": 0.2, "forks_3": 0.3}
MORE = "Pass@64 lost, minus with"

CHECKS = {
    "0 decisions: Pass@64 lost, from below": Known(
        "lower end of the interval >= -0.01",
        Case({}, 0.0, 0.0005, True),
        Case({"forks_0": (-0.02, 0.0005)}, -0.02, 0.0005, False),
        Case({"forks_0": (-0.005, 0.0005)}, -0.005, 0.0005, False),
    ),
    "0 decisions: Pass@64 lost, from above": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.0, 0.0005, True),
        Case({"forks_0": (0.02, 0.0005)}, 0.02, 0.0005, False),
        Case({"forks_0": (0.005, 0.0003)}, 0.005, 0.0003, True),
    ),
    "0 decisions: Pass@1 gained, from below": Known(
        "lower end of the interval >= -0.01",
        Case({}, 0.0, 0.0005, True),
        Case({"gained": {"forks_0": (-0.02, 0.0005)}}, -0.02, 0.0005, False),
        Case({"gained": {"forks_0": (-0.005, 0.0003)}}, -0.005, 0.0003, True),
    ),
    "0 decisions: Pass@1 gained, from above": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.0, 0.0005, True),
        Case({"gained": {"forks_0": (0.02, 0.0005)}}, 0.02, 0.0005, False),
        Case({"gained": {"forks_0": (0.005, 0.0005)}}, 0.005, 0.0005, False),
    ),
    "1 decision: Pass@64 lost": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.001, True),
        Case({"forks_1": (-0.1, 0.001)}, -0.1, 0.001, False),
        Case({"forks_1": 0.0}, 0.0, 0, False),
    ),
    "1 decision: Pass@1 gained": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.01, True),
        Case({"gained": {"forks_1": (-0.1, 0.001)}}, -0.1, 0.001, False),
        Case({"gained": {"forks_1": (0.01, 0.001)}}, 0.01, 0.001, False),
    ),
    f"1 decision: {MORE} 0": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.0005, True),
        Case({"forks_1": (-0.1, 0.001)}, -0.1, 0.0005, False),
        Case({"forks_0": 0.1, "forks_1": 0.1}, 0.0, 0, False),
    ),
    "2 decisions: Pass@64 lost": Known(
        "lower end of the interval > 0",
        Case({}, 0.19, 0.002, True),
        Case({"forks_2": (-0.1, 0.001)}, -0.1, 0.001, False),
        Case({"forks_2": (0.19, 0.02)}, 0.19, 0.02, False),
    ),
    "2 decisions: Pass@1 gained": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.01, True),
        Case({"gained": {"forks_2": (-0.1, 0.001)}}, -0.1, 0.001, False),
        Case({"gained": {"forks_2": (0.2, 0.02)}}, 0.2, 0.02, False),
    ),
    f"2 decisions: {MORE} 1": Known(
        "lower end of the interval > 0",
        Case({}, 0.09, 0.001, True),
        Case({"forks_2": (0.05, 0.001)}, -0.05, 0, False),
        Case({"forks_2": (0.1, 0.001)}, 0.0, 0, False),
    ),
    "3 decisions: Pass@64 lost": Known(
        "lower end of the interval > 0",
        Case({}, 0.27, 0.004, True),
        Case({"forks_3": (-0.1, 0.001)}, -0.1, 0.001, False),
        Case({"forks_3": (0.27, 0.03)}, 0.27, 0.03, False),
    ),
    "3 decisions: Pass@1 gained": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.01, True),
        Case({"gained": {"forks_3": (-0.1, 0.001)}}, -0.1, 0.001, False),
        Case({"gained": {"forks_3": (0.2, 0.02)}}, 0.2, 0.02, False),
    ),
    f"3 decisions: {MORE} 2": Known(
        "lower end of the interval > 0",
        Case({}, 0.08, 0.002, True),
        Case({"forks_3": (0.15, 0.002)}, -0.04, 0, False),
        Case({"forks_3": (0.19, 0.002)}, 0.0, 0, False),
    ),
    "rank correlation of Pass@64 lost with the share of decision points": Known(
        "lower end of the interval >= 0.8",
        Case({}, 1.0, 0, True),
        Case(EQUAL, 3 / np.sqrt(15), 0, False),
        # Neighbours changed places in both seeds: 1 - 6 * 2 / (4 * 15).
        Case({"forks_2": (0.3, 0.002)}, 0.8, 0, True),
    ),
    "R^2 of Pass@64 lost in proportion to that share": Known(
        "lower end of the interval >= 0.9",
        Case(LINE, 1.0, 0, True),
        # Slope 6 l / 14, rest (0, 8, 2, -4)^2 l^2 / 14^2, spread 3 l^2 / 4.
        Case({"forks_0": 0.0} | EQUAL, 1 - 84 / 196 / 0.75, 0, False),
        # All lost to one decision and none to more: slope l / 14.
        Case(
            {"forks_0": 0.0, "forks_1": 0.1, "forks_2": 0.0, "forks_3": 0.0}, 1 - (13 / 14) / 0.75, 0, False
        ),
    ),
    "2 branching layers: Pass@64 lost, all minus first deciding": Known(
        "lower end of the interval > 0",
        Case({}, 0.08, 0.001, True),
        Case({"first_fork_2": (0.2, 0.002)}, -0.01, 0, False),
        Case({"first_fork_2": (0.19, 0.002)}, 0.0, 0, False),
    ),
    "3 branching layers: Pass@64 lost, all minus first deciding": Known(
        "lower end of the interval > 0",
        Case({}, 0.15, 0.003, True),
        Case({"first_fork_3": (0.3, 0.004)}, -0.03, 0, False),
        Case({"first_fork_3": (0.27, 0.004)}, 0.0, 0, False),
    ),
    "rank correlation of Pass@64 lost with the decisions' entropy minus with branching layers": Known(
        "lower end of the interval > 0",
        # Ranks of the losses 1 2 5 6 3 4, of the entropies 1 3 5 6 3 3, of the layers 1 2 3.5 5.5 3.5 5.5.
        Case({}, 15.5 / np.sqrt(17.5 * 15.5) - 14.5 / np.sqrt(17.5 * 16.5), 0, True),
        # Layers alone: 1 2 4 6 3 5.
        Case(
            {"first_fork_2": 0.18, "first_fork_3": 0.2},
            13.5 / np.sqrt(17.5 * 15.5) - 16.5 / np.sqrt(17.5 * 16.5),
            0,
            False,
        ),
        # Losses that are all equal correlate with neither.
        Case(dict.fromkeys(LOST, 0.1), 0.0, 0, False),
    ),
    "rank correlation of Pass@64 lost with the rise of Cov_64": Known(
        "lower end of the interval >= 0.8",
        Case({}, 1.0, 0, True),
        # Ranks 1 2 5 6 3 4 against 6 2 5 1 3 4: 1 - 6 * 50 / 210.
        Case({"uncovered": {"forks_0": 0.4, "forks_3": -0.1}}, 1 - 300 / 210, 0, False),
        # Ranks 1 2 5 6 3 4 against 1 4 5 6 2 3: 1 - 6 * 6 / 210.
        Case({"uncovered": {"forks_1": 0.13}}, 1 - 36 / 210, 0, True),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_notes_name_closed_forms_and_what_is_lost_from_the_best() -> None:
    data, slope, *arms = notes(made(**LINE))
    assert data == "Fine-tuning: 100 epochs of a fixed set of each seed's own. A response has 5 tokens."
    assert slope.startswith("Pass@64 lost per share of decision points: 0.500 [0.500, 0.500]")
    assert len(arms) == 6
    assert arms[1].startswith(
        "forks_1: Pass@1 0.100 -> 0.300, Pass@64 0.900 -> 0.800 (closed form of uniform "
    )
    # h(.1) = .3251 nats: three decisions cost .975 of the KL of .8, one .325.
    assert "0.150 lost; KL at the end above the decisions' entropy by 0.475 [0.475, 0.475] nats" in arms[1]
    assert "decisions' entropy by -0.175 [-0.175, -0.175]" in arms[3]
    assert "decisions' entropy by 0.475" in arms[5]
