"""Sinks for the output of a training loop.

`RunSink` writes to the run directory, the mirrors and the terminal; `ListSink` keeps all in memory. Both
implement the sink protocol of `training`; neither package imports the other.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from tracking.background import Background
from tracking.load import each_log_probs
from tracking.metrics_file import Record
from tracking.mirrors import Mirror
from tracking.progress import Progress
from tracking.run_directory import RunDirectory

MOST_HELD = 32
"""Most actions that wait for the first training step before the mirrors are told."""


class RunSink:
    """Writes the output of a run to disk, then mirrors and displays it.

    Lines of metrics and timings reach the kernel before a call returns, so a killed process loses none;
    `flush` makes them survive a loss of power. One background thread writes arrays and another one passes all
    to the mirrors (W&B, TensorBoard), from the first training step on. `flush` waits for the arrays, so a
    checkpoint never counts lines whose arrays a kill may lose. Data not yet mirrored are in the files. Errors
    of the threads are raised by a later call, at the latest by `flush` or at the end.

    When the context manager exits, all data are on disk, the mirrors have finished (with exit code 1 on an
    exception) and the bar is closed. The run directory stays open, as it belongs to the caller.
    """

    def __init__(
        self, run_directory: RunDirectory, *mirrors: Mirror, progress: Progress | None = None
    ) -> None:
        self._run = run_directory
        self._mirrors = mirrors
        self._progress = Progress(show=False) if progress is None else progress
        self._files = Background("arrays")
        # Two threads, because W&B waiting for the network must not delay a checkpoint.
        self._mirroring = Background("mirror", limit=64)
        # The mirrors' libraries take a third of a second to import, which the first training step need not
        # share. None once the mirrors are told at once.
        self._held: list[Callable[[], object]] | None = []

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the records of one logged step, one per seed. ValueError if a value is not a scalar."""
        replaced = self._run.metrics.append(records)
        if replaced:
            self.message(f"metrics.jsonl: {replaced} lines after the checkpoint differ this time: replaced")
        self._tell(lambda mirror: mirror.metrics(records))

    def timing(self, record: Mapping[str, Any]) -> None:
        """Append wall-clock measurements, which are not reproducible, to `timings.jsonl`."""
        self._run.timings.append([record])
        self._tell(lambda mirror: mirror.timing(record))
        if record.get("event") == "step" and record.get("step", 0) > 0:
            self._release()

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append to `log_probs/evaluations.npy` atomically, in the background; do not modify the arrays."""
        self._files.submit(partial(self._run.write_arrays, name, arrays))

    def histogram(
        self,
        name: str,
        global_step: int,
        values: Float[np.ndarray, "*seeds examples"],
        weights: Float[np.ndarray, " examples"] | None = None,
    ) -> None:
        """Pass a weighted histogram of per-example values to the mirrors only."""
        self._tell(lambda mirror: mirror.histogram(name, global_step, values, weights))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Write `tables/<name>_<global_step>.json` and pass the table to the mirrors."""
        self._run.write_table(name, global_step, columns, rows)
        self._tell(lambda mirror: mirror.table(name, global_step, columns, rows))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Pass PNG files, by name, to the mirrors."""
        self._tell(lambda mirror: mirror.images(images))

    def progress(self, phase: str, step: int, total: int, info: Mapping[str, float] | None = None) -> None:
        """Show the progress of `phase`, with a few metrics."""
        self._progress.update(phase, step, total, info)

    def waiting(self, phase: str, step: int, total: int, text: str) -> None:
        """Show what `phase` waits for."""
        self._progress.waiting(phase, step, total, text)

    def message(self, text: str) -> None:
        """Print one line to the terminal."""
        self._progress.message(text)

    def warning(self, title: str, text: str) -> None:
        """Print one line to the terminal and pass it to the mirrors as an alert."""
        self._progress.message(text)
        self._tell(lambda mirror: mirror.alert(title, text))

    def recorded(self, phase: str, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """(step, `log_prob`) of the evaluations of `phase` up to step `last`, from `log_probs/`, in order."""
        self._files.wait()
        for name, arrays in each_log_probs(self._run.path, f"{glob.escape(phase)}_[0-9]*"):
            own, _, step = name.rpartition("_")
            if own == phase and step.isdecimal() and int(step) <= last and "log_prob" in arrays:
                yield int(step), arrays["log_prob"]

    def kept(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays of `log_probs/` with this name, no arrays if there are none."""
        self._files.wait()
        return dict(each_log_probs(self._run.path, glob.escape(name))).get(name, {})

    def flush(self) -> None:
        """Return once all metrics, timings and arrays so far are on disk."""
        self._files.wait()
        self._run.arrays.flush()
        self._run.metrics.flush()
        self._run.timings.flush()

    def position(self) -> int:
        """Number of lines in `metrics.jsonl`, stored in checkpoints as the argument of `rewind`."""
        return self._run.metrics.num_lines

    def rewind(self, position: int) -> None:
        """Continue after the first `position` lines of the metrics, and replay these lines to the mirrors.

        Later lines stay on disk until `metrics` reaches them.

        Call this once, before the first `metrics`. An offline W&B run cannot be appended to, so every process
        writes a complete one under the same id.

        Raises:
            MetricsFileError: the file has fewer lines.
        """
        self._run.metrics.rewind(position)
        if self._mirrors and position:
            records = self._run.metrics.records()
            self._tell(lambda mirror: mirror.replay(records))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = 0 if error is None else 1
        try:
            self.flush()
            self._files.close()
        except BaseException:
            code = 1
            raise
        finally:
            self._progress.close()
            self._finish(code)

    def _tell(self, action: Callable[[Mirror], object]) -> None:
        """Queue `action` for the mirrors."""
        for mirror in self._mirrors:
            if self._held is None:
                self._mirroring.submit(partial(action, mirror))
            else:
                self._held.append(partial(action, mirror))
        if self._held is not None and len(self._held) >= MOST_HELD:
            self._release()

    def _release(self) -> None:
        """Tell the mirrors all that was held, and from now on everything at once."""
        held, self._held = self._held or (), None
        for action in held:
            self._mirroring.submit(action)

    def _finish(self, code: int) -> None:
        try:
            self._release()
            self._mirroring.wait()
        except BaseException:
            code = 1
            raise
        finally:
            self._tell(lambda mirror: mirror.finish(exit_code=code))
            self._mirroring.close()


class ListSink:
    """Keeps copies of all output in memory, in the order of arrival, for tests and notebooks."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.timings: list[dict[str, Any]] = []
        self.log_probs: dict[str, dict[str, np.ndarray]] = {}
        self.histograms: list[tuple[str, int, np.ndarray, np.ndarray | None]] = []
        self.tables: list[tuple[str, int, list[str], list[list[Any]]]] = []
        self.image_files: dict[str, Path] = {}
        self.updates: list[tuple[str, int, int, dict[str, float]]] = []
        self.waits: list[tuple[str, int, int, str]] = []
        self.messages: list[str] = []
        self.flushes = 0

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append to `records`."""
        self.records.extend(dict(record) for record in records)

    def timing(self, record: Mapping[str, Any]) -> None:
        """Append to `timings`."""
        self.timings.append(dict(record))

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep in `log_probs`."""
        self.log_probs[name] = {key: np.array(value) for key, value in arrays.items()}

    def histogram(
        self,
        name: str,
        global_step: int,
        values: Float[np.ndarray, "*seeds examples"],
        weights: Float[np.ndarray, " examples"] | None = None,
    ) -> None:
        """Keep in `histograms`."""
        copied = None if weights is None else np.array(weights)
        self.histograms.append((name, global_step, np.array(values), copied))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Keep in `tables`."""
        self.tables.append((name, global_step, list(columns), [list(row) for row in rows]))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Keep in `image_files`."""
        self.image_files.update({name: Path(path) for name, path in images.items()})

    def progress(self, phase: str, step: int, total: int, info: Mapping[str, float] | None = None) -> None:
        """Append to `updates`."""
        self.updates.append((phase, step, total, dict(info or {})))

    def waiting(self, phase: str, step: int, total: int, text: str) -> None:
        """Keep in `waits`."""
        self.waits.append((phase, step, total, text))

    def message(self, text: str) -> None:
        """Keep in `messages`."""
        self.messages.append(text)

    def warning(self, title: str, text: str) -> None:
        """Keep in `messages`."""
        self.messages.append(text)

    def recorded(self, phase: str, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """(step, `log_prob`) of evaluations up to step `last`, from `log_probs`."""
        for name, arrays in sorted(self.log_probs.items()):
            own, _, step = name.rpartition("_")
            if own == phase and step.isdigit() and int(step) <= last and "log_prob" in arrays:
                yield int(step), arrays["log_prob"]

    def kept(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays in `log_probs` with this name."""
        return self.log_probs.get(name, {})

    def flush(self) -> None:
        """Increment `flushes`."""
        self.flushes += 1

    def position(self) -> int:
        """Number of records."""
        return len(self.records)

    def rewind(self, position: int) -> None:
        """Drop the records after the first `position`."""
        del self.records[position:]
