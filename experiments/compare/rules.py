"""Choices of every selection rule in every compared run, with the metrics of the chosen checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from covlab.claims.selection import run_matrices, run_tables
from covlab.launch.found_runs import Problem
from experiments.compare.groups import Group, Member, Summary, summary
from experiments.compare.runs import Run
from metrics import TieBreak, last, select_lowest

CE, KL = "eval/ce", "eval/kl"
ORACLE = "oracle_pass_at_n"


@dataclasses.dataclass(frozen=True)
class RuleRow:
    """A rule's choices in one group, over its seeds.

    Attributes:
        rule: name of the rule, with N if it has one.
        step: steps of the chosen checkpoints.
        values: metric -> value at the chosen checkpoint.
        behind: the oracle's Pass@N minus the choice's, seed by seed; NaN without Pass@N.
        seeds: number of seeds with a choice.
    """

    rule: str
    step: Summary
    values: dict[str, Summary]
    behind: Summary
    seeds: int


Tournaments = Mapping[tuple[str, int], int]
"""(run's name, seed) -> the step that the tournament chose."""


def tournaments(
    runs: Iterable[Run], n: float, tie_break: TieBreak
) -> tuple[dict[tuple[str, int], int], list[Problem]]:
    """The simple tournament on `log_probs/` of every run that has the folder.

    Source: Coverage Principle, arXiv 2510.15020, the simple tournament.

    Raises:
        ValueError: an N below 1.
    """
    if not n >= 1:
        raise ValueError(f"tournament.n: {n}; valid: a number >= 1")
    steps: dict[tuple[str, int], int] = {}
    problems = []
    for run in runs:
        try:
            matrices = run_matrices(run.head.path, None if run.phase == "all" else run.phase)
            tables = run_tables(matrices, (n,), (tie_break,), (1,), ("simple_tournament",))
        except (ValueError, KeyError) as error:
            problems.append(Problem(run.head.name, f"no tournament: {error}"))
            continue
        steps |= {(run.head.name, seed): int(rows[0]["step"]) for seed, rows in tables.items()}
    return steps, problems


def choices(member: Member, oracles: Sequence[str], steps: Tournaments, tournament: str) -> dict[str, int]:
    """Rule -> index of the chosen checkpoint among the evaluated checkpoints of one seed.

    The cross-entropy breaks the oracles' ties, as in `experiments.select`.

    Args:
        member: a seed of a run.
        oracles: the `eval/pass/<N>` of the oracles.
        chosen: steps that the tournament chose.
        tournament: the tournament's name as a rule.
    """
    values = member.run.values
    scores = {key: member.column(key) for key in (CE, KL, *oracles) if key in values}
    evaluated = {key: np.flatnonzero(~np.isnan(column)) for key, column in scores.items()}
    indices: dict[str, int] = {}
    step = steps.get((member.run.head.name, member.seed))
    at = np.flatnonzero(member.run.step == step)
    if step is not None and at.size:
        indices[tournament] = int(at[-1])
    for rule, key in (("min_cross_entropy", CE), ("min_kl", KL)):
        if key in scores and evaluated[key].size:
            indices[rule] = int(evaluated[key][select_lowest(rule, scores[key][evaluated[key]]).index])
    for key in oracles:
        if key not in scores or not evaluated[key].size:
            continue
        kept = evaluated[key]
        order = scores[CE][kept] if CE in scores and not np.isnan(scores[CE][kept]).any() else None
        choice = select_lowest(
            ORACLE, 1 - scores[key][kept], "earliest" if order is None else "min_cross_entropy",
            cross_entropies=order,
        )  # fmt: skip
        indices[f"{ORACLE}, N = {key.rpartition('/')[2]}"] = int(kept[choice.index])
    there = np.unique(np.concatenate([np.zeros(0, int), *evaluated.values()]))
    if there.size:
        indices["last"] = int(there[last(there.size).index])
    return indices


def rule_rows(
    group: Group,
    metrics: Sequence[str],
    oracles: Sequence[str],
    steps: Tournaments,
    tournament: str,
) -> list[RuleRow]:
    """One row per rule that applies to some seed of the group."""
    picks = [(member, choices(member, oracles, steps, tournament)) for member in group.members]
    rules = dict.fromkeys(rule for _, indices in picks for rule in indices)
    rows = []
    for rule in rules:
        pairs = [(member, indices[rule]) for member, indices in picks if rule in indices]
        rows.append(
            RuleRow(
                rule,
                summary([float(member.run.step[index]) for member, index in pairs]),
                {
                    metric: summary([float(member.column(metric)[index]) for member, index in pairs])
                    for metric in metrics
                },
                summary(
                    [_behind(member, index, oracles[0]) if oracles else math.nan for member, index in pairs]
                ),
                len(pairs),
            )
        )
    return rows


def _behind(member: Member, index: int, oracle: str) -> float:
    column = member.column(oracle)
    known = column[~np.isnan(column)]
    return float(known.max() - column[index]) if known.size else math.nan
