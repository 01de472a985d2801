"""VGB's Dyck claim: fronts by hand, the configurations of the runs, a whole tiny run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.launch.trained import open_run
from covlab.report.verdict import Verdict
from experiments.vgb_dyck.measure import Settings, base_model, prompt_tasks
from experiments.vgb_dyck.sweep import Grid, shortfall
from training import Rollouts, ValueRegression


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
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("vgb_dyck", f"scale={scale}", f"experiment=vgb_dyck_{scale}")
    settings = read(Settings, config)
    keys = frozenset({"scale", *field_checks(Settings)})
    own = base_model(settings, Plan(config, Path(f"runs/vgb_dyck/{scale}"), keys))["base"].config
    assert not keys & set(map(str, own))
    setup = build(own)
    task: Any = setup.phases[0].task
    assert (task.prompt_length, task.response_length, task.num_types) == (1, task.length, 2)
    assert task.type_probs == (0.2, 0.8)
    assert task.length >= 24
    assert len(setup.seeds) >= 3
    methods = settings.sweep.methods(task.length - task.max_depth)
    assert len(methods) == len(set(methods))
    tasks: dict[str, Any] = prompt_tasks(settings, own.task)
    for name, prompts in tasks.items():
        assert prompts.prompt_length + prompts.response_length == 1 + task.length
        assert prompts.groups == ("cap" if name == "out_of_distribution" else "drawn",)
    assert 4**settings.trees.horizon <= 4096


def test_a_grid_has_every_family_and_the_largest_budget() -> None:
    grid = Grid(budgets=(8, 32), block_lengths=(1, 2), candidates=(2,), vgb_steps=(16,), thresholds=(0.5,))
    methods = grid.methods(8)
    assert {method.decoder.budget for method in methods} == {32}  # type: ignore[attr-defined]
    assert len({method.family for method in methods}) == 7
    assert len(methods) == 3 + 1 + 1 + 1 + 2 + 4
    # 2 candidates a token need 34 queries for 17 tokens, blocks of 2 need 18.
    assert {method.label for method in grid.methods(17) if "block" in method.family} == {"2 of length 2"}


def test_the_tiny_run_trains_both_networks_and_measures_everything(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("vgb_dyck")
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.seeds == (3, 4)
    assert len(verdict.checks) == 3 + 3 * 2 + 3
    assert all(check.measured is not None for check in verdict.checks)
    assert len(list((path / "figures").glob("*.png"))) == 3
    phase = open_run(path / "value").setup.phases[0]
    assert isinstance(phase.objective, ValueRegression)
    assert isinstance(phase.source, Rollouts)
