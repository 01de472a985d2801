"""The runs of experiments.rl_from_checkpoint: Figure 1's, and reinforcement learning from its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from covlab.claims.arms import Arm, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters
from covlab.launch.build import Setup, make
from covlab.launch.trained import TrainedRun, open_run
from experiments.rl_from_checkpoint.measure import BASE, PHASE, Settings, run_name


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm | TrainedRun]:
    """Figure 1's run: `run`, or a new one."""
    if settings.run is not None:
        base = open_run(Path(settings.run))
        require_seeds("rl_from_checkpoint", base.setup.seeds)
        return {BASE: base}
    config = plan.run_config(BASE)
    # `check_run` refuses other phases.
    if PHASE in (config.phases or {}):
        task = config.phases[PHASE].get("task") or {}
        for kind, changes in settings.prompts.items():
            make(OmegaConf.merge(config.task, task, changes or {}), f"prompts.{kind}")
    return {BASE: Arm(config)}


def starts_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Reinforcement learning from every start, on every kind of prompts."""
    config, path = plan.run_config(BASE), plan.path
    base = path / BASE
    if settings.run is not None:
        base = Path(settings.run)
        config.seed = config.seeds = None
    arms = {}
    for kind, changes in settings.prompts.items():
        for step in settings.starts:
            name = run_name(kind, step)
            overrides = (settings.rl, {"task_overrides": changes})
            run_config = rl_run_config(config, base, f"{PHASE}:{step}", f"{path.name}-{name}", overrides)
            arms[name] = Arm(run_config)
    return arms


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a base run that has no such starts."""
    if name != BASE:
        return
    require_seeds("rl_from_checkpoint", setup.seeds)
    require_parameters("rl_from_checkpoint", setup, evaluations=True)
    phase = setup.phases[-1]
    missing = set(settings.starts) - set(phase.schedule.steps(phase.steps))
    if phase.name != PHASE or missing:
        shown = sorted(missing)[:1] or settings.starts
        raise ValueError(f"starts: {shown}; valid: evaluated steps of phase {PHASE}, the last one")


def timings(seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds of the base run by phase, and of all other runs together: one row per run would fill a
    page."""
    base = {key: value for key, value in seconds.items() if key.startswith(f"{BASE}, ")}
    rest = sum(value for key, value in seconds.items() if key not in base and "wall" in key)
    return base | {"reinforcement learning: wall (s)": round(rest, 1)}
