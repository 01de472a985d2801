"""Sweeps on a real Slurm of one node, started on this machine: jobs complete, continue, are cancelled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oracles.slurm_cluster import missing, slurm

from tracking import read_status
from tracking.array_log import recorded_names

LIMIT = 900
Start = Callable[..., subprocess.Popen[str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason="; ".join(missing()) or "Slurm is here"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A running Slurm; the environment variables that name it."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm(Path(folder)) as environment:
        yield environment


@pytest.fixture
def start(
    cluster: dict[str, str],
    tiny: tuple[str, ...],
    command_line: Callable[..., tuple[list[str], dict[str, str]]],
) -> Start:
    """Start a tiny training command in a folder."""

    def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        line, variables = command_line("train", [*tiny, "tracking.figures=false", *arguments])
        return subprocess.Popen(
            line,
            cwd=folder,
            env=variables | cluster,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return started


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def wait_for(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def control(cluster: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env=os.environ | cluster, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


LONG = ("steps=2000", "evaluation.schedule.every=20", "log_every=5", "checkpoint.every_seconds=0")
"""Long enough to be met while it runs: every fifth step is saved."""


def test_a_sweep_completes_and_is_not_done_again(start: Start, tmp_path: Path) -> None:
    arguments = ("launcher=slurm", "--multirun", "seed=0,1", "steps=20,many")
    status, out, err = ended(start(tmp_path, *arguments))
    assert status == 2, err
    assert "sweep of 4 jobs: 2 complete, 2 failed" in out
    named = re.findall(r"^error: (job \d of 4) \((.*?)\): (.*?) \(log: ", err, re.MULTILINE)
    assert [(job, set(what.split())) for job, what, _ in sorted(named)] == [
        ("job 3 of 4", {"seed=0", "steps=many"}),
        ("job 4 of 4", {"seed=1", "steps=many"}),
    ]
    assert {why for *_, why in named} == {"phases.train.steps: 'many' is not an integer >= 0"}
    paths = [path for path in (tmp_path / "runs" / "train").iterdir() if not path.name.startswith(".")]
    assert [read_status(path).state for path in paths] == ["complete", "complete"]
    before = {path: (path / "metrics.jsonl").stat().st_mtime_ns for path in paths}
    status, out, err = ended(start(tmp_path, *arguments[:3], "steps=20"))
    assert (status, err) == (0, "")
    assert "sweep of 2 jobs: 2 skipped" in out
    assert {path: (path / "metrics.jsonl").stat().st_mtime_ns for path in paths} == before


def test_a_preempted_job_continues_to_the_same_bytes(
    start: Start, cluster: dict[str, str], tmp_path: Path
) -> None:
    status, _, err = ended(start(tmp_path, *LONG, "name=reference"))
    assert status == 0, err
    sweep = start(tmp_path, *LONG, "-m", "launcher=slurm", "name=preempted")
    path = tmp_path / "runs" / "train" / "preempted"
    wait_for(lambda: "train_00000020" in recorded_names(path), sweep)
    # A job of a higher partition that needs the whole node.
    whole = f"--ntasks={os.cpu_count()}"
    batch = ("sbatch", "--parsable", "--partition=high", whole, "--output=/dev/null", "--wrap=sleep 1")
    urgent = control(cluster, *batch).strip()
    # Slurm lets a requeued job wait for two minutes.
    name = control(cluster, "squeue", "--noheader", "--partition=low", "--format=%i").strip()
    wait_for(lambda: "BeginTime" in control(cluster, "squeue", "--noheader", "--format=%r"), sweep)
    control(cluster, "scontrol", "update", f"JobId={name}", "StartTime=now")
    status, out, err = ended(sweep)
    assert status == 0, err
    assert "sweep of 1 jobs: 1 complete" in out
    logs = "".join(file.read_text() for file in (tmp_path / "runs/train/.sweeps/slurm").rglob("*_log.*"))
    assert "SIGTERM: the job saves and stops" in logs
    assert "Requeued job" in logs
    assert "resuming in phase train after step" in logs
    assert urgent in control(cluster, "scontrol", "show", "job", urgent)
    assert (path / "metrics.jsonl").read_bytes() == (
        tmp_path / "runs" / "train" / "reference" / "metrics.jsonl"
    ).read_bytes()


def test_a_stopped_sweep_cancels_its_jobs_which_save(
    start: Start, cluster: dict[str, str], tmp_path: Path
) -> None:
    sweep = start(tmp_path, *LONG, "-m", "launcher=slurm", "hydra.launcher.array_parallelism=1", "seed=0,1")
    runs = tmp_path / "runs" / "train"
    wait_for(lambda: any("train_00000020" in recorded_names(path) for path in runs.glob("*")), sweep)
    sweep.send_signal(2)
    status, out, err = ended(sweep)
    assert status == 130, err
    assert "sweep of 2 jobs: 2 stopped" in out
    assert "not started" in out
    assert "the same command continues it" in err
    [path] = [path for path in runs.iterdir() if not path.name.startswith(".")]
    assert read_status(path).state == "stopped"
    assert any((path / "checkpoints" / "state").iterdir())
    assert control(cluster, "squeue", "--noheader", "--user=root") == ""
    [folder] = [path for path in (runs / ".sweeps").iterdir() if path.name != "slurm"]
    assert [row["state"] for row in json.loads((folder / "summary.json").read_text())] == [
        "stopped",
        "stopped",
    ]
