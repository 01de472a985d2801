"""Checks of experiments.optimizers_graph, with the reason for each target, and notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_most
from experiments.optimizers_graph.measure import DEEPEST, Compared, Measurements, normalised_gap, trend
from experiments.optimizers_graph.rules import BASELINE, NORMALISED, RULES
from metrics import Interval, mean_interval

LEARNED = 0.5
"""Of the KL at the start: what is left at the lowest level that all rules reach, at most."""
FINE = 1.5
"""KL before over KL after, of the evaluations around a level, on average, at most."""
Gap = Callable[[Compared, str], np.ndarray]


def places(results: Measurements) -> tuple[tuple[str, Gap], ...]:
    """Cov_n of SGD minus that of a rule, with the words for where they are compared."""
    return (
        ("at equal cross-entropy", lambda cell, rule: cell.gap(rule, results.cov)),
        ("after equal steps", lambda cell, rule: cell.final_gap(rule, results.cov)),
    )


def growth(cells: Sequence[Compared], gap: Gap, rules: Sequence[str] = NORMALISED) -> Interval:
    """By how much the mean gap over `rules` grows for each doubling of the response."""
    return trend([cell.response for cell in cells], normalised_gap(cells, gap, rules))


def at_longest(cells: Sequence[Compared], gap: Gap, rules: Sequence[str] = NORMALISED) -> Interval:
    """The mean gap over `rules` at the longest response."""
    return mean_interval(normalised_gap(cells, gap, rules)[:, -1])


def learned(cell: Compared) -> float:
    """The lowest level of KL that all rules reach, over the lowest KL at the start."""
    start = min(float(curves.kl[:, 0].min()) for curves in cell.curves.values())
    return float(cell.levels[0]) / start


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval over seeds.

    The claim is that normalised updates (mean over normalised SGD, sign-SGD, AdamW and Muon) cover more than
    SGD, and the more so the longer the responses are. The theory behind it is for linear models; for
    transformers this is a conjecture, and a failure a result. For each task, of Cov_n of SGD minus that of
    the normalised rules, which is positive where these are better:

    - At equal cross-entropy, the gap at the longest response is positive, and it grows with log2 H. This is
      the question: a rule that only trains faster has no gap here. Threshold 0, because the theory gives
      signs and no size.
    - After equal steps, both again: what the theory for linear models says.
    - The comparison is not vacuous: at every length, the lowest KL that all rules reach is at most half of
      that at the start. Above that, no rule would have learned much.
    - Nor is it made by interpolation: around the levels, KL falls by at most a third from one evaluation to
      the next, on average.
    - The coverage bound by KL holds at every evaluation.

    Raises:
        ValueError: with fewer than two seeds.
    """
    of = f"Cov_{results.n:g} of SGD minus normalised rules'"
    judged: list[Check] = []
    for task, cells in results.tasks.items():
        longest = f"H = {cells[-1].response}"
        for place, gap in places(results):
            grows = f"{task}, {place}: its growth for each doubling of H"
            judged += [
                above(f"{task}, {place}: {of}, {longest}", at_longest(cells, gap), 0),
                above(grows, growth(cells, gap), 0),
            ]
        fine = f"{task}: KL over that of the next evaluation, around the levels, largest of all lengths"
        deep = f"{task}: lowest common KL over that at the start, largest of all lengths"
        judged += [
            at_most(fine, max(cell.coarseness for cell in cells), FINE),
            at_most(deep, max(learned(cell) for cell in cells), LEARNED),
        ]
    return (*judged, check_bound(results.bound_excess))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    written = [
        "A gap is Cov_N of SGD minus that of the rule, paired by seed (same initial parameters, training "
        f"examples and held-out set). At equal cross-entropy it is the mean over {_levels(results)} levels "
        f"of KL, from the lowest that every seed of every rule reaches to {DEEPEST:g} times that at most; "
        "Cov_N is interpolated where the KL first falls to the level."
    ]
    for task, cells in results.tasks.items():
        for place, gap in places(results):
            spreads = "; ".join(
                f"{RULES[rule].title} {interval_text(at_longest(cells, gap, (rule,)))}, growth "
                f"{interval_text(growth(cells, gap, (rule,)))}"
                for rule in RULES
                if rule != BASELINE
            )
            written.append(
                f"{task}, {place}: gap in Cov_{results.n:g} to SGD at H = {cells[-1].response}, and its "
                f"growth for each doubling of H: {spreads}."
            )
    learning_rates = "; ".join(
        f"{name}: " + ", ".join(f"{rule} {rate:g}" for rule, rate in spreads.items())
        for name, spreads in results.rates.items()
    )
    written.append(f"Learning rates, chosen by validation loss on other seeds and prompts: {learning_rates}.")
    return (*written, *left_out_notes(results.seeds, results.left_out))


def _levels(results: Measurements) -> int:
    return len(next(iter(results.tasks.values()))[0].levels)
