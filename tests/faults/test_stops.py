"""SIGINT and SIGTERM at random moments, one and several at once: saved, and resumed to the same numbers."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covlab.launch import cli
from covlab.launch.cli import StopRequest
from tests.faults.conftest import Train
from tests.faults.processes import LIMIT, complete_lines, kill, run_path, snapshot, start
from tracking import read_status

pytestmark = pytest.mark.long


@pytest.fixture
def request_to_stop() -> Iterator[StopRequest]:
    """A stop request, installed only during the test."""
    numbers = cli.STOP_SIGNALS
    before = {number: signal.getsignal(number) for number in numbers}
    yield StopRequest().install()
    for number, handler in before.items():
        signal.signal(number, handler)


def at_boundary(stop: StopRequest, number: int, act: Callable[[], None]) -> Callable[[], str | None]:
    """`stop`, with something done just before it is asked for the `number`-th time."""
    calls: list[int] = []

    def asked() -> str | None:
        calls.append(number)
        if len(calls) == number:
            act()
        return stop()

    return asked


def test_signals_that_come_together_are_one_request(
    request_to_stop: StopRequest, train: Train, expected: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "run"

    def both() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)

    finished = train(path, stop=at_boundary(request_to_stop, 3, both))
    assert finished.state == "stopped"  # type: ignore[attr-defined]
    assert read_status(path).reason == "SIGTERM"  # type: ignore[union-attr]
    before = complete_lines(path)
    train(path)
    assert complete_lines(path)[: len(before)] == before
    assert snapshot(path) == expected


@pytest.mark.slow
def test_a_second_request_later_stops_at_once(
    request_to_stop: StopRequest, train: Train, expected: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cli, "_ONE_REQUEST", 0.0)
    path = tmp_path / "run"

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        train(path, stop=at_boundary(request_to_stop, 4, twice))
    assert read_status(path).state == "stopped"  # type: ignore[union-attr]
    before = complete_lines(path)
    train(path)
    assert complete_lines(path)[: len(before)] == before
    assert snapshot(path) == expected


@pytest.mark.slow
def test_one_signal_at_random_moments_in_this_process(
    request_to_stop: StopRequest, train: Train, expected: dict[str, str], tmp_path: Path
) -> None:
    """Ten requests, 0 to 2 seconds (seed 0) after the run goes on: also in the middle of a save."""
    path, draw, main = tmp_path / "run", random.Random(0), threading.main_thread().ident
    assert main is not None
    for _ in range(10):
        stop = StopRequest().install()
        timer = threading.Timer(draw.uniform(0, 2), signal.pthread_kill, (main, signal.SIGTERM))
        timer.start()
        before = complete_lines(path)
        state = train(path, stop=stop).state  # type: ignore[attr-defined]
        timer.cancel()
        timer.join()
        assert complete_lines(path)[: len(before)] == before
        if state == "complete":
            break
    train(path)
    assert snapshot(path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_stopped_at_a_random_moment(number: int, tmp_path: Path, expected: dict[str, str]) -> None:
    """Uniform over the command's wall time (seed: the signal's number), its imports included."""
    began = time.monotonic()
    process = start(tmp_path / "whole", output=tmp_path / "whole.log", toy=True)
    assert process.wait(timeout=LIMIT) == 0
    seconds = time.monotonic() - began
    draw, folder = random.Random(int(number)), tmp_path / "runs"
    for attempt in range(4):
        output = tmp_path / f"{attempt}.log"
        before = complete_lines(run_path(folder))
        process = start(folder, output=output, toy=True)
        try:
            time.sleep(draw.uniform(0, seconds))
            if process.poll() is None:
                os.killpg(process.pid, number)
            status = process.wait(timeout=LIMIT)
        finally:
            kill(process)
        text = output.read_text()
        assert complete_lines(run_path(folder))[: len(before)] == before
        # Before the handlers are installed a signal ends the process as it ends any other: Python, or one of
        # JAX's C++ modules while it is imported.
        importing = status == -signal.SIGABRT and "nanobind::python_error" in text
        assert status in (0, 130, -number, 1) or importing, text
        if status in (0, 130):
            assert "Traceback" not in text
    process = start(folder, output=tmp_path / "last.log", toy=True)
    assert process.wait(timeout=LIMIT) == 0, (tmp_path / "last.log").read_text()
    found = snapshot(run_path(folder))
    assert {name for name in expected if expected[name] != found.get(name)} <= {"config.yaml"}
