"""Slow writes in the background of training, in order, without losing data or errors."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Background:
    """One thread that runs submitted actions in order.

    After an error, later actions are dropped, and the next call raises the error once. The thread starts with
    the first `submit` and does not keep the process alive. Call `wait` or `close` to complete the actions.

    Args:
        name: name of the thread.
        limit: largest number of waiting actions; a further `submit` blocks, so that a slow disk slows the
            caller down instead of filling the memory.

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
        """Queue `action()`. Raises the error of an earlier action."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._actions.put(action)

    def wait(self) -> None:
        """Return once all submitted actions are done. Raises the error of an earlier action."""
        self._actions.join()
        self._raise()

    def close(self) -> None:
        """`wait`, and end the thread. A later `submit` starts a new thread. Idempotent."""
        self._actions.join()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._actions.put(None)
            thread.join()
        self._raise()

    def _raise(self) -> None:
        # Actions after an error must all be dropped before the error is cleared.
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
                # Without this, the last action and the arrays in it would live until the next action.
                del action
        self._actions.task_done()
