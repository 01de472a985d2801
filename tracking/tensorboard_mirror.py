"""TensorBoard as a mirror of `metrics.jsonl`: event files below `tensorboard/` in the run directory.

`tensorboard --logdir runs/train` shows them. Every phase is a TensorBoard run of its own, so that its points
stand at the phase's own steps. Of several seeds a tag is the median; `seeds/<tag>/q10` and `seeds/<tag>/q90`
are quantiles. The dashboard "Custom scalars" has a chart for each quantity: the N as lines, with their bands.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking.metric_names import families, headlines, section_title
from tracking.metrics_file import Record
from tracking.mirrors import say
from tracking.run_config import flatten, plain_config
from tracking.wandb_names import quantile
from tracking.wandb_rows import Histograms, binned, stored_rows

FOLDER = Path("tensorboard")
"""Folder within a run directory."""
_HISTOGRAMS = FOLDER / "histograms.npy"
_KEYS = ("phase", "step", "global_step", "seed")
_NO_SPEED = ("step", "from_step", "to_step", "global_step", "time")
_PNG_SIZE = slice(16, 24)


def require_tensorboard() -> None:
    """Refuse `tracking.tensorboard=true` where TensorBoard is not installed.

    Raises:
        ValueError: in one line, with the command that installs it.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            "tracking.tensorboard: True, but TensorBoard is not installed: pip install 'covlab[tensorboard]'"
        )


class TensorboardMirror:
    """Mirrors a run to TensorBoard's event files. No method raises: the first failure prints one line.

    Each process writes the whole run anew: the first data delete the files of earlier processes, and `replay`
    writes the steps before. So a run that is continued has every point once, also after a kill.

    Args:
        directory: the run directory.
        config: the resolved configuration, shown as hyperparameters.
        per_seed: True for one TensorBoard run per phase and seed, False for medians and quantiles over seeds.
        say: prints one line; standard error by default.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        config: Mapping[str, Any],
        per_seed: bool = False,
        say: Callable[[str], None] = say,
    ) -> None:
        self.failure: str | None = None
        self._directory = Path(directory).absolute()
        self._config = config
        self._per_seed = per_seed
        self._say = say
        self._writers: dict[tuple[str, Any], _EventFile] = {}
        self._laid_out: set[tuple[str, Any]] = set()
        self._steps: dict[str, int] = {}
        self._waiting: list[tuple[str, Mapping[str, np.ndarray]]] = []
        self._seeds, self._rows = 0, 0
        self._kept: Histograms | None = None
        self._begun = False

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records of one step, one per seed, and the histograms that came before them."""
        self._guard(lambda: self._metrics(records, time.time()))

    def timing(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a timing record as `timing/<key>`, at its step of its phase."""
        self._guard(lambda: self._timing(record, time.time()))

    def histogram(
        self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Keep a histogram of the finite `values` (..., examples) for the next metrics."""
        self._guard(lambda: self._histogram(name, global_step, values, weights))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Write a table as Markdown, at the newest step."""
        self._guard(lambda: self._table(name, columns, rows))

    def alert(self, title: str, text: str) -> None:
        """Write a warning as a text, at the newest step."""
        self._guard(lambda: self._text(f"warnings/{title}", text))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Write PNG files; the figure of a phase (`figures/<phase>`) goes to that phase."""
        self._guard(lambda: self._images(images))

    def replay(self, records: Sequence[Record]) -> None:
        """Write all data in the run directory for the metric `records`, which are all so far."""
        self._guard(lambda: self._replay(records))

    def finish(self, exit_code: int = 0) -> None:
        """Close the files. Idempotent."""
        writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            self._guard(writer.close, always=True)
        if self._kept is not None:
            self._guard(self._kept.close, always=True)

    def _guard(self, action: Callable[[], object], always: bool = False) -> None:
        if self.failure is not None and not always:
            return
        try:
            action()
            for writer in self._writers.values():
                writer.flush()
        except Exception as error:
            if self.failure is None:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                self.failure = (
                    f"TensorBoard: {reason}: the run goes on without it and metrics.jsonl keeps all"
                )
                self._say(self.failure)

    def _begin(self, keep_histograms: bool = False) -> None:
        """Delete the files of earlier processes, once; a replay needs their histograms."""
        if self._begun:
            return
        self._begun = True
        folder = self._directory / FOLDER
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not keep_histograms:
                path.unlink()

    def _writer(self, phase: str, seed: Any = None) -> _EventFile:
        key = phase, seed
        if key not in self._writers:
            self._begin()
            folder = self._directory / FOLDER
            folder = folder / phase if seed is None else folder / phase / f"seed{seed}"
            self._writers[key] = _EventFile(folder, flatten(plain_config(self._config)))
        return self._writers[key]

    def _metrics(self, records: Sequence[Mapping[str, Any]], wall: float) -> None:
        phase, step = str(records[0].get("phase")), int(records[0]["step"])
        self._seeds = max(self._seeds, len(records))
        self._rows += 1
        self._steps.pop(phase, None)
        self._steps[phase] = step
        if self._per_seed:
            for record in records:
                self._scalars(phase, record.get("seed"), step, _numbers(record), wall)
        else:
            numbers = _numbers(records[0]) if self._seeds == 1 else _over_seeds(records)
            self._scalars(phase, None, step, numbers, wall)
        waiting, self._waiting = self._waiting, []
        writer = self._writer(phase, records[0].get("seed") if self._per_seed else None)
        for name, histogram in waiting:
            if histogram["counts"].size:
                writer.histogram(name, histogram["counts"], histogram["edges"], step, wall)
            if histogram["non_finite"] > 0:
                writer.scalars({f"{name}/non_finite": float(histogram["non_finite"])}, step, wall)

    def _scalars(self, phase: str, seed: Any, step: int, numbers: Mapping[str, float], wall: float) -> None:
        writer = self._writer(phase, seed)
        writer.scalars(numbers, step, wall)
        shown = headlines(name for name in numbers if name.startswith("eval/"))
        if shown and (phase, seed) not in self._laid_out:
            self._laid_out.add((phase, seed))
            writer.layout(shown, bands=self._seeds > 1 and not self._per_seed)

    def _timing(self, record: Mapping[str, Any], wall: float) -> None:
        numbers = {f"timing/{key}": value for key, value in _numbers(record).items() if key not in _NO_SPEED}
        phase = record.get("phase") or next(reversed(self._steps), None)
        if not numbers or phase is None:
            return
        step = record.get("step", record.get("to_step", self._steps.get(phase, 0)))
        self._shared(phase).scalars(numbers, int(step), wall)

    def _shared(self, phase: str) -> _EventFile:
        """The file for data of no single seed."""
        return next((file for (name, _), file in self._writers.items() if name == phase), None) or (
            self._writer(phase, self._config.get("seed", 0) if self._per_seed else None)
        )

    def _histogram(self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None) -> None:
        histogram = binned(values, weights)
        self._begin()
        if self._kept is None:
            self._kept = Histograms(self._directory, _HISTOGRAMS)
        self._kept.keep(self._rows, name, global_step, histogram)
        self._waiting.append((name, histogram))

    def _table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        cells = (" | ".join(str(cell).replace("|", "\\|") for cell in line) for line in lines)
        self._text(name, "\n".join(f"| {line} |" for line in cells))

    def _text(self, name: str, text: str) -> None:
        if self._steps:
            phase, step = next(reversed(self._steps.items()))
            self._shared(phase).text(name, text, step)

    def _images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        for name, path in images.items():
            last = name.rpartition("/")[2]
            phase = last if last in self._steps else next(reversed(self._steps), None)
            if phase is not None:
                self._shared(phase).image(name, Path(path).read_bytes(), self._steps[phase])

    def _replay(self, records: Sequence[Record]) -> None:
        self._begin(keep_histograms=True)
        rows = list(stored_rows(self._directory, records, _HISTOGRAMS))
        self._seeds = max([self._seeds, *(len(row.metrics) for row in rows)])
        for row in rows:
            wall = next((float(t["time"]) for t in row.timings if "time" in t), time.time())
            self._waiting = [(name, histogram) for name, _, histogram in row.histograms]
            self._metrics(row.metrics, wall)
            for record in row.timings:
                self._timing(record, wall)
            for name, _, columns, cells in row.tables:
                self._table(name, columns, cells)


class _EventFile:
    """An event file of one TensorBoard run."""

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._event = Event
        self._writer = RecordWriter((folder / name).open("xb"))
        self._write(0, time.time(), file_version="brain.Event:2")
        # A TensorBoard that is running drops what it has read of an earlier process.
        self._write(0, time.time(), session_log=SessionLog(status=SessionLog.START))
        shown = {
            key: value if isinstance(value, bool | int | float) else str(value)
            for key, value in hyperparameters.items()
        }
        self._write(0, time.time(), summary=hparams_pb(shown))

    def scalars(self, numbers: Mapping[str, float], step: int, wall: float) -> None:
        """Write numbers by tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write(step, wall, summary=Summary(value=values))

    def histogram(self, tag: str, counts: np.ndarray, edges: np.ndarray, step: int, wall: float) -> None:
        """Write counts (bins,) between edges (bins + 1,)."""
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
        self._tensor(tag, buckets, create_summary_metadata(None, None), step, wall)

    def text(self, tag: str, text: str, step: int) -> None:
        """Write Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._write(step, time.time(), summary=text_pb(tag, text))

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Write the bytes of a PNG file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[_PNG_SIZE])
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        self._write(step, time.time(), summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def layout(self, names: Sequence[str], bands: bool) -> None:
        """Write the charts of the dashboard "Custom scalars" for the metrics `names`."""
        from tensorboard.plugins.custom_scalar import layout_pb2
        from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG, create_summary_metadata

        layout = layout_pb2.Layout()
        for family in families(names):
            category = layout.category.add(title=section_title(family))
            band = ", median and 10 % to 90 % of the seeds" if bands else ""
            chart = category.chart.add(title=f"{family.title}{band}")
            for name in family.lines:
                if bands:
                    low, high = f"seeds/{name}/q10", f"seeds/{name}/q90"
                    chart.margin.series.add(value=name, lower=low, upper=high)
                else:
                    chart.multiline.tag.append(f"^{re.escape(name)}$")
        serialised = np.array(layout.SerializeToString(), dtype=object)
        self._tensor(CONFIG_SUMMARY_TAG, serialised, create_summary_metadata(), 0, time.time())

    def flush(self) -> None:
        """Pass the records so far to the kernel."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _tensor(self, tag: str, array: np.ndarray, metadata: Any, step: int, wall: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.util.tensor_util import make_tensor_proto

        value = Summary.Value(tag=tag, tensor=make_tensor_proto(array), metadata=metadata)
        self._write(step, wall, summary=Summary(value=[value]))

    def _write(self, step: int, wall: float, **content: Any) -> None:
        self._writer.write(self._event(step=step, wall_time=wall, **content).SerializeToString())


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in record.items()
        if key not in _KEYS and isinstance(value, int | float)
    }


def _over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tag -> median over the live seeds, and the quantiles below `seeds/`."""
    by_seed = [_numbers(record) for record in records]
    merged: dict[str, float] = {}
    for name in dict.fromkeys(name for numbers in by_seed for name in numbers):
        values = [numbers[name] for numbers in by_seed if name in numbers]
        merged[name] = quantile(values, 0.5)
        merged[f"seeds/{name}/q10"], merged[f"seeds/{name}/q90"] = (
            quantile(values, 0.1),
            quantile(values, 0.9),
        )
    return merged | {"seeds/live": float(len(records))}
