"""Files of lm-evaluation-harness: `--log_samples` of every version from 0.4.0 on.

From 0.4.3: `samples_TASK_DATE.jsonl`, a line per (document, filter), beside `results_DATE.json`. Up to 0.4.2:
`MODELARGS_TASK.jsonl`, one JSON array. Log-likelihoods are sums in nats, written as text from 0.4.3 on.

Read are the log-likelihood of a target (`loglikelihood`, `loglikelihood_rolling`), that of the right choice
(`multiple_choice`), and counts of right responses (`generate_until`). The metric of a task that repeats
judges the first response alone, so that its counts need a verifier, or `n` and `n_correct` of the task's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covlab.readers.base import (
    Checkpoint,
    Collector,
    Wanted,
    json_lines,
    log_prob_or_none,
    number_or_none,
    the_only,
    whole_json,
)
from covlab.readers.contents import digest, shown
from tracking import LoadError

SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl")
MODEL_ARGUMENTS = ("pretrained", "model", "path", "peft", "delta", "engine", "revision", "subfolder")
"""Arguments that name a checkpoint."""
COUNTS = ("n", "n_correct")
"""Metrics of a task that counts its repetitions itself."""


class File(NamedTuple):
    """A file of samples, the checkpoint that its `results_DATE.json` names ("" if none), and that content."""

    path: Path
    task: str
    date: str
    checkpoint: str
    results: Mapping[str, Any]


class Reader:
    """lm-evaluation-harness."""

    name = "lm-eval"
    summary = "lm-evaluation-harness: samples_TASK_DATE.jsonl of --log_samples, or its folder"

    def recognises(self, source: Path) -> bool:
        """True for a folder with files of samples, or one such file."""
        if source.is_dir():
            return any(SAMPLES.fullmatch(path.name) for path in source.rglob("samples_*.jsonl")) or any(
                _is_array(path) for path in source.glob("*.jsonl")
            )
        return bool(SAMPLES.fullmatch(source.name)) or (source.suffix == ".jsonl" and _is_array(source))

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each model that the folder's results name.

        Raises:
            ValueError: several tasks or filters and none asked for, two runs of one checkpoint, torn files.
        """
        files = _files(source)
        tasks = sorted({file.task for file in files})
        if wanted.tasks is None:
            the_only("tasks", tasks, None, f"{source}: tasks")
        chosen = [file for file in files if wanted.tasks is None or fnmatch(file.task, str(wanted.tasks))]
        if not chosen:
            raise LoadError(f"tasks: {wanted.tasks!r} is not in {source}; valid: {', '.join(tasks)}")
        by_name: dict[str, dict[str, File]] = {}
        for file in chosen:
            own = by_name.setdefault(file.checkpoint or str(file.path.parent), {})
            if file.task in own:
                raise LoadError(
                    f"{source}: two runs of {file.task} by one checkpoint, of {own[file.task].date} and "
                    f"{file.date}; valid: name one file, since runs are no repetitions"
                )
            own[file.task] = file
        named = [(files, next(iter(files.values())).checkpoint) for files in by_name.values()]
        return [_checkpoint(list(own.values()), name or str(source), wanted) for own, name in named]


READER = Reader()


def _is_array(path: Path) -> bool:
    """True for the JSON array of samples that versions up to 0.4.2 wrote."""
    try:
        with path.open(encoding="utf-8") as stream:
            start = stream.read(4096).lstrip()
    except (OSError, UnicodeDecodeError):
        return False
    return start.startswith("[") and '"doc_id"' in start


def _files(source: Path) -> list[File]:
    if source.is_dir():
        paths = sorted(source.rglob("samples_*.jsonl")) or sorted(filter(_is_array, source.glob("*.jsonl")))
    else:
        paths = [source]
    files = []
    for path in paths:
        match = SAMPLES.fullmatch(path.name)
        task, date = (match["task"], match["date"]) if match else (_old_task(path), "")
        results = path.with_name(f"results_{date}.json") if match else path.with_name("results.json")
        content = whole_json(results) if results.is_file() else {}
        files.append(File(path, task, date, _named_checkpoint(content.get("config") or {}), content))
    return files


def _old_task(path: Path) -> str:
    """The task of a file before 0.4.3: the ending of `MODELARGS_TASK` that `results.json` lists."""
    results = path.with_name("results.json")
    known = list(whole_json(results).get("results", {})) if results.is_file() else []
    ends = [task for task in known if path.stem.endswith(task)]
    return max(ends, key=len) if ends else path.stem


def _named_checkpoint(config: Mapping[str, Any]) -> str:
    """The model and revision of `config.model_args`, a mapping or `key=value,...`; "" if it names none."""
    given = config.get("model_args") or {}
    if isinstance(given, str):
        given = dict(part.partition("=")[::2] for part in given.split(",") if "=" in part)
    parts = [str(given[key]) for key in MODEL_ARGUMENTS if given.get(key)]
    return "@".join(parts)


def _checkpoint(files: Sequence[File], name: str, wanted: Wanted) -> Checkpoint:
    collector = Collector(files[0].path if len(files) == 1 else files[0].path.parent)
    kinds = set()
    for file in files:
        kinds.add(_read_file(file, collector, wanted))
    if len(kinds) > 1:
        raise LoadError(
            f"{collector.source}: tasks of {' and '.join(sorted(kinds))}; valid: tasks= those of one kind"
        )
    return collector.checkpoint(name)


def _records(file: File) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.date or not _is_array(file.path):
        yield from json_lines(file.path)
    else:
        yield from enumerate(whole_json(file.path), start=1)


class Row(NamedTuple):
    """What a line gives: its document, and a log-likelihood with the bytes of its text, or counts.

    `value` has (ln p, bytes) of a target, by index and by text of a choice (None where the target is
    neither), or the verdicts of the responses, or (n, c).
    """

    doc_id: Any
    content: bytes
    label: str
    value: Any


def _read_file(file: File, collector: Collector, wanted: Wanted) -> str:
    """Add a file's documents; returns `log-likelihoods` or `responses`."""
    judge, kind, votes = wanted.judge(), "", np.zeros((2, 2), int)
    by_filter: dict[str, list[Row]] = {}
    times: dict[Any, int] = {}
    nameless = False
    for number, record in _records(file):
        where = f"{file.path}: line {number}"
        doc_id, name = record.get("doc_id"), record.get("filter")
        if doc_id is None or record.get("doc") is None:
            raise LoadError(f"{where}: no doc_id or doc; valid: lines of --log_samples")
        if name is None:
            # 0.4.3 names no filter: the k-th line of a document is of the task's k-th filter.
            nameless = True
            times[doc_id] = name = times.get(doc_id, 0) + 1
        if (own := _kind(where, record)) != (kind := kind or own):
            raise LoadError(f"{where}: {own} after {kind}; valid: one kind of request in a file")
        if kind == "choices":
            value: Any = _choice(where, record, votes)
        elif kind == "responses":
            value = _verdicts(where, record, wanted, judge) if wanted.filter in (None, str(name)) else None
        else:
            value = _log_likelihood(where, record, kind == "rolling")
        by_filter.setdefault(str(name), []).append(Row(doc_id, *_content(record), value))
    if not by_filter:
        raise LoadError(f"{file.path}: no sample")
    # Filters differ in what they make of a response: log-likelihoods and a verifier do not depend on them.
    matters = nameless or (kind == "responses" and judge is None)
    rows = _of_one_filter(file, by_filter, wanted, nameless, matters)
    way = _way(file, rows, votes) if kind == "choices" else 0
    for row in rows:
        place = collector.place((file.task, row.doc_id), row.content, row.label)
        if kind == "choices":
            collector.log_prob(place, *row.value[way])
        elif kind != "responses":
            collector.log_prob(place, *row.value)
        elif isinstance(row.value, tuple):
            collector.counts(place, *row.value)
        else:
            for sample, right in enumerate(row.value):
                collector.sample(place, right, sample)
    return "responses" if kind == "responses" else "log-likelihoods"


def _of_one_filter(
    file: File, by_filter: Mapping[str, Sequence[Row]], wanted: Wanted, nameless: bool, matters: bool
) -> Sequence[Row]:
    """The lines of one filter, each document once.

    Raises:
        ValueError: several filters and none asked for; a repeated document; documents that are not there.
    """
    names = list(by_filter)
    settings = (file.results.get("configs") or {}).get(file.task) or {}
    if nameless and len(names) > 1:
        sizes = [len(rows) for rows in by_filter.values()]
        filters = len(settings.get("filter_list") or [None]) if settings else len(names)
        if len(set(sizes)) > 1 or filters != len(names):
            raise LoadError(f"{file.path}: documents occur more than once, but not once for each filter")
    if wanted.filter is not None or (len(names) > 1 and matters):
        text = f"{file.path}: filters" + (" (by their places in the task)" if nameless else "")
        names = [the_only("filter", names, None if wanted.filter is None else str(wanted.filter), text)]
    rows = by_filter[names[0]]
    if len({row.doc_id for row in rows}) != len(rows):
        twice = next(row.doc_id for i, row in enumerate(rows) if row.doc_id in {r.doc_id for r in rows[:i]})
        raise LoadError(f"{file.path}: doc_id {twice} occurs twice in filter {names[0]}")
    expected = ((file.results.get("n-samples") or {}).get(file.task) or {}).get("effective")
    if expected is not None and len(rows) != expected:
        raise LoadError(
            f"{file.path}: {len(rows)} documents, and {expected} in {_results_name(file)}: not whole"
        )
    return rows


def _results_name(file: File) -> str:
    return f"results_{file.date}.json" if file.date else "results.json"


def _kind(where: str, record: Mapping[str, Any]) -> str:
    """`target`, `rolling`, `choices` or `responses`."""
    responses = record.get("resps")
    if (
        not isinstance(responses, list)
        or not responses
        or not isinstance(responses[0], list)
        or not responses[0]
    ):
        raise LoadError(f"{where}: no resps; valid: lines of --log_samples")
    answer, arguments = responses[0][0], _arguments(record)
    if isinstance(answer, list):
        return "choices" if len(arguments) > 1 else "target"
    if len(arguments[0]) > 1 and isinstance(arguments[0][1], dict):
        return "responses"
    return "rolling"


def _arguments(record: Mapping[str, Any]) -> list[list[Any]]:
    """[[context, continuation], ...]: a mapping of mappings from 0.4.3 on, lists before."""
    given = record.get("arguments") or [[""]]
    if isinstance(given, dict):
        given = [given[key] for key in sorted(given, key=lambda key: int(key.rpartition("_")[2]))]
        given = [[each[key] for key in sorted(each)] for each in given]
    return [list(each) for each in given]


def _content(record: Mapping[str, Any]) -> tuple[bytes, str]:
    """Key and label of a document: what the model read and was asked for, not its place in the file."""
    texts = [[part for part in each if not isinstance(part, dict)] for each in _arguments(record)]
    # A target is text from 0.4.7 on and may be a number before.
    return digest(record["doc"], texts, str(record.get("target"))), shown(texts[0][0] or record["doc"])


def _log_likelihood(where: str, record: Mapping[str, Any], rolling: bool) -> tuple[float | None, int]:
    answer, arguments = record["resps"][0][0], _arguments(record)[0]
    text = str(arguments[0] if rolling else arguments[-1])
    return log_prob_or_none(f"{where}: resps", answer if rolling else answer[0]), len(text.encode())


def _choice(where: str, record: Mapping[str, Any], votes: np.ndarray) -> tuple[Any, Any]:
    """(ln p, bytes) of the right choice, the target read as an index and as a text.

    Args:
        votes: for both readings, counts the lines that can be judged and those that contradict it. `acc` of a
            line was computed with the right choice, and so tells which choice that is.
    """
    arguments, responses = _arguments(record), record["resps"]
    mutual = "acc_mutual_info" in record
    if mutual:
        kept = _conditional(record, [str(each[0]) for each in arguments])
        arguments, responses = arguments[kept], responses[kept]
    if len(arguments) != len(responses):
        raise LoadError(f"{where}: {len(responses)} resps for {len(arguments)} arguments")
    values = [log_prob_or_none(f"{where}: resps", response[0][0]) for response in responses]
    texts, target = [str(each[-1]) for each in arguments], record.get("target")
    # With mutual information, 0.4.7 computes acc from every second of the log-likelihoods: it tells nothing.
    right = None if mutual else number_or_none(f"{where}: acc", record.get("acc"))
    found: list[Any] = []
    for way, chosen in enumerate((_by_index(target, len(values)), _by_text(target, texts))):
        if chosen is None:
            votes[way, 1] += 1
            found.append(None)
            continue
        if right is not None and None not in values:
            votes[way, 1] += (int(np.argmax(np.array(values, float))) in chosen) != bool(right)
        probs = [values[i] for i in chosen]
        total = None if None in probs else float(np.logaddexp.reduce(np.array(probs, float)))
        found.append((total, len(texts[chosen[0]].encode()) if len(chosen) == 1 else 0))
    return found[0], found[1]


def _conditional(record: Mapping[str, Any], contexts: Sequence[str]) -> slice:
    """The requests with a context. `acc_mutual_info` asks for each choice without a context too: the second
    half of the requests, in 0.4.3 every second one.
    """
    half = len(contexts) // 2
    ways = slice(None, half), slice(None, None, 2)
    fitting = [
        way
        for way in ways
        if all(contexts[way]) and not any(contexts[half:] if way is ways[0] else contexts[1::2])
    ]
    if fitting:
        return fitting[0]
    return ways[0] if "filter" in record else ways[1]


def _way(file: File, rows: Sequence[Row], votes: np.ndarray) -> int:
    """0 if the targets are indices of the choices, 1 if they are texts.

    Raises:
        ValueError: they are neither, or could be both.
    """
    possible = [way for way in (0, 1) if not votes[way, 1]]
    if not possible:
        raise LoadError(f"{file.path}: target: neither always an index nor always a text of the choices")
    if len(possible) == 2 and any(row.value[0] != row.value[1] for row in rows):
        raise LoadError(
            f"{file.path}: target: both an index and a text of the choices, and no acc tells which"
        )
    return possible[0]


def _by_index(target: Any, choices: int) -> tuple[int, ...] | None:
    if isinstance(target, str):
        try:
            target = json.loads(target)
        except ValueError:
            return None
    indices = target if isinstance(target, list) else [target]
    good = indices and all(type(i) is int and 0 <= i < choices for i in indices)
    return tuple(dict.fromkeys(indices)) if good else None


def _by_text(target: Any, texts: Sequence[str]) -> tuple[int, ...] | None:
    wanted = [str(each).strip() for each in (target if isinstance(target, list) else [target])]
    plain = [text.strip() for text in texts]
    if any(plain.count(each) != 1 for each in wanted) or not wanted:
        return None
    return tuple(dict.fromkeys(plain.index(each) for each in wanted))


def _verdicts(
    where: str, record: Mapping[str, Any], wanted: Wanted, judge: Callable[..., bool] | None
) -> list[bool | None] | tuple[int, int]:
    """Right or wrong for each response, or (n, c) as the task counted them."""
    responses = record["resps"][0]
    if judge is not None:
        return [judge(response, record.get("target"), record["doc"]) for response in responses]
    if wanted.score is None and all(key in record for key in COUNTS):
        n, c = (number_or_none(f"{where}: {key}", record[key]) for key in COUNTS)
        if n is None or c is None or not (n.is_integer() and c.is_integer()):
            raise LoadError(
                f"{where}: n, n_correct: {record['n']}, {record['n_correct']}; valid: whole numbers"
            )
        return int(n), int(c)
    metrics = record.get("metrics") or [
        key for key, value in record.items() if isinstance(value, int | float) and key != "doc_id"
    ]
    metric = the_only("score", [str(each) for each in metrics], wanted.score, f"{where}: metrics")
    if len(responses) > 1:
        raise LoadError(
            f"{where}: {len(responses)} responses, and {metric} judges the first alone; "
            f"valid: verifier=<module>:<function>, or a task with the metrics n and n_correct"
        )
    return [wanted.is_right(f"{where}: {metric}", record.get(metric))]
