"""Doing slow writes beside the training, in order, with nothing lost and no error kept silent."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Background:
    """One thread that does what it is handed, in the order in which it was handed.

    After an error, what was handed in behind it is dropped, and the error is raised, once, by the next call.
    The thread starts with the first `submit` and does not keep the process alive: whoever needs the work done
    calls `wait` or `close`.

    Args:
        name: of the thread.
        limit: how many actions may wait; a `submit` beyond that waits for room, so that a slow disk slows the
            caller down and does not fill the memory.

    Raises:
        ValueError: `limit` is below 1.
    """

    def __init__(self, name: str, limit: int = 16) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}: at least 1 is valid")
        self._name = name
        self._actions: queue.Queue[Callable[[], object] | None] = queue.Queue(limit)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, action: Callable[[], object]) -> None:
        """Have `action()` done soon. Raises the error of an earlier action."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._actions.put(action)

    def wait(self) -> None:
        """Return once everything submitted is done. Raises the error of an earlier action."""
        self._actions.join()
        self._raise()

    def close(self) -> None:
        """`wait`, and end the thread. A later `submit` starts another. More than once is fine."""
        self._actions.join()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._actions.put(None)
            thread.join()
        self._raise()

    def _raise(self) -> None:
        # An error is forgotten only once nothing is left that had to be dropped because of it.
        if self._error is not None:
            self._actions.join()
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (action := self._actions.get()) is not None:
            try:
                if self._error is None:
                    action()
            except BaseException as error:
                self._error = error
            finally:
                self._actions.task_done()
                # Else the last action, and the arrays that it holds, would live until the next one.
                del action
        self._actions.task_done()
