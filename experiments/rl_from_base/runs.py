"""The training runs of experiments.rl_from_base: the base, and from each of its starts the three routes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from covlab.claims.arms import Arm, built_before_its_start, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.rl_from_base.measure import BASE, DISTIL, RL, TUNE, TUNED_RL, Settings, run_name


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base run, by the command's configuration. All later runs are checked before it is trained.

    Raises:
        ValueError: a run that cannot be built, or on which the claim cannot be judged.
    """
    for route in (TUNE, RL, DISTIL):
        built_before_its_start(
            route,
            plan.run_config(route),
            [settings_of(settings, route)],
            settings.target,
            functools.partial(check_run, settings),
        )
    return {BASE: Arm(plan.run_config(BASE), label=BASE)}


def starts_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """From every start: fine-tuning, reinforcement learning and distillation."""
    return {
        run_name(route, start): _arm(settings, plan, route, start, BASE, _checkpoint(plan, start))
        for route in (TUNE, RL, DISTIL)
        for start in settings.starts
    }


def tuned_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Reinforcement learning after fine-tuning from every start, by the settings of that from the base."""
    return {
        run_name(TUNED_RL, start): _arm(settings, plan, TUNED_RL, start, run_name(TUNE, start), "last")
        for start in settings.starts
    }


def _checkpoint(plan: Plan, start: int) -> str:
    (phase,) = plan.run_config(BASE).phases or ("train",)
    return f"{phase}:{start}"


def _arm(settings: Settings, plan: Plan, route: str, start: int, of: str, checkpoint: str) -> Arm:
    run = run_name(route, start)
    target = {"task_overrides": settings.target}
    overrides = (settings_of(settings, route), target)
    config = rl_run_config(
        plan.run_config(BASE), plan.path / of, checkpoint, f"{plan.path.name}-{run}", overrides
    )
    return Arm(config, label=run)


def settings_of(settings: Settings, route: str) -> Mapping[str, Any]:
    """Settings of a route's runs; distillation differs from reinforcement learning in `distil` alone."""
    if route == TUNE:
        return settings.tune
    if route == DISTIL:
        own = {"objective", "source"} & set(settings.distil)
        kept = {key: value for key, value in settings.rl.items() if key not in own}
        merged: Any = OmegaConf.to_container(OmegaConf.merge(kept, dict(settings.distil)))
        return dict(merged)
    return settings.rl


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("rl_from_base", setup.seeds)
    require_single_phase("rl_from_base", setup)
    phase = setup.phases[0]
    if name == BASE:
        require_parameters("rl_from_base", setup, evaluations=True)
        missing = [start for start in settings.starts if start not in phase.schedule.steps(phase.steps)]
        if missing:
            raise ValueError(f"starts: {missing[0]}; valid: evaluated steps of the base run")
        return
    if not phase.task.num_enumerated:
        raise ValueError(
            f"task: {type(phase.task).__name__}; rl_from_base needs all valid responses enumerated"
        )
    if 0 not in phase.schedule.steps(phase.steps):
        raise ValueError("evaluation.schedule.start: False; rl_from_base compares with the start")
    if name == TUNE:
        require_parameters("rl_from_base", setup)
    elif name.startswith((RL, DISTIL)) and not phase.source.on_policy:
        raise ValueError(f"source: {type(phase.source).__name__}; valid: OnPolicy")
