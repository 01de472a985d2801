"""The training runs of experiments.dco, one per arm."""

from __future__ import annotations

from collections.abc import Mapping

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.launch.build import Setup
from experiments.dco.measure import Settings, numbers_trained_for


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The arms: each a phase of its own overrides, under one name, so that all see the same examples."""
    if plan.config.phases:
        raise ValueError(
            f"phases: {', '.join(map(str, plan.config.phases))}; dco has one phase, its arms override it"
        )
    return {
        name: Arm(plan.run_config(name, {"phases": {"train": changes}}), label=name)
        for name, changes in settings.arms.items()
    }


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("dco", setup.seeds)
    phase = setup.phases[0]
    if phase.dataset_size is None:
        raise ValueError("dataset_size: null; dco needs a fixed training set")
    if not phase.task.num_enumerated:
        raise ValueError(f"task: {type(phase.task).__name__}; dco needs all valid responses enumerated")


def check_runs(settings: Settings, setups: Mapping[str, Setup]) -> None:
    """Refuse arms that cannot be compared, an N that no arm is trained for, and a step at which none is
    evaluated."""
    numbers = numbers_trained_for({name: setup.phases[0].objective for name, setup in setups.items()})
    trained = [n for n in numbers.values() if n > 1]
    if settings.large not in trained:
        valid = ", ".join(map(str, trained))
        raise ValueError(f"large: {settings.large}; valid: the N' of an arm: {valid}")
    phase = next(iter(setups.values())).phases[0]
    steps = phase.schedule.steps(phase.steps)
    if settings.early not in steps[1:-1]:
        valid = ", ".join(map(str, steps[1:-1]))
        raise ValueError(
            f"early: {settings.early!r} is no evaluation after the start and before the end; valid: {valid}"
        )
