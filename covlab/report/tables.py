"""Tables of results: rich on a terminal, Markdown where the output goes to a file or another program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.table import Table

from covlab.report.page import format_interval, format_number
from metrics import Interval


def cell(value: Any) -> str:
    """A number formatted as in the reports; an interval as `estimate [low, high]`."""
    if isinstance(value, Interval):
        return f"{format_number(value.estimate)} [{format_number(value.low)}, {format_number(value.high)}]"
    return format_number(value)


def interval_text(interval: Interval, digits: str = ".3f") -> str:
    """`estimate [low, high]`, every number in the format `digits`."""
    return f"{interval.estimate:{digits}} [{interval.low:{digits}}, {interval.high:{digits}}]"


def estimate_and_ends(interval: Interval) -> tuple[float, str]:
    """Two cells of a report's table: the estimate, and `[low, high]`."""
    return interval.estimate, format_interval((interval.low, interval.high))


def change_text(values: Float[np.ndarray, "seeds checkpoints"]) -> str:
    """`first -> last`: means over the seeds at the first and the last checkpoint."""
    return f"{values[:, 0].mean():.3f} -> {values[:, -1].mean():.3f}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The table in Markdown, columns aligned.

    >>> print(markdown(["N", "Cov_N"], [[2, 0.25]]))
    | N | Cov_N |
    |---|-------|
    | 2 | 0.25  |
    """
    texts = [
        [text.replace("|", "\\|") for text in row]
        for row in ([*columns], *([cell(v) for v in r] for r in rows))
    ]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in texts
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def print_fields(title: str, fields: Sequence[tuple[str, Any]]) -> None:
    """Print `name: value` lines below a title; nothing is escaped, so that prompts can be copied."""
    console = Console(highlight=False)
    console.print(f"\n{title}", style="bold", markup=False)
    for name, value in fields:
        console.print(f"  {name}: {cell(value)}", markup=False, soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table with its title to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        print(f"\n{title}\n\n{markdown(columns, rows)}")
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Edge lists hold [ and ], which rich would take for markup.
        table.add_row(*(cell(value).replace("[", "\\[") for value in row))
    console.print(table)
