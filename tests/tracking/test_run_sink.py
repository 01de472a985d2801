from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracking import ListSink, MetricsFileError, Progress, RunDirectory, RunSink, load_log_probs, load_run
from tracking.sink import MOST_HELD

RECORDS = [{"phase": "p", "step": 1, "global_step": 1, "seed": 0, "kl": 0.5}]


class BrokenMirror:
    """A mirror that raises, which must not affect the data on disk."""

    finished: int | None = None

    def metrics(self, records) -> None:
        raise RuntimeError("mirror")

    def finish(self, exit_code: int) -> None:
        self.finished = exit_code


def exercise(sink: RunSink | ListSink) -> None:
    sink.metrics(RECORDS)
    sink.timing({"global_step": 1, "seconds": 2.0})
    sink.arrays("p_1", {"log_prob": np.array([-1.0])})
    sink.histogram("eval/log_ratio", 1, np.zeros((2, 3)), np.ones(3))
    sink.table("samples", 1, ["a"], [[1]])
    sink.images({"x": "x.png"})
    sink.progress("p", 1, 2, {"kl": 0.5})
    sink.message("hello")
    sink.flush()


def test_run_sink_writes_the_run_directory(tmp_path) -> None:
    stream = io.StringIO()
    with RunDirectory.open(tmp_path, {}) as run:
        with RunSink(run, progress=Progress(stream=stream)) as sink:
            exercise(sink)
        assert run.metrics.records() == RECORDS
        assert run.timings.records() == [{"global_step": 1, "seconds": 2.0}]
        assert (run.tables / "samples_1.json").is_file()
    assert stream.getvalue() == "p 1/2 (50.0%)  kl 0.5\nhello\n"
    assert load_run(tmp_path)["kl"].tolist() == [0.5]
    assert load_log_probs(tmp_path)["p_1"]["log_prob"].tolist() == [-1.0]


def test_the_disk_comes_before_the_mirror_and_errors_reach_w_and_b(tmp_path) -> None:
    mirror = BrokenMirror()
    with (
        RunDirectory.open(tmp_path, {}) as run,
        pytest.raises(RuntimeError, match="mirror"),
        RunSink(run, mirror) as sink,
    ):
        sink.metrics(RECORDS)
    assert mirror.finished == 1
    assert load_run(tmp_path)["kl"].tolist() == [0.5]


class KeepingMirror:
    """A mirror that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list = []

    def __getattr__(self, name: str):
        return lambda *args, **named: self.told.append((name, *args))


@pytest.mark.parametrize("first", [1, None], ids=["a training step", "no training step"])
def test_the_mirrors_are_told_all_in_order_from_the_first_training_step_on(tmp_path, first) -> None:
    mirror = KeepingMirror()
    start, step = {"event": "step", "step": 0}, {"event": "step", "step": 1}
    with RunDirectory.open(tmp_path, {}) as run, RunSink(run, mirror) as sink:
        sink.metrics(RECORDS)
        sink.timing(start)
        sink.flush()
        sink._mirroring.wait()
        assert mirror.told == []
        expected = [("metrics", RECORDS), ("timing", start)]
        if first:
            sink.timing(step)
            sink.images({"x": "x.png"})
            sink._mirroring.wait()
            expected += [("timing", step), ("images", {"x": "x.png"})]
            assert mirror.told == expected
    assert mirror.told == [*expected, ("finish",)]


def test_the_mirrors_do_not_wait_for_a_training_step_for_ever(tmp_path) -> None:
    mirror = KeepingMirror()
    with RunDirectory.open(tmp_path, {}) as run, RunSink(run, mirror) as sink:
        for _ in range(MOST_HELD):
            sink.metrics(RECORDS)
        sink._mirroring.wait()
        assert len(mirror.told) == MOST_HELD


def test_rewind_goes_back_to_a_position(tmp_path) -> None:
    with RunDirectory.open(tmp_path, {}) as run, RunSink(run) as sink:
        sink.metrics(RECORDS * 2)
        position = sink.position()
        sink.metrics(RECORDS)
        assert (position, sink.position()) == (2, 3)
    with RunDirectory.open(tmp_path, {}) as run, RunSink(run) as sink:
        assert sink.position() == 3
        sink.rewind(position)
        assert sink.position() == 2
        assert run.metrics.records() == RECORDS * 2
        assert load_run(tmp_path)["kl"].tolist() == [0.5] * 3
        sink.metrics(RECORDS)
        assert load_run(tmp_path)["kl"].tolist() == [0.5] * 3
        with pytest.raises(MetricsFileError, match="3 lines, but the checkpoint was saved after 4: restore"):
            sink.rewind(4)


def test_flush_and_exit_make_metrics_durable(tmp_path, monkeypatch) -> None:
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    with RunDirectory.open(tmp_path, {}) as run:
        monkeypatch.setattr(os, "fsync", fsync)
        with RunSink(run) as sink:
            sink.flush()
            assert synced == ["metrics.jsonl", "timings.jsonl"]
        assert synced == ["metrics.jsonl", "timings.jsonl"] * 2
        monkeypatch.undo()


def test_list_sink_keeps_copies() -> None:
    sink = ListSink()
    record, array = dict(RECORDS[0]), np.zeros(2)
    sink.metrics([record])
    sink.arrays("a", {"x": array})
    record["kl"], array[0] = 9.0, 9.0
    assert sink.records == RECORDS
    assert sink.log_probs["a"]["x"].tolist() == [0.0, 0.0]
    exercise(sink)
    assert sink.timings == [{"global_step": 1, "seconds": 2.0}]
    assert sink.log_probs["p_1"]["log_prob"].tolist() == [-1.0]
    (name, step, values, weights) = sink.histograms[0]
    assert (name, step, values.shape, weights.tolist()) == ("eval/log_ratio", 1, (2, 3), [1.0, 1.0, 1.0])
    assert sink.tables == [("samples", 1, ["a"], [[1]])]
    assert sink.image_files == {"x": Path("x.png")}
    assert sink.updates == [("p", 1, 2, {"kl": 0.5})]
    assert (sink.messages, sink.flushes) == (["hello"], 1)
    assert sink.position() == 2
    sink.metrics([{"global_step": 2}])
    sink.rewind(2)
    assert sink.records == RECORDS * 2


def test_both_sinks_offer_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(RunSink) == methods(ListSink)


def test_importing_tracking_loads_neither_jax_nor_pandas_nor_wandb() -> None:
    program = (
        "import sys, tracking, tracking.wandb_mirror\n"
        "print([name for name in ('jax', 'pandas', 'wandb', 'rich', 'matplotlib') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    )
    assert printed.stdout == "[]\n"
