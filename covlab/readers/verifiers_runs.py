"""Runs of verifiers: `results.jsonl` up to 0.3, `traces.jsonl` from 0.4 on.

From 0.4 a line is an episode with its traces, and no total reward is on disk: rewards have names, scores and
weights, and `score` names the one that says that a response is right. An episode or trace that is not ok was
not scored. Token log-probabilities are rounded to four decimals in these files, and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covlab.readers.base import Checkpoint, Collector, Wanted, json_lines, the_only, whole_json
from covlab.readers.contents import digest, shown
from tracking import LoadError

TRACES, RESULTS = "traces.jsonl", "results.jsonl"


class Reader:
    """verifiers."""

    name = "verifiers"
    summary = "verifiers: a run's folder with traces.jsonl (0.4) or results.jsonl (0.3), or the file"

    def recognises(self, source: Path) -> bool:
        """True for the folder of a run, or its file."""
        return _file(source) is not None

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """The run as one checkpoint.

        Raises:
            ValueError: several rewards and none asked for, a reward that is neither 0 nor 1, a torn file.
        """
        file = _file(source)
        if file is None:
            raise LoadError(f"{source}: neither {TRACES} nor {RESULTS}")
        collector = Collector(file)
        truncated = (_traces if file.name == TRACES else _results)(file, collector, wanted)
        name = _model(file) or str(source)
        if truncated:
            collector.notes.append(f"{name}: {truncated} responses were cut off at the token limit")
        return [collector.checkpoint(name)]


READER = Reader()


def _file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.name in (TRACES, RESULTS) else None
    return next((source / name for name in (TRACES, RESULTS) if (source / name).is_file()), None)


def _model(file: Path) -> str:
    """The model that the run's metadata (0.3) name; "" if none."""
    metadata = file.with_name("metadata.json")
    content = whole_json(metadata) if metadata.is_file() else {}
    return str(content.get("model") or "") if isinstance(content, dict) else ""


def _traces(file: Path, collector: Collector, wanted: Wanted) -> int:
    truncated = 0
    seen: dict[str, None] = {}
    for number, episode in json_lines(file):
        for place, trace in enumerate(_list(f"{file}: line {number}: traces", episode.get("traces"))):
            where = f"{file}: line {number}, trace {place}"
            task = trace.get("task") or episode.get("task") or {}
            key = task.get("key") or task.get("hash")
            if key is None:
                raise LoadError(f"{where}: no task.key and no task.hash; valid: traces of verifiers 0.4")
            data = task.get("data") or {}
            row = collector.place(key, digest(key), shown(_last(data.get("prompt")) or key))
            calls = trace.get("calls") or [{}]
            cut = "length" in (trace.get("stop_condition"), calls[-1].get("finish_reason"))
            right = None
            rewards = trace.get("rewards") or {}
            seen |= dict.fromkeys(rewards)
            if trace.get("ok") and episode.get("ok", True) and rewards:
                right = _reward(where, rewards, wanted)
            truncated += cut and right is not None
            collector.sample(row, right, trace.get("id"))
        if not episode.get("traces"):
            collector.unscored += 1
    if wanted.score is not None:
        the_only("score", list(seen), wanted.score, f"{file}: rewards")
    return truncated


def _reward(where: str, rewards: Mapping[str, Any], wanted: Wanted) -> bool | None:
    # Null fields are not written: a reward that is missing was not scored.
    name = wanted.score or the_only("score", list(rewards), None, f"{where}: rewards")
    reward = rewards.get(name)
    return wanted.is_right(f"{where}: {name}", reward.get("score") if isinstance(reward, dict) else reward)


def _results(file: Path, collector: Collector, wanted: Wanted) -> int:
    truncated = 0
    for number, record in json_lines(file):
        where = f"{file}: line {number}"
        if "example_id" not in record or "prompt" not in record:
            raise LoadError(f"{where}: no example_id or prompt; valid: rollouts of verifiers up to 0.3")
        # The id is a place in a data set that may be shuffled: only the content is the same in two runs.
        content = digest(record["prompt"], record.get("answer"), record.get("task"))
        row = collector.place(
            (record.get("task"), record["example_id"]), content, shown(_last(record["prompt"]))
        )
        score = wanted.score or "reward"
        scores = {**(record.get("metrics") or {}), **record}
        if score not in scores:
            raise LoadError(f"{where}: score: no {score!r}; valid: reward, or a metric of the rollout")
        right = None if record.get("error") else wanted.is_right(f"{where}: {score}", scores[score])
        truncated += bool(record.get("is_truncated")) and right is not None
        collector.sample(row, right)
    return truncated


def _last(prompt: Any) -> str:
    """The last message of a prompt."""
    if isinstance(prompt, list) and prompt:
        message = prompt[-1]
        return str(message.get("content") if isinstance(message, dict) else message)
    return "" if prompt is None else str(prompt)


def _list(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise LoadError(f"{where}: {shown(value)}; valid: a list, as verifiers 0.4 writes it")
    return value
