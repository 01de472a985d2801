"""The tables of `optimizers_graph`'s report."""

from __future__ import annotations

from typing import Any

import numpy as np

from covlab.report.page import format_interval
from experiments.optimizers_graph.measure import Compared, Measurements
from experiments.optimizers_graph.rules import RULES
from metrics import mean_interval

Table = tuple[str, list[str], list[list[Any]]]


def tables(found: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_final(found), _equal_loss(found), _every_n(found)]


def _final(found: Measurements) -> Table:
    rows: list[list[Any]] = []
    for task, cells in found.tasks.items():
        for cell in cells:
            for rule, curves in cell.curves.items():
                row: list[Any] = [task, cell.response, RULES[rule].title]
                for own in (curves.kl, found.cov(curves), found.passes(curves)):
                    each = mean_interval(own[:, -1])
                    row += [each.estimate, format_interval((each.low, each.high))]
                rows.append(row)
    return (
        "After equal steps: mean over seeds with its 95 % interval.",
        ["task", "H", "rule", "KL (nats)", "", f"Cov_{found.n:g}", "", f"Pass@{found.pass_n}", ""],
        rows,
    )


def _equal_loss(found: Measurements) -> Table:
    rows: list[list[Any]] = []
    for task, cells in found.tasks.items():
        for cell in cells:
            for rule in RULES:
                row: list[Any] = [task, cell.response, RULES[rule].title]
                for of in (found.cov, found.passes):
                    each = mean_interval(cell.at_levels(rule, of).mean(axis=1))
                    gap = mean_interval(cell.gap(rule, of))
                    row += [each.estimate, gap.estimate, format_interval((gap.low, gap.high))]
                rows.append([*row, _span(cell)])
    return (
        "At equal cross-entropy: means over the levels of KL, and SGD's minus the rule's, paired by seed, "
        "with its 95 % interval. Lower Cov and higher Pass are better.",
        [
            *(
                "task",
                "H",
                "rule",
                f"Cov_{found.n:g}",
                "SGD - rule",
                "",
                f"Pass@{found.pass_n}",
                "SGD - rule",
                "",
            ),
            "levels of KL (nats)",
        ],
        rows,
    )


def _every_n(found: Measurements) -> Table:
    """The gap at equal cross-entropy at every N, because the N that is judged is a choice."""
    ns = sorted(next(iter(found.tasks.values()))[0].curves["sgd"].cov)
    rows: list[list[Any]] = []
    for task, cells in found.tasks.items():
        for cell in cells:
            for rule in RULES:
                gaps = [float(np.mean(cell.gap(rule, lambda curves, n=n: curves.cov[n]))) for n in ns]  # type: ignore[misc]
                rows.append([task, cell.response, RULES[rule].title, *gaps])
    return (
        "At equal cross-entropy, Cov_N of SGD minus that of the rule at every N, mean over seeds and levels.",
        ["task", "H", "rule", *(f"N = {n:g}" for n in ns)],
        rows,
    )


def _span(cell: Compared) -> str:
    return f"{cell.levels[0]:.3g} to {cell.levels[-1]:.3g}"
