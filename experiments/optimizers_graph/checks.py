"""Checks of experiments.optimizers_graph, with the reason for each target, and notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.optimizers_graph.measure import (
    REACHED,
    ROOM,
    SPAN,
    Compared,
    Measurements,
    over_seeds,
    trend,
)
from experiments.optimizers_graph.rules import BASELINE, NORMALISED, RULES
from metrics import Interval

LEARNED = 0.5
"""Of the KL at the start: what is left at the lowest level of comparison, at most."""
FINE = 1.5
"""KL before over KL after, of the evaluations around a level, on average, at most."""
Gap = Callable[[Compared, str], np.ndarray]
LOSS, STEPS = "at equal cross-entropy", "after equal steps"


def places(results: Measurements, task: str) -> dict[str, tuple[Gap, float]]:
    """By the words for where rules are compared: Cov_N of SGD minus that of a rule, and the N at the longest
    responses."""
    of = results.cov(task)
    return {
        STEPS: (lambda cell, rule: cell.gap_over_steps(rule, of), results.n[task]),
        LOSS: (lambda cell, rule: cell.gap(rule, cell.cov), results.tasks[task][-1].n),
    }


def gaps(cells: Sequence[Compared], gap: Gap, rule: str) -> Float[np.ndarray, "seeds lengths"]:
    """A rule's gap to SGD by seed and length."""
    return np.array([gap(cell, rule) for cell in cells]).T


def growth(cells: Sequence[Compared], gap: Gap, rule: str) -> Interval:
    """By how much a rule's gap grows for each doubling of the response."""
    return trend([cell.response for cell in cells], gaps(cells, gap, rule))


def at_longest(cells: Sequence[Compared], gap: Gap, rule: str) -> Interval:
    """A rule's gap at the longest response."""
    return over_seeds(gaps(cells, gap, rule)[:, -1])


def learned(cell: Compared) -> float:
    """The lowest level of KL over the lowest KL at the start."""
    start = min(float(curves.kl[:, 0].min()) for curves in cell.curves.values())
    return float(cell.levels[0]) / start


def room(results: Measurements, task: str) -> dict[str, list[Interval]]:
    """By place: Cov_N of the rules where they are compared, an interval each. At equal cross-entropy of every
    rule that is judged, at every length and level; after equal steps of SGD at the longest responses."""
    cells = results.tasks[task]
    levels = [
        over_seeds(column)
        for cell in cells
        for rule in (BASELINE, *NORMALISED)
        for column in cell.at_levels(rule, cell.cov).T
    ]
    steps = [over_seeds(cells[-1].over_steps(BASELINE, results.cov(task)))]
    return {STEPS: steps, LOSS: levels}


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval over seeds.

    The claim: a rule whose step is normalised covers more than SGD, and the more so the longer the responses
    are. It is asked of four rules, one by one, of each task, in two places; a gap is Cov_N of SGD minus that
    of the rule, so it is positive where the rule is better.

    What is the paper's and what is not:

    - Normalised SGD after equal steps is the paper's statement (section 5): for linear models the mean of
      Cov_N over the iterates is of the order of H/(T ln N) under SGD in the worst case, and free of H under
      normalised SGD. That it carries over to transformers is a conjecture of this project.
    - Sign-SGD and AdamW after equal steps: the paper's authors speculate that normalisation by coordinate
      shares the benefit; nothing is proved. Muon: a conjecture of this project.
    - At equal cross-entropy nothing is stated for any rule; all four are conjectures of this project. The
      question is whether a rule decides more than the cross-entropy: one that only trains faster has no gap.

    For each task, rule and place there are two checks:

    - The gap at the longest response is positive. Threshold 0, because theory and conjectures give signs and
      no sizes.
    - The gap grows with log2 H: its slope is positive. After equal steps N is the same at all lengths, as in
      the theorem. At equal cross-entropy each length has its own KL and N, at which Cov_N is about 1/2.

    For each task seven checks say that the comparisons are not empty and not made by the measurement:

    - At equal cross-entropy Cov_N lies in [.2, .8] under SGD and every judged rule, at every length (two
      checks: the least and the largest). Near 0 or 1 no rule could show a gap.
    - After equal steps that of SGD does, at the longest responses (two checks). A rule's own may lie
      anywhere. At shorter responses SGD covers more, and all gaps are small: that is what growth says.
    - On three quarters of the seeds or more, all these rules reach the level. The others have no gap at
      equal cross-entropy; with many of them it would be one among runs that happened to succeed.
    - Around the levels KL falls by at most a third from one evaluation to the next, on average, or
      interpolation would decide.
    - At every length the lowest level is at most half of the KL at the start, or little would be learned.

    The coverage bound by KL holds at every evaluation. With two tasks and four rules this is 32 checks of the
    claim and 15 of the measurement. The claim holds if all pass, so many checks make it no easier to hold by
    chance: a gap that is not positive passes with a probability of at most .025. They make it easier to be
    refuted by chance, which needs an interval below 0, or open: where a gap is 0, its check fails with a
    probability of .025. Rules are therefore to be read one by one; the verdict lists each.

    Raises:
        ValueError: with fewer than two seeds.
    """
    judged: list[Check] = []
    for task, cells in results.tasks.items():
        longest = f"H = {cells[-1].response}"
        for place, (gap, n) in places(results, task).items():
            for rule in NORMALISED:
                of = f"{task}, {place}: Cov of SGD minus {RULES[rule].title}'s"
                judged += [
                    above(f"{of}, {longest}, N = {n:g}", at_longest(cells, gap, rule), 0),
                    above(f"{of}, growth for each doubling of H", growth(cells, gap, rule), 0),
                ]
        for place, found in room(results, task).items():
            whose = "SGD's Cov, mean over iterates, longest H" if place == STEPS else "Cov of every rule"
            judged += [
                at_least(f"{task}, {place}: {whose}, least", _least(found), ROOM[0]),
                at_most(f"{task}, {place}: {whose}, largest", _largest(found), ROOM[1]),
            ]
        fine = f"{task}: KL over that of the next evaluation, around the levels, largest of all lengths"
        deep = f"{task}: lowest level of KL over the KL at the start, largest of all lengths"
        judged += [
            at_least(f"{task}: share of seeds that reach the levels, least", _reached(cells), REACHED),
            at_most(fine, max(cell.coarseness for cell in cells), FINE),
            at_most(deep, max(learned(cell) for cell in cells), LEARNED),
        ]
    return (*judged, check_bound(results.bound_excess))


def _reached(cells: Sequence[Compared]) -> float:
    return min(cell.reached for cell in cells)


def _least(intervals: Sequence[Interval]) -> Interval:
    """The interval with the lowest end; one without a number, if there is one."""
    return min(intervals, key=lambda one: one.low if np.isfinite(one.low) else -np.inf)


def _largest(intervals: Sequence[Interval]) -> Interval:
    """The interval with the highest end; one without a number, if there is one."""
    return max(intervals, key=lambda one: one.high if np.isfinite(one.high) else np.inf)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    count = len(next(iter(results.tasks.values()))[0].levels)
    several = f", mean over {count} levels up to {SPAN:g} times that KL" if count > 1 else ""
    written = [
        "A gap is Cov_N of SGD minus that of the rule, paired by seed (same initial parameters, training "
        "examples and held-out set). At equal cross-entropy it is that at a KL and in an N that other seeds "
        f"chose for each length{several}; Cov_N is interpolated where the KL first falls to the level. After "
        "equal steps it is the mean over the iterates."
    ]
    for task, cells in results.tasks.items():
        where = "; ".join(
            f"H = {cell.response}: Cov_{cell.n:g} from {cell.levels[0]:.3g} nats, reached by "
            f"{cell.reached:.0%} of the seeds"
            for cell in cells
        )
        written.append(f"{task}, {LOSS}: {where}. {STEPS.capitalize()}: Cov_{results.n[task]:g}.")
        for place, (gap, _) in places(results, task).items():
            spreads = "; ".join(
                f"{RULES[rule].title} "
                + ", ".join(interval_text(over_seeds(column)) for column in gaps(cells, gap, rule).T)
                + f", growth {interval_text(growth(cells, gap, rule))}"
                for rule in RULES
                if rule != BASELINE
            )
            lengths = ", ".join(str(cell.response) for cell in cells)
            written.append(
                f"{task}, {place}: gap in Cov_N to SGD at H = {lengths}, and its growth for each doubling of "
                f"H: {spreads}."
            )
    learning_rates = "; ".join(
        f"{name}: " + ", ".join(f"{rule} {rate:g}" for rule, rate in spreads.items())
        for name, spreads in results.rates.items()
    )
    written.append(f"Learning rates, chosen by validation loss on other seeds and prompts: {learning_rates}.")
    return (*written, *left_out_notes(results.seeds, results.left_out))
