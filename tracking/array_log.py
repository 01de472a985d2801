"""Named groups of arrays in one append-only file, with atomic writes of groups.

The file is a sequence of `.npy` arrays, readable with NumPy alone. A record is a header, followed by one
array per key. The header is a byte string with the JSON object {"name", "keys", "bytes", "sha256"}.

    with open("log_probs/evaluations.npy", "rb") as file:
        header = json.loads(numpy.load(file).item())
        arrays = {key: numpy.load(file) for key in header["keys"]}

"bytes" is the length of the arrays in the file, for skipping them, and "sha256" the SHA-256 of the arrays.
For a repeated name, the last record counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tracking.atomic import atomic_write

ARRAYS = Path("log_probs", "evaluations.npy")
"""Path within a run directory of the arrays of held-out sets and evaluations."""
_MAGIC = b"\x93NUMPY"
_LARGEST_HEADER = 1 << 13


class ArrayLogError(ValueError):
    """A file of arrays that cannot be read; the message states the file and the position."""


@dataclass(frozen=True)
class Entry:
    """Position of a record: the header is from `begin` to `start`, the arrays are the `bytes` bytes after."""

    name: str
    keys: tuple[str, ...]
    sha256: str
    begin: int
    start: int
    bytes: int

    @property
    def end(self) -> int:
        """First byte after the record."""
        return self.start + self.bytes


def entries(path: Path) -> list[Entry]:
    """The complete records of a file in the order of writing.

    Raises:
        ArrayLogError: there are bytes between two records that are not a record.
        FileNotFoundError: the file does not exist.
    """
    with path.open("rb") as file:
        return list(_entries(path, file))


def recorded_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays in the run directory `path` so far; empty if there are none."""
    file = Path(path) / ARRAYS
    return list(dict.fromkeys(entry.name for entry in entries(file))) if file.is_file() else []


def _entries(path: Path, file: BinaryIO) -> Iterator[Entry]:
    size = os.fstat(file.fileno()).st_size
    begin = 0
    while begin < size:
        file.seek(begin)
        head = file.read(_LARGEST_HEADER)
        try:
            buffer = io.BytesIO(head)
            header = json.loads(np.lib.format.read_array(buffer, allow_pickle=False).item())
            entry = Entry(
                header["name"], tuple(header["keys"]), header["sha256"],
                begin, begin + buffer.tell(), header["bytes"],
            )  # fmt: skip
        except Exception:
            # An interrupted write leaves the beginning of a header; a loss of power may leave zeros.
            torn = len(head) < _LARGEST_HEADER and head.startswith(_MAGIC[: len(head)])
            if torn or not head.strip(b"\0"):
                return
            raise ArrayLogError(
                f"{path}: no record at byte {begin} of {size}: nothing was changed; move the file away to"
                " have its arrays written again as far as the run repeats them"
            ) from None
        if entry.end > size:
            return
        yield entry
        begin = entry.end


def read_entry(path: Path, entry: Entry) -> dict[str, np.ndarray]:
    """The arrays of a record.

    Raises:
        ArrayLogError: the arrays differ from those written.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(entry.start)
        data = file.read(entry.bytes)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ArrayLogError(f"{path}: the arrays of {entry.name} differ from what was written: damaged")
    buffer = io.BytesIO(data)
    return {key: np.lib.format.read_array(buffer, allow_pickle=False) for key in entry.keys}


class ArrayLog:
    """Writer of a file of arrays, for one process at a time.

    Opening truncates a record that a killed process left incomplete. The first `append` creates the file.

    Raises:
        ArrayLogError: there are bytes between two records that are not a record; the file is then unchanged.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = -1
        self._read()

    def _read(self) -> None:
        self._entries = entries(self.path) if self.path.exists() else []
        self._latest = {entry.name: entry for entry in self._entries}
        if self.path.exists():
            self._open()
            if os.fstat(self._file).st_size > self._size:
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)

    @property
    def _size(self) -> int:
        return self._entries[-1].end if self._entries else 0

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def append(self, name: str, arrays: Mapping[str, np.ndarray]) -> bool:
        """Append a record; return False if the last record of `name` already holds equal arrays.

        A resumed run therefore writes nothing twice, and a killed run loses nothing. Equal arrays give equal
        bytes. On any error nothing is appended.

        Raises:
            ValueError: an array holds Python objects, or the keys are too long.
            OSError: the disk is full or unavailable.
        """
        keys = sorted(arrays)
        body = io.BytesIO()
        for key in keys:
            np.lib.format.write_array(body, np.asanyarray(arrays[key]), allow_pickle=False)
        sha256 = hashlib.sha256(body.getbuffer()).hexdigest()
        known = self._latest.get(name)
        if known is not None and known.sha256 == sha256 and self._is_whole(known):
            return False
        header = {"name": name, "keys": keys, "bytes": body.tell(), "sha256": sha256}
        record = io.BytesIO()
        np.lib.format.write_array(record, np.array(json.dumps(header).encode()), allow_pickle=False)
        if record.tell() > _LARGEST_HEADER:
            raise ValueError(f"{self.path}: the names of the arrays of {name} are too long")
        begin, start = self._size, self._size + record.tell()
        record.write(body.getbuffer())
        if self._file < 0:
            self._open()
        data = record.getbuffer()
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # A caller that survives a full disk must not append to half a record.
            os.ftruncate(self._file, begin)
            raise
        entry = Entry(name, tuple(keys), sha256, begin, start, body.tell())
        self._entries.append(entry)
        self._latest[name] = entry
        return True

    def _is_whole(self, entry: Entry) -> bool:
        """True if a record still holds the bytes written, which a loss of power may have undone."""
        data = os.pread(self._file, entry.bytes, entry.start)
        return hashlib.sha256(data).hexdigest() == entry.sha256

    def flush(self) -> None:
        """Return once all records so far survive a loss of power."""
        if self._file >= 0:
            os.fsync(self._file)

    def settle(self) -> None:
        """Drop records that a later record of the same name replaces."""
        kept = [entry for entry in self._entries if self._latest[entry.name] is entry]
        if len(kept) < len(self._entries):
            whole = self.path.read_bytes()
            self.close()
            atomic_write(self.path, b"".join(whole[entry.begin : entry.end] for entry in kept))
            self._read()

    def close(self) -> None:
        """Close the file; a later `append` reopens it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
