"""Entries that one start leaves on disk for the next: compiled programs, held-out sets, checks passed.

They lie in `$COVLAB_CACHE/kept`, a folder that only its owner may write to, because loading a compiled
program runs it. An entry's name is a digest of all that its content depends on (`covlab.launch.keys`). An
entry of anything else is therefore never found. Where the entries exceed their budget, the least recently
used ones are removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pickle
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from covlab.launch.keys import key_of, unchanged
from metrics.candidates import Candidates, draw_examples
from tasks import Example, Task

BUDGET = 512 * 2**20
"""Bytes of all entries together."""


def cache_folder() -> Path | None:
    """`$COVLAB_CACHE`, by default `~/.cache/covlab`; None if the variable is empty."""
    named = os.environ.get("COVLAB_CACHE", str(Path.home() / ".cache" / "covlab"))
    return Path(named) if named else None


def say(text: str) -> None:
    """Print one line to standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Kept:
    """Entries that belong to one key; implements `training.kept.Shelf`.

    Attributes:
        key: digest of all that the entries depend on, see `key_of`; empty: nothing is loaded or saved.
        say: prints one line.
    """

    key: str
    say: Callable[[str], None] = say

    def load(self, name: str) -> bytes | None:
        """The entry's content; None if there is none, or none that can be trusted."""
        folder = _own_folder() if self.key else None
        if folder is None:
            return None
        path = folder / self._file(name)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_uid != _owner():
                    return None
                digest, data = file.read(32), file.read()
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(data).digest() != digest:
            self.drop(name, "damaged")
            return None
        return data

    def save(self, name: str, data: bytes) -> None:
        """Store the entry atomically, then keep to the budget."""
        folder = _own_folder(make=True) if self.key else None
        # A module that was imported after the key was made may be another than the key's.
        if folder is None or len(data) > BUDGET // 2 or not unchanged():
            return
        path = folder / self._file(name)
        # Two processes, of two machines too, may write one entry at once.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            temporary.replace(path)
        except OSError:
            # A full or read-only disk costs the next start its time, never this run.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        keep_to(folder, BUDGET)

    def drop(self, name: str, reason: str) -> None:
        """Remove an entry that cannot be used and say so in one line."""
        folder = _own_folder()
        if folder is not None:
            path = folder / self._file(name)
            self.say(f"{path}: {' '.join(reason.split())[:200]}: removed and made anew")
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _file(self, name: str) -> str:
        return hashlib.sha256(f"{self.key} {name}".encode()).hexdigest()


def kept_for_parts(*parts: object) -> Kept:
    """Entries that depend on `parts` alone, see `key_of`."""
    return Kept(key_of(*parts) if cache_folder() is not None else "")


def kept_examples(task: Task, per_group: int, seed: int, split: str) -> tuple[Example, Candidates]:
    """`draw_examples`, whose result is kept."""
    kept = kept_for_parts("held-out", task, per_group, seed, split)
    data = kept.load("held-out")
    if data is not None:
        try:
            example, candidates = pickle.loads(data)
            return example, candidates
        except Exception as error:
            kept.drop("held-out", f"{type(error).__name__}: {error}")
    drawn = draw_examples(task, per_group, seed, split)
    written = pickle.dumps(drawn) if kept.key else b""
    if 0 < len(written) <= BUDGET // 8:
        kept.save("held-out", written)
    return drawn


def _own_folder(make: bool = False) -> Path | None:
    """The folder of the entries, if it is this user's and no other user may write to it."""
    cache = cache_folder()
    if cache is None:
        return None
    folder = cache / "kept"
    try:
        if make:
            cache.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid != _owner() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return folder


def _owner() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def keep_to(folder: Path, budget: int) -> None:
    """Remove the least recently used entries until at most `budget` bytes are left."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                at = entry.stat()
                found.append((at.st_mtime, at.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= budget:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
