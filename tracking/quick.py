"""Fast loading of a few columns of thousands of runs, with the results of `load_run`.

A line of `metrics.jsonl` holds fifty numbers, and a comparison needs five. Searching for keys in the bytes of
a line is several times faster than decoding the line. Unusual files (another layout, a damaged line) are left
to `read_records`, so that results and errors are the same.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float, Int

from tracking.load import LoadError
from tracking.metrics_file import Record, decode_line, read_records
from tracking.run_config import read_config, with_new_targets

_HEAD = re.compile(rb'\{"phase":"([^"\\]*)","step":(\d+),"global_step":(\d+),"seed":(\d+)[,}]')
_WORDS = {b'"NaN"': math.nan, b"null": math.nan, b'"Infinity"': math.inf, b'"-Infinity"': -math.inf}
_EDGE = 1 << 16
"""Bytes read from both ends of a file; a line has about two thousand."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of a run's metrics, one row per line.

    Attributes:
        phase: phase; empty if a line has none.
        step, global_step, seed: defaults are `step` for the global step and 0 for the seed.
        values: key -> numbers, NaN where a line lacks the key or the value is not a number.
    """

    phase: tuple[str, ...]
    step: Int[np.ndarray, " lines"]
    global_step: Int[np.ndarray, " lines"]
    seed: Int[np.ndarray, " lines"]
    values: dict[str, Float[np.ndarray, " lines"]]


def read_columns(path: str | os.PathLike[str], keys: Sequence[str]) -> Columns:
    """The columns `keys` of a `metrics.jsonl`; a file in progress and a torn last line are valid.

    Raises:
        LoadError: the file cannot be read, or a line has no step.
        MetricsFileError: a line other than the last is corrupt.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}: a run directory holds a metrics.jsonl") from None
    found = _look_up(data, keys)
    return found if found is not None else _decode(path, keys)


def metric_names(path: str | os.PathLike[str]) -> set[str]:
    """Keys with a slash in the first and in the last complete line of a `metrics.jsonl`.

    The first line is an evaluation and the last line adds the training loss, so these are nearly always all
    keys.

    Raises:
        LoadError: the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(_EDGE)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _EDGE))
            end = file.read()
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}: a run directory holds a metrics.jsonl") from None
    names: set[str] = set()
    for line in (start.partition(b"\n")[0], *end.rpartition(b"\n")[0].split(b"\n")[-1:]):
        try:
            names |= {key for key in decode_line(line) if "/" in key}
        except ValueError:
            continue
    return names


def read_config_quickly(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`read_config`, ten times faster on the runs of a sweep, because equal sections are parsed once.

    Raises:
        RunDirectoryError: as `read_config`.
    """
    try:
        text = (Path(path) / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return read_config(path)
    # Anchors, tags, documents and block texts may extend beyond a section; comments may lie between sections.
    if re.search(r"[&*!|>#%]|^(---|\.\.\.|[^\w\s-])", text, re.MULTILINE):
        return read_config(path)
    config: dict[str, Any] = {}
    # A section begins with a key at the margin; the dash of a list at the margin belongs to the section
    # before.
    for section in re.split(r"\n(?=\w)", text.strip("\n")):
        try:
            config |= json.loads(_section(section))
        except (yaml.YAMLError, TypeError, ValueError):
            return read_config(path)
    renamed: dict[str, Any] = with_new_targets(config)
    return renamed


@functools.lru_cache(maxsize=1 << 16)
def _section(text: str) -> str:
    """A section as JSON text, because callers must not change a cached value."""
    parsed = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(parsed, dict) or json.loads(json.dumps(parsed)) != parsed:
        raise ValueError("not a section of plain values")
    return json.dumps(parsed)


def _look_up(data: bytes, keys: Sequence[str]) -> Columns | None:
    """The columns if every complete line has the layout of `encode_record`, else None."""
    lines = data.split(b"\n")[:-1]
    wanted = sorted(enumerate(b'"%s":' % key.encode() for key in keys), key=lambda item: item[1])
    table = np.full((len(keys), len(lines)), np.nan)
    heads: list[tuple[bytes, ...]] = []
    for row, line in enumerate(lines):
        head = _HEAD.match(line)
        if head is None or line[-1:] != b"}":
            return None
        heads.append(head.groups())
        begin = start = head.end() - 1
        for column, key in wanted:
            # Keys are sorted within a line, so the search for a key starts at the previous match.
            at = line.find(key, start)
            if at < 0 and (start == begin or (at := line.find(key, begin, start)) < 0):
                continue
            start = at
            at += len(key)
            end = line.find(b",", at)
            raw = line[at : end if end >= 0 else -1]
            try:
                table[column, row] = float(raw)
            except ValueError:
                if raw not in _WORDS:
                    return None
                table[column, row] = _WORDS[raw]
    phases = tuple(head[0].decode() for head in heads)
    numbers = np.array([head[1:] for head in heads], dtype="S20").reshape(-1, 3).astype(np.int64)
    return Columns(phases, numbers[:, 0], numbers[:, 1], numbers[:, 2], dict(zip(keys, table, strict=True)))


def _decode(path: Path, keys: Sequence[str]) -> Columns:
    records = read_records(path)
    try:
        steps = [int(record["step"] or 0) for record in records]
    except KeyError:
        raise LoadError(f"{path}: a line has no step; valid: step, seed and metrics in every line") from None
    except (TypeError, ValueError):
        raise LoadError(f"{path}: a step is no whole number") from None

    def whole(record: Record, key: str, default: int) -> int:
        value = record.get(key)
        return int(value) if isinstance(value, int | float) and math.isfinite(value) else default

    def number(value: Any) -> float:
        return float(value) if isinstance(value, int | float) else math.nan

    return Columns(
        tuple(str(record.get("phase") or "") for record in records),
        np.array(steps, np.int64),
        np.array([whole(r, "global_step", s) for r, s in zip(records, steps, strict=True)], np.int64),
        np.array([whole(record, "seed", 0) for record in records], np.int64),
        {key: np.array([number(record.get(key)) for record in records], np.float64) for key in keys},
    )
