"""A run's model at work outside of its run: as a base model, on prompts that its task was not trained on."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from covlab.launch.build import Setup, make, task_overrides
from covlab.launch.healthy import left_out_line, require_living
from covlab.launch.trained import TrainedRun, open_run
from models import Model, Params
from tasks import Task
from tracking import LoadError, read_config

BASE_KEYS = ("run", "checkpoint_of", "task_overrides")
"""What conf/train_value.yaml and conf/train_rl.yaml ask, and `value_config` and `rl_config` answer."""


def rl_config(config: DictConfig) -> DictConfig:
    """The run that conf/train_rl.yaml asks for, spelt out: its task, its model and where the parameters lie
    that it starts from (`base`), its seeds.

    Raises:
        ValueError: one line, for a run, checkpoint, seed or field that is not there.
    """
    if config.run is None:
        raise ValueError(
            "run: none is named; valid: run=<run directory>, whose checkpoint training starts from"
        )
    own, overrides = _own_part(config)
    for key in ("task", "model"):
        if key in own:
            raise ValueError(f"{key}: is the run's; valid: no {key}{_INSTEAD[key]}")
    own.initial = "base"
    return _from_run(config, own, overrides)


_INSTEAD = {"task": ", or task_overrides={<field>: <value>}", "model": ""}


def value_config(config: DictConfig) -> DictConfig:
    """The run that conf/train_value.yaml asks for, spelt out: its task, its base model's architecture and
    where that model's parameters lie (`base`), its seeds.

    Raises:
        ValueError: one line, for a run, checkpoint, seed or field that is not there.
    """
    own, overrides = _own_part(config)
    if config.evaluation.table_prompts:
        raise ValueError(
            f"evaluation.table_prompts: {config.evaluation.table_prompts}; a value function answers nothing "
            "that could be tabulated; valid: 0"
        )
    if config.initial not in ("base", "fresh"):
        raise ValueError(f"initial: {config.initial!r} is not one of base, fresh")
    if config.run is None:
        if "task" not in own:
            raise ValueError(
                "run: none is named; valid: run=<run directory>, or task=<task> with an exact base"
            )
        if config.initial == "base" or "model" not in own:
            raise ValueError("initial: base and model: null need a run; valid: initial=fresh model=<model>")
        own.task = OmegaConf.merge(own.task, overrides)
        first, count = (default if own[key] is None else own[key] for key, default in _OWN_SEEDS)
        own.seed, own.seeds = first, count
        return own
    if "task" in own:
        raise ValueError("task: is the run's; valid: task_overrides={<field>: <value>}, or no run")
    return _from_run(config, own, overrides)


def _own_part(config: DictConfig) -> tuple[DictConfig, Mapping[str, Any]]:
    """What of the configuration belongs to the new run, and the fields of the task that differ."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in BASE_KEYS})
    OmegaConf.set_struct(own, False)
    return own, task_overrides(config)


def _from_run(config: DictConfig, own: DictConfig, overrides: Mapping[str, Any]) -> DictConfig:
    """`own` with the task, model, base model and seeds of the run that `config` names."""
    run = open_run(config.run)
    phase, step = run.checkpoints([str(config.checkpoint_of)])[-1]
    own.task = task_config(run, phase, overrides)
    base = fitted(run.setup.model, make(own.task, "task_overrides", Task), f"run: {run.path}")
    shape = {field: getattr(base, field) for field in SHAPE}
    architecture = run.config["model"]
    if "model" not in own:
        own.model = architecture
    elif own.initial == "base" and OmegaConf.to_container(own.model) != architecture:
        raise ValueError("model: another one than the base model's; valid: no model, or initial=fresh")
    lengths = [each.prompt_length + each.response_length for each in (base, run.setup.model)]
    if own.initial == "base" and lengths[0] != lengths[1]:
        raise ValueError(
            f"task_overrides: {lengths[0]} tokens of prompt and response, where the base model has "
            f"{lengths[1]}; valid: as many{', or initial=fresh' if 'initial' in config else ''}"
        )
    own.source = OmegaConf.merge(own.source, {"base": run.config["model"] | shape})
    own.base = {"run": str(config.run), "phase": phase, "step": step, "sha256": run.digest(phase, step)}
    theirs = _all_seeds(run)
    first = theirs[0] if own.seed is None else own.seed
    rest = [seed for seed in theirs if isinstance(first, int) and seed >= first]
    own.seed, own.seeds = first, len(rest) if own.seeds is None else own.seeds
    if isinstance(own.seed, int) and isinstance(own.seeds, int):
        _leave_out_diverged(own, run)
    return own


def _all_seeds(run: TrainedRun) -> tuple[int, ...]:
    """The seeds of a run, with those that its own base had lost."""
    first, count = int(run.config["seed"]), int(run.config["seeds"])
    return tuple(range(first, first + count))


def _leave_out_diverged(own: DictConfig, run: TrainedRun) -> None:
    """State in `base.diverged` which of the seeds asked for had diverged at the base's checkpoint; nothing is
    stated where none had.

    Raises:
        ValueError: all of them had.
    """
    phase, step = own.base.phase, own.base.step
    alive, asked = run.living_seeds(phase, step), range(own.seed, own.seed + own.seeds)
    diverged = [seed for seed in asked if seed in _all_seeds(run) and seed not in alive]
    if diverged:
        require_living(run.path, phase, step, [seed for seed in asked if seed not in diverged])
        own.base.diverged = diverged


def same_base(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys below `base` in which a run that is continued at `path` may differ from its `config.yaml`.

    A base model is known by the SHA-256 of its parameters, wherever its run lies. A run from before that
    SHA-256 was kept is known by its base's place on disk, and keeps the SHA-256 from now on.

    Raises:
        ValueError: the base's parameters are not those that the run began with; nothing was changed.
    """
    if not (path / "config.yaml").is_file():
        return ()
    before, now = read_config(path).get("base"), config.get("base")
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return ()
    if "sha256" not in before:
        return ("base.sha256", "base.run") if _place(before) == _place(now) else ("base.sha256",)
    if before["sha256"] != now.get("sha256"):
        began, asked = (f"{each['phase']}:{each['step']}" for each in (before, now))
        # The last checkpoint of a base that was trained longer is another one.
        advice = "put the old base back" if began == asked else f"valid: checkpoint_of={began}"
        raise LoadError(
            f"base: {path} began with other parameters than those of {now['run']} at {asked} "
            f"(SHA-256 {before['sha256'][:12]}, now {str(now.get('sha256'))[:12]}): {advice}, or choose "
            "another run name"
        )
    return ("base.run",)


def _place(base: Mapping[str, Any]) -> str:
    return os.path.realpath(str(base["run"]))


_OWN_SEEDS = (("seed", 0), ("seeds", 1))
SHAPE = ("vocab_size", "prompt_length", "response_length")


def task_config(run: TrainedRun, phase: str, overrides: Mapping[str, Any]) -> Any:
    """The configuration of a phase's task, with some of its fields replaced."""
    own = ((run.config["phases"] or {}).get(phase) or {}).get("task") or {}
    return OmegaConf.merge(run.config["task"], own, dict(overrides))


def fitted(model: Model, task: Task, where: str) -> Model:
    """The model with the task's lengths of prompt and response.

    A sequence is read alike wherever it is divided into prompt and response, so that a model's parameters
    serve every division of as many tokens as they were made for.

    Raises:
        ValueError: another vocabulary, more tokens than the model has positions for, or features that it was
            not made for.
    """
    if task.vocab_size != model.vocab_size:
        raise LoadError(f"{where} has vocab_size {model.vocab_size}; the task has {task.vocab_size}")
    asked, room = task.prompt_length + task.response_length, model.prompt_length + model.response_length
    if asked > room:
        raise LoadError(f"{where} has room for {room} tokens of prompt and response; the task has {asked}")
    changed: Model = dataclasses.replace(
        model,  # type: ignore[type-var]
        prompt_length=task.prompt_length,
        response_length=task.response_length,
    )
    return changed.for_task(task)


def base_parameters(config: DictConfig | Mapping[str, Any], setup: Setup) -> Params | None:
    """Parameters of the base model for the run's seeds, with a leading axis of them: seed s has those of seed
    s. None for a run without a base model.

    Seeds that had diverged at its checkpoint are left out of the run, and named.

    Raises:
        ValueError: a run or checkpoint that is gone, or a seed that it does not have.
    """
    asked = config.get("base")
    if asked is None:
        return None
    run = open_run(asked["run"])
    if asked.get("diverged"):
        print(left_out_line(run.path, asked["phase"], asked["step"], asked["diverged"]))
    rows = seed_rows(run, setup.seeds)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], run.parameters(asked["phase"], asked["step"]))


def seed_rows(run: TrainedRun, seeds: Sequence[int]) -> list[int]:
    """Where a run's parameters of these seeds lie.

    Raises:
        ValueError: a seed that the run does not have.
    """
    missing = [seed for seed in seeds if seed not in run.setup.seeds]
    if missing:
        raise LoadError(
            f"seed: {missing[0]} is not in {run.path}; valid are {', '.join(map(str, run.setup.seeds))}"
        )
    return [run.setup.seeds.index(seed) for seed in seeds]


def of_seed(params: Params, row: int) -> Params:
    """The parameters of one seed."""
    return jax.tree.map(operator.itemgetter(row), params)
