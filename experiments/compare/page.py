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


def print_page(found: Comparison) -> None:
    """Print the tables and the remarks."""
    columns, rows = table(found, found.top, ranges=False)
    over = ", medians over the seeds" if found.repeated else ""
    print_table(f"{title(found)}{over}", columns, rows)
    if len(found.groups) > found.top:
        print(f"and {len(found.groups) - found.top} groups more")
    ranks = range(1, min(found.top, len(found.shown)) + 1)
    columns, rows = rules_table(found, ranks)
    if rows:
        print_table("Checkpoints that the selection rules take, medians over the seeds", columns, rows)
    print()
    for line in remarks(found):
        print(line)
    for problem in found.problems[:NAMED]:
        print(f"left out: {problem.what}: {problem.why}")
    if len(found.problems) > NAMED:
        print(f"left out: {len(found.problems) - NAMED} more, see the page")


def write_page(found: Comparison, out: str, config_text: str, arguments: Sequence[str]) -> Path:
    """Write `report.html`, the two CSV files and the figures into the folder `out`; returns the page's path.

    Raises:
        ValueError: `out` is a run directory, or cannot be written.
    """
    folder = Path(out)
    if (folder / "metrics.jsonl").exists() or (folder / "config.yaml").exists():
        raise LoadError(f"out: {out}: holds a run; valid: a folder of its own, such as runs/compare")
    try:
        drawn = []
        for name, (caption, figure) in figures(found).items():
            (path,) = save(figure, folder / "figures" / f"{name}.png")
            drawn.append((caption, path))
        columns, rows = table(found, MOST_ROWS)
        beyond = "" if len(found.groups) <= MOST_ROWS else f" The first {MOST_ROWS}; table.csv has all."
        tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = [
            (f"{title(found)}.{range_note(found)}{beyond}", columns, rows)
        ]
        columns, rows = rules_table(found, range(1, len(found.shown) + 1))
        if rows:
            tables.append(("Checkpoints that the selection rules take, medians over the seeds. Behind the "
                           "oracle: its Pass@N minus that of the choice, seed by seed; rules.csv has all.",
                           columns, rows))  # fmt: skip
        if found.problems:
            left = [[problem.what, problem.why] for problem in found.problems[:MOST_ROWS]]
            tables.append((f"Left out: {len(found.problems)}", ["what", "why"], left))
        atomic_write(folder / "table.csv", _csv(*flat_table(found)))
        atomic_write(folder / "rules.csv", _csv(*flat_rules(found)))
        return write_report(
            folder / "report.html",
            f"Comparison of {sum(len(group.runs) for group in found.groups)} runs",
            figures=drawn,
            tables=tables,
            config_text=config_text,
            intro_paragraphs=remarks(found),
            provenance={"Command": _command(arguments)},
        )
    except OSError as error:
        raise LoadError(f"out: {out}: {error.strerror}: choose a folder that can be written") from None


def figures(found: Comparison) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure."""
    shown = dict(zip(found.labels, found.shown, strict=True))
    others = found.groups[len(shown) :]
    band = "whole range" if found.band == "range" else f"quantiles {found.band[0]} to {found.band[1]}"
    over = f"Medians over the seeds; bands: their {band}." if found.repeated else ""
    grey = (
        f" Grey: median and middle 80 % of the medians of the other {len(others)} groups." if others else ""
    )
    drawn: dict[str, tuple[str, Figure]] = {}
    if found.x in AXES:
        figure = compare_figures.curves(shown, others, found.metrics, found.x, found.band)
        drawn["curves"] = (f"Metrics against the {found.x.replace('_', ' ')}. {over}{grey}", figure)
    else:
        figure = compare_figures.paths(shown, others, found.metrics, found.x)
        drawn["paths"] = (
            f"Metrics against {found.x}: every checkpoint a dot, every group a line through the medians over "
            f"its seeds, ending in the large dot.{' Grey: the other groups.' if others else ''}",
            figure,
        )
    kind, _, metric = found.sort.partition(":")
    kind, metric = kind if kind in ("best", "final") else "best", metric or found.metrics[0]
    metric = metric if metric in found.metrics else found.metrics[0]
    value = [numbers[metric, kind][0] for numbers in found.all_numbers]
    by_setting = compare_figures.settings(found.groups, value, found.names, f"{kind} {metric}")
    if by_setting is not None:
        drawn["settings"] = (
            f"{kind.capitalize()} {metric} of every group against each setting, the most telling first.",
            by_setting,
        )
    metric = found.oracles[0] if found.oracles and found.oracles[0] in found.metrics else found.metrics[0]
    chosen = {
        text: {
            row.rule: row.values[metric]
            for row in found.rules.get(rank, ())
            if all(map(math.isfinite, row.values[metric]))
        }
        for rank, text in enumerate(found.labels, start=1)
    }
    if any(len(rows) > 1 for rows in chosen.values()):
        drawn["rules"] = (
            f"{metric} at the checkpoint that each rule takes: median and range over the seeds.",
            compare_figures.rules(chosen, metric),
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
