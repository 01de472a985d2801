"""The claim on early warnings: halves, tasks left out, checks on records with a known answer, its command."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.early_warning import figures
from experiments.early_warning import measure as early_warning
from experiments.early_warning.checks import checks, leads, notes
from experiments.early_warning.judging import interval, judge, outcomes, pool_of, resampled
from experiments.early_warning.measure import Measurements, Settings, judge_statistics
from experiments.early_warning.watching import Truth, Watched, halves, recorded_runs, task_of, watch_run
from metrics import coverage_profile
from metrics.early_warning import BASELINE, Statistic
from tracking import load_log_probs

pytestmark = pytest.mark.long

STATISTICS = (Statistic("tournament", 2), Statistic(BASELINE))
TRUTH = Truth((4.0, 16.0), 3.0, 0.01, 0.02)
TASKS = ("brackets", "layered graph", "linear", "path-star")
CHECKPOINTS = 10


def watched(task: str, seed: int, event_at: int | None, good: bool = True) -> Watched:
    """From `event_at` on the event holds; a good statistic rises with it."""
    rng = np.random.default_rng([TASKS.index(task), seed])
    event = np.zeros(CHECKPOINTS, bool)
    score = rng.uniform(0, 0.05, CHECKPOINTS)
    if event_at is not None:
        event[event_at:] = True
        if good:
            score[event_at:] += 0.2
    scores = np.stack([score, rng.normal(0, 0.01, CHECKPOINTS)])
    scores[:, 0] = -np.inf
    name = f"{task} {'quiet' if event_at is None else 'loud'}"
    return Watched(
        name, task, seed, tuple(range(0, 10 * CHECKPOINTS, 10)), scores, np.stack([event, event & False]),
        np.linspace(2, 1, CHECKPOINTS), np.linspace(0, 0.2, 2 * CHECKPOINTS).reshape(2, -1),
        event_at is None,
    )  # fmt: skip


def runs(good: bool = True, tasks: tuple[str, ...] = TASKS) -> list[Watched]:
    return [watched(task, seed, at, good) for task in tasks for at in (None, 5) for seed in range(4)]


def found(good: bool = True, recorded: tuple[Watched, ...] = ()) -> Measurements:
    return judge_statistics(runs(good), recorded, {"lost/run": "no arrays"}, STATISTICS, 0, TRUTH, 0.05, 200)


def failing(own: Measurements) -> set[str]:
    return {check.name for check in checks(own) if not check.passed}


def test_a_statistic_that_knows_passes_and_one_that_does_not_fails() -> None:
    own = found()
    assert failing(own) == set()
    assert leads(own).size == 16
    assert np.median(leads(own)) == 0
    assert leads(own).min() >= 0
    assert own.rule.rates.base_rate[0] == pytest.approx(5 / 18)
    assert own.rule.rates.sensitivity[0] == pytest.approx(1)
    assert 0 < own.rule.rates.false_alarm_rate[0] < 0.1
    bad = failing(found(good=False))
    assert {"precision minus base rate", "sensitivity"} <= bad
    assert "sensitivity minus that of a rise of the cross-entropy" in bad


def without_quiet_runs(own: list[Watched]) -> list[Watched]:
    return [dataclasses.replace(run, quiet=False) for run in own]


def test_a_task_without_a_quiet_run_has_no_say_in_its_own_threshold() -> None:
    pool = pool_of(without_quiet_runs(runs()))
    weights = resampled(pool, 100)
    before = judge(pool, pool.scores[0], weights, 0.15).thresholds
    changed = pool.scores[0].copy()
    changed[pool.task == pool.tasks.index("linear")] += 0.03
    after = judge(pool, changed, weights, 0.15).thresholds
    assert after["linear"] == before["linear"]
    assert all(after[name] > before[name] for name in before if name != "linear")


def test_thresholds_come_from_quiet_runs_of_the_task() -> None:
    """Of 4 quiet runs with 9 evaluations each, .2 allows 7 above the threshold."""
    pool = pool_of(runs())
    weights = resampled(pool, 100)
    found = judge(pool, pool.scores[0], weights, 0.2)
    for index, name in enumerate(pool.tasks):
        own = np.sort(pool.scores[0][(pool.task == index) & pool.quiet])
        assert own.size == 36
        assert found.thresholds[name] == own[-8]
    changed = pool.scores[0].copy()
    linear = pool.task == pool.tasks.index("linear")
    changed[linear & ~pool.quiet] += 0.03
    assert judge(pool, changed, weights, 0.2).thresholds == found.thresholds
    changed[linear & pool.quiet] += 0.03
    after = judge(pool, changed, weights, 0.2).thresholds
    assert {name for name in after if after[name] != found.thresholds[name]} == {"linear"}


def test_a_seed_is_judged_by_quiet_runs_of_the_others() -> None:
    """Seed 0's quiet run is loud: its own evaluations raise alarms, and those of the other seeds then lose
    them, because they are judged by a threshold that it has raised."""
    pool = pool_of([watched("linear", seed, at) for at in (None, 5) for seed in range(2)])
    scores = np.full(pool.seed.size, 0.1)
    scores[pool.quiet] = 0.0
    scores[pool.quiet & (pool.seed == 0)] = 0.3
    alarms = judge(pool, scores, np.ones((1, scores.size)), 0.05).alarms
    assert alarms[pool.seed == 0].all()
    assert not alarms[pool.seed == 1].any()


def test_events_in_quiet_runs_are_not_known_to_who_sets_thresholds() -> None:
    pool = pool_of(runs())
    told = dataclasses.replace(pool, event=pool.event | pool.quiet)
    weights = resampled(pool, 100)
    before, after = (judge(each, each.scores[0], weights, 0.1) for each in (pool, told))
    assert after.thresholds == before.thresholds
    np.testing.assert_array_equal(after.alarms, before.alarms)


@pytest.mark.parametrize(
    ("name", "task", "quiet"),
    [("graph_deep_even", "graph_deep", True), ("star_repeated", "star", False), ("even", "even", False)],
)
def test_the_zoo_s_names_say_task_and_quiet_runs(name: str, task: str, quiet: bool) -> None:
    own = early_warning.of_zoo(dataclasses.replace(watched("linear", 0, 3), run=name), ("even", "fresh"))
    assert (own.task, own.quiet) == (task, quiet)


def test_every_task_counts_the_same() -> None:
    many = [*runs(), *(watched("linear", seed, None) for seed in range(10, 40))]
    weights = resampled(pool_of(many), 50)
    pool = pool_of(many)
    for index in range(len(TASKS)):
        assert weights[0, pool.task == index].sum() == pytest.approx(1)
    assert weights.sum(axis=1) == pytest.approx(len(TASKS))
    own = weights[1:, pool.task == 0].sum(axis=1)
    assert set(np.round(own, 9)) == set(range(int(own.max()) + 1))


def test_outcomes_say_when() -> None:
    late = watched("linear", 0, 4)
    pool = pool_of([late, watched("brackets", 0, None)])
    alarms = np.zeros(2 * (CHECKPOINTS - 1), bool)
    alarms[[5, 8]] = True
    (first, second) = outcomes(pool, alarms)
    assert (first.event, first.alarm, first.lead) == (4, 6, -2)
    assert (second.event, second.alarm, second.lead) == (None, None, None)


def test_an_interval_leaves_out_resamples_that_have_no_number() -> None:
    own = interval(np.array([0.5, math.nan, 0.4, 0.6]))
    assert own.estimate == 0.5
    assert 0.4 <= own.low < own.high <= 0.6
    assert math.isnan(interval(np.array([0.5, math.nan])).low)


def test_one_task_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="runs: 8 seeds of 1 tasks; valid: two tasks or more"):
        judge_statistics(runs(tasks=("linear",)), (), {}, STATISTICS, 0, TRUTH, 0.15, 100)


def test_figures_tables_and_notes_show_everything(tmp_path: Path) -> None:
    recorded = (dataclasses.replace(watched("linear", 9, 5), run="elsewhere"), watched("linear", 8, None))
    own = found(recorded=recorded)
    assert all(file.stat().st_size > 5000 for _, file in save_all(tmp_path, figures.drawings(own)))
    made = {title: rows for title, _, rows in figures.tables(own)}
    assert len(made) == 7
    assert made["Recorded runs left out"] == [["lost/run", "no arrays"]]
    by_n = next(rows for title, rows in made.items() if title.startswith("The same alarms"))
    assert [row[0] for row in by_n] == ["4", "16"]
    assert by_n[1][1] == 0
    assert [row[0] for row in made["Recorded runs, seed by seed"]] == ["elsewhere", "linear quiet"]
    text = " ".join(notes(own))
    for part in ("lost/run (no arrays)", "16 of 32 have an event", "tournament(N = 2)", "2 recorded runs"):
        assert part in text


# Reading runs.


def test_halves_are_disjoint_and_hold_every_class() -> None:
    groups = np.repeat([0, 1, 2], [4, 5, 6])
    seen = halves(groups)
    assert [int(seen[groups == g].sum()) for g in range(3)] == [2, 3, 3]
    assert [int((~seen)[groups == g].sum()) for g in range(3)] == [2, 2, 3]


def test_a_recorded_run_is_read_as_it_was_evaluated(tiny_run: Path) -> None:
    own = watch_run(tiny_run, "tiny", STATISTICS, TRUTH)
    arrays = load_log_probs(tiny_run)
    held = arrays["finetune_held_out"]
    unseen = ~halves(held["groups"])
    last = arrays["finetune_00000020"]["log_prob"][0].astype(np.float64)
    joint = (held["weights"][:, None] * held["candidate_weight"])[unseen]
    kept = joint > 0
    ratio = (held["log_pi"] - last)[unseen][kept]
    assert own[0].steps == (0, 5, 10, 15, 20)
    assert own[0].kl[-1] == pytest.approx(np.average(ratio, weights=joint[kept]))
    np.testing.assert_allclose(own[0].coverage[:, -1], coverage_profile(ratio, TRUTH.ns, joint[kept]))
    assert own[0].scores.shape == (2, 5)
    assert own[0].task == "layered graph"


def test_a_rule_does_not_see_the_half_that_judges_it(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.early_warning import watching as early_warning_runs

    seen = halves(load_log_probs(tiny_run)["finetune_held_out"]["groups"])

    def loaded(path: Path, pattern: str) -> dict[str, dict[str, np.ndarray]]:
        found = load_log_probs(path, pattern)
        for name, arrays in found.items():
            if name.endswith("held_out"):
                arrays["log_pi"] = arrays["log_pi"] + 1.0
            else:
                arrays["log_prob"] = np.where(seen[:, None], arrays["log_prob"], arrays["log_prob"] - 3.0)
        return found

    before = watch_run(tiny_run, "tiny", STATISTICS, TRUTH)
    monkeypatch.setattr(early_warning_runs, "load_log_probs", loaded)
    after = watch_run(tiny_run, "tiny", STATISTICS, TRUTH)
    np.testing.assert_array_equal(before[0].scores, after[0].scores)
    np.testing.assert_allclose(after[0].kl, before[0].kl + 4.0)


@pytest.mark.parametrize(
    ("task", "phases", "name"),
    [
        ({"_target_": "tasks.LayeredGraph", "mixture": {"G1": 0.9, "chain": 0.0}}, None, "layered graph"),
        ({"_target_": "tasks.LayeredGraph", "mixture": {"chain": 0.9}}, {}, "horizon graph"),
        (
            {"_target_": "tasks.LayeredGraph", "mixture": {"G1": 1.0, "xor": 0.0}},
            {"end": {"task": {"mixture": {"G1": 0.0, "xor": 1.0}}}},
            "horizon graph",
        ),
        ({"_target_": "tasks.FixedDyck", "mixture": {"drawn": 1.0}}, {"end": None}, "brackets"),
        ({"_target_": "tasks.tabular.Tabular"}, {}, "Tabular"),
    ],
)
def test_tasks_are_named(task: dict[str, Any], phases: Any, name: str) -> None:
    assert task_of({"task": task, "phases": phases}, "end") == name


def test_recorded_runs_are_listed_once_and_without_the_claims_own(tmp_path: Path) -> None:
    for name in ("a/one", "a/two", "own/cpu/zoo", "b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").touch()
    given = (str(tmp_path / "**"), str(tmp_path / "b"))
    assert list(recorded_runs(given, tmp_path, tmp_path / "own" / "cpu")) == ["a/one", "a/two", "b"]
    with pytest.raises(ValueError, match=r"runs: .*/c: no metrics\.jsonl there"):
        recorded_runs((str(tmp_path / "c"),), tmp_path, tmp_path)


# The command.


def planned(config: DictConfig) -> dict[str, Arm]:
    plan = Plan(config, Path("runs/early_warning/cpu"), frozenset({"scale", *field_checks(Settings)}))
    return early_warning.stage(read(Settings, config), plan)


def test_the_zoo_is_a_run_of_experiments_train_each(compose_config: Callable[..., DictConfig]) -> None:
    configs = {
        name: arm.config for name, arm in planned(compose_config("early_warning", "scale=cpu")).items()
    }
    setups = {name: build(config) for name, config in configs.items()}
    kinds = {task_of(dict(own), setups[name].phases[-1].name) for name, own in configs.items()}
    assert len(kinds) == 5
    quiet = read(Settings, compose_config("early_warning", "scale=cpu")).quiet
    tasks: dict[str, set[bool]] = {}
    for name in configs:
        task, _, ending = name.rpartition("_")
        tasks.setdefault(task, set()).add(ending in quiet)
    assert len(tasks) >= 12
    assert all(both == {True, False} for both in tasks.values())
    assert all(not set(own) & {"zoo", "runs", "truth", "judged"} for own in configs.values())
    assert len({own.name for own in configs.values()}) == len(configs)


def test_the_statistics_are_listed_with_the_judged_one(compose_config: Callable[..., DictConfig]) -> None:
    listed = read(Settings, compose_config("early_warning"))
    assert listed.judged in listed.statistics
    judged = ("judged.kind=net_tournament", "judged.parameter=5")
    further = read(Settings, compose_config("early_warning", *judged))
    assert further.statistics == (*listed.statistics, Statistic("net_tournament", 5))


def test_a_run_that_is_named_is_refused_where_there_is_none(
    compose_config: Callable[..., DictConfig],
) -> None:
    with pytest.raises(ValueError, match=r"runs: nowhere: no metrics\.jsonl there; valid: run directories"):
        planned(compose_config("early_warning", "runs=[nowhere]"))


def test_the_tiny_run_is_judged(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("early_warning")
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.seeds == (3, 4)
    assert {"claim.yaml", "report.html", "figures"} <= {each.name for each in path.iterdir()}
    assert verdict.holds is False
