"""Samples of a decoding in files, read back as `covlab select` reads evaluations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covlab.launch.samples_file import KINDS, Sampled, check_kind, write_samples
from covlab.readers.base import Wanted
from covlab.readers.joining import read_sources
from experiments import decode
from metrics.answers import Answers


def one(seed: int) -> Sampled:
    """Two prompts with three responses each; the second prompt's last one is right but not finished."""
    reward = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]) if seed else np.zeros((2, 3))
    finished = np.array([[True, True, True], [True, True, False]])
    answers = Answers(np.zeros((2, 3, 4), int), finished, reward, np.ones((2, 3), int), np.ones((2, 3), int))
    return Sampled(seed, f"seed {seed}, train:9", ["a ü", "b"], [["x", "y", "z"]] * 2, answers, [0, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_back(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    for _ in range(2):
        # A second decoding of the same name replaces the first.
        path = write_samples(kind, tmp_path / "evaluations" / "d.json", [one(0), one(1)])
    sources = sorted(map(str, path.iterdir())) if kind == "lm-eval" else [str(path)]
    found = read_sources(sources, Wanted()).counts
    assert found is not None
    assert found.names == ("seed 0, train:9", "seed 1, train:9")
    assert found.labels == ("a ü", "b")
    assert found.num_samples.tolist() == [[3, 3], [3, 3]]
    assert found.num_correct.tolist() == [[0, 0], [2, 0]]


def test_the_columns_are_those_of_the_docstring(tmp_path: Path) -> None:
    path = write_samples("jsonl", tmp_path / "d.json", [one(1)])
    assert path.name == "d.samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[2] == {
        "checkpoint": "seed 1, train:9",
        "id": "0",
        "prompt": "a ü",
        "sample": 2,
        "response": "z",
        "correct": 1,
        "reward": 1.0,
        "finished": True,
        "group": 0,
    }


def test_an_unknown_kind_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"samples_file: 'csv'; valid: null, jsonl, parquet, lm-eval"):
        check_kind("samples_file", "csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"samples_file: parquet needs pyarrow; valid: with `pip install"):
        check_kind("samples_file", "parquet")
    assert check_kind("samples_file", None) is None


@pytest.mark.long
def test_decode_writes_its_samples(call: Callable[..., Any], tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    asked = (
        "decoding=ancestral",
        "value=constant",
        "num_prompts=2",
        "samples=4",
        "batch_size=8",
        "seeds=[0]",
    )
    ended = call(decode.main, f"run={run}", *asked, "out=d")
    assert ended.status == 0, ended.err
    content = json.loads((run / "evaluations" / "d.json").read_text())
    rows = [json.loads(line) for line in (run / "evaluations" / "d.samples.jsonl").read_text().splitlines()]
    assert "samples_file" not in content["asked"]
    groups = sorted({row["group"] for row in rows})
    shares = [[row["correct"] for row in rows if row["group"] == group] for group in groups]
    classes = sorted(name for name in content["seeds"]["0"] if name.endswith("/accuracy"))
    assert [len(own) for own in shares] == [8] * len(classes)
    expected = [content["seeds"]["0"][name]["estimate"] for name in classes]
    assert [np.mean(own) for own in shares] == pytest.approx(expected)
    assert str(run / "evaluations" / "d.samples.jsonl") in ended.out
