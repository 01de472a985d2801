"""The training runs of experiments.tail_sft: the base, fine-tuning from it for every arm and set-up, and
reinforcement learning from there."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from covlab.claims.arms import Arm, built_before_its_start, rl_run_config
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.matrices import run_matrices
from covlab.claims.trained import require_parameters, require_single_phase
from covlab.launch.build import Setup
from experiments.tail_sft.measure import (
    BASE,
    DESTROYED,
    KEPT,
    STOPPED,
    Settings,
    nearest,
    rl_name,
    run_name,
    tails_of,
)

SOURCE: Mapping[str, Any] = {"source": {"_target_": "training.Demonstrations"}}


def base_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The base run, by the command's configuration. All later runs are checked before it is trained.

    Raises:
        ValueError: a run that cannot be built, or on which the claim cannot be judged.
    """
    objectives, check = {}, functools.partial(check_run, settings)
    for set_up, name, given in _tuned(settings):
        run = run_name(set_up, name)
        setup = built_before_its_start(run, plan.run_config(name), given, {}, check)
        objectives[name] = setup.phases[0].objective
    tails_of(objectives)
    for set_up in (DESTROYED, KEPT):
        given = _rl(settings, set_up)
        built_before_its_start(rl_name(set_up, BASE), plan.run_config("rl"), given, {}, check)
    return {BASE: Arm(plan.run_config(BASE), label=BASE)}


def tuning_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Fine-tuning from the base's last checkpoint: all arms of a set-up under one name of the phase, so that
    they see the same examples."""
    config, base, arms = plan.run_config(BASE), plan.path / BASE, {}
    for set_up, name, given in _tuned(settings):
        run = run_name(set_up, name)
        arms[run] = Arm(rl_run_config(config, base, "last", f"{plan.path.name}-{run}", given), label=run)
    return arms


def rl_stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """Reinforcement learning from every start on prompts of its set-up: all starts of a set-up under one name
    of the phase, so that they see the same prompts."""
    config, arms = plan.run_config(BASE), {}
    for set_up in (DESTROYED, KEPT):
        for start in settings.starts[set_up]:
            run, given = rl_name(set_up, start), _rl(settings, set_up)
            of, checkpoint = _start(settings, plan, set_up, start)
            arms[run] = Arm(
                rl_run_config(config, of, checkpoint, f"{plan.path.name}-{run}", given), label=run
            )
    return arms


def _start(settings: Settings, plan: Plan, set_up: str, start: str) -> tuple[Path, str | dict[int, str]]:
    """Run and checkpoint of a start; by seed where plain fine-tuning is stopped at an arm's KL."""
    if start == BASE:
        return plan.path / BASE, "last"
    if not start.startswith(STOPPED):
        return plan.path / run_name(set_up, start), "last"
    path = plan.path / run_name(set_up, next(iter(settings.arms)))
    arm = run_matrices(plan.path / run_name(set_up, start.removeprefix(STOPPED)))
    plain = run_matrices(path)
    seeds = [seed for seed in plain.seeds if seed in arm.seeds]
    index = nearest(plain.of_seeds(seeds).kl(), arm.of_seeds(seeds).kl()[:, -1])
    # A seed that diverged in either run, and so is in no measurement, starts from the last checkpoint.
    found = dict.fromkeys(plain.seeds + plain.diverged, f"{plain.phase}:{plain.steps[-1]}")
    own = {seed: f"{plain.phase}:{plain.steps[place]}" for seed, place in zip(seeds, index, strict=True)}
    return path, found | own


def _rl(settings: Settings, set_up: str) -> tuple[Mapping[str, Any], ...]:
    """Settings of reinforcement learning in a set-up; its task is that of fine-tuning."""
    tasks = (settings.tune.get("task_overrides"), settings.set_up(set_up).get("task_overrides"))
    return (settings.rl, *({"task_overrides": task} for task in tasks if task))


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
    phase, where = setup.phases[0], "tune"
    if name.startswith("rl_"):
        where = "rl"
        if not phase.source.on_policy:
            raise ValueError(f"rl.source: {type(phase.source).__name__}; valid: OnPolicy")
    else:
        plain = next(iter(settings.arms))
        stopped = any(start.startswith(STOPPED) for names in settings.starts.values() for start in names)
        is_plain = name in (run_name(DESTROYED, plain), run_name(KEPT, plain))
        require_parameters("tail_sft", setup, evaluations=stopped and is_plain)
    if not phase.task.num_enumerated:
        raise ValueError(f"task: {type(phase.task).__name__}; tail_sft needs all valid responses enumerated")
    if len(set(phase.task.group_probs)) > 1:
        raise ValueError(
            f"task.mixture: {', '.join(map(str, phase.task.group_probs))}; tail_sft needs classes of equal "
            f"probability, because the coverage ratio counts prompts"
        )
    if 0 not in phase.schedule.steps(phase.steps):
        raise ValueError(f"{where}.evaluation.schedule.start: False; tail_sft compares with the start")
