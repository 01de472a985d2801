"""Printing a comparison, and writing it as one HTML page with figures and CSV files."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from covlab.report.page import Section, write_report
from covlab.report.plotting import save
from covlab.report.tables import print_table
from experiments.compare import figures as compare_figures
from experiments.compare import sections
from experiments.compare.sections import Section as MetricSection
from experiments.compare.tables import (
    Comparison,
    directions,
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
from tracking.metric_names import titled

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
        atomic_write(folder / "table.csv", _csv(*flat_table(comparison)))
        atomic_write(folder / "rules.csv", _csv(*flat_rules(comparison)))
        return write_report(
            folder / "report.html",
            f"Comparison of {sum(len(group.runs) for group in comparison.groups)} runs",
            config_text=config_text,
            intro_paragraphs=remarks(comparison),
            provenance={"Command": _command(arguments)},
            sections=_sections(comparison, folder / "figures"),
        )
    except OSError as error:
        raise LoadError(f"out: {out}: {error.strerror}: choose a folder that can be written") from None


def _sections(comparison: Comparison, folder: Path) -> list[Section]:
    """The page's parts: sweep, a section a quantity, groups side by side, rules, what is left out."""

    def saved(drawings: Mapping[str, tuple[str, Figure]]) -> list[tuple[str, Path]]:
        return [(caption, save(fig, folder / f"{name}.png")[0]) for name, (caption, fig) in drawings.items()]

    columns, rows = table(comparison, MOST_ROWS)
    beyond = "" if len(comparison.groups) <= MOST_ROWS else f" The first {MOST_ROWS}; table.csv has all."
    caption = f"{title(comparison)}. {directions(comparison)}{range_note(comparison)}{beyond}"
    parts = [Section("Sweep", saved(setting_figures(comparison)), [(caption, columns, rows)])]
    for section in comparison.sections:
        parts.append(Section(section.title, saved(metric_figures(comparison, section))))
    parts.append(Section("Groups side by side", saved(group_figures(comparison))))
    columns, rows = rules_table(comparison, range(1, len(comparison.shown) + 1))
    if rows:
        caption = (
            "Checkpoints that the selection rules take, medians over the seeds. Behind the oracle: its "
            "Pass@N minus that of the choice, seed by seed; rules.csv has all."
        )
        parts.append(Section("Selection rules", saved(rule_figures(comparison)), [(caption, columns, rows)]))
    if comparison.problems:
        left = [[problem.what, problem.why] for problem in comparison.problems[:MOST_ROWS]]
        caption = f"Left out: {len(comparison.problems)}"
        parts.append(Section("Left out", (), [(caption, ["what", "why"], left)]))
    return parts


def metric_figures(comparison: Comparison, section: MetricSection) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure of one quantity."""
    x = comparison.x if comparison.x in AXES else "step"
    several = any(len(family.lines) > 1 for family in section.families)
    lines = "One line for each N. " if several else ""
    caption = f"{section.title}, against the {x.replace('_', ' ')}. {lines}{_over(comparison)}"
    return {f"section_{section.kind}": (caption, sections.draw(section, x, comparison.band))}


def group_figures(comparison: Comparison) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure of the compared metrics, groups as lines."""
    shown = dict(zip(comparison.labels, comparison.shown, strict=True))
    others = comparison.groups[len(shown) :]
    metrics, x = comparison.metrics, comparison.x
    if x in AXES:
        grey = (
            f" Grey: median and middle 80 % of the medians of the other {len(others)} groups."
            if others
            else ""
        )
        figure = compare_figures.curves(shown, others, metrics, x, comparison.band)
        caption = f"Metrics against the {x.replace('_', ' ')}. {_over(comparison)}{grey}"
        return {"curves": (caption, figure)}
    caption = (
        f"Metrics against {x}: every checkpoint a dot, every group a line through the medians over "
        f"its seeds, ending in the large dot.{' Grey: the other groups.' if others else ''}"
    )
    return {"paths": (caption, compare_figures.paths(shown, others, metrics, x))}


def setting_figures(comparison: Comparison) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure of one number against the differing settings; empty without any."""
    metrics = comparison.metrics
    kind, _, metric = comparison.sort.partition(":")
    kind, metric = kind if kind in ("best", "final") else "best", metric or metrics[0]
    metric = metric if metric in metrics else metrics[0]
    value = [numbers[metric, kind][0] for numbers in comparison.all_numbers]
    figure = compare_figures.settings(comparison.groups, value, comparison.names, f"{kind} {metric}")
    caption = (
        f"{kind.capitalize()} {titled(metric)}, of every group against each setting, the most telling first."
    )
    return {} if figure is None else {"settings": (caption, figure)}


def rule_figures(comparison: Comparison) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure of the rules' choices; empty if there is at most one choice a group."""
    metrics, oracles = comparison.metrics, comparison.oracles
    metric = oracles[0] if oracles and oracles[0] in metrics else metrics[0]
    choices = {
        text: {
            row.rule: row.values[metric]
            for row in comparison.rules.get(rank, ())
            if all(map(math.isfinite, row.values[metric]))
        }
        for rank, text in enumerate(comparison.labels, start=1)
    }
    if not any(len(rows) > 1 for rows in choices.values()):
        return {}
    caption = f"{titled(metric)}, at the checkpoint that each rule takes: median and range over the seeds."
    return {"rules": (caption, compare_figures.rules(choices, metric))}


def _over(comparison: Comparison) -> str:
    """A sentence on lines and bands; empty if no group has several seeds."""
    band = comparison.band
    text = "whole range" if band == "range" else f"quantiles {band[0]} to {band[1]}"
    return f"Medians over the seeds; bands: their {text}." if comparison.repeated else ""


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
