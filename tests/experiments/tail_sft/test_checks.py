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


def learned(one: Value, many: Value = 0.6, end: Value = 0.49, short: Value = 0.3, kl: float = 2.0) -> Arm:
    """Reinforcement learning from a start of `kl` whose means over the batches are Pass@1 `one` and Pass@k
    `many`; Pass@1 is `short` at the first evaluation and `end` at the last. Other values would show."""
    own = [two(*each) if isinstance(each, tuple) else two(each) for each in (one, many, end, short)]
    mean_1, mean_k, last, first = own
    # Trapezoids over three equal intervals: (p_0 / 2 + p_1 + p_2 + p_3 / 2) / 3.
    pass_1 = columns(0.99, first, 3 * mean_1 - 0.99 / 2 - first - last / 2, last)
    pass_k = columns(0.99, 0.01, 3 * mean_k - 0.99 / 2 - 0.01 - 0.99 / 2, 0.99)
    return Arm(STEPS, pass_1, pass_k, columns(kl, 9.0, 0.1, 9.0), two(0.1), two(0.1), two(1.0))


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
        # Reinforcement learning: Pass@1 and Pass@k over the batches, Pass@1 after the first and the last.
        "rl_plain": (0.3, 0.001),
        "rl_tail": (0.45, 0.003),
        "rl_stopped": (0.41, 0.001),
        "rl_plain_k": (0.6, 0.001),
        "rl_tail_k": (0.7, 0.004),
        "end_plain": (0.49, 0.001),
        "end_tail": (0.488, 0.0015),
        "end_base": (0.48, 0.001),
        "short_tail": (0.3, 0.004),
        "short_base": (0.15, 0.001),
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
    # TailSFT's KL, 2, is that of the stopped start; plain fine-tuning's end has more.
    after = {
        "base": learned(0.1, 0.1, given["end_base"], given["short_base"], 1.0),
        "CE": learned(given["rl_plain"], given["rl_plain_k"], given["end_plain"], 0.99, 5.0),
        "stopped_half": learned(given["rl_stopped"]),
        "half": learned(given["rl_tail"], given["rl_tail_k"], given["end_tail"], given["short_tail"]),
        "other": learned(0.1),
    }
    afterwards = {
        "CE": learned(given["rl_kept"], end=0.99),
        "half": learned(given["rl_kept_tail"], end=0.01),
    }
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
        "lower end of the interval > 0.01",
        Case({}, 0.05, 0.001, True),
        # A smaller KL than any plain checkpoint has: the one of least KL, at step 10.
        Case({"tail_kl": 0.3}, -0.05, 0.003, False),
        Case({"middle": 0.0, "tail": 0.01}, 0.01, 0, False),
    ),
    "kept: Pass@16 at the end: half minus CE": Known(
        "upper end of the interval <= 0.01",
        Case({"kept_tail": (0.975, 0.001)}, 0.005, 0, True),
        Case({"kept_tail": (0.978, 0.002)}, 0.008, 0.001, False),
        Case({"kept_plain": 0.0, "kept_tail": 0.01}, 0.01, 0, True),
    ),
    "destroyed: Pass@1 over the batches of RL: TailSFT minus CE": Known(
        "lower end of the interval > 0",
        Case({}, 0.15, 0.002, True),
        Case({"rl_plain": (0.44, 0.001)}, 0.01, 0.002, False),
        Case({"rl_plain": (0.45, 0.003)}, 0.0, 0, False),
    ),
    "destroyed: Pass@16 over the batches of RL: TailSFT minus CE": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.003, True),
        Case({"rl_plain_k": (0.69, 0.001)}, 0.01, 0.003, False),
        Case({"rl_plain_k": (0.7, 0.004)}, 0.0, 0, False),
    ),
    "destroyed: Pass@1 after RL: TailSFT minus CE, from below": Known(
        "lower end of the interval >= -0.02",
        Case({}, -0.002, 0.0005, True),
        Case({"end_tail": (0.475, 0.0015)}, -0.015, 0.0005, False),
        Case({"end_plain": 0.02, "end_tail": 0.0}, -0.02, 0, True),
    ),
    "destroyed: Pass@1 after RL: TailSFT minus CE, from above": Known(
        "upper end of the interval <= 0.02",
        Case({}, -0.002, 0.0005, True),
        Case({"end_tail": (0.505, 0.0015)}, 0.015, 0.0005, False),
        Case({"end_plain": 0.0, "end_tail": 0.02}, 0.02, 0, True),
    ),
    "destroyed: Pass@1 over the batches of RL: TailSFT minus CE of equal KL": Known(
        "lower end of the interval > 0.01",
        Case({}, 0.04, 0.002, True),
        Case({"rl_stopped": (0.43, 0.001)}, 0.02, 0.002, False),
        Case({"rl_stopped": 0.0, "rl_tail": 0.01 - 1e-12}, 0.01, 0, False),
    ),
    "destroyed: Pass@1 after 10 batches of RL: TailSFT minus base": Known(
        "lower end of the interval > 0",
        Case({}, 0.15, 0.003, True),
        Case({"short_base": (0.29, 0.001)}, 0.01, 0.003, False),
        Case({"short_base": (0.3, 0.004)}, 0.0, 0, False),
    ),
    "destroyed: Pass@1 after RL: TailSFT minus base": Known(
        "upper end of the interval <= 0.02",
        Case({}, 0.008, 0.0005, True),
        Case({"end_base": (0.46, 0.001)}, 0.028, 0.0005, False),
        Case({"end_base": 0.0, "end_tail": 0.02}, 0.02, 0, True),
    ),
    "kept: Pass@1 over the batches of RL: TailSFT minus CE": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.005, 0, True),
        Case({"rl_kept_tail": (0.958, 0.002)}, 0.008, 0.001, False),
        Case({"rl_kept": 0.0, "rl_kept_tail": 0.01 - 1e-12}, 0.01, 0, True),
    ),
    "destroyed: Pass@1 after RL minus the best without telling classes apart, best start": Known(
        "upper end of the interval <= 0.03",
        Case({"end_plain": (0.495, 0.001)}, -0.005, 0.001, True),
        Case({"end_plain": (0.528, 0.001)}, 0.028, 0.001, False),
        Case({"end_plain": 0.53 - 1e-12}, 0.03, 0, True),
    ),
    **bound("excess"),
}


def right(**changes: Any) -> Measurements:
    """`made`, with TailSFT of no more help than a difference of .005 in the set-up without destruction."""
    return made(**({"kept_tail": (0.975, 0.001)} | changes))


TestKnownAnswers = known_answers(checks, right, CHECKS)


def test_a_difference_at_equal_kl_that_is_too_small_to_matter_refutes() -> None:
    """.005 with an interval below .01, before reinforcement learning and over its batches."""
    small = right(middle=(0.895, 0.003), tail=(0.9, 0.003), rl_stopped=(0.445, 0.003))
    states = {check.name: check.state for check in checks(small) if "equal KL" in check.name}
    assert states == {
        "destroyed: Pass@16: half minus CE stopped at equal KL": "failed",
        "destroyed: Pass@1 over the batches of RL: TailSFT minus CE of equal KL": "failed",
    }


def test_notes_name_what_was_not_judged() -> None:
    first, stops, third, *_ = notes(made())
    assert "100 epochs of a fixed set" in first
    assert "rho_16 2 over all seeds, from the 100% of the prompts" in first
    # The least KL is at step 10, and `made` has the tournament's choice there too.
    assert stops == (
        "destroyed: CE stopped at the least KL is the base in 0 of 2 seeds, stopped at the tournament's "
        "choice in 0 of 2."
    )
    assert third.startswith("destroyed: half minus CE: Pass@1 at the end +0.000 [+0.000, +0.000]")
    written = "\n".join(notes(made(rl_tail=0.45, rl_plain=0.3, rl_stopped=0.41)))
    assert "\ndestroyed, reinforcement learning from base: Pass@1 0.990 -> 0.480, Pass@16" in written
    assert "\ndestroyed: half then RL minus CE, over the batches, Pass@1 +0.150 [+0.150, +0.150]" in written
    assert "minus CE of equal KL, over the batches, Pass@1 +0.040 [+0.040, +0.040]" in written
    assert "\nkept: half then RL minus CE, over the batches, Pass@1 +0.005" in written
    # All starts have one Pass@1 before, so that no correlation is defined: it counts as 0.
    assert "with Pass@1 over the batches of reinforcement learning: Pass@1 +0.00" in notes(made())[-1]


def test_the_base_is_named_where_stopping_chooses_it() -> None:
    results = made()
    index = {DESTROYED: np.array([0, 2]), KEPT: np.array([0, 0])}
    falls = dataclasses.replace(results.arms[DESTROYED]["CE"], kl=columns(0.1, 0.4, 0.6, 0.9))
    arms = {**results.arms, DESTROYED: {**results.arms[DESTROYED], "CE": falls}}
    stops = notes(dataclasses.replace(results, arms=arms, tournament=index))[1]
    assert stops.endswith("KL is the base in 2 of 2 seeds, stopped at the tournament's choice in 1 of 2.")


def test_a_start_from_which_nothing_is_learned_is_in_no_check() -> None:
    """Without the base, plain fine-tuning stopped early, and TailSFT where coverage is kept; then without
    TailSFT where coverage is destroyed."""
    full = {check.name for check in checks(made())}
    results = made()

    def gone(*names: str) -> set[str]:
        few = {name: results.after[DESTROYED][name] for name in names}
        after = {DESTROYED: few, KEPT: {"CE": results.after[KEPT]["CE"]}}
        return full - {check.name for check in checks(dataclasses.replace(results, after=after))}

    first = {
        "destroyed: Pass@1 over the batches of RL: TailSFT minus CE of equal KL",
        "destroyed: Pass@1 after 10 batches of RL: TailSFT minus base",
        "destroyed: Pass@1 after RL: TailSFT minus base",
        "kept: Pass@1 over the batches of RL: TailSFT minus CE",
    }
    assert gone("CE", "half") == first
    assert gone("CE", "base", "stopped_half") == first | {
        "destroyed: Pass@1 over the batches of RL: TailSFT minus CE",
        "destroyed: Pass@16 over the batches of RL: TailSFT minus CE",
        "destroyed: Pass@1 after RL: TailSFT minus CE, from below",
        "destroyed: Pass@1 after RL: TailSFT minus CE, from above",
    }
