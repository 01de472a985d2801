from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tracking import RunDirectory, RunSink, load_log_probs, read_records
from tracking.background import Background

RECORD = {"phase": "p", "step": 1, "global_step": 1, "seed": 0, "kl": 0.5}
PATIENCE = 60


def fail() -> None:
    raise OSError(28, "No space left on device")


def test_actions_are_done_in_order_by_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    work = Background("test", limit=3)
    for index in range(50):
        work.submit(lambda index=index: done.append((index, threading.current_thread().name == "test")))
    work.wait()
    assert done == [(index, True) for index in range(50)]
    work.close()
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_submit_does_not_wait_for_the_action_but_waits_for_room() -> None:
    gate, fourth = threading.Event(), threading.Event()
    work = Background("test", limit=2)
    for _ in range(3):
        work.submit(lambda: gate.wait(PATIENCE))

    def submit_one_more() -> None:
        work.submit(lambda: None)
        fourth.set()

    caller = threading.Thread(target=submit_one_more)
    caller.start()
    # One action is at work at most and two may wait: the fourth finds no room while the gate is shut.
    assert not fourth.wait(0.2)
    gate.set()
    assert fourth.wait(PATIENCE)
    caller.join()
    work.close()


def test_an_error_is_raised_once_and_drops_what_came_behind_it() -> None:
    done: list[str] = []
    gate = threading.Event()
    work = Background("test")
    work.submit(lambda: gate.wait(PATIENCE))
    work.submit(fail)
    work.submit(lambda: done.append("behind"))
    gate.set()
    with pytest.raises(OSError, match="No space left"):
        work.wait()
    assert done == []
    work.submit(lambda: done.append("afterwards"))
    work.wait()
    work.close()
    assert done == ["afterwards"]


def test_a_later_submit_raises_the_error_too() -> None:
    work = Background("test")
    work.submit(fail)
    work._actions.join()
    with pytest.raises(OSError, match="No space left"):
        work.submit(lambda: None)
    work.close()


def test_it_can_go_on_after_close_and_limit_is_checked() -> None:
    done: list[int] = []
    work = Background("test")
    work.close()
    work.submit(lambda: done.append(1))
    work.close()
    work.close()
    assert done == [1]
    with pytest.raises(ValueError, match="limit is 0"):
        Background("test", limit=0)


class SlowMirror:
    """W&B that hangs until released."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[str] = []

    def metrics(self, records) -> None:
        assert self.gate.wait(PATIENCE)
        self.seen.append("metrics")

    def histogram(self, name, global_step, values, weights) -> None:
        self.seen.append("histogram")

    def finish(self, exit_code: int) -> None:
        self.seen.append(f"finish {exit_code}")


def test_a_mirror_that_hangs_holds_up_neither_lines_nor_flush(tmp_path) -> None:
    mirror = SlowMirror()
    with RunDirectory.open(tmp_path, {}) as run:
        with RunSink(run, mirror) as sink:
            sink.arrays("p_1", {"log_prob": np.array([-1.0])})
            sink.metrics([RECORD])
            sink.histogram("eval/log_ratio", 1, np.zeros(3))
            assert read_records(tmp_path / "metrics.jsonl") == [RECORD]
            sink.flush()
            assert load_log_probs(tmp_path)["p_1"]["log_prob"].tolist() == [-1.0]
            assert mirror.seen == []
            mirror.gate.set()
        assert mirror.seen == ["metrics", "histogram", "finish 0"]


def test_arrays_that_cannot_be_written_stop_the_next_flush(tmp_path, monkeypatch) -> None:
    with RunDirectory.open(tmp_path, {}) as run:
        monkeypatch.setattr(run, "write_arrays", lambda name, arrays: fail())
        with RunSink(run) as sink:
            sink.arrays("p_1", {"log_prob": np.array([-1.0])})
            sink.metrics([RECORD])
            with pytest.raises(OSError, match="No space left"):
                sink.flush()
    assert read_records(tmp_path / "metrics.jsonl") == [RECORD]


def test_lines_and_flushed_arrays_survive_a_kill_while_the_writer_is_busy(tmp_path) -> None:
    program = """
import sys, threading
import numpy as np
from tracking import RunDirectory, RunSink

run = RunDirectory.open(sys.argv[1], {})
sink = RunSink(run)
sink.arrays("p_1", {"log_prob": np.array([-1.0])})
sink.metrics([{"phase": "p", "step": 1, "global_step": 1, "seed": 0, "kl": 0.5}])
sink.flush()
run.write_arrays = lambda name, arrays: threading.Event().wait()
sink.arrays("p_2", {"log_prob": np.array([-1.0])})
sink.metrics([{"phase": "p", "step": 2, "global_step": 2, "seed": 0, "kl": 0.25}])
print("ready", flush=True)
threading.Event().wait()
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    assert [record["step"] for record in read_records(tmp_path / "metrics.jsonl")] == [1, 2]
    assert list(load_log_probs(tmp_path)) == ["p_1"]
