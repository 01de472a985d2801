"""The ledger of claims: the newest verdict of every (claim, scale) in one table.

    python -m experiments.ledger [runs=runs] [results=results] [out=docs/claims.md]

Reads every `verdict.json` under the two folders, prints the table, and writes it as Markdown. It knows no
claim by name: a new one appears as soon as it has written a verdict. A file that cannot be believed is named
and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.report import format_interval, format_number
from experiments.verdict import Check, Verdict, VerdictError, describe_hardware, started_at
from tracking.atomic import atomic_write

COLUMNS = (
    "Claim",
    "Source",
    "Scale",
    "Measured",
    "Target",
    "Verdict",
    "Seeds",
    "Hardware",
    "Command",
    "Date",
)
HOW_TO = "no verdict yet; `python -m experiments.<claim> scale=cpu` makes one"

_DEFAULTS = {"runs": "runs", "results": "results", "out": "docs/claims.md"}
_HEADLINE = 3


def collect(folders: Iterable[str | Path]) -> tuple[list[Verdict], list[str]]:
    """The newest verdict of each (claim, scale), ordered by both, and one warning a file that was left out.

    Newest by `started`; of two with the same start, the one whose path comes last. Folders may be missing.
    """
    newest: dict[tuple[str, str], Verdict] = {}
    warnings = []
    paths = {path.resolve(): path for folder in folders for path in Path(folder).rglob("verdict.json")}
    for path in sorted(paths.values()):
        try:
            verdict = Verdict.read(path)
        except VerdictError as error:
            warnings.append(f"left out: {error}")
            continue
        key = (verdict.claim, verdict.scale)
        if key not in newest or started_at(newest[key].started) <= started_at(verdict.started):
            newest[key] = verdict
    return [newest[key] for key in sorted(newest)], warnings


def headline(verdict: Verdict) -> tuple[Check, ...]:
    """The checks that a row shows: the first three, and every one that did not pass."""
    return tuple(check for index, check in enumerate(verdict.checks) if index < _HEADLINE or not check.passed)


def row(verdict: Verdict) -> list[list[str]]:
    """One row of `COLUMNS`; a cell is a list of lines, and a check has one number in all cells."""
    shown = headline(verdict)
    hidden = len(verdict.checks) - len(shown)
    measured = [
        f"{number}. {check.name}: {format_number(check.measured)}"
        + (f" {format_interval(check.interval)}" if check.interval else "")
        for number, check in enumerate(shown, start=1)
    ]
    targets = [
        f"{number}. {check.target} ({'passed' if check.passed else 'not passed'})"
        for number, check in enumerate(shown, start=1)
    ]
    return [
        [verdict.claim],
        [verdict.source],
        [verdict.scale],
        measured + ([f"and {hidden} more, passed"] if hidden else []),
        targets,
        ["holds" if verdict.holds else "does not hold"],
        [str(len(verdict.seeds))],
        [describe_hardware(verdict.hardware)],
        [verdict.command],
        [started_at(verdict.started).date().isoformat()],
    ]


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table as Markdown. The same verdicts give the same bytes."""
    lines = [
        "# Claims",
        "",
        "Made by `python -m experiments.ledger` from the newest verdict of every claim and scale.",
        "Measured: the estimate and its 95 % interval.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    for verdict in verdicts:
        cells = ["<br>".join(_escaped(line) for line in cell) for cell in row(verdict)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table(verdicts: Sequence[Verdict]) -> Table:
    """The table for a terminal."""
    drawn = Table(show_lines=True, title="Claims", title_justify="left")
    for name in COLUMNS:
        drawn.add_column(name, overflow="fold")
    for verdict in verdicts:
        cells = [Text("\n".join(cell)) for cell in row(verdict)]
        cells[COLUMNS.index("Verdict")].stylize("bold green" if verdict.holds else "bold red")
        drawn.add_row(*cells)
    return drawn


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments over the defaults.

    Raises:
        ValueError: an argument that is not key=value, an unknown key, or an empty value.
    """
    settings = dict(_DEFAULTS)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in settings or not equals or not value:
            valid = ", ".join(f"{name}=PATH" for name in settings)
            raise ValueError(f"{argument!r}: not a setting of the ledger; valid: {valid}")
        settings[key] = value
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the ledger; returns the exit status: 0, or 2 for bad arguments.

    With no verdict at all it says how to make one, and leaves an existing Markdown file as it is.
    """
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    verdicts, warnings = collect((settings["runs"], settings["results"]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not verdicts:
        print(HOW_TO)
        return 0
    # A log or a pipe has no width of its own, and ten columns in the default one would be unreadable.
    Console(width=None if sys.stdout.isatty() else 200).print(table(verdicts))
    try:
        atomic_write(Path(settings["out"]), markdown(verdicts).encode())
    except OSError as error:
        print(
            f"error: out: {settings['out']!r}: {error.strerror}; valid: a file that can be written",
            file=sys.stderr,
        )
        return 2
    print(f"written to {settings['out']}")
    return 0


def _escaped(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(character, entity)
    return text


if __name__ == "__main__":
    sys.exit(main())
