from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from oracles.fake_wandb import CONFIG, step_records

from tracking.wandb_mirror import WandbMirror
from tracking.wandb_options import WandbOptions


def test_one_run_for_all_seeds_also_when_some_are_frozen(fake, tmp_path) -> None:
    options = WandbOptions(mode="offline", group="g", name="n", tags=("a",), notes="why", entity="e")
    lines: list[str] = []
    mirror = WandbMirror(options, tmp_path, CONFIG, say=lines.append)
    assert fake.runs == []
    mirror.metrics(step_records(0))
    mirror.metrics(step_records(1)[:1])
    mirror.timing({"global_step": 101, "steps_per_second": 2.5, "device": "cpu"})
    mirror.finish(exit_code=1)
    mirror.finish()
    (run,) = fake.runs
    assert [row["eval/cov/5p7/median"] for row in run.rows] == [1.0, 0.0]
    assert [row["seeds"] for row in run.rows] == [3, 1]
    assert run.rows[1]["timing/steps_per_second"] == 2.5
    assert run.summaries == {f"eval/cov/5p7/{part}": "min" for part in ("q10", "median", "q90")}
    assert run.defined == [("*", "global_step")]
    assert run.hidden == {"eval/cov/5p7/q10", "eval/cov/5p7/q90"}
    assert run.exit_codes == [1]
    settings = run.settings
    assert settings["config"] == {"task": {"depth": 3, "groups": ["G1", "G2"]}}
    assert [
        settings[k] for k in ("mode", "reinit", "group", "name", "tags", "notes", "entity", "job_type")
    ] == [*("offline", "create_new", "g", "n", ["a"], "why", "e", "train")]
    assert settings["dir"] == str(tmp_path)
    assert mirror.links == [f"{tmp_path}/wandb/fake"]
    assert lines == [f"W&B (offline): {tmp_path}/wandb/fake"]


def test_a_single_seed_keeps_plain_keys(fake, tmp_path) -> None:
    mirror = WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG, say=lambda _: None)
    mirror.metrics(step_records(4, seeds=1, note=None))
    assert fake.runs[0].rows == [{"phase": "p", "step": 4, "global_step": 104, "eval/cov/5p7": 0.0}]


def test_one_run_a_seed_on_request(fake, tmp_path) -> None:
    mirror = WandbMirror(
        WandbOptions(mode="offline", name="n", per_seed=True), tmp_path, CONFIG, say=lambda _: None
    )
    mirror.metrics(step_records(4))
    mirror.metrics(step_records(5)[2:])
    mirror.table("samples", 104, ["a"], [[1]])
    mirror.finish()
    assert [run.settings["name"] for run in fake.runs] == ["n-seed0", "n-seed1", "n-seed2"]
    assert {run.settings["group"] for run in fake.runs} == {"n"}
    assert [row["eval/cov/5p7"] for row in fake.runs[2].rows] == [4.0, 4.0]
    assert [len(run.rows) for run in fake.runs] == [2, 1, 2]
    assert fake.runs[0].rows[1] == {"global_step": 104, "samples": ("table", ["a"], [[1]])}
    assert len({run.settings["id"] for run in fake.runs}) == 3
    assert [run.exit_codes for run in fake.runs] == [[0], [0], [0]]


def test_histograms_are_weighted_and_say_what_is_not_finite(fake, tmp_path) -> None:
    mirror = WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG, say=lambda _: None)
    values = np.array([[0.0, 1.0, np.inf], [1.0, 1.0, np.nan]])
    mirror.histogram("eval/log.ratio", 9, values, np.array([0.5, 0.25, 0.25]))
    mirror.histogram("empty", 9, np.array([np.inf]))
    (row,) = fake.runs[0].rows
    kind, counts, edges = row["eval/log_ratio"]
    assert kind == "histogram"
    assert (edges[0], edges[-1], len(counts)) == (0.0, 1.0, 64)
    assert (counts[0], counts[-1], counts.sum()) == (0.5, 1.0, 1.5)
    assert row["eval/log_ratio/non_finite"] == 0.25
    assert row["global_step"] == 9
    assert row["empty/non_finite"] == 1.0
    assert "empty" not in row
    assert mirror.failure is None


def test_online_without_a_key_warns_and_never_asks(fake, tmp_path) -> None:
    lines: list[str] = []
    mirror = WandbMirror(WandbOptions(mode="online"), tmp_path, CONFIG, say=lines.append)
    mirror.metrics(step_records(0))
    assert fake.runs[0].settings["mode"] == "offline"
    assert len(lines) == 2
    assert "no key is configured" in lines[0]


def use_everything(mirror: WandbMirror) -> None:
    mirror.metrics(step_records(0))
    mirror.timing({"global_step": 1, "seconds": 1.0})
    mirror.histogram("h", 1, np.zeros(3))
    mirror.table("t", 1, ["a"], [[1]])
    mirror.images({"x": "missing.png"})
    mirror.finish()


def test_wandb_absent_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    lines: list[str] = []
    use_everything(WandbMirror(WandbOptions(), tmp_path, CONFIG, say=lines.append))
    assert [line[:26] for line in lines] == ["W&B: ModuleNotFoundError: "]
    assert lines[0].endswith("the run goes on without W&B and metrics.jsonl keeps all")


def test_disabled_does_not_import_wandb(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    lines: list[str] = []
    mirror = WandbMirror(WandbOptions(mode="disabled"), tmp_path, CONFIG, say=lines.append)
    use_everything(mirror)
    assert (lines, mirror.failure) == ([], None)
    assert list(tmp_path.iterdir()) == []


def test_an_init_that_raises_is_tried_once(fake, tmp_path) -> None:
    calls: list[int] = []

    def init(**_) -> None:
        calls.append(1)
        raise TimeoutError("no answer\nfrom the server")

    fake.init = init
    lines: list[str] = []
    use_everything(WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG, say=lines.append))
    assert (len(calls), len(lines)) == (1, 1)
    assert "TimeoutError: no answer from the server: the run goes on" in lines[0]


def test_a_failure_on_the_way_ends_the_mirroring_but_not_the_run(fake, tmp_path) -> None:
    lines: list[str] = []
    mirror = WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG, say=lines.append)
    mirror.metrics(step_records(0))

    def broken(_: dict, step: int) -> None:
        raise BrokenPipeError("service is gone")

    good, fake.runs[0].log = fake.runs[0].log, broken
    mirror.metrics(step_records(1))
    fake.runs[0].log = good
    use_everything(mirror)
    assert len(fake.runs[0].rows) == 1
    assert fake.runs[0].exit_codes == [0]
    assert [line.split(":")[0] for line in lines] == ["W&B (offline)", "W&B"]


def test_a_second_failure_says_nothing_more(fake, tmp_path) -> None:
    lines: list[str] = []
    mirror = WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG, say=lines.append)
    mirror.metrics(step_records(0))
    fake.runs[0].log = fake.runs[0].finish = None
    mirror.metrics(step_records(1))
    mirror.finish()
    assert len(lines) == 2


def test_ctrl_c_is_not_swallowed(fake, tmp_path) -> None:
    def interrupted(**_) -> None:
        raise KeyboardInterrupt

    fake.init = interrupted
    with pytest.raises(KeyboardInterrupt):
        WandbMirror(WandbOptions(mode="offline"), tmp_path, CONFIG).metrics(step_records(0))


def test_an_alert_reaches_w_and_b_once_and_may_fail(fake, tmp_path) -> None:
    lines: list[str] = []
    mirror = WandbMirror(
        WandbOptions(mode="offline", name="n", per_seed=True), tmp_path, CONFIG, say=lines.append
    )
    mirror.metrics(step_records(4))
    told = [[], [], []]
    for run, own in zip(fake.runs, told, strict=True):
        run.alert = lambda title, text, own=own: own.append((title, text))
    mirror.alert("early warning", "coverage probably gets worse")
    assert sorted(told) == [[], [], [("early warning", "coverage probably gets worse")]]

    for run in fake.runs:
        run.alert = None
    mirror.alert("early warning", "again")
    assert len([line for line in lines if line.startswith("W&B: TypeError")]) == 1


@pytest.mark.long
def test_a_real_alert_reads_back(tmp_path) -> None:
    mirror = WandbMirror(WandbOptions(mode="offline", name="n"), tmp_path, CONFIG, say=lambda _: None)
    mirror.metrics(step_records(4))
    mirror.alert("early warning", "coverage probably gets worse")
    mirror.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    alerts = [line["alert"] for line in map(json.loads, printed.splitlines()) if line["type"] == "alert"]
    assert [(own["title"], own["text"]) for own in alerts] == [
        ("early warning", "coverage probably gets worse")
    ]
