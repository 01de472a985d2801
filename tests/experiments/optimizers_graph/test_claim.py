"""The update-rule claim: rules, tuning and checks on numbers whose answer is known; its command."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import yaml
from omegaconf import DictConfig
from oracles.reports import assert_rectangular

from covlab.claims import arms, claim
from covlab.claims.claim import Plan, command
from covlab.claims.settings import field_checks, read
from covlab.launch.build import Setup, build, make
from covlab.launch.runs import Finished
from covlab.report.verdict import Verdict
from experiments.optimizers_graph import CLAIM, runs
from experiments.optimizers_graph import measure as optimizers_measure
from experiments.optimizers_graph.checks import LOSS, STEPS, checks, growth, notes, places
from experiments.optimizers_graph.figures import drawings, tables
from experiments.optimizers_graph.measure import (
    Compared,
    Curves,
    Measurements,
    Settings,
    levels_from,
)
from experiments.optimizers_graph.rules import NORMALISED, RULES, Cell, any_of
from experiments.optimizers_graph.runs import at_edge, best_rate
from metrics.coverage import name_of_n

TINY = (
    "name=tiny", "graph.lengths=[2,3,4]", "dyck.lengths=[8,10,12]", "seeds=2", "tuning_seeds=1", "steps=12",
    "batch_size=8", "log_every=12", "shared.warmup=0", "model.width=8", "model.num_heads=1",
    "evaluation.num_examples=16", "dyck.changes.evaluation.num_examples=16", "evaluation.schedule.every=3",
    "tracking.wandb=disabled", "tracking.progress=false",
)  # fmt: skip
GRID = np.arange(26) * 2


# Rules and tuning.


def rule_of(name: str, rate: float) -> optax.GradientTransformation:
    options = {"clipped_sgd": {"clip_norm": 0.25}, "normalized_sgd": {"damping": 0.1}}.get(name, {})
    node = {
        "_target_": RULES[name].target,
        "schedule": "cosine",
        "warmup": 2,
        "learning_rate": rate,
        **options,
    }
    return make(node, "optimizer", steps=5)  # type: ignore[no-any-return]


def path_of(rule: optax.GradientTransformation, state: Any, params: Any) -> list[Any]:
    draw, found = np.random.default_rng(0), []
    update = jax.jit(rule.update)
    for _ in range(4):
        gradient = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), jnp.float32), params)
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


@pytest.mark.long
def test_one_program_is_every_rule_at_every_rate() -> None:
    """Tuning multiplies the updates of learning rate 1; every rule must be proportional to its rate."""
    params = {"kernel": jnp.array([[0.5, -1.0, 0.2], [0.1, 0.4, -0.3]]), "bias": jnp.array([0.3, 0.1, -0.2])}
    whole = any_of([rule_of(name, 1.0) for name in RULES])
    state = whole.init(params)
    ends = []
    for index, name in enumerate(RULES):
        rate = 0.01 * (index + 1)
        chosen = state._replace(rule=jnp.asarray(index), rate=jnp.asarray(rate))
        alone = rule_of(name, rate)
        for one, other in zip(
            path_of(whole, chosen, params), path_of(alone, alone.init(params), params), strict=True
        ):
            for key in params:
                np.testing.assert_allclose(one[key], other[key], rtol=1e-4, atol=1e-6, err_msg=name)
        ends.append(np.asarray(one["kernel"]))
    assert len({each.round(4).tobytes() for each in ends}) == len(RULES), "rules must differ"


def test_the_rate_with_the_smallest_mean_loss_is_chosen() -> None:
    grid = [0.1, 0.2, 0.4, 0.8]
    losses = np.array([[3.0, 3.0], [1.0, 2.4], [1.6, 1.6], [0.1, np.nan]])
    assert best_rate(grid, losses) == 0.4
    assert best_rate(grid, np.ones((4, 2))) == 0.1
    assert [at_edge(grid, rate) for rate in grid] == [True, False, False, True]
    with pytest.raises(ValueError, match="every rate diverged"):
        best_rate(grid, np.full((4, 2), np.nan))


# Checks.


def compared(response: int, better: float, faster: float, seeds: int = 4) -> Compared:
    """SGD has Cov_4 = KL/10 at every KL; a normalised rule has `better` less, and a KL smaller by the factor
    `faster` at equal steps."""
    rng = np.random.default_rng(response)
    curves = {}
    for rule in RULES:
        own = rule in NORMALISED
        start = 8.0 + rng.normal(0, 0.01, (seeds, 1))
        kl = start * np.exp(-GRID / 20 * (faster if own else 1.0))
        cov = np.clip(kl / 10 - (better if own else 0.0) + rng.normal(0, 0.001, (seeds, 1)), 0, 1)
        curves[rule] = Curves(GRID, kl, {2.0: cov, 4.0: cov}, {1: 1 - cov, 4: 1 - cov / 2})
    return Compared(response, 3.0, curves, 4.0, levels_from(3.5, 3))


def measured(better: Sequence[float], faster: Sequence[float]) -> Measurements:
    cells = tuple(compared(h, b, f) for h, b, f in zip((8, 16, 32), better, faster, strict=True))
    tasks = {"graph": cells, "dyck": cells}
    return Measurements({"graph": 4.0, "dyck": 4.0}, 4, (1, 2, 3, 4), (), tasks, -0.1)


@pytest.fixture(scope="module")
def growing() -> Measurements:
    return measured((0.01, 0.03, 0.05), (1.0, 1.2, 1.4))


def test_a_gap_that_grows_with_the_length_passes(growing: Measurements) -> None:
    judged = checks(growing)
    assert [check.name for check in judged if not check.passed] == []
    assert len(judged) == 2 * (4 * 2 * 2 + 7) + 1
    cells = growing.tasks["graph"]
    gap, _ = places(growing, "graph")[LOSS]
    np.testing.assert_allclose(growth(cells, gap, "adamw").estimate, 0.02, atol=0.002)
    np.testing.assert_allclose(cells[-1].gap("muon", cells[-1].cov), 0.05, atol=0.01)


def test_a_rule_that_only_trains_faster_has_no_gap_at_equal_loss() -> None:
    found = measured((0.0, 0.0, 0.0), (1.0, 1.2, 1.4))
    failed = {check.name for check in checks(found) if not check.passed}
    assert {name for name in failed if LOSS in name} == failed
    assert len(failed) >= 8
    assert all(check.passed for check in checks(found) if STEPS in check.name)


def test_a_constant_gap_does_not_grow() -> None:
    found = measured((0.03, 0.03, 0.03), (1.0, 1.0, 1.0))
    failed = {check.name for check in checks(found) if not check.passed}
    assert f"graph, {LOSS}: Cov of SGD minus Muon's, growth for each doubling of H" in failed
    assert not any("H = 32" in name for name in failed if LOSS in name)


def test_rules_that_have_not_learned_are_no_comparison(growing: Measurements) -> None:
    cell = growing.tasks["graph"][0]
    # Each evaluation's KL is exp(-1/10) of the one before under every rule here.
    np.testing.assert_allclose(cell.coarseness, math.exp(0.1), rtol=1e-6)
    weak = dataclasses.replace(cell, levels=np.array([5.0, 6.0]))
    found = dataclasses.replace(growing, tasks={"graph": (weak, *growing.tasks["graph"][1:])})
    assert [c.passed for c in checks(found) if "lowest level of KL" in c.name] == [False]


def test_tables_figures_and_notes_are_complete_where_a_rule_never_reaches_a_level(
    growing: Measurements,
) -> None:
    cell = growing.tasks["dyck"][0]
    never = dataclasses.replace(cell, levels=np.array([1e-6, 2e-6]))
    assert (cell.reached, never.reached) == (1.0, 0.0)
    assert math.isnan(never.coarseness)
    found = dataclasses.replace(
        growing,
        tasks=growing.tasks | {"dyck": (never, *growing.tasks["dyck"][1:])},
        rates={"graph-8": {"sgd": 0.5}},
    )
    made = tables(found)
    assert {len(rows) for _, _, rows in made} == {2 * 3 * len(RULES)}
    assert_rectangular(made)
    written = notes(found)
    assert any("graph-8: sgd 0.5" in text for text in written)
    assert any("H = 8: Cov_4 from 1e-06 nats, reached by 0% of the seeds" in text for text in written)
    assert sum("growth" in text for text in written) == 4
    names = [drawing.name for drawing in drawings(found)]
    assert names == ["equal_loss", "gaps", "equal_steps", "equal_loss_pass"]


# Configuration.


@pytest.fixture(scope="module")
def config(compose_config: Callable[..., DictConfig]) -> DictConfig:
    return compose_config("optimizers_graph", "scale=cpu")


def plan_of(config: DictConfig) -> Plan:
    return Plan(config, Path("runs/x"), frozenset({"scale", *field_checks(Settings)}))


def run_of(config: DictConfig, cell: Cell, rule: str, rate: float = 1.0) -> Setup:
    settings = read(Settings, config)
    setup = build(runs.run_config(settings, plan_of(config), cell, rule, rate))
    runs.check_run(settings, cell.name, setup)
    return setup


@pytest.mark.long
def test_every_run_differs_in_length_and_rule_alone(config: DictConfig) -> None:
    settings = read(Settings, config)
    cells = {cell.name: cell for cell in settings.cells}
    assert list(cells) == ["graph-2", "graph-4", "graph-8", "dyck-8", "dyck-16", "dyck-32"]
    planned = runs.stage(settings, plan_of(config))
    assert list(planned) == [f"{name}/{rule}" for name in cells for rule in RULES]
    for cell in (cells["graph-8"], cells["dyck-32"]):
        configs = [planned[f"{cell.name}/{rule}"].config for rule in RULES]
        assert [own.optimizer.learning_rate for own in configs] == [
            config.learning_rates[cell.name][rule] for rule in RULES
        ]
        setups = [build(own) for own in configs]
        phase = setups[0].phases[0]
        assert getattr(phase.task, cell.field) == cell.length
        assert phase.task.response_length == (10 if cell.task == "graph" else 32)
        assert {own.phases[0].task for own in setups} == {phase.task}
        assert {own.model for own in setups} == {setups[0].model}
        assert len({own.phases[0].optimizer for own in setups}) == len(RULES)


def test_learning_rates_were_chosen_from_the_grids_on_other_seeds(config: DictConfig) -> None:
    settings = read(Settings, config)
    runs.check_rates(settings, config)
    runs.check_places(settings, config)
    assert config.seed > config.place_seed + config.place_seeds
    for cell in settings.cells:
        for rule, rate in config.learning_rates[cell.name].items():
            assert rate in list(config.rules[rule].grid)
    assert not {config.tuning_seed, config.tuning_seed + 1} & set(
        range(config.seed, config.seed + config.seeds)
    )


def test_the_larger_scale_asks_for_tuning(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("optimizers_graph", "scale=paper")
    settings = read(Settings, config)
    with pytest.raises(ValueError, match=r"graph-8\.sgd: none; tune=true chooses one"):
        runs.check_rates(settings, config)
    with pytest.raises(ValueError, match=r"^compared\.graph-8: none; place=true chooses one"):
        runs.check_places(settings, config)
    assert run_of(config, settings.cells[0], "muon").phases[0].steps == 5000


# The command.


def records(setup: Any, rule: str) -> pd.DataFrame:
    """What a run of three seeds might have left: KL falls by half at each evaluation, Cov is KL/10."""
    phase, settings = setup.phases[0], setup.evaluation[0]
    rows = []
    for seed in (400, 401, 402):
        for index, step in enumerate(phase.schedule.steps(phase.steps)):
            kl = (8.0 + 0.01 * (seed - 400)) * 0.8**index
            cov = min(kl / 10, 1.0) - (0.02 if rule in NORMALISED else 0.0)
            row = {"seed": seed, "step": step, "eval/kl": kl, "eval/ce": kl + 2.0, "eval/bound_excess": -0.1}
            row |= {f"eval/cov/{name_of_n(n)}": cov for n in settings.coverage_ns}
            if settings.num_samples:
                row["eval/sampled_pass/1"] = 0.25
            elif phase.task.num_enumerated:
                row |= {f"eval/pass/{n}": 1 - cov / n for n in settings.pass_ns}
            rows.append(row)
            if rule == "muon" and seed == 402 and index == 3:
                break  # this seed diverged
    return pd.DataFrame(rows)


@pytest.mark.long
def test_the_command_judges_what_was_trained(
    call: Callable[..., Any],
    compose_config: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Training and reading are faked; 36 runs take minutes."""
    trained: dict[str, Setup] = {}

    def train(config: DictConfig, path: Path, stop: Any, setup: Setup) -> Finished:
        trained[str(path)] = setup
        return Finished(path, "complete", "", 1.0)

    def read_run(path: Path) -> pd.DataFrame:
        return records(trained[str(path)], path.name)

    monkeypatch.setattr(arms, "train_run", train)
    monkeypatch.setattr(claim, "timing_facts", lambda *_: {})
    monkeypatch.setattr(optimizers_measure, "load_run", read_run)
    ended = call(command(CLAIM), "seed=400", "seeds=3")
    assert ended.status == 0, ended.err
    assert len(trained) == 6 * len(RULES)
    path = tmp_path / "runs/optimizers_graph/cpu"
    verdict = Verdict.read(path / "verdict.json")
    assert (path / "report.html").stat().st_size > 10_000
    drawn = {file.stem for file in (path / "figures").glob("*.png")}
    assert drawn == {"equal_loss", "gaps", "equal_steps", "equal_loss_pass"}
    assert verdict.seeds == (400, 401)
    assert any("seed 402 (dyck-8, Muon)" in note for note in verdict.notes)
    by_name = {check.name: check for check in verdict.checks}
    n = read(Settings, compose_config("optimizers_graph")).compared["graph-8"].n
    for rule in ("normalised SGD", "sign-SGD", "AdamW", "Muon"):
        gap = by_name[f"graph, at equal cross-entropy: Cov of SGD minus {rule}'s, H = 10, N = {n:g}"]
        np.testing.assert_allclose(gap.measured, 0.02, atol=1e-6)
        assert gap.passed
        grown = by_name[f"dyck, after equal steps: Cov of SGD minus {rule}'s, growth for each doubling of H"]
        np.testing.assert_allclose(grown.measured, 0.0, atol=1e-9)


def test_pass_at_n_of_one_prompt_is_estimated_from_all_samples(
    compose_config: Callable[..., DictConfig],
) -> None:
    """Each of 512 times one response, a quarter of them correct: 1 - C(384, 4)/C(512, 4)."""
    config = compose_config("optimizers_graph", "+dyck.changes.evaluation.num_samples=1")
    setup = run_of(config, read(Settings, config).cells[3], "sgd")
    curves = optimizers_measure.curves_of(records(setup, "sgd"), setup, (400, 402))
    assert curves.kl.shape == (2, 101)
    np.testing.assert_allclose(curves.passes[4], 1 - math.comb(384, 4) / math.comb(512, 4))
    np.testing.assert_allclose(curves.passes[1], 0.25)
    # Without samples, and where valid responses are not enumerated, nothing is known.
    frame = records(setup, "sgd").drop(columns="eval/sampled_pass/1")
    assert np.isnan(optimizers_measure.curves_of(frame, setup, (400, 402)).passes[4]).all()


@pytest.mark.slow
def test_tuning_prints_the_best_rates(call: Callable[..., Any], tmp_path: Path) -> None:
    grids = ("rules.sgd.grid=[0.2,0.4]", "rules.muon.grid=[0.01,1e9]")
    ended = call(command(CLAIM), *TINY, "tune=true", "tuned_rules=[sgd,muon]", *grids)
    assert ended.status == 0, ended.err
    tuned = json.loads((tmp_path / "runs/optimizers_graph/tiny/tuning.json").read_text())
    assert list(tuned) == ["graph-2", "graph-3", "graph-4", "dyck-8", "dyck-10", "dyck-12"]
    for own in tuned.values():
        assert own["chosen"]["muon"] == 0.01
        assert own["chosen"]["sgd"] == [0.2, 0.4][int(np.argmin(own["losses"]["sgd"]))]
        assert 0 < own["finals"]["sgd"]["kl"] < own["losses"]["sgd"][0] + 1
    printed = yaml.safe_load(ended.out.partition("at the edge")[0])
    assert printed == {"learning_rates": {name: own["chosen"] for name, own in tuned.items()}}


@pytest.mark.slow
def test_places_are_chosen_from_the_runs_that_tuning_would_train(
    compose_config: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose_config("optimizers_graph", *TINY, "learning_rates={graph-2: {sgd: 0.4, muon: 0.02}}")
    settings = read(Settings, config)
    cell = settings.cells[0]
    setups = {name: run_of(config, cell, name) for name in ("sgd", "muon")}
    tuned = runs.tune_setup(setups, {"sgd": [0.1, 0.4], "muon": [0.01, 0.02]})
    curves = runs.curves_of_setup(setups, tuned.chosen)
    assert list(curves) == ["sgd", "muon"]
    for rule, own in curves.items():
        assert own.steps.tolist() == [0, 2, 4, 6, 8, 10, 12]
        assert own.kl.shape == own.cov[4].shape == (2, 7)
        np.testing.assert_allclose(own.kl[:, -1].mean(), tuned.finals[rule]["kl"], rtol=1e-4)
        np.testing.assert_allclose(own.cov[4][:, -1].mean(), tuned.finals[rule]["cov/4"], atol=0.02)
    # Before the first step all rules are the same.
    np.testing.assert_allclose(curves["sgd"].kl[:, 0], curves["muon"].kl[:, 0], rtol=1e-5)
