from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tracking import LoadError, RunDirectory, RunSink, wandb_mirror
from tracking.wandb_mirror import MirrorError, WandbMirror, check_run_id, main, rebuild
from tracking.wandb_options import WandbOptions, obeying_environment

CONFIG = {"task": {"depth": 3, "groups": ("G1", "G2")}}


class FakeRun:
    url = "https://example.invalid/run"

    def __init__(self, **settings) -> None:
        self.settings, self.calls, self.defined, self.exit_codes = settings, [], [], []
        self.starting_step, self.summaries = 0, {}
        self.dir = f"{settings['dir']}/wandb/fake/files"

    def log(self, row: dict, step: int) -> None:
        self.calls.append((step, row))

    @property
    def rows(self) -> list[dict]:
        """Rows as in W&B, where calls with equal steps are one row."""
        merged: dict[int, dict] = {}
        for step, row in self.calls:
            merged.setdefault(step, {}).update(row)
        assert list(merged) == sorted(merged)
        return list(merged.values())

    def define_metric(self, name: str, step_metric: str, summary: str | None = None) -> None:
        if summary is None:
            self.defined.append((name, step_metric))
        else:
            self.summaries[name] = summary

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(wandb_mirror, "_TAKEN", {})
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**settings) -> FakeRun:
        module.runs.append(FakeRun(**settings))
        return module.runs[-1]

    module.init = init
    module.Settings = dict
    module.Histogram = lambda np_histogram: ("histogram", *np_histogram)
    module.Table = lambda columns, data: ("table", columns, data)
    module.Image = lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def step_records(step: int, seeds: int = 3, **more) -> list[dict]:
    return [
        {
            "phase": "p",
            "step": step,
            "global_step": 100 + step,
            "seed": k,
            "eval/cov/5.7": float(k * k),
            **more,
        }
        for k in range(seeds)
    ]


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
