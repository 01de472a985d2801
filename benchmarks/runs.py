"""Whole training runs in separate processes, timed from outside."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, UsageError
from benchmarks.worker import WorkerError


@dataclasses.dataclass(frozen=True)
class Ran:
    """A finished run.

    Attributes:
        started: time of the command, in seconds since 1970.
        seconds: duration of the command.
        peak_bytes: largest resident memory of the process.
        path: the run directory.
    """

    started: float
    seconds: float
    peak_bytes: int
    path: Path

    def timings(self, event: str) -> list[dict[str, Any]]:
        """The lines of timings.jsonl with this `event`."""
        lines = (self.path / "timings.jsonl").read_text(encoding="utf-8").splitlines()
        return [record for record in map(json.loads, lines) if record["event"] == event]

    def seconds_to_step(self, step: int) -> float:
        """Seconds from the command to the end of a recorded training step."""
        return next(float(e["time"]) for e in self.timings("step") if e["step"] == step) - self.started


def train(
    overrides: Sequence[str],
    root: Path,
    name: str,
    cache: Path,
    module: Sequence[str] = ("experiments.train",),
) -> Ran:
    """`python -m experiments.train <overrides>` into `<root>/train/<name>`, with compilation cache `cache`.

    W&B, if the overrides leave it on, writes offline, so that nothing waits for a network.

    Raises:
        UsageError: the command refuses an override.
        WorkerError: the command fails.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    variables |= {"COVLAB_CACHE": str(cache), "WANDB_MODE": "offline"}
    where = [f"root={root}", f"name={name}", "group=train"]
    command = [sys.executable, "-m", *module, *overrides, *where]
    log = root / f"{name}.log"
    root.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        started, began = time.time(), time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=file, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
        if process.returncode == 2 and lines[-1].startswith("error: "):
            raise UsageError(lines[-1].removeprefix("error: "))
        raise WorkerError(f"{' '.join(command)}: status {process.returncode}:\n" + "\n".join(lines[-20:]))
    unit = 1 if sys.platform == "darwin" else 1024
    return Ran(started, seconds, usage.ru_maxrss * unit, root / "train" / name)
