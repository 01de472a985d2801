"""The whole answer of `select` on evaluations, printed and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from covlab.evaluated.counts import of_counts
from covlab.evaluated.log_probs import of_log_probs
from covlab.evaluated.predictors import of_both, read_later
from covlab.evaluated.section import Section
from covlab.readers.joining import Joined
from covlab.report.plotting import save
from covlab.report.tables import print_table
from metrics import TieBreak


def sections_of(
    joined: Joined,
    ns: Sequence[float],
    tie_breaks: Sequence[TieBreak],
    rules: Sequence[str] | None,
    pass_ns: Sequence[int] | None,
    taus: Sequence[float],
    pair: Sequence[str] | None,
    later: str | None,
    resamples: int,
) -> dict[str, Section]:
    """`log_probs`, `counts` and `both`, as far as the evaluations and a later number allow.

    Raises:
        ValueError: a setting that does not fit the evaluations.
    """
    sections: dict[str, Section] = {}
    values = None if later is None else read_later(later)
    if joined.log_probs is not None:
        sections["log_probs"] = of_log_probs(joined.log_probs, ns, tie_breaks, rules, resamples)
    if joined.counts is not None:
        sections["counts"] = of_counts(joined.counts, pass_ns, taus, pair, resamples)
    if values is not None:
        sections["both"] = of_both(joined, values, ns, pass_ns)
    return sections


def show(
    sections: Mapping[str, Section], notes: Sequence[str], print_rows: Callable[[str, Any], None]
) -> None:
    """Print notes, tables and sentences; the rules' table of the log-probabilities by `print_rows`."""
    for note in notes:
        print(note)
    for name, section in sections.items():
        for table in section.tables:
            print_table(table.title, table.columns, table.rows)
        if name == "log_probs":
            print_rows("The choice of every rule", section.content["table"])
        print()
        for sentence in section.sentences:
            print(sentence)


def write_figures(sections: Mapping[str, Section], target: Path) -> list[Path]:
    """Write `<target's stem>_<name>.png` beside `target`."""
    return [
        save(figure, target.with_name(f"{target.stem}_{name}.png"))[0]
        for section in sections.values()
        for name, figure in section.figures.items()
    ]
