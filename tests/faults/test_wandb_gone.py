"""W&B missing, unreachable, killed or unable to write: one line of warning, and the same numbers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults.processes import LIMIT, kill, run_path, snapshot, start

pytestmark = pytest.mark.slow
OFFLINE = "tracking.wandb=offline"


def check(text: str, status: int, folder: Path, expected: dict[str, str]) -> None:
    assert status == 0, text
    assert "Traceback" not in text
    warned = [line for line in text.splitlines() if line.startswith("W&B: ")]
    assert len(warned) == 1, text
    assert "the run goes on without W&B" in warned[0]
    found = snapshot(run_path(folder))
    for own in ("wandb.json", "wandb_histograms.npy"):
        found.pop(own, None)
    assert {name for name in {*expected, *found} if expected.get(name) != found.get(name)} <= {"config.yaml"}


def ended(folder: Path, output: Path, *arguments: str, **environment: str) -> tuple[str, int]:
    process = start(folder, *arguments, output=output, toy=True, **environment)
    try:
        status = process.wait(timeout=LIMIT)
    finally:
        kill(process)
    return output.read_text(), status


def test_not_installed(tmp_path: Path, expected: dict[str, str]) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    root = Path(__file__).parents[2]
    text, status = ended(
        tmp_path / "runs", tmp_path / "log", OFFLINE, PYTHONPATH=os.pathsep.join([str(missing), str(root)])
    )
    check(text, status, tmp_path / "runs", expected)
    assert "ModuleNotFoundError" in text


def test_no_network(tmp_path: Path, expected: dict[str, str]) -> None:
    text, status = ended(
        tmp_path / "runs", tmp_path / "log", "tracking.wandb=online",
        WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9", HOME=str(tmp_path),
    )  # fmt: skip
    check(text, status, tmp_path / "runs", expected)


def test_a_directory_that_it_cannot_write(tmp_path: Path, expected: dict[str, str]) -> None:
    path = run_path(tmp_path / "runs")
    path.mkdir(parents=True)
    (path / "wandb").write_text("a file where W&B wants a folder")
    text, status = ended(tmp_path / "runs", tmp_path / "log", OFFLINE)
    (path / "wandb").unlink()
    check(text, status, tmp_path / "runs", expected)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds W&B's process in /proc")
def test_its_process_killed_in_the_middle(tmp_path: Path, expected: dict[str, str]) -> None:
    folder, output = tmp_path / "runs", tmp_path / "log"
    process = start(folder, OFFLINE, output=output, toy=True)
    try:
        service = None
        while service is None and process.poll() is None:
            service = _child_named("wandb-core", process.pid)
            time.sleep(0.02)
        assert service is not None, output.read_text()
        os.kill(service, signal.SIGKILL)
        status = process.wait(timeout=LIMIT)
    finally:
        kill(process)
    check(output.read_text(), status, folder, expected)


def _child_named(name: str, parent: int) -> int | None:
    """A child whose command ends in `name`; W&B starts its own in a session apart."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
                above = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if command.endswith(name) and int(above) == parent:
                return int(entry.name)
    return None
