"""Contenders in separate processes."""

from __future__ import annotations

import pytest

from benchmarks.worker import Worker, WorkerError, steps_in_turn

PRODUCT = "benchmarks.flops:Product"


def test_calls_reach_the_object_and_are_timed() -> None:
    with Worker("collections:Counter", red=2) as worker:
        assert worker.call("total") == 2
        worker.call("update", {"blue": 3})
        assert worker.call("most_common", 1) == [("blue", 3)]
        assert 0 <= worker.seconds("total") < 60


def test_the_environment_is_the_workers_own() -> None:
    command = ["sh", "-c", 'test "$ONLY_THERE" = yes']
    with Worker("subprocess:Popen", {"ONLY_THERE": "yes"}, args=command) as worker:
        assert worker.call("wait") == 0
    with Worker("subprocess:Popen", args=command) as worker:
        assert worker.call("wait") == 1


def test_what_a_worker_raises_arrives_and_it_lives_on() -> None:
    with Worker("collections:Counter", red=2) as worker:
        with pytest.raises(WorkerError, match="AttributeError"):
            worker.call("nothing")
        assert worker.call("total") == 2


def test_a_class_that_does_not_exist_and_a_process_that_dies_are_named() -> None:
    with pytest.raises(WorkerError, match=r"(?s)collections:Nothing.*no attribute 'Nothing'"):
        Worker("collections:Nothing")
    with pytest.raises(WorkerError, match="os:_exit: the process ended with status 3"):
        Worker("os:_exit", status=3)


@pytest.mark.long
def test_steps_in_turn_times_every_worker_in_every_round() -> None:
    with (
        Worker(PRODUCT, size=32, accelerator=False) as small,
        Worker(PRODUCT, size=64, accelerator=False) as large,
    ):
        times, counts = steps_in_turn({"small": small, "large": large}, 0.002, 3)
    assert {name: len(values) for name, values in times.items()} == {"small": 3, "large": 3}
    assert all(value > 0 for values in times.values() for value in values)
    assert all(count >= 1 for count in counts.values())
