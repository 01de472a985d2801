"""The runs of experiments.rl_pass_at_k: a base model, and reinforcement learning from it."""

from __future__ import annotations

from covlab.claims.arms import Arm, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters
from covlab.launch.build import Setup
from experiments.rl_pass_at_k.measure import BASE, Settings
from tasks import LayeredGraph


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base model's run."""
    return {BASE: Arm(plan.run_config(BASE))}


def arms_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs of reinforcement learning from the base model's last checkpoint."""
    base, path = plan.run_config(BASE), plan.path
    return {
        name: Arm(rl_run_config(base, path / BASE, "last", f"{path.name}-{name}", (settings.rl, changes)))
        for name, changes in settings.arms.items()
    }


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a base run that the claim cannot be judged on."""
    if name != BASE:
        return
    require_seeds("rl_pass_at_k", setup.seeds)
    task = setup.phases[-1].task
    if not isinstance(task, LayeredGraph) or task.groups != ("G1", "G2"):
        raise ValueError("task.mixture: rl_pass_at_k needs LayeredGraph with the classes G1 and G2")
    if task.group_probs[0] <= task.group_probs[1]:
        raise ValueError(f"task.mixture.G1: {task.group_probs[0]:g}; rl_pass_at_k needs more than G2's")
    if not task.num_enumerated:
        raise ValueError("task.max_enumerated: too few; rl_pass_at_k needs all valid paths enumerated")
    require_parameters("rl_pass_at_k", setup)
