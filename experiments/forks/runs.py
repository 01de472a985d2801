"""The training runs of experiments.forks: a base for each number of branching layers, and fine-tuning."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from covlab.claims.arms import Arm, built_before_its_start, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup, build
from experiments.forks.measure import Cell, Settings, base_name
from tasks import LayeredGraph
from training import CrossEntropy

SOURCE: Mapping[str, Any] = {"source": {"_target_": "training.Demonstrations"}}
PRETRAINED = "uniform"
"""The class of pre-training: any valid path, with equal probability."""


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base runs, by the command's configuration. All runs are checked before the first is trained.

    Raises:
        ValueError: a run that cannot be built, or on which the claim cannot be judged.
    """
    depth = (plan.config.get("task") or {}).get("depth")
    if isinstance(depth, int) and max(settings.branching) > depth:
        raise ValueError(f"branching: {[*settings.branching]}; valid: at most task.depth = {depth}")
    arms = {}
    for count in settings.branching:
        name = base_name(count)
        arms[name] = Arm(plan.run_config(name, {"task": _branching(settings, count)}), label=name)
        _check(settings, name, arms[name].config)
    for cell in settings.cells():
        built_before_its_start(
            cell.run,
            plan.run_config(cell.run),
            _tuning(settings, cell),
            _branching(settings, cell.branching),
            functools.partial(check_run, settings),
        )
    return arms


def tuning_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Fine-tuning of every arm from the last checkpoint of its base."""
    arms = {}
    for cell in settings.cells():
        name = base_name(cell.branching)
        config = plan.run_config(name, {"task": _branching(settings, cell.branching)})
        own = rl_run_config(
            config, plan.path / name, "last", f"{plan.path.name}-{cell.run}", _tuning(settings, cell)
        )
        arms[cell.run] = Arm(own, label=cell.run)
    return arms


def _check(settings: Settings, name: str, config: DictConfig) -> None:
    try:
        check_run(settings, name, build(config))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _branching(settings: Settings, count: int) -> dict[str, Any]:
    """Fields of the task: so many branching layers, and prompts with room for the most of all arms."""
    return {"branching": count, "uniform_branching": count, "fill": max(settings.branching)}


def _tuning(settings: Settings, cell: Cell) -> tuple[Mapping[str, Any], ...]:
    mixture = {PRETRAINED: 0.0, cell.group: 1.0}
    return SOURCE, settings.tune, {"task_overrides": {"mixture": mixture}}


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("forks", setup.seeds)
    require_single_phase("forks", setup)
    phase = setup.phases[0]
    if not isinstance(phase.task, LayeredGraph):
        raise ValueError(f"task: {type(phase.task).__name__}; forks needs LayeredGraph")
    if not phase.task.num_enumerated:
        raise ValueError("task: LayeredGraph; forks needs all valid responses enumerated")
    if name.startswith("base_"):
        require_parameters("forks", setup)
        if phase.task.groups != (PRETRAINED,):
            raise ValueError(f"task.mixture: {', '.join(phase.task.groups)}; forks needs {PRETRAINED} alone")
        return
    if type(phase.objective) is not CrossEntropy:
        raise ValueError(f"tune.objective: {type(phase.objective).__name__}; forks needs CrossEntropy")
    if 0 not in phase.schedule.steps(phase.steps):
        raise ValueError("tune.evaluation.schedule.start: False; forks compares with the start")
