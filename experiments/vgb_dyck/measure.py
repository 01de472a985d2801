"""The base model, the value function, and what is measured of them: a sweep of decoders, and exact laws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Float
from omegaconf import OmegaConf

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, Study, require_seeds
from covlab.claims.settings import Real, mapping
from covlab.launch.answering import prompts_of
from covlab.launch.base_model import BASE_KEYS, fitted, seed_rows, value_config
from covlab.launch.build import build, make
from covlab.launch.trained import TrainedRun
from experiments.vgb_dyck.sweep import Grid, Networks, Sweep, run_sweep
from experiments.vgb_dyck.trees import Trees, TreeSettings, measure_trees
from metrics.evaluators import make_held_out
from tasks import FixedDyck, Task
from tracking import load_run

BASE_RUN, VALUE_RUN = "base", "value"
"""Names of the training runs."""
SETS = OUT, IN = "out_of_distribution", "in_distribution"
"""Names of the sets of prompts."""


def prompts(field: str, value: Any) -> dict[str, Mapping[str, Any]]:
    """Fields of the task that differ, by set of prompts.

    Raises:
        ValueError: not a mapping of mappings, or other sets.
    """
    if set(mapping(field, value)) != set(SETS):
        raise ValueError(f"{field}: {sorted(map(str, value))}; valid: {', '.join(SETS)}")
    return {name: mapping(f"{field}.{name}", value[name] or {}) for name in SETS}


def grid(field: str, value: Any) -> Grid:
    """The swept budgets and parameters, see `Grid`."""
    made: Grid = make({"_target_": "experiments.vgb_dyck.sweep.Grid", **mapping(field, value)}, field)
    return made


def tree_settings(field: str, value: Any) -> TreeSettings:
    """The trees, see `TreeSettings`."""
    target = "experiments.vgb_dyck.trees.TreeSettings"
    made: TreeSettings = make({"_target_": target, **mapping(field, value)}, field)
    return made


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the base model are of experiments.train.

    Attributes:
        value: settings of experiments.train_value for the value function.
        prompts: kinds of prompts: fields of the task, each with as many tokens left.
        sweep: the grid of decoders, their budgets of queries, prompts and samples.
        trees: sizes of the trees on which exact and disturbed values are compared.
        margin: hypervolume by which VGB must be ahead of a rival.
    """

    value: Annotated[Mapping[str, Any], mapping]
    prompts: Annotated[Mapping[str, Mapping[str, Any]], prompts]
    sweep: Annotated[Grid, grid]
    trees: Annotated[TreeSettings, tree_settings]
    margin: Annotated[float, Real(least=0)]


def base_model(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base model's run: the command's configuration.

    Raises:
        ValueError: another task than strings of fixed length, prompts that the model cannot read, or settings
            that the value function's run does not have.
    """
    for key in settings.value:
        if key not in (*plan.config, *BASE_KEYS, "source", "initial") or key in plan.claim_keys:
            raise ValueError(f"value.{key}: no such field; valid are those of conf/train_value.yaml")
    task = make(plan.config.task, "task")
    if not isinstance(task, FixedDyck):
        raise ValueError(f"task: {type(task).__name__}; vgb_dyck needs FixedDyck")
    horizon = settings.trees.horizon
    if horizon >= task.length:
        raise ValueError(f"trees.horizon: {horizon!r} is not below task.length = {task.length}")
    config = plan.run_config(BASE_RUN)
    setup = build(config)
    require_seeds("vgb_dyck", setup.seeds)
    tasks = prompt_tasks(settings, config.task)
    for name, prompt_task in tasks.items():
        fitted(setup.model, prompt_task, f"prompts.{name}: the base model")
    settings.sweep.methods(tasks[OUT].response_length)
    return {BASE_RUN: Arm(config)}


def value_function(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The value function's run: the base model's settings, with those of `value` in their place, as
    conf/train_value.yaml would ask for them."""
    config = plan.run_config(VALUE_RUN)
    for key in ("task", "model", *(key for key in ("objective", "source") if key in settings.value)):
        config.pop(key, None)
    start = {"run": str(plan.path / BASE_RUN), "checkpoint_of": "last", "name": config.name}
    return {VALUE_RUN: Arm(value_config(OmegaConf.merge(config, settings.value, start)))}  # type: ignore[arg-type]


def prompt_tasks(settings: Settings, task: Any) -> dict[str, Task]:
    """The task with the fields of each set of prompts."""
    return {
        name: make(OmegaConf.merge(task, fields), f"prompts.{name}")
        for name, fields in settings.prompts.items()
    }


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: those that finished both trainings.
        margin: hypervolume by which VGB must be ahead of a rival.
        kl: the base model's KL to pi_D, nats, by seed.
        value: metrics of the value function at the end of its training, by seed.
        sweep: of the decoders.
        trees: exact laws on enumerated trees.
    """

    seeds: tuple[int, ...]
    margin: float
    kl: Float[np.ndarray, " seeds"]
    value: dict[str, Float[np.ndarray, " seeds"]]
    sweep: Sweep
    trees: Trees


def measure(settings: Settings, study: Study) -> Measurements:
    """Decode with every method and compute the exact laws, for the seeds that finished both runs.

    Raises:
        ValueError: fewer than two seeds finished.
    """
    base, value = study.runs[BASE_RUN], study.runs[VALUE_RUN]
    ends = {run.path: run.checkpoints(["last"])[-1] for run in (base, value)}
    seeds = tuple(
        seed
        for seed in base.setup.seeds
        if all(seed in run.healthy_seeds(*ends[run.path]) for run in (base, value))
    )
    require_seeds("vgb_dyck", seeds)
    tasks = prompt_tasks(settings, base.config["task"])
    grid, evaluation_seed = settings.sweep, base.setup.evaluation[-1].seed
    size = grid.num_prompts
    outside, inside = (
        prompts_of(make_held_out(tasks[name], size, size, evaluation_seed, f"sweep/{name}")) for name in SETS
    )
    first = tasks[OUT]
    networks = Networks(
        fitted(base.setup.model, first, "base model"),
        _parameters(base, *ends[base.path], seeds),
        fitted(value.setup.model, first, "value function"),
        _parameters(value, *ends[value.path], seeds),
    )
    show = bool(base.setup.tracking.progress)
    sweep = run_sweep(grid, first, outside, inside, networks, seeds, evaluation_seed, show)
    trees = measure_trees(settings.trees, base, value, seeds, evaluation_seed, show)
    metrics = ("squared_error", "excess", "calibration_error", "reward")
    return Measurements(
        seeds,
        settings.margin,
        _last(base, seeds, "eval/kl"),
        {key: _last(value, seeds, f"eval/{key}") for key in metrics},
        sweep,
        trees,
    )


def _parameters(run: TrainedRun, phase: str, step: int, seeds: tuple[int, ...]) -> Any:
    rows = seed_rows(run, seeds)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], run.parameters(phase, step))


def _last(run: TrainedRun, seeds: tuple[int, ...], key: str) -> np.ndarray:
    """A metric of the run's last evaluation, by seed."""
    frame = load_run(run.path)
    frame = frame[frame[key].notna()]
    rows = frame[frame["global_step"] == frame["global_step"].max()].set_index("seed")[key]
    return np.array([float(rows[seed]) for seed in seeds])
