"""The checks on TailSFT, on hand-made measurements: what each reads off them, and where its target lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, columns, known_answers, two

from experiments.tail_sft.checks import checks, notes
from experiments.tail_sft.measure import DESTROYED, KEPT, Arm, Measurements

STEPS = np.array([0, 10, 20, 30])
KL = columns(1.0, 0.4, 0.6, 0.9)
Value = float | tuple[float, float]


def arm(ends: Value, kl: np.ndarray = KL, lost: Value = 0.2, middle: Value = 0.85) -> Arm:
    """An arm whose Pass@k is `middle` at step 20 and `ends` at the end."""
    many, one = columns(0.88, 0.95, middle, ends), columns(0.125, 0.3, 0.45, 0.5)
    lost_by_seed = two(*lost) if isinstance(lost, tuple) else two(lost)
    return Arm(STEPS, one, many, kl, lost_by_seed, two(0.1), two(1.0))


def made(**changes: Any) -> Measurements:
    """Two seeds of plain fine-tuning, of one arm of TailSFT, and of an arm that no check is about."""
    given: dict[str, Any] = {
        "plain": (0.7, 0.001),
        "middle": (0.85, 0.002),
        "lost": (0.2, 0.003),
        "tail": (0.9, 0.003),
        # The last plain checkpoint whose KL is at most this is that of step 20.
        "tail_kl": 0.7,
        "kept_lost": (0.05, 0.001),
        "kept_plain": (0.97, 0.001),
        "kept_tail": (0.975, 0.002),
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    destroyed = {
        "CE": arm(given["plain"], lost=given["lost"], middle=given["middle"]),
        "half": arm(given["tail"], columns(1.0, given["tail_kl"])),
        "other": arm(0.5),
    }
    kept = {
        "CE": arm(given["kept_plain"], lost=given["kept_lost"]),
        "half": arm(given["kept_tail"]),
        "other": arm(0.5),
    }
    index = np.array([1, 1])
    return Measurements(
        16, (1, 2), {DESTROYED: destroyed, KEPT: kept}, ("half",), {DESTROYED: index, KEPT: index},
        {DESTROYED: 100.0, KEPT: None}, given["excess"],
    )  # fmt: skip


CHECKS = {
    "destroyed: coverage lost minus gained by CE (rho_16 > 1)": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.003, True),
        Case({"lost": (0.11, 0.001)}, 0.01, 0.001, False),
        Case({"lost": 0.1}, 0.0, 0, False),
    ),
    "kept: coverage lost minus gained by CE (rho_16 <= 1)": Known(
        "upper end of the interval <= 0",
        Case({}, -0.05, 0.001, True),
        Case({"kept_lost": (0.09, 0.001)}, -0.01, 0.001, False),
        Case({"kept_lost": 0.1}, 0.0, 0, True),
    ),
    "destroyed: Pass@16 at the end: half minus CE": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.002, True),
        Case({"plain": (0.89, 0.001)}, 0.01, 0.002, False),
        Case({"plain": (0.9, 0.003)}, 0.0, 0, False),
    ),
    "destroyed: Pass@16: half minus CE stopped at equal KL": Known(
        "lower end of the interval > 0",
        Case({}, 0.05, 0.001, True),
        # A smaller KL than any plain checkpoint has: the one of least KL, at step 10.
        Case({"tail_kl": 0.3}, -0.05, 0.003, False),
        Case({"middle": (0.9, 0.003)}, 0.0, 0, False),
    ),
    "kept: Pass@16 at the end: half minus CE": Known(
        "upper end of the interval <= 0.01",
        Case({"kept_tail": (0.975, 0.001)}, 0.005, 0, True),
        Case({"kept_tail": (0.978, 0.002)}, 0.008, 0.001, False),
        Case({"kept_plain": 0.0, "kept_tail": 0.01}, 0.01, 0, True),
    ),
    **bound("excess"),
}


def right(**changes: Any) -> Measurements:
    """`made`, with TailSFT of no more help than a difference of .005 in the set-up without destruction."""
    return made(**({"kept_tail": (0.975, 0.001)} | changes))


TestKnownAnswers = known_answers(checks, right, CHECKS)


def test_notes_name_what_was_not_judged() -> None:
    first, second, *_ = notes(made())
    assert "100 epochs of a fixed set" in first
    assert "rho_16 2 over all seeds, from the 100% of the prompts" in first
    assert second.startswith("destroyed: half minus CE: Pass@1 at the end +0.000 [+0.000, +0.000]")
