"""Printing a comparison, and writing it as one HTML page with figures and CSV files."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from covlab.report.page import write_report
from covlab.report.plotting import save
from covlab.report.tables import print_table
from experiments.compare import figures as compare_figures
from experiments.compare.tables import (
    Comparison,
    flat_rules,
    flat_table,
    range_note,
    remarks,
    rules_table,
    table,
    title,
)
from tracking import LoadError
from tracking.atomic import atomic_write

AXES = ("step", "global_step")
MOST_ROWS = 1000
"""Largest number of rows of a table in the page; a browser is slow with more. `table.csv` has all rows."""
NAMED = 12
"""Largest number of omitted runs that are printed."""


def print_page(comparison: Comparison) -> None:
    """Print the tables and the remarks."""
    columns, rows = table(comparison, comparison.top, ranges=False)
    over = ", medians over the seeds" if comparison.repeated else ""
    print_table(f"{title(comparison)}{over}", columns, rows)
    if len(comparison.groups) > comparison.top:
        print(f"and {len(comparison.groups) - comparison.top} groups more")
    ranks = range(1, min(comparison.top, len(comparison.shown)) + 1)
    columns, rows = rules_table(comparison, ranks)
    if rows:
        print_table("Checkpoints that the selection rules take, medians over the seeds", columns, rows)
    print()
    for line in remarks(comparison):
        print(line)
    for problem in comparison.problems[:NAMED]:
        print(f"left out: {problem.what}: {problem.why}")
    if len(comparison.problems) > NAMED:
        print(f"left out: {len(comparison.problems) - NAMED} more, see the page")


def write_page(comparison: Comparison, out: str, config_text: str, arguments: Sequence[str]) -> Path:
    """Write `report.html`, the two CSV files and the figures into the folder `out`; returns the page's path.

    Raises:
        ValueError: `out` is a run directory, or cannot be written.
    """
    folder = Path(out)
    if (folder / "metrics.jsonl").exists() or (folder / "config.yaml").exists():
        raise LoadError(f"out: {out}: holds a run; valid: a folder of its own, such as runs/compare")
    try:
        drawn = []
        for name, (caption, figure) in figures(comparison).items():
            (path,) = save(figure, folder / "figures" / f"{name}.png")
            drawn.append((caption, path))
        columns, rows = table(comparison, MOST_ROWS)
        beyond = "" if len(comparison.groups) <= MOST_ROWS else f" The first {MOST_ROWS}; table.csv has all."
        tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = [
            (f"{title(comparison)}.{range_note(comparison)}{beyond}", columns, rows)
        ]
        columns, rows = rules_table(comparison, range(1, len(comparison.shown) + 1))
        if rows:
            tables.append(("Checkpoints that the selection rules take, medians over the seeds. Behind the "
                           "oracle: its Pass@N minus that of the choice, seed by seed; rules.csv has all.",
                           columns, rows))  # fmt: skip
        if comparison.problems:
            left = [[problem.what, problem.why] for problem in comparison.problems[:MOST_ROWS]]
            tables.append((f"Left out: {len(comparison.problems)}", ["what", "why"], left))
        atomic_write(folder / "table.csv", _csv(*flat_table(comparison)))
        atomic_write(folder / "rules.csv", _csv(*flat_rules(comparison)))
        return write_report(
            folder / "report.html",
            f"Comparison of {sum(len(group.runs) for group in comparison.groups)} runs",
            figures=drawn,
            tables=tables,
            config_text=config_text,
            intro_paragraphs=remarks(comparison),
            provenance={"Command": _command(arguments)},
        )
    except OSError as error:
        raise LoadError(f"out: {out}: {error.strerror}: choose a folder that can be written") from None


def figures(comparison: Comparison) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure."""
    shown = dict(zip(comparison.labels, comparison.shown, strict=True))
    others = comparison.groups[len(shown) :]
    metrics, oracles, band = comparison.metrics, comparison.oracles, comparison.band
    band_text = "whole range" if band == "range" else f"quantiles {band[0]} to {band[1]}"
    over = f"Medians over the seeds; bands: their {band_text}." if comparison.repeated else ""
    grey = (
        f" Grey: median and middle 80 % of the medians of the other {len(others)} groups." if others else ""
    )
    drawn: dict[str, tuple[str, Figure]] = {}
    if comparison.x in AXES:
        figure = compare_figures.curves(shown, others, metrics, comparison.x, band)
        drawn["curves"] = (f"Metrics against the {comparison.x.replace('_', ' ')}. {over}{grey}", figure)
    else:
        figure = compare_figures.paths(shown, others, metrics, comparison.x)
        drawn["paths"] = (
            f"Metrics against {comparison.x}: every checkpoint a dot, every group a line through the medians "
            f"over its seeds, ending in the large dot.{' Grey: the other groups.' if others else ''}",
            figure,
        )
    kind, _, metric = comparison.sort.partition(":")
    kind, metric = kind if kind in ("best", "final") else "best", metric or metrics[0]
    metric = metric if metric in metrics else metrics[0]
    value = [numbers[metric, kind][0] for numbers in comparison.all_numbers]
    by_setting = compare_figures.settings(comparison.groups, value, comparison.names, f"{kind} {metric}")
    if by_setting is not None:
        drawn["settings"] = (
            f"{kind.capitalize()} {metric} of every group against each setting, the most telling first.",
            by_setting,
        )
    metric = oracles[0] if oracles and oracles[0] in metrics else metrics[0]
    choices = {
        text: {
            row.rule: row.values[metric]
            for row in comparison.rules.get(rank, ())
            if all(map(math.isfinite, row.values[metric]))
        }
        for rank, text in enumerate(comparison.labels, start=1)
    }
    if any(len(rows) > 1 for rows in choices.values()):
        drawn["rules"] = (
            f"{metric} at the checkpoint that each rule takes: median and range over the seeds.",
            compare_figures.rules(choices, metric),
        )
    return drawn


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _command(arguments: Sequence[str]) -> str:
    """The command line as typed, with a long list of runs cut."""
    kept = [shlex.quote(argument) for argument in arguments]
    if len(kept) > 12:
        kept = [*kept[:4], f"... ({len(kept) - 8} more)", *kept[-4:]]
    return " ".join(["python -m experiments.compare", *kept])
