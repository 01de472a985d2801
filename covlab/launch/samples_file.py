"""Every sampled response of a decoding with its 0/1, in files that other programs and `covlab select` read.

`jsonl` writes `<name>.samples.jsonl`, a line per response with the columns that `covlab.readers.rows`
documents: `checkpoint` (seed and step), `id`, `prompt`, `sample`, `response`, `correct`, and `reward`,
`finished`, `group`. `parquet` writes these columns to `<name>.samples.parquet`. `lm-eval` writes a folder
`<name>.lm-eval`, for each seed a file of samples as lm-evaluation-harness does since 0.4.7, with the metrics
n and n_correct, and its results file.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decoding import Problem
from metrics.answers import Answers
from tasks import Task
from tracking import LoadError
from tracking.atomic import atomic_write

KINDS = ("jsonl", "parquet", "lm-eval")


class Sampled(NamedTuple):
    """The responses of one seed: their checkpoint's name, texts, and classes of the prompts."""

    seed: int
    checkpoint: str
    prompts: list[str]
    responses: list[list[str]]
    answers: Answers
    groups: list[int]


def check_kind(field: str, kind: str | None) -> str | None:
    """The kind of file, or None for no file.

    Raises:
        ValueError: an unknown kind, or a missing package.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{field}: {kind!r}; valid: null, {', '.join(KINDS)}")
    if kind == "parquet":
        _pyarrow(field)
    return kind


def _pyarrow(field: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise LoadError(f"{field}: parquet needs pyarrow; valid: with `pip install pyarrow`") from None
    return pyarrow


def sampled(
    seed: int, checkpoint: str, task: Task, problem: Problem, answers: Answers, groups: Sequence[int]
) -> Sampled:
    """The texts of a seed's answers."""
    prompts = [task.decode(row) for row in np.asarray(problem.prompt)]
    responses = [[task.decode(response) for response in own] for own in answers.responses]
    return Sampled(seed, checkpoint, prompts, responses, answers, [int(group) for group in groups])


def rows_of(one: Sampled) -> Iterator[dict[str, Any]]:
    """A row per response."""
    correct = one.answers.correct
    for i, (prompt, own) in enumerate(zip(one.prompts, one.responses, strict=True)):
        for j, response in enumerate(own):
            yield {
                "checkpoint": one.checkpoint,
                "id": str(i),
                "prompt": prompt,
                "sample": j,
                "response": response,
                "correct": int(correct[i, j]),
                "reward": float(one.answers.reward[i, j]),
                "finished": bool(one.answers.finished[i, j]),
                "group": one.groups[i],
            }


def write_samples(kind: str, result: Path, every: Sequence[Sampled]) -> Path:
    """Write the samples of all seeds beside the file `result`; returns the file or folder.

    Raises:
        ValueError: it cannot be written, or a package is missing.
    """
    stem = result.name.removesuffix(".json")
    try:
        if kind == "lm-eval":
            return _lm_eval(result.with_name(f"{stem}.lm-eval"), every)
        path = result.with_name(f"{stem}.samples.{kind}")
        rows = [row for one in every for row in rows_of(one)]
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "parquet":
            pyarrow = _pyarrow("samples_file")
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            atomic_write(path, b"".join(_line(row) for row in rows))
    except OSError as error:
        raise LoadError(f"{result}: {error.strerror}: choose a run directory that can be written") from None
    return path


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _lm_eval(folder: Path, every: Sequence[Sampled]) -> Path:
    date = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S.%f")
    for one in every:
        own = folder / f"seed-{one.seed}"
        own.mkdir(parents=True, exist_ok=True)
        for old in (*own.glob("samples_*.jsonl"), *own.glob("results_*.json")):
            # A second date in a folder would be a second run.
            old.unlink()
        atomic_write(own / f"samples_decode_{date}.jsonl", b"".join(map(_line, _lm_eval_rows(one))))
        settings = {"model": "covlab", "model_args": {"model": one.checkpoint}}
        content = {"config": settings, "n-samples": {"decode": {"effective": len(one.prompts)}}}
        atomic_write(own / f"results_{date}.json", json.dumps(content, indent=1).encode() + b"\n")
    return folder


def _lm_eval_rows(one: Sampled) -> Iterator[dict[str, Any]]:
    for i, (prompt, own) in enumerate(zip(one.prompts, one.responses, strict=True)):
        doc = {"prompt": prompt, "id": i}
        hashes = {
            f"{name}_hash": hashlib.sha256(text.encode()).hexdigest()
            for name, text in (("doc", json.dumps(doc)), ("prompt", prompt), ("target", ""))
        }
        yield {
            "doc_id": i,
            "doc": doc,
            "target": "",
            "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}},
            "resps": [own],
            "filtered_resps": own[:1],
            "filter": "none",
            "metrics": ["n", "n_correct"],
            **hashes,
            "n": len(own),
            "n_correct": int(one.answers.correct[i].sum()),
        }
