"""The checks on TailSFT, on hand-made measurements: what each reads off them, and where its target lies."""

from __future__ import annotations

import dataclasses
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


def learned(one: Value, many: Value = 0.6) -> Arm:
    """Reinforcement learning that ends at Pass@1 `one` and Pass@k `many`; what is before would fail."""
    ends = columns(0.99, 0.01, 0.99, one), columns(0.99, 0.01, 0.99, many)
    return Arm(STEPS, *ends, KL, two(0.1), two(0.1), two(1.0))


def made(**changes: Any) -> Measurements:
    """Two seeds of plain fine-tuning, of one arm of TailSFT, and of an arm that no check is about."""
    given: dict[str, Any] = {
        "plain": (0.7, 0.001),
        "middle": (0.85, 0.002),
        "lost": (0.2, 0.003),
        "tail": (0.9, 0.003),
        # The plain checkpoint of this KL is that of step 20.
        "tail_kl": 0.6,
        "kept_lost": (0.05, 0.001),
        "kept_plain": (0.97, 0.001),
        "kept_tail": (0.975, 0.002),
        # Pass@1 and Pass@k after reinforcement learning.
        "rl_plain": (0.3, 0.001),
        "rl_tail": (0.45, 0.003),
        "rl_base": (0.4, 0.001),
        "rl_stopped": (0.42, 0.001),
        "rl_plain_k": (0.6, 0.001),
        "rl_tail_k": (0.7, 0.004),
        "rl_kept": (0.95, 0.001),
        "rl_kept_tail": (0.955, 0.001),
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
    after = {
        "base": learned(given["rl_base"]),
        "CE": learned(given["rl_plain"], given["rl_plain_k"]),
        "stopped_half": learned(given["rl_stopped"]),
        "half": learned(given["rl_tail"], given["rl_tail_k"]),
        "other": learned(0.1),
    }
    afterwards = {"CE": learned(given["rl_kept"]), "half": learned(given["rl_kept_tail"])}
    index = np.array([1, 1])
    return Measurements(
        16, (1, 2), {DESTROYED: destroyed, KEPT: kept}, ("half",), {DESTROYED: index, KEPT: index},
        {DESTROYED: 100.0, KEPT: None}, {DESTROYED: after, KEPT: afterwards}, {DESTROYED: 0.5, KEPT: 1.0},
        given["excess"],
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
    "destroyed: Pass@1: half then RL minus CE then RL": Known(
        "lower end of the interval > 0",
        Case({}, 0.15, 0.002, True),
        Case({"rl_plain": (0.44, 0.001)}, 0.01, 0.002, False),
        Case({"rl_plain": (0.45, 0.003)}, 0.0, 0, False),
    ),
    "destroyed: Pass@1: half then RL minus CE stopped at equal KL then RL": Known(
        "lower end of the interval > 0",
        Case({}, 0.03, 0.002, True),
        Case({"rl_stopped": (0.44, 0.001)}, 0.01, 0.002, False),
        Case({"rl_stopped": (0.45, 0.003)}, 0.0, 0, False),
    ),
    "destroyed: Pass@1: half then RL minus RL from the base": Known(
        "lower end of the interval > 0",
        Case({}, 0.05, 0.002, True),
        Case({"rl_base": (0.44, 0.001)}, 0.01, 0.002, False),
        Case({"rl_base": (0.45, 0.003)}, 0.0, 0, False),
    ),
    "destroyed: Pass@16: half then RL minus CE then RL": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.003, True),
        Case({"rl_plain_k": (0.69, 0.001)}, 0.01, 0.003, False),
        Case({"rl_plain_k": (0.7, 0.004)}, 0.0, 0, False),
    ),
    "kept: Pass@1: half then RL minus CE then RL": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.005, 0, True),
        Case({"rl_kept_tail": (0.958, 0.002)}, 0.008, 0.001, False),
        Case({"rl_kept": 0.0, "rl_kept_tail": 0.01}, 0.01, 0, True),
    ),
    "destroyed: Pass@1 after RL minus the best without telling classes apart, best start": Known(
        "upper end of the interval <= 0.03",
        Case({"rl_base": (0.46, 0.001)}, -0.04, 0.001, True),
        Case({"rl_base": (0.528, 0.001)}, 0.028, 0.001, False),
        Case({"rl_base": 0.53 - 1e-12}, 0.03, 0, True),
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
    after, ranks = notes(made())[-3], notes(made())[-1]
    assert after.startswith("destroyed, reinforcement learning from base: Pass@1 0.990 -> 0.400, Pass@16")
    # All starts have one Pass@1 before, so that no correlation is defined: it counts as 0.
    assert "rank correlation over the starts with Pass@1 after reinforcement learning: Pass@1 +0.00" in ranks


def test_a_start_from_which_nothing_is_learned_is_in_no_check() -> None:
    """Without the base, plain fine-tuning stopped early, and TailSFT where coverage is kept."""
    full = {check.name for check in checks(made())}
    results = made()
    few = {name: results.after[DESTROYED][name] for name in ("CE", "half")}
    without = dataclasses.replace(results, after={DESTROYED: few, KEPT: {"CE": results.after[KEPT]["CE"]}})
    gone = full - {check.name for check in checks(without)}
    assert gone == {
        "destroyed: Pass@1: half then RL minus CE stopped at equal KL then RL",
        "destroyed: Pass@1: half then RL minus RL from the base",
        "kept: Pass@1: half then RL minus CE then RL",
    }
