"""Rows of a W&B run from a run directory; a row is the output at one boundary of the step grid.

Row k of a W&B run has `_step` k in every process. A run that continues under the same id, or is mirrored
again, therefore has the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tracking.array_log import ArrayLog, entries, read_entry
from tracking.metrics_file import Record, by_step, decode_value, read_records

HISTOGRAMS = Path("wandb_histograms.npy")
"""Path within a run directory of the histograms logged to W&B; format: `tracking.array_log`."""
_BINS = 64


@dataclass
class Row:
    """Output at one boundary.

    Metrics have one record per seed, histograms are (name, global step, `binned`), and tables are (name,
    global step, columns, rows).
    """

    number: int
    metrics: Sequence[Record]
    histograms: list[tuple[str, int, dict[str, np.ndarray]]] = field(default_factory=list)
    timings: list[Mapping[str, Any]] = field(default_factory=list)
    tables: list[tuple[str, int, list[str], list[list[Any]]]] = field(default_factory=list)


def binned(values: np.ndarray, weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """A weighted histogram of the finite `values` (..., examples).

    Returns:
        `counts` (bins,) and `edges` (bins + 1,), both empty if no value is finite, and `non_finite`, the
        fraction of weight on values that are not finite.
    """
    values = np.asarray(values, np.float64)
    weights = np.broadcast_to(1.0 if weights is None else np.asarray(weights, np.float64), values.shape)
    finite = np.isfinite(values)
    counts, edges = np.zeros(0), np.zeros(0)
    if finite.any():
        counts, edges = np.histogram(values[finite], bins=_BINS, weights=weights[finite])
    return {
        "counts": np.asarray(counts, np.float64),
        "edges": edges,
        "non_finite": np.asarray(weights[~finite].sum() / weights.sum()),
    }


class Histograms:
    """Histograms of a run, stored so that a mirror can be made again."""

    def __init__(self, directory: Path, file: Path = HISTOGRAMS) -> None:
        self._log = ArrayLog(directory / file)

    def keep(self, row: int, name: str, global_step: int, histogram: Mapping[str, np.ndarray]) -> None:
        """Append a histogram of a row; existing histograms stay unchanged."""
        self._log.append(f"{row}:{global_step}:{name}", histogram)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def stored_rows(directory: Path, records: Sequence[Record], histograms: Path = HISTOGRAMS) -> Iterator[Row]:
    """Rows of the metric `records`, with the histograms, timings and tables in the directory.

    A table belongs to the first row of the table's global step, a timing to the row of the timed step.
    """
    rows = [Row(number, metrics) for number, metrics in enumerate(by_step(records))]
    of_step: dict[tuple[Any, Any], Row] = {}
    of_global_step: dict[Any, Row] = {}
    for row in rows:
        first = row.metrics[0]
        of_step[first.get("phase"), first.get("step")] = row
        of_global_step.setdefault(first.get("global_step"), row)
    for name, histogram in _histograms(directory / histograms):
        number, global_step, own = name.split(":", 2)
        if int(number) < len(rows):
            rows[int(number)].histograms.append((own, int(global_step), histogram))
    timings = directory / "timings.jsonl"
    for record in read_records(timings) if timings.is_file() else ():
        at = record.get("step", record.get("to_step"))
        own_row = of_step.get((record.get("phase"), at), of_global_step.get(record.get("global_step")))
        if own_row is not None:
            own_row.timings.append(record)
    for file in sorted((directory / "tables").rglob("*.json")):
        table = json.loads(file.read_bytes())
        if (own_row := of_global_step.get(table["global_step"])) is not None:
            cells = [[decode_value(cell) for cell in row] for row in table["rows"]]
            own_row.tables.append((table["name"], table["global_step"], table["columns"], cells))
    yield from rows


def _histograms(file: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    latest = {entry.name: entry for entry in (entries(file) if file.is_file() else ())}
    for name, entry in latest.items():
        yield name, read_entry(file, entry)
