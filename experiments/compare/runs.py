"""Finding and reading the runs of a comparison and cutting them to one phase; unusable runs are named."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.launch.healthy import every_seed_diverged
from tracking import read_status
from tracking.load import matches
from tracking.quick import Columns, metric_names, read_columns, read_config_quickly
from tracking.run_config import RunDirectoryError, flatten
from tracking.run_directory import RunStatus

Found = TypeVar("Found")
Read = TypeVar("Read")
_AT_ONCE = 8
"""Number of files read ahead, to hide the latency of a cluster's file system."""
_PATIENCE = 3.0
"""Seconds before progress is shown."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that a comparison leaves out, with the reason."""

    what: str
    why: str


@dataclasses.dataclass(frozen=True)
class Head:
    """Description of a run before its metrics are read; `config` has dotted keys."""

    path: Path
    name: str
    config: Mapping[str, Any]
    state: str
    reason: str
    metrics: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run's records of the compared phase, checkpoints in the order of training.

    Attributes:
        head: name, configuration, state.
        phase: the phase, or "all".
        seeds: the seeds with records.
        diverged: seeds that stopped before the others.
        step, global_step: steps of the checkpoints.
        values: metric -> (seeds, checkpoints), NaN where there is no record.
    """

    head: Head
    phase: str
    seeds: tuple[int, ...]
    diverged: frozenset[int]
    step: Int[np.ndarray, " checkpoints"]
    global_step: Int[np.ndarray, " checkpoints"]
    values: dict[str, Float[np.ndarray, "seeds checkpoints"]]


def find_runs(paths: Sequence[str]) -> tuple[list[Path], list[Problem]]:
    """Run directories: given ones, those below given folders, those that patterns match.

    A run directory holds `metrics.jsonl` or, if it has not measured anything yet, `config.yaml` and
    `status.json`. Folders below a run directory are not searched.
    """
    folders: dict[Path, None] = {}
    problems = []
    for path in paths:
        candidates = [path]
        if glob.has_magic(path) and not os.path.exists(path):
            candidates = matches(path)
            if not candidates:
                problems.append(Problem(path, "nothing matches this pattern"))
        for match in candidates:
            below = list(_runs_below(match))
            folders |= dict.fromkeys(Path(folder).absolute() for folder in below)
            # Other matches of a pattern are skipped, as in `load_runs`.
            if not below and match == path:
                why = "there is no run in it" if os.path.isdir(path) else "no such directory"
                problems.append(Problem(path, why))
    return list(folders), problems


def _runs_below(path: str) -> Iterator[str]:
    for folder, below, files in os.walk(path):
        below.sort()
        if "metrics.jsonl" in files or ("config.yaml" in files and "status.json" in files):
            below.clear()
            yield folder


def read_heads(folders: Sequence[Path], show: bool = True) -> tuple[list[Head], list[Problem]]:
    """Configuration, state and names of metrics of every run directory.

    A name is the path below the common folder.
    """
    shared = os.path.commonpath([folder.parent for folder in folders]) if folders else ""
    heads, problems = [], []

    def read(folder: Path) -> Head | Problem:
        name = os.path.relpath(folder, shared)
        status = read_status(folder)
        state, reason = (status.state, status.reason) if status else ("unknown", "")
        file = folder / "metrics.jsonl"
        if not file.is_file():
            return Problem(name, f"no metrics yet ({state}{': ' if reason else ''}{reason})")
        try:
            config = flatten(read_config_quickly(folder))
        except RunDirectoryError as error:
            # Metrics of another program may have no configuration: such a run is a separate group.
            config = {"run": name}
            if (folder / "config.yaml").exists():
                return Problem(name, str(error))
        try:
            return Head(folder, name, config, state, reason, frozenset(metric_names(file)))
        except ValueError as error:
            return Problem(name, str(error))

    for result in _in_order(read, folders, "configurations", show):
        if isinstance(result, Head):
            heads.append(result)
        else:
            problems.append(result)
    return heads, problems


def read_runs(
    heads: Sequence[Head], metrics: Sequence[str], phase: str | None, show: bool = True
) -> tuple[list[Run], list[Problem]]:
    """The columns `metrics` of every run.

    Args:
        heads: the runs.
        metrics: columns of `metrics.jsonl`.
        phase: a phase's name; None for the last phase of each run's configuration; "all" for all phases.
        show: True to show progress if it takes longer than a few seconds.
    """
    runs, problems = [], []

    def read(head: Head) -> Run | Problem:
        try:
            return _run(head, read_columns(head.path / "metrics.jsonl", metrics), phase)
        except ValueError as error:
            return Problem(head.name, str(error))

    for result in _in_order(read, heads, "metrics", show):
        if isinstance(result, Run):
            runs.append(result)
        else:
            problems.append(result)
    return runs, problems


def _run(head: Head, columns: Columns, phase: str | None) -> Run | Problem:
    if not columns.phase:
        return Problem(head.name, f"no metrics yet ({head.state})")
    order = {name: index for index, name in enumerate(dict.fromkeys(columns.phase))}
    wanted = (_last_phase(head.config) or columns.phase[-1]) if phase is None else phase
    if wanted != "all" and wanted not in order:
        return Problem(head.name, f"no record of phase {wanted} ({head.state}); it has {', '.join(order)}")
    ended = every_seed_diverged(RunStatus(head.state, head.reason))
    if ended and wanted in ("all", columns.phase[-1]):
        return Problem(head.name, f"every seed diverged in phase {columns.phase[-1]}")
    index = np.array([order[name] for name in columns.phase])
    kept: Bool[np.ndarray, " lines"] = (
        np.full(len(index), True) if wanted == "all" else index == order[wanted]
    )
    # Two phases share a global step at their seam, so a checkpoint is a phase and its step.
    place = np.stack([index, columns.step, columns.global_step])[:, kept]
    checkpoints, column = np.unique(place, axis=1, return_inverse=True)
    seeds, row = np.unique(columns.seed[kept], return_inverse=True)
    there = np.zeros((len(seeds), checkpoints.shape[1]), bool)
    there[row, column.reshape(-1)] = True
    values = {}
    for key, value in columns.values.items():
        values[key] = np.full(there.shape, np.nan)
        values[key][row, column.reshape(-1)] = value[kept]
    return Run(
        head,
        wanted,
        tuple(int(seed) for seed in seeds),
        frozenset(int(seed) for seed in seeds[_stopped_early(there, head.state)]),
        checkpoints[1],
        checkpoints[2],
        values,
    )


def _stopped_early(there: Bool[np.ndarray, "seeds checkpoints"], state: str) -> Bool[np.ndarray, " seeds"]:
    """Mask of the seeds that lack the last record; in a run in progress, which may be writing that line, the
    last two.
    """
    depth = 1 if state in ("complete", "stopped", "failed") else 2
    return np.asarray(~there[:, -depth:].any(axis=1))


def _last_phase(config: Mapping[str, Any]) -> str | None:
    """The last phase of a flat configuration; None if it has no phases."""
    if config.get("phases", {}) in ({}, None) and "phases" in config:
        return "train"
    names = [key.split(".")[1] for key in config if key.startswith("phases.")]
    return names[-1] if names else None


def _in_order(read: Callable[[Found], Read], items: Sequence[Found], what: str, show: bool) -> Iterator[Read]:
    """`read` of every item, in order, with at most `_AT_ONCE` items read ahead."""
    ahead: deque[Any] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool, _progress(what, len(items), show) as advance:
        for item in items:
            ahead.append(pool.submit(read, item))
            if len(ahead) > 4 * _AT_ONCE:
                yield ahead.popleft().result()
                advance()
        while ahead:
            yield ahead.popleft().result()
            advance()


@contextlib.contextmanager
def _progress(what: str, total: int, show: bool) -> Iterator[Callable[[], None]]:
    """A function to call after each of `total` items; shows nothing in the first seconds."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, auto_refresh=False, transient=True, disable=not console.is_terminal)
    task = bar.add_task(f"reading {what}", total=total)
    began = printed = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, printed
        done += 1
        now = time.monotonic()
        if not show or now - began < _PATIENCE or now - printed < (0.25 if console.is_terminal else 10.0):
            return
        printed = now
        if console.is_terminal:
            bar.start()
            bar.update(task, completed=done, refresh=True)
        else:
            console.print(f"reading {what}: {done}/{total}", highlight=False)

    try:
        yield advance
    finally:
        bar.stop()
