"""VGB's Dyck claim: fronts by hand, its runs' configurations, what it refuses, a whole tiny run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.launch.build import build
from experiments import vgb_dyck
from experiments.vgb_dyck.measure import Grid, shortfall
from training import Rollouts, ValueRegression

TINY = (
    "seed=3", "seeds=2", "name=tiny", "task.length=8", "task.max_depth=3", "model.num_layers=1",
    "model.num_heads=2", "model.width=16", "steps=16", "batch_size=8", "log_every=16",
    "evaluation.num_examples=16", "evaluation.schedule.every=8", "tracking.wandb=disabled",
    "tracking.figures=false", "value.steps=8", "value.batch_size=8",
    "value.task_overrides.prefix_lengths=[3,3]", "prompts.in_distribution.prefix_lengths=[3,3]",
    "prompts.out_of_distribution.prefix_lengths=[3,3]", "sweep.budgets=[20,40]", "sweep.block_lengths=[2]",
    "sweep.candidates=[2]", "sweep.vgb_steps=[32]", "sweep.thresholds=[0.3]", "sweep.samples=2",
    "sweep.num_prompts=2", "trees.horizon=3", "trees.completions=2", "trees.num_prompts=1",
    "trees.errors=[0,1]", "trees.steps=20",
)  # fmt: skip


@pytest.mark.parametrize(
    ("points", "others", "expected"),
    [
        ([[1.0, 0.5]], [[0.9, 0.4]], -0.1),
        ([[1.0, 0.5]], [[0.9, 0.75], [0.5, 0.25]], 0.25),
        ([[1.0, 0.5], [0.6, 0.9]], [[0.9, 0.75], [0.5, 0.25]], 0.25),
        ([[1.0, 0.5], [0.8, 0.75]], [[0.9, 0.75]], 0.1),
        ([[0.7, 0.3], [0.2, 0.6]], [[0.7, 0.3], [0.2, 0.6]], 0.0),
    ],
)
def test_shortfall_by_hand(points: Any, others: Any, expected: float) -> None:
    assert shortfall(np.array(points), np.array(others)) == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_both_runs_of_a_scale_are_runs_of_their_own_commands(
    scale: str, compose_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config("vgb_dyck", f"scale={scale}", f"experiment=vgb_dyck_{scale}")
    grid, trees = vgb_dyck._check(config)
    own = vgb_dyck.base_config(config, Path(f"runs/vgb_dyck/{scale}"))
    assert not set(vgb_dyck.OWN_KEYS) & set(own)
    setup = build(own)
    task: Any = setup.phases[0].task
    assert (task.prompt_length, task.response_length, task.num_types) == (1, task.length, 2)
    assert task.type_probs == (0.2, 0.8)
    assert task.length >= 24
    assert len(setup.seeds) >= 3
    methods = grid.methods(task.length - task.max_depth)
    assert len(methods) == len(set(methods))
    for name in vgb_dyck.SETS:
        prompts: Any = vgb_dyck._task(own, config.prompts[name], name)
        assert prompts.prompt_length + prompts.response_length == 1 + task.length
        assert prompts.groups == ("cap" if name == "out_of_distribution" else "drawn",)
    assert 4**trees.horizon <= 4096


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeds=1"], "seeds: 1; vgb_dyck needs at least 2"),
        (["margin=-1"], "margin: -1 is not a number >= 0"),
        (["sweep.budgets=[8,4]"], "sweep.budgets: [8, 4]; valid: ascending integers >= 1"),
        (["sweep.thresholds=[2]"], "sweep.thresholds: 2 is not a number in (0, 1]"),
        (["+sweep.beams=3"], "sweep.beams: no such field; valid are "),
        (["trees.horizon=40"], "trees.horizon: 40 is not below task.length = 8"),
        (["+value.sweep=1"], "value.sweep: no such field"),
        (["prompts.in_distribution.prefix_lengths=[9,9]"], "prompts.in_distribution"),
        (["task.length=9"], "task.length: 9 is odd"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    overrides: list[str], message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(vgb_dyck.main, *TINY, *overrides)
    assert ended.status == 2
    assert message in ended.err, ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_grid_has_every_family_and_the_largest_budget() -> None:
    grid = Grid(budgets=(8, 32), block_lengths=(1, 2), candidates=(2,), vgb_steps=(16,), thresholds=(0.5,))
    methods = grid.methods(8)
    assert {method.decoder.budget for method in methods} == {32}  # type: ignore[attr-defined]
    assert len({method.family for method in methods}) == 7
    assert len(methods) == 3 + 1 + 1 + 1 + 2 + 4
    # 2 candidates a token need 34 queries for 17 tokens, blocks of 2 need 18.
    assert {method.label for method in grid.methods(17) if "block" in method.family} == {"2 of length 2"}


@pytest.mark.slow
def test_a_tiny_claim_from_training_to_verdict(call: Callable[..., Any], tmp_path: Path) -> None:
    ended = call(vgb_dyck.main, *TINY)
    assert ended.status == 0, ended.err
    path = tmp_path / "runs" / "vgb_dyck" / "tiny"
    verdict = json.loads((path / "verdict.json").read_text())
    assert verdict["seeds"] == [3, 4]
    assert len(verdict["checks"]) == 3 + 3 * 2 + 3
    assert all(check["measured"] is not None for check in verdict["checks"])
    assert (path / "report.html").exists()
    assert len(list((path / "figures").glob("*.png"))) == 3
    again = build(vgb_dyck.values_of(_composed(path), path))
    assert isinstance(again.phases[0].objective, ValueRegression)
    assert isinstance(again.phases[0].source, Rollouts)
    before = (path / "value" / "metrics.jsonl").read_bytes()
    assert call(vgb_dyck.main, *TINY).status == 0
    assert (path / "value" / "metrics.jsonl").read_bytes() == before


def _composed(path: Path) -> DictConfig:
    from omegaconf import OmegaConf

    config = OmegaConf.load(path / "claim.yaml")
    assert isinstance(config, DictConfig)
    return config
