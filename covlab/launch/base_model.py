"""A run's model used outside its run: as a base model, on prompts that it was not trained on."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from covlab.launch.build import Setup, make, task_overrides
from covlab.launch.healthy import left_out_line, require_healthy
from covlab.launch.runtime import configure_run
from covlab.launch.trained import TrainedRun, open_run, run_config
from models import Flax, Model, Params
from tasks import Task, check_seeds
from tracking import LoadError, read_config

BASE_KEYS = ("run", "checkpoint_of", "task_overrides")
"""Keys of conf/train_value.yaml and conf/train_rl.yaml that `value_config` and `rl_config` resolve."""


def rl_config(config: DictConfig) -> DictConfig:
    """The run that conf/train_rl.yaml asks for, spelt out: task, model, path of the initial parameters
    (`base`) and seeds.

    Raises:
        ValueError: one line, for a missing run, checkpoint, seed or field.
    """
    if config.run is None:
        raise ValueError(
            "run: none is named; valid: run=<run directory>, whose checkpoint training starts from"
        )
    settings, overrides = _new_settings(config)
    for key in ("task", "model"):
        if key in settings:
            raise ValueError(f"{key}: is the run's; valid: no {key}{_INSTEAD[key]}")
    settings.initial = "base"
    return _from_run(config, settings, overrides)


_INSTEAD = {"task": ", or task_overrides={<field>: <value>}", "model": ""}


def value_config(config: DictConfig) -> DictConfig:
    """The run that conf/train_value.yaml asks for, spelt out: task, architecture and path of the base model
    (`base`) and seeds.

    Raises:
        ValueError: one line, for a missing run, checkpoint, seed or field.
    """
    settings, overrides = _new_settings(config)
    if config.evaluation.table_prompts:
        raise ValueError(
            f"evaluation.table_prompts: {config.evaluation.table_prompts}; a value function answers nothing "
            "that could be tabulated; valid: 0"
        )
    if config.initial not in ("base", "fresh"):
        raise ValueError(f"initial: {config.initial!r} is not one of base, fresh")
    if config.run is None:
        if "task" not in settings:
            raise ValueError(
                "run: none is named; valid: run=<run directory>, or task=<task> with an exact base"
            )
        if config.initial == "base" or "model" not in settings:
            raise ValueError("initial: base and model: null need a run; valid: initial=fresh model=<model>")
        settings.task = OmegaConf.merge(settings.task, overrides)
        first, count = (default if settings[key] is None else settings[key] for key, default in _OWN_SEEDS)
        settings.seed, settings.seeds = first, count
        return settings
    if "task" in settings:
        raise ValueError("task: is the run's; valid: task_overrides={<field>: <value>}, or no run")
    return _from_run(config, settings, overrides)


def _new_settings(config: DictConfig) -> tuple[DictConfig, Mapping[str, Any]]:
    """The part of the configuration that belongs to the new run, and the task fields that differ."""
    settings = OmegaConf.create({key: value for key, value in config.items() if key not in BASE_KEYS})
    OmegaConf.set_struct(settings, False)
    return settings, task_overrides(config)


def _from_run(config: DictConfig, settings: DictConfig, overrides: Mapping[str, Any]) -> DictConfig:
    """`settings` with the task, model, base model and seeds of the run that `config` names."""
    run_seeds = _all_seeds(run_config(config.run))
    first = run_seeds[0] if settings.seed is None else settings.seed
    rest = [seed for seed in run_seeds if isinstance(first, int) and seed >= first]
    settings.seed, settings.seeds = first, len(rest) if settings.seeds is None else settings.seeds
    # Before the base model is built: asking a Flax module starts JAX, and the devices with it.
    configure_run(settings)
    run = open_run(config.run)
    phase, step, steps = _starts(config.checkpoint_of, settings, run)
    settings.task = task_config(run, phase, overrides)
    base = fitted(run.setup.model, make(settings.task, "task_overrides", Task), f"run: {run.path}")
    shape = {field: getattr(base, field) for field in SHAPE}
    architecture = dict(run.config["model"])
    if run.setup.model.ahead:
        # The parameters hold the heads that an objective of the base's run asked for.
        kind = type(run.setup.model)
        named = {"_target_": f"{kind.__module__}.{kind.__qualname__}", "ahead": run.setup.model.ahead}
        architecture |= named
    if "model" not in settings:
        settings.model = architecture
    elif settings.initial == "base" and OmegaConf.to_container(settings.model) != architecture:
        raise ValueError("model: another one than the base model's; valid: no model, or initial=fresh")
    lengths = [model.prompt_length + model.response_length for model in (base, run.setup.model)]
    # A Flax module is constructed for a number of positions, and its parameters serve no other.
    if (settings.initial == "base" or isinstance(base, Flax)) and lengths[0] != lengths[1]:
        instead = ", or initial=fresh" if "initial" in config and not isinstance(base, Flax) else ""
        raise ValueError(
            f"task_overrides: {lengths[0]} tokens of prompt and response, where the base model has "
            f"{lengths[1]}; valid: as many{instead}"
        )
    settings.source = OmegaConf.merge(settings.source, {"base": architecture | shape})
    settings.base = {"run": str(config.run), "phase": phase, "step": step} | (
        {"steps": {str(seed): at for seed, at in steps.items()}, "sha256": _joint_digest(run, phase, steps)}
        if steps
        else {"sha256": run.digest(phase, step)}
    )
    if isinstance(settings.seed, int) and isinstance(settings.seeds, int):
        _leave_out_diverged(settings, run)
    return settings


def _all_seeds(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The seeds of the run with this configuration, including seeds that had diverged in its base."""
    first, count = int(config["seed"]), int(config["seeds"])
    return tuple(range(first, first + count))


def _starts(
    asked: str | Mapping[int, str], settings: DictConfig, run: TrainedRun
) -> tuple[str, int, dict[int, int]]:
    """Phase and step of the checkpoint to start from; with one for each seed, their phase, the latest of
    their steps, and seed -> step.

    Raises:
        ValueError: no such checkpoint, a seed without one, or checkpoints of several phases.
    """
    if not isinstance(asked, Mapping):
        return *run.checkpoints([str(asked)])[-1], {}
    check_seeds(settings.seed, settings.seeds)
    given = {int(seed): run.checkpoints([str(name)])[-1] for seed, name in asked.items()}
    known = run.setup.seeds
    own = [seed for seed in range(settings.seed, settings.seed + settings.seeds) if seed in known]
    missing = [seed for seed in own if seed not in given]
    phases = {given[seed][0] for seed in own if seed in given}
    if missing or len(phases) != 1:
        wrong = f"no checkpoint for seed {missing[0]}" if missing else f"phases {sorted(phases)}"
        raise ValueError(f"checkpoint_of: {wrong}; valid: for every seed a checkpoint, all of one phase")
    steps = {seed: given[seed][1] for seed in own}
    return phases.pop(), max(steps.values()), steps


def _steps_of(base: Mapping[str, Any], seeds: Sequence[int]) -> list[int]:
    """Step of the base's checkpoint that each seed starts from, its own or that of all."""
    own = base.get("steps") or {}
    return [int(own.get(str(seed), base["step"])) for seed in seeds]


def _joint_digest(run: TrainedRun, phase: str, steps: Mapping[int, int]) -> str:
    """SHA-256 of the seeds with the digests of their checkpoints."""
    digests = {step: run.digest(phase, step) for step in set(steps.values())}
    text = "\n".join(f"{seed} {digests[step]}" for seed, step in steps.items())
    return hashlib.sha256(text.encode()).hexdigest()


def _leave_out_diverged(settings: DictConfig, run: TrainedRun) -> None:
    """List in `base.diverged` the requested seeds that had diverged at the base's checkpoint, if any had.

    Raises:
        ValueError: all of them had diverged.
    """
    phase, step = settings.base.phase, settings.base.step
    asked = range(settings.seed, settings.seed + settings.seeds)
    steps = _steps_of(settings.base, asked)
    healthy_at = {each: run.healthy_seeds(phase, each) for each in set(steps)}
    healthy = {seed for seed, each in zip(asked, steps, strict=True) if seed in healthy_at[each]}
    diverged = [seed for seed in asked if seed in _all_seeds(run.config) and seed not in healthy]
    if diverged:
        require_healthy(run.path, phase, step, [seed for seed in asked if seed not in diverged])
        settings.base.diverged = diverged


def same_base(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys below `base` in which a run that is continued at `path` may differ from its `config.yaml`.

    A base model is identified by the SHA-256 of its parameters, wherever its run lies. In a run without a
    SHA-256 it is identified by its path, and the SHA-256 is stored from then on.

    Raises:
        ValueError: the run began with other base parameters; nothing was changed.
    """
    if not (path / "config.yaml").is_file():
        return ()
    before, now = read_config(path).get("base"), config.get("base")
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return ()
    if "sha256" not in before:
        return ("base.sha256", "base.run") if _place(before) == _place(now) else ("base.sha256",)
    if before["sha256"] != now.get("sha256"):
        began, asked = (f"{base['phase']}:{base['step']}" for base in (before, now))
        # A base that was trained longer has another last checkpoint.
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
    """The configuration of a phase's task, with the fields `overrides` replaced."""
    changes = ((run.config["phases"] or {}).get(phase) or {}).get("task") or {}
    return OmegaConf.merge(run.config["task"], changes, dict(overrides))


def fitted(model: Model, task: Task, where: str) -> Model:
    """The model with the task's lengths of prompt and response, as it is evaluated and sampled.

    A model reads a sequence alike wherever it is divided into prompt and response, so its parameters serve
    every division of as many tokens as the model has positions.

    Raises:
        ValueError: another vocabulary, more tokens than the model has positions, or features that the model
            does not take.
    """
    if task.vocab_size != model.vocab_size:
        raise LoadError(f"{where} has vocab_size {model.vocab_size}; the task has {task.vocab_size}")
    asked, room = task.prompt_length + task.response_length, model.prompt_length + model.response_length
    if asked > room:
        raise LoadError(f"{where} has room for {room} tokens of prompt and response; the task has {asked}")
    return model.divided(task.prompt_length, task.response_length).for_task(task).tested


def base_parameters(config: DictConfig | Mapping[str, Any], setup: Setup) -> Params | None:
    """Parameters of the base model with a leading axis of seeds: seed s starts from the base's seed s, at
    the checkpoint of all seeds or at that of its own. None for a run without a base model.

    Seeds that had diverged at the base's checkpoint are left out of the run, and named.

    Raises:
        ValueError: a missing run, checkpoint or seed, or an objective that asks for heads that the base
            lacks.
    """
    asked = config.get("base")
    if asked is None:
        return None
    run = open_run(asked["run"])
    if setup.start_from_base and setup.model.ahead != run.setup.model.ahead:
        raise LoadError(
            f"objective: predicts {setup.model.ahead + 1} tokens at once; training starts from {run.path}, "
            f"whose model predicts {run.setup.model.ahead + 1}; valid: at most as many"
        )
    if asked.get("diverged"):
        print(left_out_line(run.path, asked["phase"], asked["step"], asked["diverged"]))
    steps = _steps_of(asked, setup.seeds)
    saved = {step: run.parameters(asked["phase"], step) for step in sorted(set(steps))}
    own = [of_seed(saved[step], row) for step, row in zip(steps, seed_rows(run, setup.seeds), strict=True)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *own)


def seed_rows(run: TrainedRun, seeds: Sequence[int]) -> list[int]:
    """Rows of `seeds` in a run's parameters.

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
