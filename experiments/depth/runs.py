"""The training runs of experiments.depth: a task and a number of recursions each, at equal training FLOP."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import DictConfig

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, require_seeds
from covlab.claims.trained import require_parameters
from covlab.launch.build import Setup, build
from experiments.depth.flops import equal_steps
from experiments.depth.measure import Settings, name_of
from metrics import name_of_n
from models import Recursive
from training import Phase


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The runs: the command's configuration with the problem's overrides. `steps` and the distance of
    evaluations are those of the first number of recursions, and fall with the cost of a step.

    Raises:
        ValueError: phases, a task for all problems, another model, or a number of recursions outside
            `recursions`.
    """
    if plan.config.phases:
        raise ValueError(
            f"phases: {[*plan.config.phases]}; depth has a single phase, whose steps it computes"
        )
    if (task := plan.config.get("task")) is not None:
        raise ValueError(
            f"task: {task.get('_target_')}; depth has one for each problem: problems.<name>.task"
        )
    arms = {}
    for problem, changes in settings.problems.items():
        first = plan.run_config(problem, changes)
        model, phase = _asked(problem, first)
        counts = equal_steps(model, phase.batch_size, phase.steps, settings.recursions)
        for recursions, count in zip(settings.recursions, counts, strict=True):
            name, schedule = name_of(problem, recursions), dataclasses.asdict(phase.schedule)
            if every := phase.schedule.every:
                schedule["every"] = max(1, round(every * count / max(1, phase.steps)))
            # The key `every` would replace the run's own distance of evaluations.
            own: dict[str, Any] = {"steps": count, "every": None, "log_every": phase.log_every}
            own |= {"model": {"num_recursions": recursions}, "evaluation": {"schedule": schedule}}
            arms[name] = Arm(plan.run_config(name, changes, own), label=name)
    return arms


def _asked(problem: str, config: DictConfig) -> tuple[Recursive, Phase]:
    """The model of a problem, and the phase of training that is asked for."""
    try:
        setup = build(config)
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from None
    model = setup.model
    if not isinstance(model, Recursive):
        raise ValueError(f"model: {config.model.get('_target_')}; depth needs models.Recursive")
    if model.routing != "none":
        raise ValueError(f"model.routing: {model.routing}; depth needs none: all tokens take R recursions")
    default = {each.name: each.default for each in dataclasses.fields(Recursive)}
    for field in ("num_recursions", "test_recursions"):
        if (value := getattr(model, field)) != default[field]:
            other = "recursions" if field == "num_recursions" else "tested"
            raise ValueError(f"model.{field}: {value}; depth takes these numbers from {other}")
    return model, setup.phases[-1]


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("depth", setup.seeds)
    require_parameters("depth", setup)
    ns = tuple(float(n) for n in setup.evaluation[-1].coverage_ns)
    if settings.n not in ns:
        shown = ", ".join(map(name_of_n, ns))
        raise ValueError(f"n: {name_of_n(settings.n)} is not one of evaluation.coverage_ns, {shown}")
    if not setup.phases[-1].task.num_enumerated:
        raise ValueError("task: depth needs a task that enumerates its valid responses")
