"""The five training runs of experiments.path_star."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.path_star.measure import FORWARD, MULTI_TOKEN, RECURRENT, REVERSED, TEACHERLESS, Settings
from tasks import PathStar

RUNS: Mapping[str, Mapping[str, Any]] = {
    FORWARD: {"task": {"reversed": False}, "model": {"_target_": "models.GPT"}},
    REVERSED: {"task": {"reversed": True}, "model": {"_target_": "models.GPT"}},
    TEACHERLESS: {"task": {"reversed": False}, "model": {"_target_": "models.TeacherlessGPT"}},
    MULTI_TOKEN: {
        "task": {"reversed": False},
        "model": {"_target_": "models.GPT"},
        "objective": {"_target_": "training.MultiToken"},
    },
    RECURRENT: {"task": {"reversed": False}},
}
LSTM: Mapping[str, Any] = {"_target_": "models.recurrent.LSTM", "num_layers": 1, "width": 128}
"""The module of the recurrent run, unless `per_run` says otherwise."""


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs: the command's configuration, `per_run`'s changes, then what defines the run.

    Multi-token training predicts as many tokens as a response has, unless `per_run` says otherwise. The
    recurrent run has an LSTM in place of the command's transformer.
    """
    target = plan.config.task.get("_target_")
    if target != "tasks.PathStar":
        raise ValueError(f"task: {target}; path_star needs tasks.PathStar (task=path_star)")
    defaults = {MULTI_TOKEN: {"objective": {"k": plan.config.task.path_length}}}
    arms = {}
    for name, defining in RUNS.items():
        config = plan.run_config(name, defaults.get(name), settings.per_run.get(name), defining)
        if name == RECURRENT:
            # Fields of a transformer are none of an LSTM: the node is replaced and not merged.
            config.model = OmegaConf.merge(
                _recurrent(), (settings.per_run.get(name) or {}).get("model") or {}
            )
        arms[name] = Arm(config, label=name)
    return arms


def _recurrent() -> DictConfig:
    return OmegaConf.create({"_target_": "models.Flax", "module": dict(LSTM)})


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("path_star", setup.seeds)
    require_single_phase("path_star", setup)
    task = setup.phases[-1].task
    if isinstance(task, PathStar) and task.path_length < 3:
        raise ValueError(
            f"task.path_length: {task.path_length}; path_star needs at least 3, or the goal itself "
            f"follows the start"
        )
    require_parameters("path_star", setup)
