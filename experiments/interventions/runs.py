"""The runs of experiments.interventions: one for each length and way to train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_single_phase
from covlab.launch.build import Setup
from experiments.interventions.measure import (
    DECODED,
    LAWS,
    NORMALISED,
    TITLES,
    TOKEN,
    TOKEN_LARGE,
    TRUNCATED,
    TRUNCATED_LAWS,
    Settings,
    run_name,
)


def objective(arm: str, n: float) -> dict[str, Any]:
    """The objective of a way to train."""
    distilled: Mapping[str, dict[str, Any]] = {
        TRUNCATED: {"n": n, "labels": "tokens"},
        LAWS: {"n": None, "labels": "laws"},
        TRUNCATED_LAWS: {"n": n, "labels": "laws"},
    }
    if arm in distilled:
        return {"_target_": "training.TruncatedDistillation", **distilled[arm]}
    return {"_target_": "training.TokenLevel" if arm in (TOKEN, TOKEN_LARGE) else "training.CrossEntropy"}


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """A run for each length and way to train.

    Raises:
        ValueError: a learning rate that is missing, or an N that is not measured.
    """
    evaluated = list(plan.config.evaluation.coverage_ns)
    if settings.n not in evaluated:
        raise ValueError(
            f"n: {settings.n:g} is not one of {', '.join(map(str, evaluated))}, which are measured"
        )
    arms = {}
    for length in settings.lengths:
        for arm in TITLES:
            name = run_name(length, arm)
            arms[name] = Arm(_config(settings, plan, length, arm), label=name)
    return arms


def _config(settings: Settings, plan: Plan, length: int, arm: str) -> Any:
    config = plan.run_config(run_name(length, arm).replace("/", "-"))
    rate = settings.rate(length, arm)
    config.task.length = length
    config.objective = objective(arm, settings.n)
    config.optimizer = {"_target_": "training.optimizers.sgd", "learning_rate": rate}
    if arm == NORMALISED:
        config.optimizer = {
            "_target_": "training.optimizers.normalized_sgd",
            "learning_rate": rate,
            "damping": settings.damping,
        }
    if arm in DECODED:
        config.evaluation.extra = [
            {
                "_target_": "metrics.test_time_training.TestTimeEvaluator",
                "learning_rate": settings.rate(length, TOKEN),
                "coverage_ns": [settings.n],
            }
        ]
    return config


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("interventions", setup.seeds)
    require_single_phase("interventions", setup)
    phase = setup.phases[-1]
    if phase.batch_size != 1:
        raise ValueError(
            f"batch_size: {phase.batch_size}; interventions needs 1, the theorems' step per sequence"
        )
    if phase.dataset_size is not None:
        raise ValueError(f"dataset_size: {phase.dataset_size}; interventions needs null, fresh sequences")
    if len(phase.schedule.steps(phase.steps)) < 3:
        raise ValueError(
            f"evaluation.schedule: {phase.schedule.steps(phase.steps)}; interventions needs at least 3"
        )
