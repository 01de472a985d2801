"""`metrics.jsonl`: the primary record of a run, one flat JSON object per line, append-only, torn-write safe.

Strict JSON has neither NaN nor infinities, and null could not distinguish them. They are written as the
strings "NaN", "Infinity" and "-Infinity" and read as floats. Finite floats are written as the shortest repr,
which reads back as the same 64 bits.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Value = float | int | str | bool | None
Record = dict[str, Value]

LEADING_KEYS = ("phase", "step", "global_step", "seed")
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsFileError(ValueError):
    """A metrics file that cannot be read; the message states the file and the line."""


def encode_value(key: str, value: Any) -> Value:
    """A JSON scalar for `value`: non-finite floats become strings, NumPy and JAX scalars become Python ones.

    Raises:
        ValueError: `value` is not a scalar, or is a string that denotes a non-finite float.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str) and value in NON_FINITE:
        raise ValueError(
            f"metric {key!r} is the string {value!r}, reserved for a float: give the float itself"
        )
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"metric {key!r} is a {type(value).__name__}: a float, int, str, bool or None is valid")


def decode_value(value: Value) -> Value:
    """Inverse of `encode_value`."""
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def encode_record(record: Mapping[str, Any]) -> bytes:
    """One line: the keys of `LEADING_KEYS` first, the others sorted, so that equal records are equal bytes.

    Raises:
        ValueError: a key is not a non-empty string, or a value is not a scalar.
    """
    for key in record:
        if not isinstance(key, str) or not key:
            raise ValueError(f"metric name {key!r} is not valid: a non-empty string is")
    leading = [key for key in LEADING_KEYS if key in record]
    keys = leading + sorted(record.keys() - set(leading))
    encoded = {key: encode_value(key, record[key]) for key in keys}
    return json.dumps(encoded, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode_line(line: bytes) -> Record:
    """The record of one line. Raises ValueError if the line is not a JSON object."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if b'"NaN"' in line or b'Infinity"' in line:
        return {key: decode_value(value) for key, value in record.items()}
    return record


def _complete_lines(path: Path) -> tuple[list[bytes], list[Record]]:
    """Complete lines with newlines, and their records. A torn or unreadable last line is omitted."""
    data = path.read_bytes()
    # Bytes after the last newline are an interrupted write.
    lines = [line + b"\n" for line in data.split(b"\n")[:-1]]
    records: list[Record] = []
    for index, line in enumerate(lines):
        try:
            records.append(decode_line(line))
        except ValueError:
            if index == len(lines) - 1:
                return lines[:-1], records
            raise MetricsFileError(
                f"{path}, line {index + 1} of {len(lines)}: not a JSON object: nothing was changed; "
                "repair or remove that line by hand"
            ) from None
    return lines, records


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a JSON lines file without a torn last line, which another process may be writing.

    Raises:
        MetricsFileError: a line other than the last is corrupt (states the file and the line).
        FileNotFoundError: the file does not exist.
    """
    return _complete_lines(Path(path))[1]


class MetricsFile:
    """An append-only JSON lines file: every `append` reaches the kernel in one write, every `flush` the disk.

    Opening truncates a torn last line that a killed process left behind, and keeps all bytes before.

    Raises:
        MetricsFileError: a line other than the last is corrupt; the file is then unchanged.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self._open()
        try:
            lines, _ = _complete_lines(self.path)
            self._lines = len(lines)
            self._ahead: list[bytes] = []
            kept = sum(map(len, lines))
            if kept < self.path.stat().st_size:
                os.ftruncate(self._file, kept)
                os.fsync(self._file)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def append(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Append one line per record; return the number of lines on disk that were replaced.

        After `rewind`, lines that are equal to those on disk are kept. From the first different line on, the
        lines on disk are replaced. On any error nothing is appended.

        Raises:
            ValueError: a record is not valid.
            OSError: the disk is full or unavailable.
        """
        lines = [encode_record(record) for record in records]
        known = 0
        while known < min(len(lines), len(self._ahead)) and lines[known] == self._ahead[known]:
            known += 1
        replaced = len(self._ahead) - known if known < len(lines) else 0
        data = b"".join(lines[known:])
        size = os.fstat(self._file).st_size - sum(map(len, self._ahead[known:] if replaced else ()))
        if replaced:
            os.ftruncate(self._file, size)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # A caller that survives a full disk must not append to half a line.
            os.ftruncate(self._file, size)
            self._ahead = self._ahead[:known]
            raise
        self._ahead = [] if replaced else self._ahead[known:]
        self._lines += len(lines)
        return replaced

    def flush(self) -> None:
        """Return once all lines so far survive a loss of power."""
        os.fsync(self._file)

    @property
    def num_lines(self) -> int:
        """Number of complete lines in the file, up to the position of `append` after a `rewind`."""
        return self._lines

    def rewind(self, num_lines: int) -> int:
        """Position the next `append` after the first `num_lines` lines; return the number of later lines.

        Later lines stay on disk until `append` reaches them, so that a resumed run that is killed early loses
        nothing. The position is a line count, because the last step of a phase and step 0 of the next phase
        share a global step.

        Raises:
            MetricsFileError: the file has fewer lines.
        """
        lines, _ = _complete_lines(self.path)
        if num_lines > len(lines):
            raise MetricsFileError(
                f"{self.path}: {len(lines)} lines, but the checkpoint was saved after {num_lines}: "
                "restore the lost lines, or start under another run name"
            )
        self._ahead = lines[num_lines:]
        self._lines = num_lines
        return len(self._ahead)

    def settle(self) -> int:
        """Drop the lines that `append` has not reached since `rewind`; return the number of dropped lines.

        There are none if a run reproduces the numbers.
        """
        dropped, self._ahead = len(self._ahead), []
        if dropped:
            lines, _ = _complete_lines(self.path)
            os.ftruncate(self._file, sum(map(len, lines[: self._lines])))
            self.flush()
        return dropped

    def records(self) -> list[Record]:
        """Records of the first `num_lines` lines, in the order of writing."""
        return read_records(self.path)[: self._lines]

    def close(self) -> None:
        """Close the file; further calls raise."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def by_step(records: Iterable[Record]) -> list[Sequence[Record]]:
    """Records grouped by phase, step and global_step, in order of first appearance."""
    groups: dict[tuple[Value, Value, Value], list[Record]] = {}
    for record in records:
        key = (record.get("phase"), record.get("step"), record.get("global_step"))
        groups.setdefault(key, []).append(record)
    return list(groups.values())
