"""Rows of a table as mappings: `.parquet` by pyarrow, which is imported when used, `.csv` and `.jsonl`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from covlab.readers.base import json_lines
from tracking import LoadError

SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH = 4096


def rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row, its cells by column), row by row, so that no file has to fit into memory.

    Cells of a `.csv` are text, as they stand there: "1", "01" and "1.0" stay different.

    Raises:
        ValueError: a file that cannot be read, or a missing package.
    """
    if file.suffix == ".jsonl":
        return json_lines(file)
    return _csv_rows(file) if file.suffix == ".csv" else _parquet_rows(file)


def columns(file: Path) -> tuple[str, ...]:
    """The columns of a table, those of the first row for `.jsonl`; empty if it cannot be read."""
    try:
        if file.suffix == ".parquet":
            return tuple(_parquet(file).schema_arrow.names)
        return tuple(next(rows(file), (0, {}))[1])
    except LoadError:
        return ()


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey="", strict=True)
            header = list(reader.fieldnames or ())
            if twice := [name for i, name in enumerate(header) if name in header[:i]]:
                raise LoadError(f"{file}: the header has {twice[0]!r} twice")
            for record in reader:
                if "" in record or None in record.values():
                    raise LoadError(f"{file}: line {reader.line_num}: not as many columns as the header has")
                yield reader.line_num, record
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LoadError(f"{file}: not a readable csv file: {' '.join(str(error).split())}") from None


def _parquet(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise LoadError(
            f"{file}: reading .parquet needs pyarrow; valid: with `pip install pyarrow`"
        ) from None
    try:
        return parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise LoadError(
            f"{file}: not a readable parquet file: {' '.join(str(error).split())[:100]}"
        ) from None


def _parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in _parquet(file).iter_batches(_BATCH):
        for record in batch.to_pylist():
            number += 1
            yield number, record
