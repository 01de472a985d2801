"""Comparisons of synthetic runs whose numbers are known, and of a trained run against experiments.select."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covlab.claims.selection import run_matrices, run_tables
from covlab.launch.found_runs import Head, find_runs, read_heads
from covlab.launch.run_arguments import split_arguments
from covlab.report.labels import shortened
from experiments import compare
from experiments.compare import figures as compare_figures
from experiments.compare.groups import (
    Group,
    Member,
    curve,
    direction,
    label,
    make_groups,
    summary,
)
from experiments.compare.rules import choices, tournaments
from experiments.compare.runs import Run, read_runs
from experiments.compare.sections import Section, draw
from tracking import load_runs
from tracking.metric_names import families
from tracking.metrics_file import encode_record
from tracking.run_config import dump_config

CONFIG: dict[str, Any] = {
    "model": {"_target_": "models.GPT", "width": 32},
    "optimizer": {"learning_rate": 0.001},
    "seed": 0, "seeds": 2, "steps": 20, "phases": {}, "name": "x",
}  # fmt: skip


def write_run(
    path: Path,
    rate: float = 0.001,
    level: float = 1.0,
    seeds: Sequence[int] = (0, 1),
    steps: Sequence[int] = (0, 10, 20),
    state: str | None = "complete",
    reason: str = "",
    **config: Any,
) -> Path:
    """A run whose KL falls from 3 level to level, with a coverage and a Pass@N that turn in the middle."""
    path.mkdir(parents=True)
    settings = CONFIG | {"optimizer": {"learning_rate": rate}, "name": path.name, "seed": seeds[0]} | config
    (path / "config.yaml").write_bytes(dump_config(settings))
    if state is not None:
        (path / "status.json").write_text(json.dumps({"state": state, "reason": reason}))
    lines = [
        encode_record(
            {"phase": "train", "step": step, "global_step": step, "seed": seed}
            | {"eval/kl": level * (3 - step / 10) + seed / 100, "eval/ce": level * (4 - step / 10)}
            | {"eval/cov/4": 0.5 - 0.04 * step + 0.0015 * step**2, "eval/pass/8": 0.9 - abs(step - 10) / 100}
        )
        for step in steps
        for seed in seeds
    ]
    (path / "metrics.jsonl").write_bytes(b"".join(lines))
    return path


def run(name: str = "r", seeds: int = 2, steps: Sequence[int] = (0, 10), **values: Any) -> Run:
    head = Head(Path(name), name, {"lr": 1, "seed": 0}, "complete", "", frozenset(values))
    table = {k.replace("_", "/"): np.asarray(v, float) for k, v in values.items()}
    at = np.array(steps)
    return Run(head, "train", tuple(range(seeds)), frozenset(), at, at, table)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_arguments_are_runs_or_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    (tmp_path / "x=3").mkdir()
    words = "runs/train/model=small__seed=1 metric=eval/kl seed=1 x=step ./x=3 seeed=2 runs/* tournament.n=4"
    flags = "--cfg job +new.key=1 hydra.verbose=true"
    runs, options = split_arguments([*words.split(), *flags.split()], compare._OPTIONS)
    assert runs == ["runs/train/model=small__seed=1", "seed=1", "./x=3", "runs/*"]
    assert options == ["metric=eval/kl", "x=step", "seeed=2", "tournament.n=4", *flags.split()]


def test_labels_are_cut_where_they_agree() -> None:
    group = Group({"a": "1", "b": "x" * 80}, (run(),), (), 0)
    assert label(group, {"a": "a"}) == "a=1"
    assert shortened([label(group, {"a": "a", "b": "b"})], 60) == [f"a=1, b={'x' * 52}…"]
    assert label(Group({}, (run("alone"),), (), 0), {}) == "alone"
    alike = [f"task={'t' * 60}, width={width}, rate=0.1" for width in (64, 128)]
    assert shortened(alike, 30) == ["task=tttttt…width=64, rate=0.1", "task=ttttt…width=128, rate=0.1"]
    hidden = ["x" * 40 + f"{digit}" + "y" * 40 + f"{letter}" + "z" * 40 for digit in "12" for letter in "ab"]
    cut = shortened(hidden, 20)
    assert len(set(cut)) == 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 1.0, 2.0], (2, 1, 3)),
        ([4.0, 1.0], (2.5, 1, 4)),
        ([math.nan, 5.0], (5, 5, 5)),
        ([math.inf, math.inf, 1.0], (math.inf, 1, math.inf)),
        ([math.inf, 1.0], (math.inf, 1, math.inf)),
    ],
)
def test_summary(values: list[float], expected: tuple[float, ...]) -> None:
    assert summary(values) == expected


def test_direction_of_a_metric() -> None:
    assert [direction(m) for m in ("eval/kl", "eval/cov/4", "eval/G1/pass/8", "eval/accuracy")] == [
        "lowest", "lowest", "highest", "highest",
    ]  # fmt: skip
    assert direction("eval/new", ("eval/n*",)) == "highest"


def test_curves_on_different_steps_are_joined_inside_each_seed_only() -> None:
    first = Member(run(seeds=1, steps=(0, 10), eval_kl=[[1, 3]]), 0)
    second = Member(run(seeds=1, steps=(5, 10, 20), eval_kl=[[0, 1, math.inf]]), 0)
    points, table = curve([first, second], "step", "eval/kl")
    assert points.tolist() == [0, 5, 10]
    np.testing.assert_allclose(table, [[1, 2, 3], [math.nan, 0, 1]])
    points, table = curve([first, first], "step", "eval/kl")
    assert (points.tolist(), table.tolist()) == ([0, 10], [[1, 3], [1, 3]])
    assert curve([], "step", "eval/kl")[1].shape == (0, 0)


def test_equal_seeds_of_equal_runs_count_once() -> None:
    short, long = run("short", steps=(0, 10)), run("long", seeds=3, steps=(0, 10, 20))
    groups, problems = make_groups([short, long], (), ("lr",))
    assert [(len(g.runs), len(g.members)) for g in groups] == [(1, 3)]
    assert [(p.what, p.why) for p in problems] == [
        ("short", f"seed {seed}: counted once, as that of long") for seed in (0, 1)
    ]


@pytest.mark.long
def test_rules_agree_with_select_on_a_trained_run(tiny_run: Path) -> None:
    found, problems = read_heads([tiny_run], show=False)
    runs, more = read_runs(found, ["eval/kl", "eval/ce", "eval/pass/8"], None, show=False)
    assert (problems, more, runs[0].phase, runs[0].seeds) == ([], [], "finetune", (0, 1))
    chosen, failed = tournaments(runs, 2, "min_cross_entropy")
    assert failed == []
    expected = run_tables(run_matrices(tiny_run), (2,), ("min_cross_entropy",), (8,))
    for seed in (0, 1):
        picks = choices(Member(runs[0], seed), ["eval/pass/8"], chosen, "simple_tournament")
        assert {rule: int(runs[0].step[index]) for rule, index in picks.items()} == {
            row["rule"] + (", N = 8" if row["rule"] == "oracle_pass_at_n" else ""): row["step"]
            for row in expected[seed]
            if row["rule"] != "oracle_coverage"
        }


@pytest.mark.long
def test_command_writes_what_the_files_say(call: Callable[..., Any], tmp_path: Path) -> None:
    for index, (rate, level) in enumerate([(0.001, 2.0), (0.01, 1.0), (0.1, 3.0)]):
        write_run(tmp_path / "runs" / f"a{index}", rate, level)
        write_run(tmp_path / "runs" / f"b{index}", rate, level, seeds=(2, 3, 4))
    ended = call(compare.main, "runs", "sort=best")
    assert (ended.status, ended.err) == (0, "")
    assert "6 runs, 15 seeds, 3 groups; phase train." in ended.out
    rows = read_table(tmp_path / "runs" / "compare" / "table.csv")
    assert [row["optimizer.learning_rate"] for row in rows] == ["0.01", "0.001", "0.1"]
    frame = load_runs(str(tmp_path / "runs" / "*"), ("optimizer.learning_rate",))
    for row in rows:
        own = frame[frame["optimizer.learning_rate"] == float(row["optimizer.learning_rate"])]
        lowest = own.groupby(["run", "seed"])["eval/kl"].min()
        assert float(row["best eval/kl median"]) == pytest.approx(lowest.median())
        assert float(row["best eval/kl high"]) == pytest.approx(lowest.max())
        last = own[own["step"] == 20]["eval/pass/8"]
        assert float(row["final eval/pass/8 median"]) == pytest.approx(last.median())
        assert float(row["best eval/pass/8 median"]) == pytest.approx(0.9)
        assert (row["runs"], row["seeds"], row["last_step"]) == ("2", "5", "20")
    rules = read_table(tmp_path / "runs" / "compare" / "rules.csv")
    assert {(r["rule"], r["chosen_step"], round(float(r["behind_oracle"]), 9)) for r in rules} == {
        ("min_cross_entropy", "20.0", 0.1),
        ("min_kl", "20.0", 0.1),
        ("oracle_pass_at_n, N = 8", "10.0", 0.0),
        ("last", "20.0", 0.1),
    }
    page = (tmp_path / "runs" / "compare" / "report.html").read_text()
    assert "Comparison of 6 runs" in page
    assert page.count("data:image/png;base64,") == 3 + 4
    for title in ("Coverage profile Cov_N, lower is better", "Pass@N, higher is better", "Sweep"):
        assert f"<h2>{title}</h2>" in page
    assert "http" not in page.replace("Content-Security-Policy", "").replace("http-equiv", "")


@pytest.mark.long
def test_what_cannot_be_used_is_named_and_left_out(call: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    write_run(root / "good")
    torn = write_run(root / "torn", 0.1, state="running")
    with (torn / "metrics.jsonl").open("ab") as file:
        file.write(b'{"phase":"train","step":30')
    write_run(root / "failed", state="failed", reason="OSError: disk full")
    damaged = write_run(root / "damaged", 0.2)
    (damaged / "metrics.jsonl").write_bytes(b"junk\n" + (damaged / "metrics.jsonl").read_bytes())
    begun = write_run(root / "begun", 0.3, state="running")
    (begun / "metrics.jsonl").unlink()
    write_run(root / "empty", 0.4, steps=())
    (write_run(root / "unreadable", 0.5) / "config.yaml").write_text("a: [")
    lacking = write_run(root / "lacking", 0.6) / "metrics.jsonl"
    lacking.write_bytes(lacking.read_bytes().replace(b"eval/kl", b"eval/other"))
    (root / "notes").mkdir()
    ended = call(compare.main, "runs/*", "runs/notes", "metric=eval/kl", "nowhere", "sections=[]")
    assert (ended.status, ended.err) == (0, "")
    rows = read_table(root / "compare" / "table.csv")
    assert [(row["run_names"], row["state"]) for row in rows] == [("good", "complete"), ("torn", "running")]
    for text in (
        "runs/notes: there is no run in it",
        "nowhere: no such directory",
        "failed: failed: OSError: disk full",
        "damaged/metrics.jsonl, line 1 of 7: not a JSON object",
        "begun: no metrics yet (running)",
        "empty: no metrics yet (complete)",
        "unreadable/config.yaml: not a YAML mapping",
        "lacking: has no eval/kl",
        "1 of the runs say that they are still running",
    ):
        assert text in ended.out
    assert "failed" in read_table_names(
        call(compare.main, "runs/*", "states=all", "group_by=run", "sections=[]"), root
    )


def read_table_names(ended: Any, root: Path) -> set[str]:
    assert ended.status == 0
    return {row["run_names"] for row in read_table(root / "compare" / "table.csv")}


def test_a_diverged_seed_counts_in_no_median(call: Callable[..., Any], tmp_path: Path) -> None:
    path = write_run(tmp_path / "runs" / "a", seeds=(0, 1, 2)) / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"step":20,"global_step":20,"seed":1' not in line))
    ended = call(compare.main, "runs/a", "metric=eval/kl", "sections=[]")
    assert "1 seed stopped early (diverged) and counts in no median" in ended.out
    (row,) = read_table(tmp_path / "runs" / "compare" / "table.csv")
    assert (row["seeds"], row["diverged"], row["final eval/kl high"]) == ("2", "1", "1.02")


@pytest.mark.long
def test_last_phase_against_another_metric(call: Callable[..., Any], tiny_run: Path, tmp_path: Path) -> None:
    before = sorted(path for path in tiny_run.rglob("*"))
    ended = call(compare.main, str(tiny_run), "metric=eval/pass/*", "x=eval/cov/4", "out=page", "sort=final")
    assert (ended.status, ended.err) == (0, "")
    assert "phase finetune" in ended.out
    assert "simple_tournament, N = 2" in ended.out
    assert (tmp_path / "page" / "figures" / "paths.png").stat().st_size > 1000
    assert sorted(path for path in tiny_run.rglob("*")) == before
    ended = call(
        compare.main,
        str(tiny_run),
        "phase=all",
        "x=global_step",
        "out=page",
        "metric=train/loss",
        "sections=[]",
    )
    assert (ended.status, read_table(tmp_path / "page" / "table.csv")[0]["last_step"]) == (0, "20")


@pytest.mark.long
def test_selecting_and_grouping(call: Callable[..., Any], tmp_path: Path) -> None:
    for index, rate in enumerate((0.001, 0.01, 0.01, 0.1)):
        model = {"_target_": "models.GPT", "width": 16 * (index + 1)}
        write_run(tmp_path / "runs" / str(index), rate, 1 + index, model=model)
    table = tmp_path / "runs" / "compare" / "table.csv"
    assert (
        call(
            compare.main, "runs/?", "group_by=optimizer.*", "sort=optimizer.learning_rate", "sections=[]"
        ).status
        == 0
    )
    rows = read_table(table)
    assert [(row["optimizer.learning_rate"], row["runs"], row["seeds"]) for row in rows] == [
        ("0.001", "1", "2"), ("0.01", "2", "4"), ("0.1", "1", "2"),
    ]  # fmt: skip
    assert (
        call(
            compare.main, "runs/?", "where={optimizer.learning_rate:0.01}", "sort=final", "sections=[]"
        ).status
        == 0
    )
    assert [(row["model.width"], row["run_names"]) for row in read_table(table)] == [("32", "1"), ("48", "2")]


def test_hundreds_of_groups_stay_readable(tmp_path: Path) -> None:
    members = [run(str(i), steps=(0, 10, 20), eval_kl=np.ones((2, 3)) * i) for i in range(300)]
    groups = [
        Group({"lr": str(i), "name": f"n{i}"}, (own,), tuple(Member(own, s) for s in (0, 1)), 0)
        for i, own in enumerate(members)
    ]
    shown = {str(i): group for i, group in enumerate(groups[:8])}
    fig = compare_figures.curves(shown, groups[8:], ["eval/kl"], "step", "range")
    assert len(fig.axes[0].lines) == 9
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == [*shown, "the other 292 groups"]
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), 153.5)
    values = [float(i) for i in range(300)]
    by_setting = compare_figures.settings(groups, values, {"lr": "lr", "name": "name"}, "best eval/kl")
    assert by_setting is not None
    assert [axis.get_title(loc="left") for axis in by_setting.axes] == ["lr"]


def test_a_section_has_the_n_as_lines_in_order() -> None:
    values = {
        f"eval/{part}cov/{n}": np.full((2, 2), n) + np.array([[0], [1]])
        for part in ("", "G1/")
        for n in (16, 2, 5.7)
    }
    own = dataclasses.replace(run(), values=values)
    group = Group({}, (own,), (Member(own, 0), Member(own, 1)), 0)
    section = Section("cov", tuple(families(values)), {"one": group})
    fig = draw(section, "step", "range")
    assert [axis.get_title(loc="left") for axis in fig.axes] == [
        "eval/cov, lower is better", "eval/G1/cov, lower is better",
    ]  # fmt: skip
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Cov_2", "Cov_5.7", "Cov_16"]
    assert [float(line.get_ydata()[0]) for line in fig.axes[0].lines] == [2.5, 6.2, 16.5]
    several = Section("cov", section.families[:1], {"a": group, "b": group})
    assert [axis.get_title(loc="left") for axis in draw(several, "step", "range").axes] == ["a", "b"]


def test_runs_are_found_in_folders_and_by_patterns(tmp_path: Path) -> None:
    for name in ("train/a=1", "train/b", "other/deep/c"):
        write_run(tmp_path / name)
    (tmp_path / "train" / "b" / "checkpoints").mkdir()
    write_run(tmp_path / "train" / "b" / "checkpoints" / "inner")
    found, problems = find_runs([str(tmp_path), str(tmp_path / "train" / "*"), str(tmp_path / "no*")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["other/deep/c", "train/a=1", "train/b"]
    assert [problem.why for problem in problems] == ["nothing matches this pattern"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: none; valid: run directories, folders of them or patterns"),
        (["nowhere"], "runs: nothing to compare in nowhere: nowhere: no such directory"),
        (["runs", "metric=eval/lk"], "metric: 'eval/lk' is in no run; valid are 4, for example eval/kl"),
        (["runs", "x=eval/cov"], "metric: 'eval/cov' is in no run; valid are 4, for example eval/cov/4"),
        (
            ["runs", "group_by=model.widht"],
            "group_by: 'model.widht' is in no configuration; for example model.w",
        ),
        (["runs", "where={model.width:7}"], "where: no run has model.width=7; valid: 32"),
        (["runs", "where={widht:7}"], "where: 'widht' is in no run"),
        (["runs", "sort=worst"], "sort: 'worst'; valid: best, final"),
        (["runs", "band=[0.9,0.1]"], "band: [0.9, 0.1]; valid: range, or two quantiles"),
        (["runs", "lines=0"], "lines: 0 is not an integer >= 1"),
        (["runs", "tournament.n=0.5"], "tournament.n: 0.5 is not a number >= 1"),
        (["runs", "tournament.tie_break=first"], "tournament.tie_break: 'first'; valid: one of"),
        (["runs", "states=[done]"], "states: 'done'; valid: some of running"),
        (["runs", "phase=finetune"], "no record of phase finetune (complete); it has train"),
        (["runs", "out=runs/a"], "out: runs/a: holds a run"),
        (["runs", "metrics=eval/kl"], "metrics: no such key; valid are"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    write_run(tmp_path / "runs" / "a")
    ended = call(compare.main, *arguments)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs" / "compare").exists()
