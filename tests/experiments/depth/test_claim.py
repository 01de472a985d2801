"""The depth claim: its measurements on answers that are known, its runs, its command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from oracles.reports import assert_whole

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, Study
from covlab.claims.settings import field_checks, read
from covlab.launch.base_model import of_seed
from covlab.launch.build import build
from covlab.launch.trained import open_run
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.depth import runs
from experiments.depth.checks import checks, notes
from experiments.depth.figures import drawings, tables
from experiments.depth.flops import step_flops
from experiments.depth.measure import Measurements, Run, Scores, Settings, measure, scores
from metrics.evaluators import make_held_out
from tracking import Progress

SETTINGS = Settings(
    problems={"graph": {}, "sorting": {}}, recursions=(1, 2), tested=(1, 2, 3), n=8.0, fresh_examples=16
)


def small(trained: int) -> Run:
    """Two seeds, two prompts; the same with every number of recursions in evaluation."""
    found = Scores(np.array([0.5, 1.0]), np.log([[1.5, 9], [2, 8]]), np.array([0.25, 0.75]))
    curve = np.array([[1.0, 0.75], [1.0, 0.75]])
    return Run(
        12 // trained, 5.0 * trained, dict.fromkeys((1, 2, 3), found), (0, 12 // trained), curve, curve, -1
    )


def found(**changes: Any) -> Measurements:
    made = {problem: {count: small(count) for count in (1, 2)} for problem in ("graph", "sorting")}
    fields: dict[str, Any] = {"seeds": (1, 2), "left_out": (), "coverage_ns": (2.0, 8.0)} | changes
    return Measurements(settings=SETTINGS, runs=made, **fields)


def test_coverage_and_kl_by_hand() -> None:
    results = found()
    read = results.runs["graph"][2].tested[1]
    assert read.coverage((1.5, 2, 8, 9)).tolist() == [[1, 0.75, 0.75, 0.75], [1, 1, 0.75, 0]]
    np.testing.assert_allclose(read.kl, [0.25 * math.log(1.5) + 0.75 * math.log(9), 2.5 * math.log(2)])
    assert results.coverage("graph", 2, 1).tolist() == [0.75, 0.75]
    assert results.accuracy("graph", 2, 1).tolist() == [0.5, 1]
    assert results.runs["graph"][2].flops == 60


def test_numbers_around_one_of_training() -> None:
    settings = dataclasses.replace(SETTINGS, recursions=(2, 4), tested=(1, 2, 3, 4, 9))
    assert [settings.around(count) for count in (2, 4)] == [(1, 3), (3, 9)]


def test_notes_tables_and_figures(tmp_path: Path) -> None:
    results = found(left_out=("seed 9 (graph_2)",))
    assert_whole(drawings(results), ["recursions", "training"], tables(results), notes(results))
    written = notes(results)
    assert "seed 9 (graph_2)" in written[-1]
    assert (
        written[0] == "graph: 60 FLOP per seed, up to 0 % in the other runs: 12 steps with 1, 6 steps with 2."
    )
    rows = tables(results)[1][2]
    assert [row[:4] for row in rows[2:4]] == [[1, 12, 60.0, 3], [2, 6, 60.0, 1]]
    assert rows[0][-2:] == pytest.approx([0.875, 0.75])
    drawn = save_all(tmp_path, drawings(results))
    assert all(file.stat().st_size > 10_000 for _, file in drawn)


def planned(config: DictConfig) -> dict[str, Arm]:
    plan = Plan(config, Path("runs/depth/x"), frozenset({"scale", *field_checks(Settings)}))
    return runs.stage(read(Settings, config), plan)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_runs_of_a_scale(scale: str, compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("depth", f"scale={scale}", f"experiment=depth_{scale}")
    settings = read(Settings, config)
    arms = planned(config)
    assert list(arms) == [f"{task}_{count}" for task in ("graph", "sorting") for count in settings.recursions]
    first, *_ = settings.recursions
    for problem in settings.problems:
        setups: dict[int, Any] = {}
        for count in settings.recursions:
            name = f"{problem}_{count}"
            assert not {"scale", *field_checks(Settings)} & set(map(str, arms[name].config))
            setups[count] = build(arms[name].config)
            runs.check_run(settings, name, setups[count])
            assert setups[count].model == dataclasses.replace(setups[first].model, num_recursions=count)
        phases = {count: setup.phases[-1] for count, setup in setups.items()}
        assert {phase.task for phase in phases.values()} == {phases[first].task}
        assert phases[first].steps == config.problems[problem].get("steps", config.steps)
        spent = [phase.steps * step_flops(setups[c].model, phase.batch_size) for c, phase in phases.items()]
        np.testing.assert_allclose(spent, spent[0], rtol=2e-3)
        evaluated = [len(phase.schedule.steps(phase.steps)) for phase in phases.values()]
        assert max(evaluated) - min(evaluated) <= 1


def test_a_problem_may_be_overridden_alone(compose_config: Callable[..., DictConfig]) -> None:
    other = "problems.sorting.steps=5000", "+problems.sorting.model.width=8", "every=200"
    configs = {name: arm.config for name, arm in planned(compose_config("depth", *other)).items()}
    assert configs["sorting_1"].steps == 5000 != configs["graph_1"].steps
    assert (configs["sorting_4"].model.width, configs["graph_4"].model.width != 8) == (8, True)
    # `every` is that of the first number of recursions as well.
    ratio = configs["sorting_4"].steps / 5000
    assert configs["sorting_4"].evaluation.schedule.every == round(200 * ratio)
    assert build(configs["sorting_4"]).phases[-1].schedule.every == round(200 * ratio)


def test_the_tiny_run_is_measured_again(
    tiny_claim: Callable[[str], Path], tiny_settings: Callable[[str], Settings]
) -> None:
    path = tiny_claim("depth")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.seeds, len(verdict.checks)) == ((3, 4), 5)
    opened = {name: open_run(path / name) for name in ("sorting_1", "sorting_2")}
    progress = Progress(show=False, interval=1)
    results = measure(tiny_settings("depth"), Study(opened, progress, path))
    assert checks(results) == verdict.checks
    shallow, deep = (opened[f"sorting_{count}"].setup.phases[-1].steps for count in (1, 2))
    assert (shallow, deep) == (8, results.runs["sorting"][2].steps)
    assert deep < shallow


def test_scores_are_those_of_a_model_with_so_many_recursions(tiny_claim: Callable[[str], Path]) -> None:
    """Probabilities of whole answers from the logits of one prompt, with `num_recursions` replaced."""
    run = open_run(tiny_claim("depth") / "sorting_2")
    phase, model = run.setup.phases[-1], run.setup.model
    task = phase.task
    held_out = make_held_out(task, 6, 4, 0, "recursions")
    parameters = run.parameters(phase.name, phase.steps)
    examples = held_out.flat(held_out.batches).example
    seen = []
    for count in (1, 3):
        assert dataclasses.is_dataclass(model)
        own = dataclasses.replace(model, num_recursions=count)
        read = scores(run, (3, 4), held_out, count)
        for seed in (0, 1):
            params = of_seed(parameters, seed)
            right = 0
            for row in range(6):
                prompt, response = examples.prompt[row][None], examples.response[row][None, None]
                logits = np.asarray(own.logits(params, prompt, prompt > 0, response), np.float64)[0, 0]
                tokens = [int(token) for token in examples.response[row] if token]
                nats = [
                    math.log(np.exp(z).sum()) - z[token] for z, token in zip(logits, tokens, strict=False)
                ]
                assert read.log_ratio[seed, row] == pytest.approx(sum(nats), abs=1e-4)
                right += all(z.argmax() == token for z, token in zip(logits, tokens, strict=False))
            assert read.accuracy[seed] == pytest.approx(right / 6)
        seen.append(read.log_ratio)
    assert not np.allclose(*seen)
