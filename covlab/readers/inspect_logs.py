"""Logs of inspect-ai, `.json` and `.eval`: counts of right responses over the epochs of a sample.

The ids of samples are numbers that a run gives after shuffling, so that samples are recognised by input and
target. A failed sample has no score, is left out of the accuracy that the log reports, and counts neither as
right nor as wrong here. A retried evaluation leaves several logs of one task id: the newest successful one
counts.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from covlab.readers.base import Checkpoint, Collector, Wanted, log_prob_or_none, the_only, whole_json
from covlab.readers.contents import digest, shown
from tracking import LoadError

VALUES = {"C": 1, "I": 0, "N": 0}
"""inspect's CORRECT, INCORRECT and NOANSWER, which it counts as 0. PARTIAL, "P", is neither."""
ZSTANDARD = 93
SUM = "sum_log_probs"
"""Metadata of the scorer `target_perplexity`; its value is a mean per token."""


class Log(NamedTuple):
    """A log's file and its content without samples."""

    path: Path
    header: Mapping[str, Any]


class Reader:
    """inspect-ai."""

    name = "inspect"
    summary = "inspect-ai: a log in .json or .eval, or a folder of them"

    def recognises(self, source: Path) -> bool:
        """True for a folder with logs, or one log."""
        if source.is_dir():
            return any(map(_is_log, (*source.glob("*.eval"), *source.glob("*.json"))))
        return _is_log(source)

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each model of the logs.

        Raises:
            ValueError: a log without success, several tasks or scores and none asked for, an unknown score.
        """
        paths = sorted((*source.glob("*.eval"), *source.glob("*.json"))) if source.is_dir() else [source]
        logs = [Log(path, _header(path)) for path in paths if _is_log(path)]
        tasks = sorted({str(log.header["eval"].get("task")) for log in logs})
        task = the_only("tasks", tasks, wanted.tasks, f"{source}: tasks")
        by_model: dict[str, Log] = {}
        for log in _finished(logs, task):
            model = _model(log.header["eval"])
            if model in by_model:
                raise LoadError(
                    f"{source}: {by_model[model].path.name} and {log.path.name} are two runs of {task} by "
                    f"{model}; "
                    f"valid: name one file"
                )
            by_model[model] = log
        return [_checkpoint(log, model, wanted) for model, log in by_model.items()]


READER = Reader()


def _is_log(path: Path) -> bool:
    if path.suffix == ".eval":
        return zipfile.is_zipfile(path)
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(2000)
    return '"eval_id"' in start or ('"eval"' in start and '"status"' in start)


def _header(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        content = whole_json(path)
        return {key: value for key, value in content.items() if key != "samples"}
    with _archive(path) as archive:
        if "header.json" not in archive.namelist():
            raise LoadError(f"{path}: no header.json: the evaluation did not end; valid: a finished log")
        return dict(json.loads(archive.read("header.json")))


def _archive(path: Path) -> zipfile.ZipFile:
    """The archive of an `.eval` log, which Python reads from 3.14 on, before with `zipfile-zstd`.

    Raises:
        ValueError: it is damaged, or the package is missing.
    """
    try:
        archive = zipfile.ZipFile(path)
        if any(entry.compress_type == ZSTANDARD for entry in archive.infolist()):
            try:
                archive.read(archive.namelist()[0])
            except NotImplementedError:
                import zipfile_zstd  # noqa: F401
        return archive
    except ImportError:
        raise LoadError(
            f"{path}: compressed with Zstandard; valid: with `pip install zipfile-zstd`, or the log as .json "
            f"(inspect log convert --to json)"
        ) from None
    except (OSError, zipfile.BadZipFile) as error:
        raise LoadError(f"{path}: not a readable log: {error}") from None


def _samples(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".json":
        yield from whole_json(path).get("samples") or ()
        return
    with _archive(path) as archive:
        for name in archive.namelist():
            if name.startswith("samples/") and name.endswith(".json"):
                try:
                    yield json.loads(archive.read(name))
                except (ValueError, zipfile.BadZipFile, EOFError) as error:
                    raise LoadError(f"{path}: {name}: {error}") from None


def _finished(logs: list[Log], task: str) -> list[Log]:
    """The newest successful log of each task id.

    Raises:
        ValueError: a task id without one.
    """
    by_id: dict[str, list[Log]] = {}
    for log in logs:
        if str(log.header["eval"].get("task")) == task:
            by_id.setdefault(str(log.header["eval"].get("task_id")), []).append(log)
    chosen = []
    for own in by_id.values():
        good = [log for log in own if log.header.get("status") == "success"]
        if not good:
            states = ", ".join(sorted({str(log.header.get("status")) for log in own}))
            raise LoadError(f"{own[0].path}: status {states}; valid: a log with status success")
        chosen.append(max(good, key=lambda log: str(log.header["eval"].get("created"))))
    return chosen


def _model(settings: Mapping[str, Any]) -> str:
    arguments = settings.get("model_args") or {}
    parts = [str(arguments[key]) for key in ("model_path", "revision") if arguments.get(key)]
    return "@".join([str(settings.get("model")), *parts])


def _checkpoint(log: Log, model: str, wanted: Wanted) -> Checkpoint:
    collector = Collector(log.path)
    failed = count = 0
    for sample in _samples(log.path):
        count += 1
        where = f"{log.path}: sample {sample.get('id')}, epoch {sample.get('epoch')}"
        content = digest(sample.get("input"), sample.get("target"))
        row = collector.place(str(sample.get("id")), content, shown(_text(sample.get("input"))))
        scores = sample.get("scores") or {}
        if sample.get("error") or not scores:
            failed += 1
            collector.sample(row, None, sample.get("epoch"))
            continue
        name = the_only("score", list(scores), wanted.score, f"{where}: scores")
        score = scores[name]
        metadata = score.get("metadata") or {}
        if SUM in metadata:
            collector.log_prob(row, log_prob_or_none(f"{where}: {SUM}", metadata[SUM]), _bytes(sample))
        else:
            value = score.get("value")
            value = VALUES.get(value, value) if isinstance(value, str) else value
            collector.sample(row, wanted.is_right(f"{where}: {name}", value), sample.get("epoch"))
    expected = (log.header.get("results") or {}).get("total_samples")
    if expected is not None and count != expected:
        raise LoadError(f"{log.path}: {count} samples, and its header counts {expected}: not whole")
    if failed:
        collector.notes.append(f"{model}: {failed} samples of {log.path.name} failed and have no score")
        collector.unscored -= failed
    return collector.checkpoint(model)


def _text(value: Any) -> str:
    """The last message of an input."""
    if isinstance(value, list) and value:
        return _text(value[-1].get("content") if isinstance(value[-1], dict) else value[-1])
    return str(value)


def _bytes(sample: Mapping[str, Any]) -> int:
    target = sample.get("target")
    return len(target.encode()) if isinstance(target, str) else 0
