"""Plain tables, `.jsonl`, `.parquet` and `.csv`, with a row per example or per response.

Columns, in any order; others are ignored:

    prompt, target       texts (or messages) that make the example; or `id` alone
    id                   the example's name, optional beside prompt and target
    log_prob             ln pi(target|prompt) in nats, the sum over the target's tokens; or one of
    mean_log_prob, num_tokens     their product is that sum
    bits_per_byte, num_bytes      - bits * bytes * ln 2 is that sum
    num_bytes            bytes of the target, by default counted in `target`
    num_samples, num_correct      n responses, c of them right; or a row per response with
    correct              1, 0, or null for a response that was not judged; `sample` numbers the responses
    checkpoint           name of the checkpoint; by default the file is one
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covlab.readers import tables
from covlab.readers.base import Checkpoint, Collector, Wanted, log_prob_or_none, number_or_none
from covlab.readers.contents import Contents, digest, shown
from tracking import LoadError

NAMES = ("prompt", "target", "id")
PER_TOKEN, PER_BYTE = ("mean_log_prob", "num_tokens"), ("bits_per_byte", "num_bytes")
COUNTS = ("num_samples", "num_correct")
REFUSED = {
    "mean_log_prob": "num_tokens",
    "log_prob_per_token": "mean_log_prob with num_tokens, or log_prob",
    "log_prob_per_char": "log_prob, the sum over the tokens",
    "loss": "log_prob, minus the summed loss",
    "perplexity": "log_prob, the sum over the tokens",
    "bits_per_byte": "num_bytes",
}
"""Columns that hold no sum, and what would make one."""


class Reader:
    """Plain rows."""

    name = "rows"
    summary = (
        "a table in .jsonl, .parquet or .csv: prompt, target, log_prob or num_samples, num_correct or correct"
    )

    def recognises(self, source: Path) -> bool:
        """True for a table that names examples and a number of them."""
        if source.suffix not in tables.SUFFIXES or not source.is_file():
            return False
        names = set(tables.columns(source))
        return bool(names & {*NAMES}) and bool(names & {"log_prob", "correct", *COUNTS, *REFUSED})

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each name in the column `checkpoint`, in the order of first rows.

        Raises:
            ValueError: means without counts, rows that occur twice, a value out of range, a torn file.
        """
        collectors: dict[str, Collector] = {}
        converted: dict[str, None] = {}
        own = str(source)
        line = f"{own}: {'row' if source.suffix == '.parquet' else 'line'} "
        plain: dict[tuple[str, ...], bool] = {}
        for number, record in tables.rows(source):
            columns = tuple(record)
            if columns not in plain:
                plain[columns] = _is_plain(columns, wanted)
            # The usual row first, for speed: everything else takes the long way below.
            if plain[columns] and own in collectors:
                prompt, target, value = record["prompt"], record["target"], record["log_prob"]
                if type(prompt) is type(target) is str and type(value) is float and value <= 0:
                    content, label, num_bytes = wanted.contents.of(prompt, target)
                    collectors[own].scored(content, label, value, num_bytes)
                    continue
            name = str(record["checkpoint"]) if record.get("checkpoint") is not None else own
            if name not in collectors:
                collectors[name] = Collector(source)
            _add(f"{line}{number}", record, collectors[name], wanted, converted)
        if not collectors:
            raise LoadError(f"{source}: no rows")
        for note in converted:
            next(iter(collectors.values())).notes.append(f"{source}: {note}")
        return [collector.checkpoint(name) for name, collector in collectors.items()]


READER = Reader()


def _is_plain(columns: Sequence[str], wanted: Wanted) -> bool:
    """True if prompt, target and log_prob are all that counts in a row."""
    others = {"id", "num_bytes", "checkpoint", wanted.score or "correct", *COUNTS}
    return {"prompt", "target", "log_prob"} <= {*columns} and not others & {*columns}


def _add(
    where: str, record: Mapping[str, Any], collector: Collector, wanted: Wanted, converted: dict[str, None]
) -> None:
    name, content, label, num_bytes = _example(where, record, wanted.contents)
    row = collector.place(name, content, label)
    found = False
    if (sums := _log_prob(where, record, num_bytes, converted)) is not None:
        collector.log_prob(row, *sums)
        found = True
    if COUNTS[0] in record and COUNTS[1] in record:
        counted = [number_or_none(f"{where}: {key}", record[key]) for key in COUNTS]
        if any(value is None or not value.is_integer() or value < 0 for value in counted):
            raise LoadError(f"{where}: {', '.join(COUNTS)}: {counted}; valid: whole numbers >= 0")
        collector.counts(row, *(int(value) for value in counted if value is not None))
        found = True
    column = wanted.score or "correct"
    if column in record:
        sample = record.get("sample")
        right = wanted.is_right(f"{where}: {column}", record[column])
        collector.sample(row, right, None if sample is None else str(sample))
        found = True
    if not found:
        for column, instead in REFUSED.items():
            if column in record:
                raise LoadError(f"{where}: {column} is not a sum over the response; valid: {instead}")
        raise LoadError(f"{where}: none of log_prob, {', '.join(COUNTS)} and {wanted.score or 'correct'}")


def _example(where: str, record: Mapping[str, Any], contents: Contents) -> tuple[str | None, bytes, str, int]:
    """(name, content, label, bytes of the target or 0) of a row's example."""
    prompt, target, ident = record.get("prompt"), record.get("target"), record.get("id")
    name = None if ident is None else str(ident)
    if isinstance(target, str) and (prompt is None or isinstance(prompt, str)):
        return name, *contents.of(prompt, target)
    if prompt is not None or target is not None:
        size = len(target.encode("utf-8", "surrogatepass")) if isinstance(target, str) else 0
        return name, digest(prompt, target), shown(target if prompt is None else prompt), size
    if name is None:
        raise LoadError(f"{where}: no prompt, target or id")
    return name, digest("id", name), name, 0


def _log_prob(
    where: str, record: Mapping[str, Any], num_bytes: int, converted: dict[str, None]
) -> tuple[float | None, int] | None:
    """(ln p, bytes) of a row; None if it has no log-probability. Conversions are noted in `converted`."""
    if "num_bytes" in record:
        num_bytes = _whole(where, record, "num_bytes") or num_bytes
    if "log_prob" in record:
        value = record["log_prob"]
        # The usual case first: a file may have a million rows.
        usual = isinstance(value, float) and value <= 0
        return (value if usual else log_prob_or_none(f"{where}: log_prob", value)), num_bytes
    if all(key in record for key in PER_TOKEN):
        mean = log_prob_or_none(f"{where}: mean_log_prob", record["mean_log_prob"])
        tokens = _whole(where, record, "num_tokens")
        converted["mean_log_prob was multiplied by num_tokens: nats per response"] = None
        return (None if mean is None or tokens is None else mean * tokens), num_bytes
    if all(key in record for key in PER_BYTE):
        bits = number_or_none(f"{where}: bits_per_byte", record["bits_per_byte"])
        if bits is None or not num_bytes:
            return None, num_bytes
        converted["bits_per_byte was multiplied by num_bytes: nats per response"] = None
        return log_prob_or_none(f"{where}: bits_per_byte", -bits * num_bytes * math.log(2)), num_bytes
    return None


def _whole(where: str, record: Mapping[str, Any], key: str) -> int | None:
    number = number_or_none(f"{where}: {key}", record.get(key))
    if number is None:
        return None
    if number <= 0 or not number.is_integer():
        raise LoadError(f"{where}: {key}: {number:g}; valid: a whole number >= 1")
    return int(number)
