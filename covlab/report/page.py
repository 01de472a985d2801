"""A run or a claim as one self-contained HTML page without scripts or external resources."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covlab.report.verdict import Verdict, describe_hardware, open_text, started_at
from tracking.atomic import atomic_write

Figures = Sequence[tuple[str, str | Path]]
Table = tuple[str, list[str], list[list[Any]]]
"""Caption, columns, rows."""
Tables = Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]


class Section(NamedTuple):
    """A part of a page under a heading of its own; captions are numbered through the whole page."""

    title: str
    figures: Figures = ()
    tables: Tables = ()


_MISSING = "—"
_MARKS = {"passed": ("yes", "✓ passed"), "failed": ("no", "✗ failed"), "open": ("open", "? open")}
_PNG = b"\x89PNG\r\n\x1a\n"

_STYLE = """
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1c1e21; --quiet: #5b6168; --line: #d9dbd6;
  --stripe: #f3f4f0; --yes: #0b6e4f; --yes-back: #e3f3ec; --no: #a8321e; --no-back: #fbe9e4;
  --open: #8a5a00; --open-back: #faf0d8; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e6e6e3; --quiet: #a0a6ad;
  --line: #363a40; --stripe: #1d2024; --yes: #6fd3ab; --yes-back: #12302a; --no: #ff9d86;
  --no-back: #3a1d18; --open: #e8bb62; --open-back: #33290f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem;
  background: var(--page); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif;
  -webkit-text-size-adjust: 100%; overflow-wrap: break-word; }
h1, h2, th, .banner, summary, .quiet {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p { margin: .6rem 0; max-width: 42rem; }
.quiet, figcaption { color: var(--quiet); font-size: .9rem; line-height: 1.45; }
.quiet { margin: 0; max-width: none; }
.banner { margin: 1.4rem 0; padding: .8rem 1.1rem; border-left: 5px solid; border-radius: 3px;
  font-weight: 650; letter-spacing: .03em; }
.banner span { display: block; font-weight: 400; letter-spacing: 0; color: var(--ink); font-size: .95rem; }
.banner.yes { color: var(--yes); background: var(--yes-back); }
.banner.no { color: var(--no); background: var(--no-back); }
.banner.open { color: var(--open); background: var(--open-back); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .93rem; line-height: 1.4; min-width: 100%; }
th, td { padding: .42rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .8rem; color: var(--quiet); border-bottom: 2px solid var(--line); white-space: nowrap; }
tbody th { font-weight: 600; font-size: .85rem; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mark { font-weight: 700; white-space: nowrap; }
.mark.yes { color: var(--yes); }
.mark.no { color: var(--no); }
.mark.open { color: var(--open); }
figure { margin: 1.6rem 0; }
figure img { display: block; width: 100%; min-width: 36rem; height: auto;
  background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: .5rem; }
figcaption { margin-top: .5rem; max-width: 46rem; }
details { border-top: 1px solid var(--line); padding: .7rem 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; font-weight: 600; font-size: .95rem; }
pre, code { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--stripe); padding: .9rem; border-radius: 4px; }
@media print { figure, tr { break-inside: avoid; } }
"""

# The policy enforces the module's first line, whatever a caption or a table contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    path: str | Path,
    title: str,
    verdict: Verdict | None = None,
    figures: Figures = (),
    tables: Tables = (),
    config_text: str = "",
    timings: Mapping[str, Any] | None = None,
    intro_paragraphs: str | Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Write the page atomically and return its path.

    Args:
        path: the HTML file; missing folders are made.
        title: heading and window title.
        verdict: a claim's verdict; None, for a training run, draws no banner.
        figures: (caption, PNG or SVG file), embedded as data; the captions are numbered and serve as the
            images' alternative text.
        tables: (caption, columns, rows); None and numbers that are not finite show as an em dash.
        config_text: the resolved configuration, shown verbatim.
        timings: name, with its unit -> value.
        intro_paragraphs: plain text, one item per paragraph; a single text is one paragraph.
        provenance: facts on how the page was made, added to the verdict's.
        sections: parts with headings of their own, before the figures and tables without one.

    Raises:
        ValueError: a figure that is missing or neither PNG nor SVG, or a row that does not match its table's
            columns.
    """
    paragraphs = [intro_paragraphs] if isinstance(intro_paragraphs, str) else intro_paragraphs
    parts = [f"<header>\n<h1>{escape(title)}</h1>"]
    if verdict is not None:
        parts.append(f'<p class="quiet">{escape(_subtitle(verdict))}</p>')
    parts.append("</header>")
    if verdict is not None:
        parts.append(_banner(verdict))
    parts += [f"<p>{escape(text)}</p>" for text in paragraphs]
    if verdict is not None:
        parts += ["<h2>Checks</h2>", _checks(verdict)]
    parts += _sections([*sections, Section("Figures", figures), Section("Tables", (), tables)])
    if verdict is not None and verdict.notes:
        parts += ["<h2>Notes</h2>", *(f"<p>{escape(note)}</p>" for note in verdict.notes)]
    facts = (_facts(verdict) if verdict is not None else {}) | dict(provenance or {})
    if facts:
        parts += ["<h2>How this page was made</h2>", _facts_table("Provenance", facts)]
    if timings:
        rows = _facts_table("Timings", timings)
        parts.append(f"<details>\n<summary>Timings</summary>\n{rows}\n</details>")
    if config_text:
        parts.append(
            f"<details>\n<summary>Configuration</summary>\n<pre>{escape(config_text)}</pre>\n</details>"
        )
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
{chr(10).join(parts)}
</main>
</body>
</html>
"""
    atomic_write(Path(path), page.encode())
    return Path(path)


def format_number(value: Any) -> str:
    """A cell's text: four significant digits for a float, an em dash for None, NaN and infinities.

    Booleans show as yes and no, integers and texts unchanged.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def format_interval(interval: tuple[float, float] | None) -> str:
    """`[low, high]`, or an em dash where there is none."""
    return _MISSING if interval is None else f"[{format_number(interval[0])}, {format_number(interval[1])}]"


def _subtitle(verdict: Verdict) -> str:
    day = started_at(verdict.started).date()
    return f"{verdict.source} · scale {verdict.scale} · {len(verdict.seeds)} seed(s) · {day}"


def _banner(verdict: Verdict) -> str:
    passed = sum(check.passed for check in verdict.checks)
    kind = {"holds": "yes", "refuted": "no", "open": "open"}[verdict.outcome]
    said = [f"Claim {verdict.claim}: {passed} of {len(verdict.checks)} checks passed."]
    if verdict.refuted_by:
        said.append(f"Refuted by: {'; '.join(check.name for check in verdict.refuted_by)}.")
    said.append(open_text(verdict))
    text = escape(" ".join(filter(None, said)))
    return f'<div class="banner {kind}">{verdict.outcome.upper()}<span>{text}</span></div>'


def _checks(verdict: Verdict) -> str:
    rows = []
    for check in verdict.checks:
        kind, mark = _MARKS[check.state]
        rows.append(
            f'<tr><td>{escape(check.name)}</td><td class="mark {kind}">{mark}</td>'
            f'<td class="number">{format_number(check.measured)}</td>'
            f'<td class="number">{format_interval(check.interval)}</td><td>{escape(check.target)}</td></tr>'
        )
    # The mark stands second, where a narrow screen shows it without scrolling.
    columns = (
        ("Check", ""),
        ("Result", ""),
        ("Measured", "number"),
        ("95 % interval", "number"),
        ("Target", ""),
    )
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in columns)
    return _scroll("Checks", f"<thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody>")


def _sections(sections: Sequence[Section]) -> list[str]:
    parts = []
    figures = tables = 0
    for section in sections:
        if section.figures or section.tables:
            parts.append(f"<h2>{escape(section.title)}</h2>")
        for figures, figure in enumerate(section.figures, start=figures + 1):  # noqa: B020
            parts.append(_figure(figures, *figure))
        for tables, table in enumerate(section.tables, start=tables + 1):  # noqa: B020
            parts.append(_table(tables, *table))
    return parts


def _figure(number: int, caption: str, path: str | Path) -> str:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"figures: {path}: {error.strerror}; valid: a PNG or SVG file") from error
    size = ""
    if data.startswith(_PNG):
        kind = "png"
        # The size lets the page keep its layout while a figure is decoded.
        size = ' width="{}" height="{}"'.format(*struct.unpack(">II", data[16:24]))
    elif b"<svg" in data[:4096]:
        kind = "svg+xml"
    else:
        raise ValueError(f"figures: {path}: neither PNG nor SVG; valid: a PNG or SVG file")
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    name = f"Figure {number}"
    return (
        f'<figure>\n<div class="scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<img src="{source}" alt="{name}: {escape(caption)}"{size}></div>\n'
        f"<figcaption><b>{name}.</b> {escape(caption)}</figcaption>\n</figure>"
    )


def _table(number: int, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(
                f"tables: {caption!r} row {index} has {len(row)} cells; valid: {len(columns)}, one a column"
            )
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(columns))]
    kinds = [' class="number"' if is_numeric else "" for is_numeric in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in zip(kinds, columns, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(format_number(v))}</td>" for kind, v in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    name = f"Table {number}"
    return f'<p class="quiet"><b>{name}.</b> {escape(caption)}</p>\n' + _scroll(
        name, f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    )


def _facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "Command": verdict.command,
        "Hardware": describe_hardware(verdict.hardware),
        "Versions": ", ".join(f"{name} {version}" for name, version in verdict.versions.items()),
        "Seeds": ", ".join(map(str, verdict.seeds)),
        "Started": verdict.started,
        "Wall-clock time": f"{verdict.wall_seconds:.0f} s",
    }


def _facts_table(name: str, facts: Mapping[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(format_number(value)) or _MISSING}</td></tr>'
        for key, value in facts.items()
    ]
    return _scroll(name, f"<tbody>{chr(10).join(rows)}</tbody>")


def _scroll(name: str, table: str) -> str:
    # A wide table scrolls inside a box that the keyboard can reach too.
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">\n'
        f"<table>\n{table}\n</table>\n</div>"
    )


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, np.number))
