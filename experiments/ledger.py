"""The ledger of claims: the newest verdict of every (claim, scale) in one table.

    python -m experiments.ledger [runs=runs] [results=results] [run=none|all|<claim>,<claim>...] [scale=cpu]
                                 [write=false|true] [out=docs/claims.md] [readme=README.md]

Reads every `verdict.json` under the two folders and prints one line per claim. No claim is listed by name: a
new claim appears as soon as it has written a verdict. An invalid file is named and left out.

With run=all every claim of the scale is run first, with run=figure1,vgb_delay the named claims, one after the
other; claims of installed packages (entry points of the group covlab.claims) count. A failed claim does not
stop the others, is named at the end, and makes the exit status 1.

Nothing is written unless write=true. The table of all checks then goes to `out` as Markdown and to
<results>/claims.json as JSON. One line per claim goes between the marks `<!-- claims -->` and
`<!-- /claims -->` of `readme`, if it has these marks. Verdicts and figures of the claims that ran go to
<results>/<claim>_<scale>/.

The common keys of all commands (`tracking`, `name`, `root`, `seed`, `resume`) are valid: `root` is a synonym
of `runs`, and the others have no effect.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from covlab.claims.running import chosen_claims, run_claims
from covlab.report.page import format_interval, format_number
from covlab.report.verdict import Check, Verdict, VerdictError, describe_hardware, open_text, started_at
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

MARKS = ("<!-- claims -->", "<!-- /claims -->")
"""Marks around the lines of the claims in the README."""

_DEFAULTS = {
    "runs": "runs",
    "results": "results",
    "out": "docs/claims.md",
    "readme": "README.md",
    "run": "none",
    "scale": "cpu",
    "write": "false",
}
_COMMON = re.compile(r"(tracking(\.\w+)?|name|seed|resume)=.")
"""Common settings of all commands that have no effect here."""
_HEADLINE = 3


def collect(folders: Iterable[str | Path]) -> tuple[list[Verdict], list[str]]:
    """The newest verdict of each (claim, scale), ordered by both, and one warning per file that was left out.

    The newest has the latest `started`; of equal starts, the last path counts. Folders may be missing.
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
    """The checks that a row shows: the first three, and every check that has not passed."""
    return tuple(check for index, check in enumerate(verdict.checks) if index < _HEADLINE or not check.passed)


def row(verdict: Verdict) -> list[list[str]]:
    """One row of `COLUMNS`; a cell is a list of lines, and a check has one line number in all cells."""
    shown = headline(verdict)
    hidden = len(verdict.checks) - len(shown)
    measured = [
        f"{number}. {check.name}: {format_number(check.measured)}"
        + (f" {format_interval(check.interval)}" if check.interval else "")
        for number, check in enumerate(shown, start=1)
    ]
    targets = [f"{number}. {check.target} ({check.state})" for number, check in enumerate(shown, start=1)]
    return [
        [verdict.claim],
        [verdict.source],
        [verdict.scale],
        measured + ([f"and {hidden} more, passed"] if hidden else []),
        targets,
        [verdict.outcome, *filter(None, [open_text(verdict)])],
        [str(len(verdict.seeds))],
        [describe_hardware(verdict.hardware)],
        [verdict.command],
        [started_at(verdict.started).date().isoformat()],
    ]


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table as Markdown. Equal verdicts give equal bytes."""
    lines = [
        "# Claims",
        "",
        "Made by `python -m experiments.ledger write=true` from the newest verdict of every claim and scale.",
        "Measured: the estimate and its 95 % interval.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    for verdict in verdicts:
        cells = ["<br>".join(_escaped(line) for line in cell) for cell in row(verdict)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def head(verdicts: Sequence[Verdict]) -> str:
    """One line per claim, for a README."""
    lines = [
        "| claim | scale | verdict | seeds | hardware | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for verdict in verdicts:
        passed = sum(check.passed for check in verdict.checks)
        seeds = verdict.seeds
        consecutive = len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
        cells = (
            verdict.title or verdict.claim,
            verdict.scale,
            f"{verdict.outcome}: {passed} of {len(verdict.checks)} checks",
            f"{seeds[0]}-{seeds[-1]}" if consecutive else ", ".join(map(str, seeds)),
            describe_hardware(verdict.hardware),
            verdict.command,
        )
        escaped = [_escaped(cell) for cell in cells]
        lines.append(f"| {' | '.join([*escaped[:-1], f'`{escaped[-1]}`'])} |")
    return "\n".join(lines)


def with_head(text: str, verdicts: Sequence[Verdict]) -> str:
    """`text` with `head` between the `MARKS`; unchanged if it has no marks."""
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{begin}\n{head(verdicts)}\n{end}{after}" if begin and end else text


def as_json(verdicts: Sequence[Verdict]) -> str:
    """A list of verdicts, each with its claim, scale, outcome, checks, seeds, command and date."""
    records = [
        {
            "claim": verdict.claim,
            "title": verdict.title,
            "source": verdict.source,
            "scale": verdict.scale,
            "holds": verdict.holds,
            "outcome": verdict.outcome,
            "checks": [dataclasses.asdict(check) | {"state": check.state} for check in verdict.checks],
            "seeds": verdict.seeds,
            "wall_seconds": verdict.wall_seconds,
            "hardware": verdict.hardware,
            "command": verdict.command,
            "started": verdict.started,
        }
        for verdict in verdicts
    ]
    return json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def lines(verdicts: Sequence[Verdict]) -> list[str]:
    """One line per claim for a terminal: name and scale, verdict, checks, seeds, date."""
    names = [" ".join(f"{verdict.claim} ({verdict.scale})".split()) for verdict in verdicts]
    width = max(map(len, names), default=0)
    return [f"{name:{width}}  {_outcome(verdict)}" for name, verdict in zip(names, verdicts, strict=True)]


def _outcome(verdict: Verdict) -> str:
    passed = sum(check.passed for check in verdict.checks)
    count = f"{passed} of {len(verdict.checks)} checks, {len(verdict.seeds)} seeds"
    return f"{verdict.outcome + ':':8} {count}, {started_at(verdict.started).date().isoformat()}"


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments over the defaults.

    Raises:
        ValueError: an argument that is not key=value, an unknown key, an empty value, or a `write` that is
            neither true nor false.
    """
    settings = dict(_DEFAULTS)
    for argument in arguments:
        if _COMMON.match(argument):
            continue
        key, equals, value = argument.partition("=")
        key = "runs" if key == "root" else key
        if key not in settings or not equals or not value:
            valid = ", ".join(
                f"{name}={'PATH' if name in ('runs', 'results', 'out', 'readme') else name.upper()}"
                for name in settings
            )
            raise ValueError(f"{argument!r}: not a setting of the ledger; valid: {valid}")
        settings[key] = value
    if settings["write"] not in ("true", "false"):
        raise ValueError(f"write: {settings['write']!r} is neither true nor false")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run claims if asked, print the ledger, and write it if asked.

    Returns the exit status: 0, 1 if a claim failed to run, 2 for invalid arguments, 130 if a claim was
    stopped. Without any verdict it prints how to make one and leaves the files unchanged.
    """
    failures: list[str] = []
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        if settings["run"] != "none":
            claims = chosen_claims(settings["run"], settings["scale"])
            kept = Path(settings["results"]) if settings["write"] == "true" else None
            failures = run_claims(claims, settings["scale"], Path(settings["runs"]), kept)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    verdicts, warnings = collect((settings["runs"], settings["results"]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print("\n".join(lines(verdicts)) if verdicts else HOW_TO)
    status = _write(verdicts, settings) if verdicts and settings["write"] == "true" else 0
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return status or int(bool(failures))


def _write(verdicts: Sequence[Verdict], settings: dict[str, str]) -> int:
    readme = Path(settings["readme"])
    written = {
        "out": (Path(settings["out"]), markdown(verdicts)),
        "results": (Path(settings["results"]) / "claims.json", as_json(verdicts)),
    }
    if readme.is_file():
        written["readme"] = (readme, with_head(readme.read_text(encoding="utf-8"), verdicts))
    for field, (path, text) in written.items():
        try:
            atomic_write(path, text.encode())
        except OSError as error:
            print(
                f"error: {field}: {str(path)!r}: {error.strerror}; valid: a file that can be written",
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
