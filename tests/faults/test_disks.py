"""Disks that are full or read-only: one line, nothing torn, and the same numbers once there is room."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Disk, Train
from tests.faults.processes import complete_lines, snapshot
from tracking import MetricsFile, RunDirectory, load_log_probs, read_config, read_status
from tracking.load import each_log_probs
from training import Checkpoints


def nothing_is_torn(path: Path, undisturbed: Path) -> None:
    """Every file can be read, and the metrics are whole lines of the undisturbed run."""
    if (path / "config.yaml").exists():
        assert read_config(path)["group"] == "train"
    if (path / "status.json").exists():
        assert read_status(path) is not None
    data = (path / "metrics.jsonl").read_bytes() if (path / "metrics.jsonl").exists() else b""
    assert (undisturbed / "metrics.jsonl").read_bytes().startswith(data)
    assert data == b"" or data.endswith(b"\n")
    assert {name for name, _ in each_log_probs(path)} <= set(load_log_probs(undisturbed))
    for file in path.rglob("*.json"):
        json.loads(file.read_bytes())
    assert not list(path.rglob(".*.tmp"))


def on_call(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, action: Callable[[], None]
) -> None:
    """Act just before the `number`-th call of a method."""
    real, calls = getattr(owner, name), []

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            action()
        return real(self, *arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


WRITES = [
    (RunDirectory, "mark", 1),
    (RunDirectory, "write_arrays", 4),
    (Checkpoints, "save", 2),
    (Checkpoints, "save_parameters", 2),
    (RunDirectory, "write_table", 1),
    (RunDirectory, "mark", 2),
]
RARER = [WRITES[1], WRITES[2], WRITES[5]]


# Where the disk refuses, a thread of the storage library may still report to a loop that has ended.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        pytest.param(*write, id=f"{write[1]}-{write[2]}", marks=pytest.mark.slow if write in RARER else ())
        for write in WRITES
    ],
)
def test_a_disk_that_fills_up(
    owner: type, name: str, number: int,
    disk: Disk, train: Train, undisturbed: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = disk.path / "run"
    on_call(monkeypatch, owner, name, number, disk.fill)
    with pytest.raises(ValueError, match="No space left on device") as refused:
        train(path)
    monkeypatch.undo()
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    nothing_is_torn(path, undisturbed)
    before = complete_lines(path)
    with pytest.raises(ValueError, match="No space left on device"):
        train(path)
    assert complete_lines(path)[: len(before)] == before
    disk.empty()
    train(path)
    assert snapshot(path) == expected


@pytest.mark.long
def test_a_disk_that_is_full_from_the_start(disk: Disk, train: Train, expected: dict[str, str]) -> None:
    disk.fill()
    with pytest.raises(ValueError, match="No space left on device") as refused:
        train(disk.path / "run")
    assert "\n" not in str(refused.value)
    disk.empty()
    train(disk.path / "run")
    assert snapshot(disk.path / "run") == expected


@pytest.mark.long
@pytest.mark.parametrize(
    "room", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(700, marks=pytest.mark.slow)]
)
def test_a_metrics_file_that_cannot_grow(
    room: int, train: Train, undisturbed: Path, expected: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`room` bytes into the third step's lines, the file's size limit is reached: needs no root."""
    path, real, calls = tmp_path / "run", MetricsFile.append, []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def append(self: MetricsFile, records: Any) -> int:
        calls.append(self.path.name)
        if calls.count("metrics.jsonl") != 3 or self.path.name != "metrics.jsonl":
            return real(self, records)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size + room, limits[1]))
        try:
            return real(self, records)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(MetricsFile, "append", append)
    with pytest.raises(ValueError, match="File too large"):
        train(path)
    monkeypatch.undo()
    assert len(complete_lines(path)) == 4
    nothing_is_torn(path, undisturbed)
    assert read_status(path).state == "failed"
    train(path)
    assert snapshot(path) == expected


def test_a_stopped_run_on_a_disk_that_is_read_only_now(
    disk: Disk, train: Train, expected: dict[str, str]
) -> None:
    path, answers = disk.path / "run", iter([None, "asked to"])
    train(path, stop=lambda: next(answers))
    before = snapshot(path)
    disk.remount("ro")
    with pytest.raises(ValueError, match="Read-only file system") as refused:
        train(path)
    assert "\n" not in str(refused.value)
    disk.remount("rw")
    assert snapshot(path) == before
    train(path)
    assert snapshot(path) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_is_not_ours(train: Train, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ValueError, match="Permission denied") as refused:
            train(tmp_path / "run")
    finally:
        tmp_path.chmod(0o755)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
