"""The three training runs of experiments.path_star."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.launch.build import Setup
from experiments.path_star.measure import FORWARD, REVERSED, TEACHERLESS, Settings
from tasks import PathStar

RUNS: Mapping[str, Mapping[str, Any]] = {
    FORWARD: {"task": {"reversed": False}, "model": {"_target_": "models.GPT"}},
    REVERSED: {"task": {"reversed": True}, "model": {"_target_": "models.GPT"}},
    TEACHERLESS: {"task": {"reversed": False}, "model": {"_target_": "models.TeacherlessGPT"}},
}


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs: the command's configuration, `per_run`'s changes, then what defines the run."""
    target = plan.config.task.get("_target_")
    if target != "tasks.PathStar":
        raise ValueError(f"task: {target}; path_star needs tasks.PathStar (task=path_star)")
    return {
        name: Arm(plan.run_config(name, settings.per_run.get(name), defining), label=name)
        for name, defining in RUNS.items()
    }


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("path_star", setup.seeds)
    if len(setup.phases) != 1:
        raise ValueError(f"phases: {[each.name for each in setup.phases]}; path_star needs a single phase")
    task = setup.phases[-1].task
    if isinstance(task, PathStar) and task.path_length < 3:
        raise ValueError(
            f"task.path_length: {task.path_length}; path_star needs at least 3, or the goal itself "
            f"follows the start"
        )
    if setup.checkpoint.parameters == "none":
        raise ValueError("checkpoint.parameters: none; path_star needs ends or evaluations")
