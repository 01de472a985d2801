from __future__ import annotations

import math

import numpy as np
import pytest

from tracking import LoadError, MetricsFileError, RunDirectory, load_log_probs, load_run, load_runs
from tracking.run_config import RunDirectoryError


def make_run(path, depth: int = 3, steps=(0, 10), extra: dict | None = None) -> None:
    with RunDirectory.open(path, {"task": {"depth": depth, "ns": [2, 4]}, **(extra or {})}) as run:
        for step in steps:
            run.metrics.append(
                {
                    "phase": "p",
                    "step": step,
                    "global_step": step,
                    "seed": seed,
                    "eval/kl": depth + step + seed / 10,
                }
                for seed in (0, 1)
            )


def test_load_run_is_one_row_a_line(tmp_path) -> None:
    make_run(tmp_path)
    with RunDirectory.open(tmp_path, {"task": {"depth": 3, "ns": [2, 4]}}) as run:
        run.metrics.append([{"phase": "q", "step": 1, "global_step": 11, "seed": 0, "a": math.inf}])
    frame = load_run(tmp_path)
    assert list(frame.columns) == ["phase", "step", "global_step", "seed", "a", "eval/kl"]
    assert frame["eval/kl"].tolist()[:4] == [3.0, 3.1, 13.0, 13.1]
    assert math.isnan(frame["eval/kl"].iloc[4])
    assert frame["a"].iloc[4] == math.inf
    assert frame["step"].dtype == np.int64
    assert frame["eval/kl"].dtype == np.float64
    assert load_run(tmp_path / "metrics.jsonl").equals(frame)


def test_a_run_in_progress_with_a_torn_line_is_read_and_left_alone(tmp_path) -> None:
    make_run(tmp_path)
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole + b'{"phase":"p","st')
    assert len(load_run(tmp_path)) == 4
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole + b'{"phase":"p","st'
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    empty = load_run(tmp_path)
    assert len(empty) == 0
    assert list(empty.columns) == ["phase", "step", "global_step", "seed"]


def test_load_run_errors(tmp_path) -> None:
    with pytest.raises(LoadError, match=r"metrics\.jsonl: No such file or directory: a run directory holds"):
        load_run(tmp_path / "nothing")
    (tmp_path / "metrics.jsonl").write_bytes(b"x\n{}\n")
    with pytest.raises(MetricsFileError, match="line 1 of 2"):
        load_run(tmp_path)


def test_three_hundred_runs(tmp_path) -> None:
    for index in range(300):
        folder = tmp_path / "sweep" / f"run{index:03d}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"task:\n  depth: {index % 7}\n  ns: [2, 4]\nlr: {index / 8}\n")
        (folder / "metrics.jsonl").write_text(
            "".join(
                f'{{"phase":"p","step":{s},"global_step":{s},"seed":0,"kl":{index}.5}}\n' for s in range(3)
            )
        )
    (tmp_path / "sweep" / "notes.txt").write_text("no run")
    (tmp_path / "sweep" / "empty").mkdir()
    frame = load_runs(str(tmp_path / "sweep" / "*"), config_keys=("task.depth", "lr", "task.ns"))
    assert list(frame.columns) == [
        "run",
        "task.depth",
        "lr",
        "task.ns",
        "phase",
        "step",
        "global_step",
        "seed",
        "kl",
    ]
    assert len(frame) == 900
    assert frame["run"].tolist() == [f"run{i:03d}" for i in range(300) for _ in range(3)]
    assert frame["task.depth"].tolist() == [i % 7 for i in range(300) for _ in range(3)]
    assert frame["lr"].tolist() == [i / 8 for i in range(300) for _ in range(3)]
    assert frame["kl"].tolist() == [i + 0.5 for i in range(300) for _ in range(3)]
    assert set(frame["task.ns"]) == {(2, 4)}


def test_runs_of_several_folders_keep_their_folder_in_the_name(tmp_path) -> None:
    make_run(tmp_path / "a" / "x", depth=1)
    make_run(tmp_path / "b" / "x", depth=2, extra={"only_here": 5})
    frame = load_runs([tmp_path / "b" / "x", str(tmp_path / "a" / "*")], ("task.depth", "only_here"))
    assert dict(zip(frame["run"], frame["task.depth"], strict=True)) == {"b/x": 2, "a/x": 1}
    assert frame.loc[frame["run"] == "a/x", "only_here"].isna().all()
    assert load_runs(str(tmp_path / "**"))["run"].unique().tolist() == ["a/x", "b/x"]
    assert load_runs(tmp_path / "a" / "x")["run"].unique().tolist() == ["x"]


def test_a_folder_whose_name_has_brackets_is_a_path_and_not_a_pattern(tmp_path) -> None:
    make_run(tmp_path / "lr=[1]")
    assert load_runs(tmp_path / "lr=[1]")["run"].unique().tolist() == ["lr=[1]"]


def test_load_runs_errors(tmp_path) -> None:
    make_run(tmp_path / "x")
    with pytest.raises(
        LoadError, match=r"config key 'task.dept' is in none of 1 runs: for example task.depth"
    ):
        load_runs(tmp_path / "x", ("task.dept",))
    with pytest.raises(LoadError, match=r"no run directory matches .*y"):
        load_runs(str(tmp_path / "y*"))
    with pytest.raises(LoadError, match="no run directory matches an empty list"):
        load_runs([])
    with pytest.raises(LoadError, match=r"y: no metrics\.jsonl there"):
        load_runs(tmp_path / "y")
    (tmp_path / "x" / "config.yaml").write_text("a: [")
    with pytest.raises(RunDirectoryError, match="not a YAML mapping"):
        load_runs(tmp_path / "x", ("a",))
    assert len(load_runs(tmp_path / "x")) == 4


def test_log_probs_come_in_numeric_order(tmp_path) -> None:
    with RunDirectory.open(tmp_path, {}) as run:
        for step in (100, 90, 1000):
            run.write_arrays(f"finetune_{step}", {"log_prob": np.full(2, -step)})
        run.write_arrays("pretrain_5", {"log_prob": np.zeros(2)})
    loaded = load_log_probs(tmp_path)
    assert list(loaded) == ["finetune_90", "finetune_100", "finetune_1000", "pretrain_5"]
    np.testing.assert_array_equal(loaded["finetune_90"]["log_prob"], [-90, -90])
    assert list(load_log_probs(tmp_path, "pre*")) == ["pretrain_5"]
    with pytest.raises(LoadError, match=r"no arrays other\*: a run keeps"):
        load_log_probs(tmp_path, "other*")
    (tmp_path / "log_probs" / "bad.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(LoadError, match=r"bad\.npz: not a readable npz file"):
        load_log_probs(tmp_path)
