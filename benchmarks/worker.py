"""A process that holds one contender, is started once, and times each call inside the process."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any

from benchmarks.common import ROOT, UsageError, in_turn


class WorkerError(RuntimeError):
    """An error inside a worker, with the traceback."""


class Worker:
    """An object of the class `target` ("module:Class") in a separate process.

    Contenders then share no threads, devices, allocator or environment, and an idle contender waits at a pipe
    at no cost.

    Args:
        target: the class, which is imported only in the new process.
        environment: variables to set in the new process.
        arguments: arguments of the class.

    Raises:
        UsageError: the class refuses its arguments with a UsageError.
        WorkerError: the class raises any other error, or the process dies.
    """

    def __init__(self, target: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> None:
        self._target = target
        self._connection, other = Pipe()
        variables = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | dict(environment or {})
        command = [sys.executable, "-m", "benchmarks.worker", str(other.fileno()), target]
        self._process = subprocess.Popen(command, env=variables, cwd=ROOT, pass_fds=[other.fileno()])
        other.close()
        try:
            self._connection.send(arguments)
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of the object's method."""
        self._connection.send((method, arguments))
        return self._answer()[1]

    def seconds(self, method: str, *arguments: Any) -> float:
        """Seconds of the object's method, which must not return before its work is done."""
        self._connection.send((method, arguments))
        return self._answer()[0]

    def _answer(self) -> tuple[float, Any]:
        try:
            kind, seconds, value = self._connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerError(
                f"{self._target}: the process ended with status {self._process.wait()}"
            ) from None
        if kind == "usage":
            raise UsageError(value)
        if kind == "error":
            raise WorkerError(f"{self._target}: {value}")
        return seconds, value

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pace(worker: Worker, seconds: float) -> int:
    """Warm up the worker; returns the number of steps that take about `seconds`."""
    worker.call("steps", 2)
    return max(1, round(seconds / (worker.seconds("steps", 3) / 3)))


def steps_in_turn(
    workers: Mapping[str, Worker], seconds: float, repeats: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds per step of every worker in every round, and its number of steps in a round of about
    `seconds`."""
    counts = {name: pace(worker, seconds) for name, worker in workers.items()}

    def one(name: str) -> float:
        return workers[name].seconds("steps", counts[name]) / counts[name]

    return in_turn({name: functools.partial(one, name) for name in workers}, repeats), counts


def serve(connection: Connection, target: str) -> None:
    """Make the object, then answer calls until the other end closes."""
    module, _, name = target.partition(":")
    made: Any = None
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        began = time.perf_counter()
        try:
            if made is None:
                made, value = getattr(importlib.import_module(module), name)(**message), None
            else:
                method, arguments = message
                value = getattr(made, method)(*arguments)
            answer = ("value", time.perf_counter() - began, value)
        except UsageError as error:
            answer = ("usage", 0.0, str(error))
        except Exception:
            answer = ("error", 0.0, traceback.format_exc())
        connection.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2])
