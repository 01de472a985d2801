"""Stopping a sweep: signals that reach only one process, and a lock that the workers watch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask a run to save and stop: from a terminal, a system, and two warnings of a scheduler."""


class Signals:
    """Context in which stop signals are collected and kill neither this process nor its children.

    They are blocked in the main thread, because a new process inherits the mask: a Ctrl-C goes to every
    process of the terminal, also to a worker that is just starting. Another thread receives them.
    """

    def __init__(self, numbers: Sequence[int], on_first: Callable[[str], None]) -> None:
        self.reason: str | None = None
        self._numbers, self._on_first = numbers, on_first
        self._over = threading.Event()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.reason is None:
            self.reason = name
            self._on_first(name)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def _receive(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        self._over.wait()

    def __enter__(self) -> Signals:
        self._handlers = {number: signal.signal(number, self._handle) for number in self._numbers}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class GoingOn:
    """A file that a sweep keeps locked while it runs, so that workers see when it stops or dies."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "going-on"

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[str], None]]:
        """Hold the lock; the yielded function takes a reason and releases it."""
        lock = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)

        def stop(reason: str) -> None:
            os.pwrite(lock, reason.encode(), 0)
            fcntl.flock(lock, fcntl.LOCK_UN)

        try:
            yield stop
        finally:
            os.close(lock)

    def __call__(self) -> str | None:
        """The reason why the sweep stopped; None while it runs."""
        try:
            with self._file.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return file.read() or "the sweep was killed"
        except BlockingIOError:
            return None
        except FileNotFoundError:
            return "the sweep's folder is gone"
