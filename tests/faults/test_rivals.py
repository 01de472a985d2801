"""Several processes that want one run directory: one has it, unharmed, and the others say so in one line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.faults.processes import LIMIT, kill, run_path, snapshot, start
from tracking import RunDirectory, RunDirectoryError, read_status

pytestmark = pytest.mark.long


def test_of_many_at_the_same_moment_exactly_one_gets_it(tmp_path: Path) -> None:
    """50 times six at once; a lock belongs to an open file, so threads are rivals as processes are."""
    rounds, rivals = 50, 6
    for number in range(rounds):
        path = tmp_path / str(number)
        barrier = threading.Barrier(rivals)
        outcomes: list[RunDirectory | str] = []

        def contend(
            path: Path = path, barrier: threading.Barrier = barrier, outcomes: list = outcomes
        ) -> None:
            barrier.wait()
            try:
                outcomes.append(RunDirectory.open(path, {"a": 1}))
            except RunDirectoryError as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=contend, args=(path, barrier, outcomes)) for _ in range(rivals)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [outcome for outcome in outcomes if isinstance(outcome, RunDirectory)]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert (len(winners), len(refusals)) == (1, rivals - 1)
        assert all("in use by" in text and "\n" not in text for text in refusals)
        winners[0].metrics.append([{"global_step": 1}])
        winners[0].close()
        assert (path / "metrics.jsonl").read_bytes() == b'{"global_step":1}\n'
        assert read_status(path) is not None


@pytest.mark.slow
def test_three_commands_at_once(tmp_path: Path, expected: dict[str, str]) -> None:
    """The one that got it is killed; its lock is stale then, and the same command goes on."""
    folder = tmp_path / "runs"
    outputs = [tmp_path / f"{index}.log" for index in range(3)]
    processes = [start(folder, output=output, toy=True) for output in outputs]
    try:
        statuses = [process.wait(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            kill(process)
    said = [output.read_text() for output in outputs]
    # One that starts when another has ended finds a complete run.
    assert statuses.count(0) >= 1, said
    for status, text in zip(statuses, said, strict=True):
        if status != 0:
            assert status == 2, text
            (line,) = text.splitlines()
            assert line.startswith("error: ")
            assert "in use by process" in line
    found = snapshot(run_path(folder))
    assert {name for name in expected if expected[name] != found.get(name)} <= {"config.yaml"}


@pytest.mark.slow
def test_a_killed_owner_leaves_no_lock(tmp_path: Path, expected: dict[str, str]) -> None:
    folder = tmp_path / "runs"
    process = start(folder, output=tmp_path / "first.log", toy=True)
    try:
        while not (run_path(folder) / ".lock").exists() and process.poll() is None:
            pass
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        kill(process)
    again = start(folder, output=tmp_path / "again.log", toy=True)
    try:
        assert again.wait(timeout=LIMIT) == 0, (tmp_path / "again.log").read_text()
    finally:
        kill(again)
    found = snapshot(run_path(folder))
    assert {name for name in expected if expected[name] != found.get(name)} <= {"config.yaml"}
