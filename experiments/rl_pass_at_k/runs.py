"""The runs of experiments.rl_pass_at_k: two base models, and reinforcement learning from them."""

from __future__ import annotations

from covlab.claims.arms import Arm, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters
from covlab.launch.build import Setup
from experiments.rl_pass_at_k.measure import BASE, OPEN, OPEN_BASE, Settings, open_starts
from tasks import LayeredGraph


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base models' runs."""
    return {
        BASE: Arm(plan.run_config(BASE)),
        OPEN_BASE: Arm(plan.run_config(OPEN_BASE, settings.open.base)),
    }


def arms_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs of reinforcement learning: the blind arms from the base model's last checkpoint, the open one
    with the settings of the first blind arm, each seed from the checkpoint that `open_starts` finds."""
    base, path = plan.run_config(BASE), plan.path
    made = {
        name: Arm(rl_run_config(base, path / BASE, "last", f"{path.name}-{name}", (settings.rl, changes)))
        for name, changes in settings.arms.items()
    }
    opened = plan.run_config(OPEN_BASE, settings.open.base)
    changes = (settings.rl, next(iter(settings.arms.values())), settings.open.rl)
    starts, _ = open_starts(settings, path / OPEN_BASE)
    made[OPEN] = Arm(rl_run_config(opened, path / OPEN_BASE, starts, f"{path.name}-{OPEN}", changes))
    return made


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a base run that the claim cannot be judged on."""
    if name not in (BASE, OPEN_BASE):
        return
    require_seeds("rl_pass_at_k", setup.seeds)
    task = setup.phases[-1].task
    where = "" if name == BASE else "open.base."
    groups = ("G1", "G2") if name == BASE else ("G3",)
    if not isinstance(task, LayeredGraph) or task.groups != groups:
        classes = "the classes G1 and G2" if name == BASE else "the class G3 alone"
        raise ValueError(f"{where}task.mixture: rl_pass_at_k needs LayeredGraph with {classes}")
    if name == BASE and task.group_probs[0] <= task.group_probs[1]:
        raise ValueError(f"task.mixture.G1: {task.group_probs[0]:g}; rl_pass_at_k needs more than G2's")
    if not task.num_enumerated:
        raise ValueError(
            f"{where}task.max_enumerated: too few; rl_pass_at_k needs all valid paths enumerated"
        )
    require_parameters("rl_pass_at_k", setup, evaluations=name == OPEN_BASE)
