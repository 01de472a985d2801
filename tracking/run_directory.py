"""Run directories: one process at a time, one fixed configuration, no torn files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np

from tracking.array_log import ARRAYS, ArrayLog
from tracking.atomic import atomic_write
from tracking.metrics_file import MetricsFile, encode_value
from tracking.run_config import RunDirectoryError, differences, dump_config, plain_config, read_config

VOLATILE = ("tracking", "resume")
RESUME = ("auto", "never", "must")
STATES = ("running", "complete", "stopped", "failed")
_FOLDERS = ("log_probs", "checkpoints", "figures", "tables")


@dataclass(frozen=True)
class RunStatus:
    """Status of a run: `state` is one of `STATES`, `reason` one line or empty."""

    state: str
    reason: str = ""


def read_status(path: str | os.PathLike[str]) -> RunStatus | None:
    """Status in the run directory `path`, None if there is none.

    The status of a killed run is still "running".
    """
    try:
        status = json.loads((Path(path) / "status.json").read_bytes())
        return RunStatus(str(status["state"]), str(status["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RunDirectory:
    """Files of one run, locked until `close`.

    The files are `config.yaml`, `metrics.jsonl`, `timings.jsonl`, `log_probs/`, `checkpoints/`, `figures/`,
    `tables/` and `status.json`; other modules write `verdict.json` and `report.html`.

    Use `RunDirectory.open`. The context manager closes the directory at the end. On an exception it marks the
    run as stopped (KeyboardInterrupt) or failed (any other exception).
    """

    def __init__(self, path: Path, lock: int, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self.metrics = MetricsFile(path / "metrics.jsonl")
        try:
            self.timings = MetricsFile(path / "timings.jsonl")
            self.arrays = ArrayLog(path / ARRAYS)
        except BaseException:
            self.metrics.close()
            raise
        self.log_probs, self.checkpoints, self.figures, self.tables = (path / name for name in _FOLDERS)
        self.config_path = path / "config.yaml"

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        resume: str = "auto",
        volatile: Sequence[str] = VOLATILE,
        goes_on: bool = False,
    ) -> RunDirectory:
        """Open or create the run directory `path` for the run that `config` describes.

        Args:
            path: the directory; parents are created.
            config: the resolved configuration, nested mappings of lists and scalars.
            resume: "auto" continues an existing run and starts a missing one, "never" requires that no run
                exists, "must" requires that one exists.
            volatile: dotted prefixes of keys that a continued run may change.
            goes_on: True if `config` extends the existing run, so that the status of a complete run becomes
                "running".

        Raises:
            RunDirectoryError: in one line, if another process holds the directory, it has another
                configuration or results without a configuration, `resume` forbids it, or the file system
                refuses. The directory was not changed.
            ValueError: `resume` or `config` is not valid, or `metrics.jsonl` is corrupt.
        """
        if resume not in RESUME:
            raise ValueError(f"resume is {resume!r}: one of {', '.join(RESUME)} is valid")
        path = Path(path).absolute()
        config = plain_config(config)
        if resume == "must" and not (path / "config.yaml").is_file():
            raise RunDirectoryError(
                f"{path}: no run to resume: correct the name, or use resume=auto to start one"
            )
        lock = -1
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock(path)
            resumed = _check_contents(path, config, resume, volatile)
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
            _clear_temporary(path)
            run = cls(path, lock, resumed)
            if goes_on or not run.is_complete:
                # Before the configuration, so that a kill in between does not leave a longer run complete.
                run.mark("running")
                if not resumed or plain_config(read_config(path)) != config:
                    atomic_write(run.config_path, dump_config(config))
            return run
        except BaseException as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise RunDirectoryError(f"{path}: {reason}: choose a directory that can be written") from None
            raise

    @property
    def is_complete(self) -> bool:
        """True if the run is marked complete."""
        return self.status is not None and self.status.state == "complete"

    @property
    def status(self) -> RunStatus | None:
        """Current content of `status.json`."""
        return read_status(self.path)

    def mark(self, state: str, reason: str = "") -> None:
        """Write the status to `status.json`. Raises ValueError if `state` is not in `STATES`."""
        if state not in STATES:
            raise ValueError(f"state is {state!r}: one of {', '.join(STATES)} is valid")
        if state == "complete":
            self.metrics.settle()
            self.arrays.settle()
        status = {"state": state, "reason": " ".join(reason.split())}
        atomic_write(self.path / "status.json", json.dumps(status, indent=1).encode() + b"\n")

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append `arrays` to `log_probs/evaluations.npy` as `name`, atomically.

        Raises:
            ValueError: an array holds Python objects.
        """
        self.arrays.append(name, arrays)

    def write_table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> Path:
        """Write a table to `tables/<name>_<global_step>.json` as {"name", "global_step", "columns", "rows"}.

        Raises:
            ValueError: `name` leaves the directory, the length of a row is not that of `columns`, or a cell
                is not a scalar.
        """
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"table {name!r} has a row of {len(row)} cells: {len(columns)} are valid")
        table = {
            "name": name,
            "global_step": int(global_step),
            "columns": list(columns),
            "rows": [
                [encode_value(key, cell) for key, cell in zip(columns, row, strict=True)] for row in rows
            ],
        }
        file = self.tables / f"{_relative(name)}_{int(global_step)}.json"
        atomic_write(file, json.dumps(table, allow_nan=False, indent=1).encode() + b"\n")
        return file

    def close(self) -> None:
        """Close the files and release the lock."""
        self.metrics.close()
        self.timings.close()
        self.arrays.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the exception is a full disk, a second error must not hide it.
        with contextlib.suppress(OSError):
            if isinstance(error, KeyboardInterrupt):
                self.mark("stopped", "interrupted")
            elif error is not None:
                self.mark("failed", f"{type(error).__name__}: {error}")
        self.close()


def _relative(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"file name {name!r} is not valid: a relative path without '..' is")
    return path


def _lock(path: Path) -> int:
    """File descriptor of a lock that lasts until closed, at the latest until the process ends."""
    lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise RunDirectoryError(
            f"{path}: in use by {holder}: wait for it to end, or choose another run name"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            os.close(lock)
            raise
        # Some cluster file systems have no locks, and a run without a lock is better than no run.
        warnings.warn(f"{path}: this file system has no locks: keep two runs from sharing it", stacklevel=3)
    # The holder is written for information only, so a full disk must not matter.
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


def _clear_temporary(path: Path) -> None:
    """Remove temporary files of processes killed during a write."""
    for folder in (path, *(path / name for name in _FOLDERS if name != "checkpoints")):
        for file in folder.glob(".*.tmp"):
            writer = file.name.split(".")[-2]
            if writer.isdecimal() and not _is_running(int(writer)):
                file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _check_contents(path: Path, config: Mapping[str, Any], resume: str, volatile: Sequence[str]) -> bool:
    """True if `path` holds a run that `config` may continue. RunDirectoryError if it holds another run."""
    has_config = (path / "config.yaml").exists()
    metrics, checkpoints = path / "metrics.jsonl", path / "checkpoints"
    has_results = (metrics.exists() and metrics.stat().st_size > 0) or (
        checkpoints.is_dir() and any(checkpoints.iterdir())
    )
    if resume == "never" and (has_config or has_results):
        raise RunDirectoryError(
            f"{path}: holds a run already: choose another name, or use resume=auto to continue"
        )
    if not has_config:
        if has_results:
            raise RunDirectoryError(f"{path}: holds results without a config.yaml: choose another run name")
        return False
    changed = differences(read_config(path), config, volatile)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise RunDirectoryError(
            f"{path}: holds a run with another configuration: {'; '.join(changed[:3])}{more}: "
            "choose another run name, or restore these values"
        )
    return True
