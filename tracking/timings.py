"""Seconds that a run took, from its `timings.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def timing_facts(path: Path, prefix: str = "") -> dict[str, float]:
    """Seconds by phase, summed over the processes that worked on the run; the names begin with `prefix`."""
    facts: dict[str, float] = {}
    for line in (path / "timings.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("event") == "phase":
            for part in ("train", "evaluation", "save", "wall"):
                key = f"{prefix}{record['phase']}: {part} (s)"
                facts[key] = round(facts.get(key, 0.0) + record[f"{part}_seconds"], 1)
    return facts


def worked_seconds(timings: Mapping[str, float]) -> float:
    """Wall-clock seconds that training and evaluation took, from `timing_facts`."""
    return sum(value for key, value in timings.items() if key.endswith("wall (s)"))
