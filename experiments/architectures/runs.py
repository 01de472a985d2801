"""The training runs of experiments.architectures, one for each model."""

from __future__ import annotations

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.shortcut import require_shortcut
from covlab.launch.build import Setup
from experiments.architectures.measure import Settings


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The command's configuration with each of the models, and `per_run`'s changes.

    Raises:
        ValueError: the command sets a model for all runs.
    """
    if (model := plan.config.get("model")) is not None:
        raise ValueError(
            f"model: {model.get('_target_')}; architectures has one for each run: models.<name>.<field>, or "
            f"+model@models.<name>=<model> for a further run"
        )
    return {
        name: Arm(plan.run_config(name, {"model": model}, settings.per_run.get(name)), label=name)
        for name, model in settings.models.items()
    }


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("architectures", setup.seeds)
    require_shortcut("architectures", setup)
