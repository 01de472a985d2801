"""What every claim does around its own science: time itself, name its variant, write its verdict."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from covlab.launch.build import plain
from covlab.launch.run_names import VOLATILE, override_key
from covlab.launch.runs import Finished
from covlab.report.page import Figures, Tables, write_report
from covlab.report.verdict import Check, Verdict, hardware, versions
from metrics import Interval
from tracking.atomic import atomic_write

_PLACE = (*VOLATILE, "scale", "launcher")
"""Settings that change no number of a verdict."""


class Claim(NamedTuple):
    """What does not depend on a run.

    Attributes:
        name: of the module and of its configuration.
        source: paper and section.
        title, introduction: of the report; one text a paragraph.
    """

    name: str
    source: str
    title: str
    introduction: tuple[str, ...]


class Began(NamedTuple):
    """When a command began: `clock` in monotonic seconds, `date` in ISO 8601."""

    clock: float
    date: str

    @classmethod
    def now(cls) -> Began:
        """This moment."""
        return cls(time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def scale_name(config: DictConfig) -> str:
    """The scale, and what was changed in it: a variant must not pass for the claim itself in the ledger."""
    overrides = HydraConfig.get().overrides.task
    changed = [text for text in overrides if override_key(text).partition(".")[0] not in _PLACE]
    return f"{config.scale} with {' '.join(changed)}" if changed else str(config.scale)


def exit_status(finished: Finished) -> int | None:
    """None for a complete run; else 130 (stopped) or 1 (every seed diverged), with one line that says so."""
    if finished.state == "stopped":
        print(f"{finished.path}: stopped by {finished.reason}; the same command continues", file=sys.stderr)
        return 130
    if finished.state == "failed":
        print(f"{finished.path}: {finished.reason}", file=sys.stderr)
        return 1
    return None


def timing_facts(path: Path, prefix: str = "") -> dict[str, float]:
    """Seconds by phase, from `timings.jsonl`, over all the processes that worked on the run; the names begin
    with `prefix`."""
    facts: dict[str, float] = {}
    for line in (path / "timings.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("event") == "phase":
            for part in ("train", "evaluation", "save", "wall"):
                key = f"{prefix}{record['phase']}: {part} (s)"
                facts[key] = round(facts.get(key, 0.0) + record[f"{part}_seconds"], 1)
    return facts


def worked_seconds(timings: dict[str, float]) -> float:
    """Wall-clock seconds that training and evaluation took, from `timing_facts`."""
    return sum(value for key, value in timings.items() if key.endswith("wall (s)"))


def make_verdict(
    claim: Claim,
    config: DictConfig,
    began: Began,
    worked: float,
    checks: Sequence[Check],
    seeds: Sequence[int],
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict of this command on this machine; a command that reused runs is charged what they took,
    `worked` seconds."""
    return Verdict(
        claim=claim.name,
        source=claim.source,
        scale=scale_name(config),
        checks=tuple(checks),
        seeds=tuple(seeds),
        wall_seconds=round(max(time.monotonic() - began.clock, worked), 1),
        hardware=hardware(),
        command=f"python -m experiments.{claim.name} " + " ".join(HydraConfig.get().overrides.task),
        started=began.date,
        versions=versions(),
        notes=tuple(notes),
        title=claim.title,
    )


def leave(
    path: Path,
    claim: Claim,
    verdict: Verdict,
    config: DictConfig,
    draw: Callable[[], Figures],
    tables: Tables,
    timings: Mapping[str, Any],
) -> None:
    """Write claim.yaml, verdict.json and report.html to `path`, in this order, and print the verdict.

    `draw` writes the figures, after the verdict: a fault of a drawing loses no number.
    """
    text = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    atomic_write(path / "claim.yaml", text.encode())
    verdict.write(path / "verdict.json")
    write_report(
        path / "report.html", claim.title, verdict, draw(), tables, text, timings, claim.introduction
    )
    print_verdict(verdict, path)


def print_verdict(verdict: Verdict, path: Path) -> None:
    """The verdict as a table on the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    table = Table(title=f"{verdict.claim} ({verdict.scale}): {'HOLDS' if verdict.holds else 'DOES NOT HOLD'}")
    for column in ("check", "measured", "95 % interval", "target", ""):
        table.add_column(column)
    for check in verdict.checks:
        measured = "-" if check.measured is None else f"{check.measured:.4g}"
        interval = "-" if check.interval is None else f"[{check.interval[0]:.4g}, {check.interval[1]:.4g}]"
        table.add_row(check.name, measured, interval, check.target, "pass" if check.passed else "FAIL")
    console.print(table)
    console.print(f"report: {path / 'report.html'}", soft_wrap=True)


def interval_over_shared_prompts(intervals: Sequence[Interval]) -> Interval:
    """Mean of the seeds' estimates, plus and minus the mean half-width of their own intervals.

    For intervals over one set of prompts that all seeds share: averaging over seeds does not shrink the
    prompts' part of the error.
    """
    estimate = float(np.mean([each.estimate for each in intervals]))
    half = float(np.mean([each.high - each.low for each in intervals])) / 2
    return Interval(estimate, estimate - half, estimate + half)


def require_seeds(claim: str, seeds: Sequence[Any]) -> None:
    """Refuse a single seed.

    Raises:
        ValueError: fewer than two seeds, which have no interval.
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds: {len(seeds)}; {claim} needs at least 2 for intervals over seeds")
