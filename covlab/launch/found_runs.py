"""Finding run directories, and reading what each is before its metrics are read."""

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

from tracking import read_status
from tracking.load import matches
from tracking.quick import metric_names, read_config_quickly
from tracking.run_config import RunDirectoryError, flatten

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

    return read_all(read, folders, "configurations", show)


def read_all(
    read: Callable[[Found], Read | Problem], items: Sequence[Found], what: str, show: bool
) -> tuple[list[Read], list[Problem]]:
    """What `read` gives for the items, in order, and apart from it the problems."""
    good: list[Read] = []
    problems: list[Problem] = []
    for result in _in_order(read, items, what, show):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            good.append(result)
    return good, problems


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
