"""The training runs of experiments.figure2, one per horizon."""

from __future__ import annotations

import numpy as np

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.figure2.branching import hard_class
from experiments.figure2.measure import EASY, Settings, run_name, window


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs: the command's configuration at the depth of each horizon, then `per_horizon`'s changes."""
    arms = {}
    for depth in settings.horizons:
        name = run_name(depth)
        config = plan.run_config(name, {"task": {"depth": depth}}, settings.per_horizon.get(name))
        arms[name] = Arm(config, label=f"horizon {depth}")
    return arms


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("figure2", setup.seeds)
    phase = setup.phases[-1]
    require_single_phase("figure2", setup)
    groups = phase.task.groups
    if set(groups) != {*EASY, hard_class(groups)}:
        raise ValueError(
            f"task.mixture: {', '.join(groups)}; figure2 needs {', '.join(EASY)} and a hard class"
        )
    require_parameters("figure2", setup)
    steps = np.asarray(phase.schedule.steps(phase.steps))
    if 0 not in steps or not (window(steps).any() and window(steps, 1).any()):
        raise ValueError(
            f"evaluation.schedule: {len(steps)} evaluations in {phase.steps} steps; figure2 needs one at "
            f"step 0, one in the last eighth and one in the eighth before it"
        )
