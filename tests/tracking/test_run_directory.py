from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracking.metrics_file import MetricsFileError, read_records
from tracking.run_directory import RunDirectory, RunDirectoryError, RunStatus, read_config, read_status

CONFIG = {
    "task": {"depth": 3, "groups": ("G1", "G2"), "name": "graph"},
    "optimizer": {"learning_rate": 1e-5, "decay": None, "nesterov": False},
    "seeds": [0, 1],
    "tracking": {"mode": "auto"},
    "out": Path("runs/x"),
}


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def changed(dotted: str, value: object) -> dict:
    config = json.loads(json.dumps(CONFIG, default=str))
    *parents, last = dotted.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


def test_layout_and_configuration(tmp_path) -> None:
    with RunDirectory.open(tmp_path / "a" / "b", CONFIG) as run:
        assert not run.resumed
        assert read_config(run.path) == {
            "task": {"depth": 3, "groups": ["G1", "G2"], "name": "graph"},
            "optimizer": {"learning_rate": 1e-5, "decay": None, "nesterov": False},
            "seeds": [0, 1],
            "tracking": {"mode": "auto"},
            "out": "runs/x",
        }
        names = {entry.name for entry in run.path.iterdir()} - {".lock"}
        assert names == {
            *("config.yaml", "metrics.jsonl", "timings.jsonl", "status.json"),
            *("log_probs", "checkpoints", "figures", "tables"),
        }
        run.metrics.append([{"global_step": 1}])
        assert read_status(run.path) == RunStatus("running")
    with RunDirectory.open(tmp_path / "a" / "b", CONFIG) as run:
        assert run.resumed
        assert run.metrics.records() == [{"global_step": 1}]


def test_a_config_value_that_yaml_cannot_keep_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"config\.task\.fn is a function"):
        RunDirectory.open(tmp_path / "r", {"task": {"fn": lambda: None}})
    assert not (tmp_path / "r").exists()


def test_another_configuration_is_refused_by_its_keys_and_nothing_changes(tmp_path) -> None:
    path = tmp_path / "r"
    RunDirectory.open(path, CONFIG).close()
    before = snapshot(path)
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.open(path, changed("task.depth", 4))
    assert "task.depth was 3, is now 4: choose another run name" in str(caught.value)
    assert "\n" not in str(caught.value)
    other = {"task": {"depth": 3}, "model": {"width": 64}, "seeds": [0]}
    with pytest.raises(RunDirectoryError, match=r"model\.width was absent, is now 64; .* and 5 more: choose"):
        RunDirectory.open(path, other)
    with pytest.raises(RunDirectoryError, match=r"optimizer\.nesterov was False, is now 0:"):
        RunDirectory.open(path, changed("optimizer.nesterov", 0))
    after = snapshot(path)
    assert after.pop(".lock") == before.pop(".lock")
    assert after == before


def test_volatile_keys_may_change_and_the_newest_are_kept(tmp_path) -> None:
    RunDirectory.open(tmp_path, CONFIG).close()
    RunDirectory.open(tmp_path, changed("tracking.mode", "offline")).close()
    assert read_config(tmp_path)["tracking"] == {"mode": "offline"}
    RunDirectory.open(tmp_path, changed("task.depth", 9), volatile=("tracking", "task.depth")).close()
    with pytest.raises(RunDirectoryError, match=r"tracking\.mode was 'auto', is now 'offline': choose"):
        RunDirectory.open(tmp_path, changed("tracking.mode", "offline"), volatile=("track", "task.depth"))


def test_resume_never_and_must(tmp_path) -> None:
    with pytest.raises(ValueError, match="resume is 'yes': one of auto, never, must is valid"):
        RunDirectory.open(tmp_path, CONFIG, resume="yes")
    with pytest.raises(RunDirectoryError, match=r"no run to resume: .* resume=auto"):
        RunDirectory.open(tmp_path / "r", CONFIG, resume="must")
    assert not (tmp_path / "r").exists()
    RunDirectory.open(tmp_path / "r", CONFIG, resume="never").close()
    with pytest.raises(RunDirectoryError, match="choose another name, or use resume=auto"):
        RunDirectory.open(tmp_path / "r", CONFIG, resume="never")
    with RunDirectory.open(tmp_path / "r", CONFIG, resume="must") as run:
        assert run.resumed


def test_results_of_unknown_configuration_are_not_adopted(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"global_step":1}\n')
    with pytest.raises(RunDirectoryError, match=r"holds results without a config\.yaml"):
        RunDirectory.open(tmp_path, CONFIG)
    assert snapshot(tmp_path).keys() == {"metrics.jsonl", ".lock"}
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "train.log").write_text("a log of the launcher is no run")
    RunDirectory.open(tmp_path, CONFIG).close()


def test_a_path_that_cannot_be_a_directory_is_one_clear_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunDirectoryError, match="choose a directory that can be written"):
            RunDirectory.open(path, CONFIG)
    assert (tmp_path / "file").read_text() == "x"

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(RunDirectoryError, match=r"r: Permission denied: choose a directory"):
        RunDirectory.open(tmp_path / "r", CONFIG)


def test_a_failed_opening_lets_go_of_the_lock(tmp_path) -> None:
    RunDirectory.open(tmp_path, CONFIG).close()
    (tmp_path / "metrics.jsonl").write_bytes(b"broken\n{}\n")
    with pytest.raises(MetricsFileError, match="line 1 of 2"):
        RunDirectory.open(tmp_path, CONFIG)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"broken\n{}\n"
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    RunDirectory.open(tmp_path, CONFIG).close()


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path) -> None:
    program = (
        "import sys, time\nfrom tracking.run_directory import RunDirectory\n"
        "run = RunDirectory.open(sys.argv[1], {'a': 1})\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(
            RunDirectoryError, match=rf"in use by process {child.pid} on .*: wait for it"
        ) as caught:
            RunDirectory.open(tmp_path / "r", {"a": 1})
        assert "\n" not in str(caught.value)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert read_status(tmp_path / "r") == RunStatus("running")
    with (
        RunDirectory.open(tmp_path / "r", {"a": 1}),
        pytest.raises(RunDirectoryError, match=f"process {os.getpid()}"),
    ):
        RunDirectory.open(tmp_path / "r", {"a": 1})


def test_status(tmp_path) -> None:
    assert read_status(tmp_path) is None
    with pytest.raises(KeyError), RunDirectory.open(tmp_path, CONFIG):
        raise KeyError("no\nsuch key")
    assert read_status(tmp_path) == RunStatus("failed", r"KeyError: 'no\nsuch key'")
    with pytest.raises(KeyboardInterrupt), RunDirectory.open(tmp_path, CONFIG):
        raise KeyboardInterrupt
    assert read_status(tmp_path) == RunStatus("stopped", "interrupted")
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert run.status == RunStatus("running")
        assert not run.is_complete
        run.mark("complete")
        with pytest.raises(ValueError, match="state is 'done'"):
            run.mark("done")
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert run.is_complete


def test_tables(tmp_path) -> None:
    with RunDirectory.open(tmp_path, CONFIG) as run:
        path = run.write_table(
            "samples", 240, ["prompt", "log_prob"], [("1 2 =", -np.inf), ("3 4 =", np.float32(-1.5))]
        )
        assert path == tmp_path / "tables" / "samples_240.json"
        assert json.loads(path.read_bytes()) == {
            "name": "samples",
            "global_step": 240,
            "columns": ["prompt", "log_prob"],
            "rows": [["1 2 =", "-Infinity"], ["3 4 =", -1.5]],
        }
        with pytest.raises(ValueError, match="table 'samples' has a row of 1 cells: 2 are valid"):
            run.write_table("samples", 240, ["prompt", "log_prob"], [["x"]])


def test_a_complete_run_keeps_no_line_that_it_did_not_repeat(tmp_path) -> None:
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.metrics.append([{"global_step": step} for step in range(3)])
        run.metrics.rewind(1)
        run.mark("stopped")
        assert len(read_records(tmp_path / "metrics.jsonl")) == 3
        run.mark("complete")
    assert read_records(tmp_path / "metrics.jsonl") == [{"global_step": 0}]


def test_temporary_files_of_dead_processes_are_cleared_away(tmp_path) -> None:
    RunDirectory.open(tmp_path, CONFIG).close()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    theirs = [tmp_path / f".status.json.{dead.pid}.tmp", tmp_path / "log_probs" / f".a.npz.{dead.pid}.tmp"]
    # One that a living process is writing, and one of somebody else's.
    kept = [tmp_path / f".report.html.{os.getpid()}.tmp", tmp_path / ".notes.tmp"]
    for file in theirs + kept:
        file.write_text("half")
    RunDirectory.open(tmp_path, CONFIG).close()
    assert [file.exists() for file in theirs + kept] == [False, False, True, True]
