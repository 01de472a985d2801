"""The training runs of experiments.state_tracking: six models on each problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.state_tracking.measure import CELLS, GROUPS, Settings, name_of
from tasks.group_word import RUNNING, GroupWord

_TASK = "tasks.group_word.GroupWord"


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs: the command's configuration, the problem's overrides, then the group and the model."""
    target = plan.config.task.get("_target_")
    if target != _TASK:
        raise ValueError(f"task: {target}; state_tracking needs {_TASK} (task=group_word)")
    if plan.config.get("model") is not None:
        raise ValueError("model: is set; state_tracking makes its own from delta and compared")
    arms = {}
    for problem, changes in settings.problems.items():
        phase = {key: value for key, value in changes.items() if key != "delta"}
        group = {"task": {"group": GROUPS[problem]}}
        models: dict[str, dict[str, Any]] = {}
        for cell, (negative, steps) in CELLS.items():
            said = {"negative_eigenvalues": negative, "householder_steps": steps}
            models[cell] = _reader("delta", {**settings.delta, **(changes.get("delta") or {}), **said})
        models |= {kind: _reader(kind, options) for kind, options in settings.compared.items()}
        for model, node in models.items():
            name = name_of(problem, model)
            arms[name] = Arm(plan.run_config(name, phase, group, {"model": node}), label=name)
    return arms


def _reader(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    module = {"_target_": "experiments.state_tracking.readers.Reader", "kind": kind, "options": dict(options)}
    return {"_target_": "models.Flax", "module": module}


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("state_tracking", setup.seeds)
    require_single_phase("state_tracking", setup)
    require_parameters("state_tracking", setup)
    task = setup.phases[-1].task
    assert isinstance(task, GroupWord)
    if task.answer != RUNNING:
        raise ValueError(f"task.answer: {task.answer}; state_tracking needs {RUNNING}: one token per element")
    if task.noise:
        raise ValueError(f"task.noise: {task.noise}; state_tracking needs 0: one right answer")
    if not task.longer:
        raise ValueError("task.longer: []; state_tracking needs lengths beyond training")
