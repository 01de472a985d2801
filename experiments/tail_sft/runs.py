"""The training runs of experiments.tail_sft: the base, and fine-tuning from it for every arm and set-up."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from covlab.claims.arms import Arm, built_before_its_start, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.tail_sft.measure import BASE, DESTROYED, KEPT, Settings, run_name, tails_of

SOURCE: Mapping[str, Any] = {"source": {"_target_": "training.Demonstrations"}}


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base run, by the command's configuration. The runs of fine-tuning are checked before it is trained.

    Raises:
        ValueError: a run that cannot be built, or on which the claim cannot be judged.
    """
    objectives = {}
    for set_up, name, given in _tuned(settings):
        run, check = run_name(set_up, name), functools.partial(check_run, settings)
        setup = built_before_its_start(run, plan.run_config(name), given, {}, check)
        objectives[name] = setup.phases[0].objective
    tails_of(objectives)
    return {BASE: Arm(plan.run_config(BASE), label=BASE)}


def tuning_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Fine-tuning from the base's last checkpoint: all arms of a set-up under one name of the phase, so that
    they see the same examples."""
    config, base, arms = plan.run_config(BASE), plan.path / BASE, {}
    for set_up, name, given in _tuned(settings):
        run = run_name(set_up, name)
        arms[run] = Arm(rl_run_config(config, base, "last", f"{plan.path.name}-{run}", given), label=run)
    return arms


def _tuned(settings: Settings) -> Iterator[tuple[str, str, tuple[Mapping[str, Any], ...]]]:
    """Set-up, arm and settings of every run of fine-tuning, in order."""
    for set_up in (DESTROYED, KEPT):
        for name, changes in settings.arms.items():
            yield set_up, name, (SOURCE, settings.tune, settings.set_up(set_up), changes)


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("tail_sft", setup.seeds)
    require_single_phase("tail_sft", setup)
    if name == BASE:
        require_parameters("tail_sft", setup)
        return
    phase = setup.phases[0]
    if not phase.task.num_enumerated:
        raise ValueError(f"task: {type(phase.task).__name__}; tail_sft needs all valid responses enumerated")
    if len(set(phase.task.group_probs)) > 1:
        raise ValueError(
            f"task.mixture: {', '.join(map(str, phase.task.group_probs))}; tail_sft needs classes of equal "
            f"probability, because the coverage ratio counts prompts"
        )
    if 0 not in phase.schedule.steps(phase.steps):
        raise ValueError("tune.evaluation.schedule.start: False; tail_sft compares with the start")
