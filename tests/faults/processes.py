"""A small run of `python -m experiments.train` in a separate process group, and its files on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from training import saved_parameters
from training.checkpoints import digest

ROOT = Path(__file__).parents[2]
LIMIT = 900
"""Seconds that no run of these tests comes near to, on the busiest machine."""
SMALL = (
    "task.depth=2", "task.width=2", "task.num_ids=8",
    "model.width=16", "model.num_layers=1", "model.num_heads=2",
    "batch_size=8", "steps=12", "log_every=2",
    "evaluation.schedule.every=4", "evaluation.num_examples=16", "evaluation.table_prompts=0",
    "checkpoint.every_seconds=0", "checkpoint.parameters=evaluations",
    "tracking.figures=false", "tracking.wandb=disabled", "+phases.one={}", "+phases.two={}",
)  # fmt: skip
"""Two phases of seven boundaries, each with a save of the full state."""


QUIET = ("tracking.figures=false", "tracking.progress=false", "tracking.wandb=disabled")


def command(*arguments: str, toy: bool = False) -> list[str]:
    """The command line of the small run below the working directory."""
    module, own = ("tests.faults.toy", QUIET) if toy else ("experiments.train", SMALL)
    return [sys.executable, "-m", module, *own, "root=.", "name=run", *arguments]


def start(
    folder: Path,
    *arguments: str,
    output: Path,
    cache: Path | None = None,
    toy: bool = False,
    **environment: str,
) -> subprocess.Popen[bytes]:
    """Start the small run below `folder`; what it prints goes to the file `output`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    kept |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    if cache is not None:
        kept["COVLAB_CACHE"] = str(cache)
    folder.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        return subprocess.Popen(
            command(*arguments, toy=toy),
            cwd=folder,
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(folder: Path, *arguments: str, output: Path, **options: object) -> tuple[int, str]:
    """Run the small run below `folder` to its end: exit status and what it printed."""
    process = start(folder, *arguments, output=output, **options)  # type: ignore[arg-type]
    try:
        status = process.wait(timeout=LIMIT)
    finally:
        kill(process)
    return status, output.read_text(errors="replace")


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL the whole process group; True if the process was alive."""
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def run_path(folder: Path) -> Path:
    """The run directory of the small run below `folder`."""
    return folder / "train" / "run"


def complete_lines(path: Path) -> list[bytes]:
    """The lines of `metrics.jsonl` that end in a newline."""
    file = path / "metrics.jsonl"
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def snapshot(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file's bytes (a checkpoint's arrays), which a repetition has to reproduce.

    Left out is what says when and by whom a run was made: timings, the lock and W&B's folder.
    """
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and name.parts[0] not in ("checkpoints", "timings.jsonl", ".lock", "wandb"):
            found[str(name)] = hashlib.sha256(file.read_bytes()).hexdigest()
    for phase, step in saved_parameters(path / "checkpoints"):
        parameters = path / "checkpoints" / "parameters" / phase / f"{step:08d}.npz"
        found[f"parameters/{phase}/{step}"] = hashlib.sha256(parameters.read_bytes()).hexdigest()
    newest = max((int(entry.name) for entry in _states(path)), default=None)
    if newest is not None:
        folder = path / "checkpoints" / "state" / str(newest) / "state"
        restored = ocp.StandardCheckpointer().restore(folder.absolute())
        found[f"state/{newest}"] = digest(_arrays(restored))
    return found


def _states(path: Path) -> Sequence[Path]:
    folder = path / "checkpoints" / "state"
    return [entry for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []


def _arrays(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_arrays(value) for value in tree]
    return None if tree is None else np.asarray(tree)
