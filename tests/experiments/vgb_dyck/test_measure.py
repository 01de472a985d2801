"""VGB's Dyck claim: the decoders of a grid, the configurations of the runs, a whole tiny run."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.launch.trained import open_run
from covlab.report.verdict import Verdict
from decoding import VGB
from experiments.vgb_dyck.measure import Settings, base_model, prompt_tasks
from experiments.vgb_dyck.sweep import Grid
from training import Rollouts, ValueRegression


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
    assert task.type_probs == ((0.1, 0.9) if scale == "cpu" else (0.2, 0.8))
    assert task.length >= 24
    assert len(setup.seeds) >= 3
    tokens = task.length - task.max_depth
    methods = settings.sweep.methods(tokens)
    assert len(methods) == len(set(methods))
    assert min(settings.sweep.budgets) == 256
    count = settings.sweep.settings
    assert count == (6 if scale == "cpu" else 8)
    for family in ("VGB", "action-level rejection"):
        assert len([method for method in methods if method.family == family]) == count
    tasks: dict[str, Any] = prompt_tasks(settings, own.task)
    for name, prompts in tasks.items():
        assert prompts.prompt_length + prompts.response_length == 1 + task.length
        assert prompts.groups == ("cap" if name == "out_of_distribution" else "drawn",)
    assert 4**settings.trees.horizon <= 4096


GRID = Grid(
    budgets=(12, 40),
    block_lengths=(1, 2, 4),
    candidates=(1, 2, 4),
    temperatures=(0.5, 1.0, 2.0, 4.0),
    vgb_temperatures=(1.0,),
    vgb_children=3,
    vgb_steps=16,
)


def test_a_grid_has_every_family_and_the_largest_budget() -> None:
    methods = GRID.methods(8)
    assert {method.decoder.budget for method in methods} == {40}  # type: ignore[attr-defined]
    families = {method.family for method in methods}
    labels = {family: [m.label for m in methods if m.family == family] for family in families}
    assert labels["VGB"] == ["first leaf", "first leaf, momentum", "first leaf, 3 children", "16 steps"]
    assert labels["base model"] == labels["outcome-level rejection"] == [""]
    assert labels["action-level rejection"] == [f"temperature {t}" for t in ("0.5", "1", "2", "4")]
    assert labels["block Best-of-N"] == labels["block rejection"]
    by_label = {method.label: method for method in methods if method.family == "VGB"}
    plain, lifted, few, fixed = (by_label[label].decoder for label in labels["VGB"])
    assert all(isinstance(each, VGB) for each in (plain, lifted, few, fixed))
    numbers = [(v.stop, v.momentum, v.children, v.laziness) for v in (plain, lifted, few)]  # type: ignore[attr-defined]
    assert numbers == [
        ("first_leaf", None, "all", 0.0),
        ("first_leaf", 1.0, "all", 0.0),
        ("first_leaf", None, 3, 0.0),
    ]
    assert (fixed.stop, fixed.steps, fixed.laziness) == ("fixed", 16, 0.5)  # type: ignore[attr-defined]


def test_temperatures_are_those_of_the_values() -> None:
    grid = dataclasses.replace(
        GRID, budgets=(40,), vgb_temperatures=(0.5, 1.0), temperatures=(0.25, 0.5, 1.0, 2.0, 3.0, 4.0)
    )
    warm = {(m.family, m.label): m.temperature for m in grid.methods(8) if m.temperature != 1}
    assert warm == {
        ("VGB", "first leaf, temperature 0.5"): 0.5,
        ("VGB", "first leaf, momentum, temperature 0.5"): 0.5,
    } | {("action-level rejection", f"temperature {t:g}"): t for t in (0.25, 0.5, 2.0, 3.0, 4.0)}


def test_block_methods_are_those_that_need_most_queries_within_the_budget() -> None:
    # Queries of 7 tokens: 7, 14, 28 with blocks of 1; 4, 8, 16 with blocks of 2; 2, 4, 8 with blocks of 4.
    assert GRID.blocks(7, 40) == ((1, 4), (2, 4), (1, 2), (2, 2))
    assert GRID.blocks(7, 12) == ((2, 2), (4, 4), (1, 1), (2, 1))
    with pytest.raises(ValueError, match="3 queries allow 1 settings of the block methods for 7 tokens"):
        GRID.blocks(7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperatures": (0.5, 1.0)}, "temperatures: 2; valid: as many as VGB has settings, 4"),
        ({"vgb_temperatures": (0.5,)}, "vgb_temperatures: .*valid: 1 among them"),
        ({"temperatures": (1.0, 0.5, 2.0, 4.0)}, "temperatures: .*valid: ascending numbers > 0"),
    ],
)
def test_a_grid_of_unequal_numbers_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GRID, **changes)


def test_the_tiny_run_trains_both_networks_and_measures_everything(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("vgb_dyck")
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.seeds == (3, 4)
    assert len(verdict.checks) == 4 + 4 * 2 + 3
    assert all(check.measured is not None for check in verdict.checks)
    assert len(list((path / "figures").glob("*.png"))) == 3
    phase = open_run(path / "value").setup.phases[0]
    assert isinstance(phase.objective, ValueRegression)
    assert isinstance(phase.source, Rollouts)
