"""VGB on Dyck strings (arXiv 2510.03149, section 5): does going back pay at equal numbers of queries?

    python -m experiments.vgb_dyck scale=cpu|paper

A small transformer is trained on balanced strings of fixed length, and a value function on its rollouts.
Prompts of open brackets up to the depth cap, which training hardly ever shows, are then answered by VGB and
by decoders that never go back, at several budgets of queries: accuracy against diversity. On trees that can
be enumerated the exact laws of VGB and of action-level rejection sampling are compared with pi*, for values
of different quality. Writes `verdict.json` and `report.html` above the two runs' directories.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import (
    Began,
    Claim,
    exit_status,
    leave,
    make_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.launch.answering import prompts_of
from covlab.launch.base_model import BASE_KEYS, fitted, seed_rows, value_config
from covlab.launch.build import build, make, plain
from covlab.launch.cli import StopRequest, command
from covlab.launch.run_names import run_path
from covlab.launch.runs import train_run
from covlab.launch.runtime import configure
from covlab.launch.trained import TrainedRun, open_run
from experiments.vgb_dyck.checks import checks, notes
from experiments.vgb_dyck.figures import draw_all, tables
from experiments.vgb_dyck.measure import Grid, Networks, Sweep, run_sweep
from experiments.vgb_dyck.trees import Trees, TreeSettings, measure_trees
from metrics.evaluators import make_held_out
from tasks import FixedDyck, Task
from tasks.checks import real
from tracking import load_run
from tracking.wandb_options import require_no_run_id

OWN_KEYS = ("scale", "value", "prompts", "sweep", "trees", "margin")
"""Settings of the claim that no base model depends on: its `config.yaml` is one of experiments.train."""
SETS = ("out_of_distribution", "in_distribution")
CLAIM = Claim(
    name="vgb_dyck",
    source="Taming Imperfect Process Verifiers (VGB), arXiv 2510.03149, section 5, Dyck grammar",
    title="VGB on Dyck strings: accuracy, diversity and the price of going back",
    introduction=(
        "A small transformer is trained on balanced strings of brackets of two types, and a value function "
        "on its rollouts: V(x, y) is the probability that the model goes on from the prefix y to a "
        "balanced string. The model rarely fails on strings like those of training, and often after a "
        "prompt of open brackets up to the depth cap. Every decoder returns the same number of responses "
        "to each prompt.",
        "Accuracy is the share of balanced responses, diversity the share of different balanced ones. A "
        "decoder's queries are its evaluations of the value function or of the verifier; a response that "
        "needs more than the budget counts as wrong. VGB, which may go back, is compared with the others' "
        "front at each budget.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: those that finished both trainings.
        margin: how far behind the front still counts as on it.
        kl: the base model's KL to pi_D, nats, by seed.
        value: metrics of the value function at the end of its training, by seed.
        sweep: of the decoders.
        trees: exact laws on enumerated trees.
    """

    seeds: tuple[int, ...]
    margin: float
    kl: np.ndarray
    value: dict[str, np.ndarray]
    sweep: Sweep
    trees: Trees


def vgb_dyck(config: DictConfig) -> int:
    """Train (or continue, or reuse) both networks, decode, and judge; exit status 0 whether or not the claim
    holds."""
    began = Began.now()
    grid, settings = _check(config)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    own = base_config(config, path)
    setup = build(own)
    require_seeds("vgb_dyck", setup.seeds)
    tasks = {name: _task(own, config.prompts[name], f"prompts.{name}") for name in SETS}
    for name, task in tasks.items():
        fitted(setup.model, task, f"prompts.{name}: the base model")
    require_no_run_id(setup.tracking.wandb, CLAIM.name)
    stop = StopRequest().install()
    _say(f"base model: {path / 'base'}")
    status = exit_status(train_run(own, path / "base", stop, setup))
    if status is not None:
        return status
    asked = values_of(config, path)
    value_setup = build(asked)
    _say(f"value function: {path / 'value'}")
    status = exit_status(train_run(asked, path / "value", stop, value_setup))
    if status is not None:
        return status
    found = measure(config, path, grid, settings, tasks)
    timings = timing_facts(path / "base", "base model, ") | timing_facts(path / "value", "value function, ")
    verdict = make_verdict(
        CLAIM, config, began, worked_seconds(timings), checks(found), found.seeds, notes(found)
    )
    leave(path, CLAIM, verdict, config, lambda: draw_all(path, found), tables(found), timings)
    return 0


def base_config(config: DictConfig, path: Path) -> DictConfig:
    """The base model's run as a configuration of experiments.train."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    merged = OmegaConf.merge(own, {"name": f"{path.name}-base"})
    assert isinstance(merged, DictConfig)
    return merged


def values_of(config: DictConfig, path: Path) -> DictConfig:
    """The value function's run: the base model's settings, with those of `value` in their place, as
    conf/train_value.yaml would ask for them."""
    own = base_config(config, path)
    for key in ("task", "model", *(key for key in ("objective", "source") if key in config.value)):
        own.pop(key, None)
    shared = {"run": str(path / "base"), "checkpoint_of": "last", "name": f"{path.name}-value"}
    merged = OmegaConf.merge(own, config.value, shared)
    assert isinstance(merged, DictConfig)
    return value_config(merged)


def measure(
    config: DictConfig, path: Path, grid: Grid, settings: TreeSettings, tasks: dict[str, Task]
) -> Measurements:
    """Decode with every method and compute the exact laws, for the seeds that finished both runs.

    Raises:
        ValueError: fewer than two seeds finished.
    """
    base, value = open_run(path / "base"), open_run(path / "value")
    ends = {run.path: run.checkpoints(["last"])[-1] for run in (base, value)}
    seeds = tuple(
        seed
        for seed in base.setup.seeds
        if all(seed in run.healthy_seeds(*ends[run.path]) for run in (base, value))
    )
    require_seeds("vgb_dyck", seeds)
    problems = {}
    for name, task in tasks.items():
        held_out = make_held_out(
            task, grid.num_prompts, grid.num_prompts, config.evaluation.seed, f"sweep/{name}"
        )
        problems[name] = prompts_of(held_out)
    first = tasks[SETS[0]]
    networks = Networks(
        fitted(base.setup.model, first, "base model"),
        _parameters(base, *ends[base.path], seeds),
        fitted(value.setup.model, first, "value function"),
        _parameters(value, *ends[value.path], seeds),
    )
    show = bool(config.tracking.progress)
    sweep = run_sweep(grid, first, problems, networks, seeds, config.evaluation.seed, show)
    trees = measure_trees(settings, base, value, seeds, config.evaluation.seed, show)
    metrics = ("squared_error", "excess", "calibration_error", "reward")
    return Measurements(
        seeds,
        float(config.margin),
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


def _say(text: str) -> None:
    print(f"vgb_dyck: {text}", file=sys.stderr, flush=True)


def _task(config: DictConfig, overrides: Any, where: str) -> Task:
    task: Task = make(OmegaConf.merge(config.task, overrides or {}), where)
    return task


def _check(config: DictConfig) -> tuple[Grid, TreeSettings]:
    """Refuse bad settings of the claim itself."""
    for field in ("value", "prompts", "sweep", "trees"):
        if not isinstance(config[field], DictConfig):
            raise ValueError(f"{field}: {config[field]!r} is not a mapping")
    if set(config.prompts) != set(SETS):
        raise ValueError(f"prompts: {sorted(map(str, config.prompts))}; valid: {', '.join(SETS)}")
    for key in config.value:
        if key not in (*config, *BASE_KEYS, "source", "initial") or key in OWN_KEYS:
            raise ValueError(f"value.{key}: no such field; valid are those of conf/train_value.yaml")
    real("margin", config.margin, least=0)
    task = make(config.task, "task")
    if not isinstance(task, FixedDyck):
        raise ValueError(f"task: {type(task).__name__}; vgb_dyck needs FixedDyck")
    grid: Grid = make({"_target_": "experiments.vgb_dyck.measure.Grid", **plain(config.sweep)}, "sweep")
    trees: TreeSettings = make(
        {"_target_": "experiments.vgb_dyck.trees.TreeSettings", **plain(config.trees)}, "trees"
    )
    if trees.horizon >= task.length:
        raise ValueError(f"trees.horizon: {trees.horizon!r} is not below task.length = {task.length}")
    return grid, trees


main = command("vgb_dyck", vgb_dyck)
