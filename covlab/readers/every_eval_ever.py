"""Instance files of every-eval-ever: a line per (document, metric, filter), in files `*_samples.jsonl`.

Its converter keeps one response of those that a task repeats, so that n is 1. Rows of the metric `perplexity`
hold log-likelihoods as scores. Rolling log-likelihoods are lost: their rows score 0, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from covlab.readers.base import (
    Checkpoint,
    Collector,
    Wanted,
    first_record,
    json_lines,
    log_prob_or_none,
    the_only,
)
from covlab.readers.contents import digest, shown
from tracking import LoadError

LOG_LIKELIHOOD = "perplexity"


class Reader:
    """every-eval-ever."""

    name = "every-eval-ever"
    summary = "every-eval-ever: instance files (*_samples.jsonl), or the folder of them"

    def recognises(self, source: Path) -> bool:
        """True for a folder with instance files, or one file."""
        return any(map(_is_instances, _paths(source)))

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each `model_id`.

        Raises:
            ValueError: several evaluations or metrics and none asked for, a score that is neither 0 nor 1.
        """
        files = [path for path in _paths(source) if _is_instances(path)]
        collectors: dict[str, Collector] = {}
        runs: dict[str, str] = {}
        evaluations: dict[str, None] = {}
        metrics: dict[str, None] = {}
        chosen: list[tuple[str, Mapping[str, Any], str]] = []
        for file in files:
            for number, record in json_lines(file):
                where = f"{file}: line {number}"
                evaluation, _, filtered = str(record.get("evaluation_name")).partition("/")
                metric = str(record.get("evaluation_result_id") or "").rpartition("/")[2].partition(":")[0]
                if wanted.tasks is not None and not fnmatch(evaluation, wanted.tasks):
                    continue
                if wanted.filter is not None and filtered != wanted.filter:
                    continue
                evaluations[f"{evaluation}/{filtered}" if filtered else evaluation] = None
                if wanted.score in (None, metric):
                    metrics[metric] = None
                    chosen.append((where, _needed(record), metric))
        the_only("tasks, filter", list(evaluations), None, f"{source}: evaluations")
        metric = the_only("score", list(metrics), wanted.score, f"{source}: metrics")
        for where, needed, _ in chosen:
            model = str(needed.get("model_id"))
            run = str(needed.get("evaluation_id"))
            if runs.setdefault(model, run) != run:
                raise LoadError(f"{where}: a second run of {model}; valid: name the file of one run")
            collector = collectors.setdefault(model, Collector(source))
            _add(where, needed, metric, collector, wanted)
        return [collector.checkpoint(model) for model, collector in collectors.items()]


READER = Reader()


def _paths(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(source.rglob("*_samples.jsonl"))
    return [source] if source.suffix == ".jsonl" else []


def _is_instances(path: Path) -> bool:
    return {"evaluation_name", "sample_id", "evaluation"} <= first_record(path).keys()


def _needed(record: Mapping[str, Any]) -> Mapping[str, Any]:
    keys = ("model_id", "evaluation_id", "sample_id", "sample_hash", "input", "evaluation", "error")
    return {key: record.get(key) for key in keys}


def _add(where: str, record: Mapping[str, Any], metric: str, collector: Collector, wanted: Wanted) -> None:
    given = record.get("input") or {}
    reference = given.get("reference")
    content = digest(given.get("raw"), reference, given.get("choices"))
    row = collector.place(
        str(record.get("sample_id")), content, shown(given.get("raw") or record["sample_id"])
    )
    score = (record.get("evaluation") or {}).get("score")
    if record.get("error"):
        score = None
    if metric == LOG_LIKELIHOOD:
        texts = reference if isinstance(reference, list) else [reference]
        num_bytes = len(str(texts[0]).encode()) if len(texts) == 1 else 0
        collector.log_prob(row, log_prob_or_none(f"{where}: {metric}", score), num_bytes)
    elif metric in ("word_perplexity", "byte_perplexity", "bits_per_byte", ""):
        raise LoadError(f"{where}: {metric or 'no metric'}: every-eval-ever keeps no rolling log-likelihoods")
    else:
        collector.sample(row, wanted.is_right(f"{where}: {metric}", score), "once")
