"""Quick readers equal plain readers on any content of a run directory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from tracking import LoadError, MetricsFileError, load_run, read_config
from tracking.metrics_file import encode_record
from tracking.quick import metric_names, read_columns, read_config_quickly
from tracking.run_config import RunDirectoryError, dump_config

KEYS = ("eval/kl", "eval/cov/4", "eval/cov/4.6", "absent", "train/loss")


def line(step: int, seed: int = 0, phase: str = "p", **values: object) -> bytes:
    record = {"phase": phase, "step": step, "global_step": step + 5, "seed": seed}
    return encode_record(record | {key.replace("_", "/"): value for key, value in values.items()})


def assert_same(path: Path) -> None:
    found, frame = read_columns(path, KEYS), load_run(path)
    assert list(found.phase) == frame["phase"].tolist()
    for key in ("step", "global_step", "seed"):
        np.testing.assert_array_equal(getattr(found, key), frame[key])
    for key in KEYS:
        expected = frame[key].astype(float) if key in frame else np.full(len(frame), np.nan)
        np.testing.assert_array_equal(found.values[key], expected)


ORDINARY = line(0, eval_kl=0.1 + 0.2, **{"eval_cov_4.6": 1e-300, "eval_cov_4": 3})
STRANGE = line(1, 1, eval_kl=math.inf, train_loss=math.nan, eval_cov_4=None) + line(
    2, eval_kl=-math.inf, x="eval/kl", y='"eval/kl":7'
)


@pytest.mark.parametrize(
    "data",
    [
        ORDINARY,
        ORDINARY + STRANGE,
        ORDINARY + line(3, eval_kl=0.5)[:-9],
        ORDINARY + b'{"phase":"p","step":4\n',
        # Written by another program: other spacing, another order of keys, a phase that needs escapes.
        b'{"phase": "p", "step": 1, "global_step": 2, "seed": 0, "eval/kl": 0.25}\n',
        b'{"phase":"p","step":1,"global_step":2,"seed":0,"train/loss":2,"eval/kl":0.25,"eval/cov/4":1}\n',
        line(1, phase='a "quoted" phase', eval_kl=2.0),
        b"",
    ],
)
def test_columns_are_those_of_load_run(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(data)
    assert_same(path)


def test_columns_refuse_what_load_run_refuses(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(LoadError, match=r"metrics\.jsonl: No such file"):
        read_columns(path, KEYS)
    for damage in (b"junk\n", b'{"phase":"p","step":1,"global_step":1,"seed":0,"eval/kl":0.2x5}\n'):
        path.write_bytes(ORDINARY + damage + ORDINARY)
        with pytest.raises(MetricsFileError, match="line 2 of 3"):
            read_columns(path, KEYS)
    path.write_bytes(b'{"a":1}\n')
    with pytest.raises(LoadError, match="a line has no step"):
        read_columns(path, KEYS)


def test_a_line_without_phase_and_seed_counts_as_seed_0(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b'{"step":3,"eval/kl":0.5}\n')
    found = read_columns(tmp_path / "m.jsonl", ("eval/kl",))
    assert (found.phase, found.step.tolist(), found.global_step.tolist()) == (("",), [3], [3])
    assert (found.seed.tolist(), found.values["eval/kl"].tolist()) == ([0], [0.5])


def test_names_come_from_the_first_and_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(0, eval_kl=1.0) + line(1, train_loss=2.0) + b'{"phase":"p","torn/key":')
    assert metric_names(path) == {"eval/kl", "train/loss"}
    path.write_bytes(b"")
    assert metric_names(path) == set()
    with pytest.raises(LoadError, match="No such file"):
        metric_names(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        dump_config(
            {"task": {"_target_": "tasks.X", "ns": [2, 4.6], "m": {"G1": 0.9}}, "seed": 0, "tags": []}
        ),
        dump_config({"phases": {}, "top": [1, [2, 3]], "notes": "a: b\n\nc " + "long " * 60, "none": None}),
        dump_config({"lr": 1e-5, "big": 1e20, "flag": True, "text": "1e-5", "yes": "no", "nan": math.nan}),
        b"# a comment\na: 1  # another\nb: [1, 2]\n",
        b"a: &x [1, 2]\nb: *x\n",
        b"---\na: 1\n",
        b"'quoted key': 1\nb: 2\n",
        b"text: |\n  several\n\n  lines\nb: 2\n",
        b"a: 1\na: 2\n",
        b"1: 2\nb: 2001-01-01\n",
        "ä: ö\n".encode(),
    ],
)
def test_configurations_are_those_of_read_config(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    # Twice, because the second time the sections come out of the cache.
    for _ in range(2):
        found = read_config_quickly(tmp_path)
        assert repr(found) == repr(read_config(tmp_path)) == repr(yaml.safe_load(text))
        found["a"] = found.setdefault("top", [])
        found["top"].append("changed by its reader")


@pytest.mark.parametrize("text", [b"a: [", b"- 1\n", b"", b"a: 1\nb\n", b"\xff\xfe"])
def test_bad_configurations_are_refused_in_the_same_words(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises((RunDirectoryError, UnicodeDecodeError)) as plain:
        read_config(tmp_path)
    with pytest.raises(type(plain.value)) as quick:
        read_config_quickly(tmp_path)
    assert str(quick.value) == str(plain.value)
