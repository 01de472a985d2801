"""The runs of experiments.rl_from_checkpoint: a base with its fine-tuning, and reinforcement learning from
the checkpoints of fine-tuning."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from covlab.claims.arms import Arm, built_before_its_start, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters
from covlab.launch.build import Setup
from covlab.launch.trained import TrainedRun, open_run
from experiments.rl_from_checkpoint.measure import BASE, PHASE, Settings, run_name

RL = "rl"


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm | TrainedRun]:
    """The base run: `run`, or a new one. Before it is trained, reinforcement learning is checked.

    Raises:
        ValueError: a run that cannot be built, or on which the claim cannot be judged.
    """
    if settings.run is not None:
        base = open_run(Path(settings.run))
        require_seeds("rl_from_checkpoint", base.setup.seeds)
        return {BASE: base}
    config = plan.run_config(BASE)
    # `check_run` refuses other phases.
    if PHASE in (config.phases or {}):
        task = OmegaConf.merge(config.phases[PHASE].get("task") or {}, dict(settings.target))
        assert isinstance(task, DictConfig)
        check = functools.partial(check_run, settings)
        built_before_its_start(RL, plan.run_config(RL), [settings.rl], task, check)
    return {BASE: Arm(config, label=BASE)}


def starts_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Reinforcement learning from every start, with the same prompts and random numbers."""
    config, path = plan.run_config(BASE), plan.path
    base = path / BASE
    if settings.run is not None:
        base = Path(settings.run)
        config.seed = config.seeds = None
    overrides = (settings.rl, {"task_overrides": settings.target})
    arms = {}
    for step in settings.starts:
        name = run_name(step)
        run_config = rl_run_config(config, base, f"{PHASE}:{step}", f"{path.name}-{name}", overrides)
        arms[name] = Arm(run_config, label=name)
    return arms


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("rl_from_checkpoint", setup.seeds)
    phase = setup.phases[-1]
    evaluated = phase.schedule.steps(phase.steps)
    if name == BASE:
        require_parameters("rl_from_checkpoint", setup, evaluations=True)
        missing = sorted(set(settings.starts) - set(evaluated))
        if phase.name != PHASE or missing:
            shown = missing[:1] or settings.starts
            raise ValueError(f"starts: {shown}; valid: evaluated steps of phase {PHASE}, the last one")
        return
    if not phase.task.num_enumerated:
        raise ValueError(
            f"task: {type(phase.task).__name__}; rl_from_checkpoint needs all valid responses enumerated"
        )
    if not phase.source.on_policy:
        raise ValueError(f"source: {type(phase.source).__name__}; valid: OnPolicy")
    if 0 not in evaluated:
        raise ValueError("evaluation.schedule.start: False; rl_from_checkpoint measures the start")
    late = [budget for budget in settings.budgets if budget not in evaluated]
    if late:
        raise ValueError(f"budgets: {late[0]}; valid: evaluated steps of reinforcement learning, {evaluated}")


def timings(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of the base run by phase, and of all other runs together: one row per run would fill a
    page."""
    base = {key: value for key, value in seconds.items() if key.startswith(f"{BASE}, ")}
    rest = sum(value for key, value in seconds.items() if key not in base and "wall" in key)
    return base | {"reinforcement learning: wall (s)": round(rest, 1)}
