"""Atomic writes of small files: a reader, or a crash, sees the old bytes or the new ones."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the contents of `path` by `data`: temporary file, fsync, `os.replace`, fsync of the directory.

    Missing parent directories are created. On any error the old file is unchanged and no temporary file
    stays.

    Raises:
        OSError: the file system refuses (full, read-only, no permission).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename is durable only once the directory is on disk.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
