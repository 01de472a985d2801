from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracles.fake_wandb import CONFIG, FakeRun, step_records

from tracking import LoadError, RunDirectory, RunSink
from tracking.wandb_mirror import MirrorError, WandbMirror, check_run_id, main, rebuild
from tracking.wandb_options import WandbOptions, obeying_environment


def png(path: Path) -> Path:
    from matplotlib.figure import Figure

    Figure(figsize=(1, 1)).savefig(path)
    return path


def same(one: list[dict], other: list[dict]) -> None:
    """Rows with histograms, which hold arrays."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for row, twin in zip(one, other, strict=True):
        for key, value in row.items():
            if isinstance(value, tuple) and value[0] == "histogram":
                assert [part.tolist() for part in value[1:]] == [part.tolist() for part in twin[key][1:]]
            else:
                assert value == twin[key]


def full_run(path: Path, options: WandbOptions) -> None:
    with RunDirectory.open(path, CONFIG) as run:
        mirror = WandbMirror(options, path, CONFIG, say=lambda _: None)
        with RunSink(run, mirror) as sink:
            for step in (0, 10):
                sink.histogram("eval/log_ratio", 100 + step, np.linspace(0, 1, 10))
                sink.metrics(step_records(step, kl=math.inf if step else 0.25))
            sink.timing({"global_step": 110, "steps_per_second": 3.0})
            sink.table("samples", 110, ["text", "log_prob"], [["1 2", -math.inf]])
            sink.images({"figures/curves": png(run.figures / "curves.png")})
        assert mirror.failure is None


def test_rebuild_tells_w_and_b_what_the_run_told_it(fake, tmp_path, capsys) -> None:
    full_run(tmp_path / "r", WandbOptions(mode="offline", group="g", project="lab", tags=("t",)))
    assert main([str(tmp_path / "r"), "--mode", "offline", "--name", "again"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/r/wandb/fake\n"
    first, again = fake.runs
    same(first.rows, again.rows)
    assert again.settings["name"] == "again"
    assert again.settings["id"] != first.settings["id"]
    assert {**again.settings, "name": "r", "id": first.settings["id"]} == first.settings
    assert again.exit_codes == [0]
    assert json.loads((tmp_path / "r" / "wandb.json").read_bytes())["ids"] == {"all": first.settings["id"]}
    rebuild(tmp_path / "r", say=lambda _: None, mode="offline", per_seed=True)
    assert len(fake.runs) == 5
    assert [row["eval/cov/5p7"] for row in fake.runs[4].rows[:2]] == [4.0, 4.0]


def test_rebuild_of_a_run_whose_last_seed_standing_was_alone(fake, tmp_path) -> None:
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.metrics.append(step_records(0, seeds=1))
        run.metrics.append(step_records(1, seeds=3))
    rebuild(tmp_path, say=lambda _: None, mode="offline")
    assert all("eval/cov/5p7/median" in row for row in fake.runs[0].rows)


def test_rebuild_errors_are_one_line_and_an_exit_code(fake, tmp_path, capsys) -> None:
    with pytest.raises(LoadError, match="no metrics to rebuild from"):
        rebuild(tmp_path)
    full_run(tmp_path / "r", WandbOptions(mode="offline"))
    fake.init = lambda **_: 1 / 0
    with pytest.raises(MirrorError, match=r"^W&B: ZeroDivisionError: division by zero$"):
        rebuild(tmp_path / "r")
    capsys.readouterr()
    assert main([str(tmp_path / "r"), str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def run_part(path: Path, position: int, steps: tuple[int, ...], options: WandbOptions, end: int = 20) -> None:
    """One process of a run whose boundaries are `steps`, resumed after `position` lines."""
    with RunDirectory.open(path, CONFIG | {"seed": 0}) as run:
        mirror = WandbMirror(options, path, CONFIG | {"seed": 0}, say=lambda _: None)
        with RunSink(run, mirror) as sink:
            sink.rewind(position)
            for step in steps:
                sink.histogram("eval/log.ratio", 100 + step, np.array([step, step + 1.0, np.inf]))
                sink.metrics(step_records(step))
                sink.timing({"event": "step", "phase": "p", "step": step, "time": step / 4})
            if steps and steps[-1] == end:
                sink.table("samples", 100 + end, ["a"], [[1.5]])
        assert mirror.failure is None


@pytest.mark.parametrize("per_seed", [False, True])
def test_a_resumed_run_is_the_same_run_with_all_that_it_had(fake, tmp_path, per_seed: bool) -> None:
    options = WandbOptions(mode="offline", per_seed=per_seed)
    run_part(tmp_path / "whole", 0, (0, 10, 20), options)
    whole, count = list(fake.runs), 3 if per_seed else 1
    assert len(whole) == count
    fake.runs.clear()
    run_part(tmp_path / "r", 0, (0, 10), options)
    run_part(tmp_path / "r", 3, (10, 20), options)
    first, second = fake.runs[:count], fake.runs[count:]
    assert [run.settings["id"] for run in first] == [run.settings["id"] for run in second]
    assert [run.settings["resume"] for run in second] == [None] * count
    for one, other in zip(whole, second, strict=True):
        same(one.rows, other.rows)
    row = second[0].rows[2]
    assert row["samples"] == ("table", ["a"], [[1.5]])
    assert row["timing/time"] == 5.0
    assert row["eval/log_ratio"][0] == "histogram"
    assert row["eval/log_ratio/non_finite"] == pytest.approx(1 / 3)


def test_an_online_run_is_told_only_the_rows_that_it_lacks(fake, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    options = WandbOptions(mode="online")
    run_part(tmp_path, 0, (0, 10, 20, 30), options)
    (first,) = fake.runs
    init = fake.init

    def resumed(**settings) -> FakeRun:
        run = init(**settings)
        run.starting_step = 2
        return run

    fake.init = resumed
    run_part(tmp_path, 3, (10, 20, 30), options)
    second = fake.runs[1]
    assert (second.settings["id"], second.settings["resume"]) == (first.settings["id"], "allow")
    assert [step for step, row in second.calls if "step" in row] == [2, 3]
    same(second.rows, first.rows[2:])


def test_what_comes_before_the_first_seed_is_no_run_of_its_own(fake, tmp_path) -> None:
    """Timings and histograms of the first boundary come before its metrics."""
    mirror = WandbMirror(
        WandbOptions(mode="offline", name="n", per_seed=True), tmp_path, {"seed": 5}, say=lambda _: None
    )
    mirror.timing({"event": "start", "seconds": 1.0})
    mirror.histogram("h", 0, np.ones(3))
    mirror.metrics([record | {"seed": record["seed"] + 5} for record in step_records(0)])
    mirror.finish()
    assert [run.settings["name"] for run in fake.runs] == ["n-seed5", "n-seed6", "n-seed7"]


def test_the_id_is_that_of_the_environment_and_no_other_run_gets_it(fake, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    options = obeying_environment(WandbOptions(mode="offline"))
    check_run_id(options, tmp_path / "a")
    mirror = WandbMirror(options, tmp_path / "a", CONFIG, say=lambda _: None)
    (tmp_path / "a").mkdir()
    mirror.metrics(step_records(0))
    mirror.finish()
    assert fake.runs[0].settings["id"] == "mine"
    with pytest.raises(
        ValueError, match="WANDB_RUN_ID: 'mine' names one W&B run, but this program makes several"
    ):
        check_run_id(options, tmp_path / "b")
    check_run_id(options, tmp_path / "a")
    monkeypatch.setenv("WANDB_RUN_ID", "other")
    other = obeying_environment(WandbOptions(mode="offline"))
    with pytest.raises(ValueError, match=r"'other', but the run continues W&B run 'mine' of wandb.json"):
        check_run_id(other, tmp_path / "a")
    check_run_id(other, tmp_path / "a", again=True)
    monkeypatch.delenv("WANDB_RUN_ID")
    check_run_id(obeying_environment(WandbOptions(mode="offline")), tmp_path / "a")


@pytest.mark.long
def test_real_wandb_offline_reads_back(tmp_path) -> None:
    full_run(tmp_path / "r", WandbOptions(mode="offline", group="g", tags=("t",), name="n"))
    (folder,) = (tmp_path / "r" / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    (run,) = (line["run"] for line in lines if line["type"] == "run")
    assert (run["display_name"], run["run_group"], run["project"], run["tags"]) == ("n", "g", "covlab", ["t"])
    assert run["config"]["update"]["task"] == {"depth": 3, "groups": ["G1", "G2"]}
    metrics = [line["metric"] for line in lines if line["type"] == "metric"]
    assert {metric["step_metric"] for metric in metrics} == {"global_step"}
    (best,) = (metric for metric in metrics if metric.get("name") == "eval/cov/5p7/median")
    assert best["summary"]["min"] is True
    history = [line["history"]["item"] for line in lines if line["type"] == "history"]
    assert [row["eval/cov/5p7/median"] for row in history[:2]] == [1, 1]
    assert [row["kl/q90"] for row in history[:2]] == [0.25, "Infinity"]
    assert [row["global_step"] for row in history] == [100, 110]
    assert [row["_step"] for row in history] == [0, 1]
    assert history[1]["timing/steps_per_second"] == 3
    assert [sum(row["eval/log_ratio.values"]) for row in history] == [10, 10]
    assert (history[1]["samples.nrows"], history[1]["samples.ncols"]) == (1, 2)
    assert (folder / "files" / history[1]["figures/curves.path"]).is_file()


@pytest.mark.slow
def test_two_real_offline_folders_of_a_resumed_run_have_one_id_and_the_newest_is_whole(tmp_path) -> None:
    """`wandb sync` writes each folder from line 0 on: see findings/wandb_offline_resume.sh."""
    options = WandbOptions(mode="offline")
    run_part(tmp_path, 0, (0, 10), options)
    run_part(tmp_path, 3, (10, 20), options)
    found = []
    for folder in sorted((tmp_path / "wandb").glob("offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        lines = [json.loads(line) for line in printed.splitlines()]
        (run,) = (line["run"] for line in lines if line["type"] == "run")
        assert not run.get("resumed")
        rows = [line["history"]["item"] for line in lines if line["type"] == "history"]
        found.append((run["run_id"], rows))
    (first, some), (second, whole) = found
    assert first == second == json.loads((tmp_path / "wandb.json").read_bytes())["ids"]["all"]
    assert [row["_step"] for row in some] == [0, 1]
    assert [row["_step"] for row in whole] == [0, 1, 2]
    shared = whole[0].keys() - {"_timestamp", "_runtime", "_wandb"}
    assert {key: whole[0][key] for key in shared} == {key: some[0][key] for key in shared}
    assert sum(whole[0]["eval/log_ratio.values"]) == 2
    assert [row["timing/time"] for row in whole] == [0, 2.5, 5]
    assert whole[2]["samples.nrows"] == 1
