"""A phase: one stretch of training on one data distribution."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from tasks import Task
from tasks.checks import distribution, whole
from training.averaging import Averaging
from training.objectives import Objective
from training.schedule import EvaluationSchedule
from training.sources import Demonstrations, Source


@dataclasses.dataclass(frozen=True)
class Phase:
    """One stretch of training on one data distribution.

    Attributes:
        name: names the phase's random streams and its records.
        task, objective, optimizer: what is learned and how; the optimizer starts afresh.
        steps, batch_size: length and batch of the phase.
        dataset_size: number of fixed prompts, drawn from with replacement; None draws fresh samples for ever.
        schedule: when to evaluate.
        log_every: largest number of steps between two records of the training loss, which is also how long a
            signal may wait to be obeyed.
        class_proposal: class -> probability q(c) with which training examples are drawn from it; None takes
            the task's own p(c). A loss then weighs p(c)/q(c), so that its expectation, and with it the
            objective, stays the mixture's; a rare class is seen more often, with less variance.
        source: where the responses to the prompts come from.
        averaging: of the iterates; None evaluates, saves and passes on the last one.
    """

    name: str
    task: Task
    objective: Objective
    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int
    dataset_size: int | None
    schedule: EvaluationSchedule
    log_every: int
    class_proposal: Mapping[str, float] | tuple[tuple[str, float], ...] | None = None
    source: Source = dataclasses.field(default_factory=Demonstrations)
    averaging: Averaging | None = None

    def __post_init__(self) -> None:
        for field, low in (("steps", 0), ("batch_size", 1), ("log_every", 1)):
            whole(f"phases.{self.name}.{field}", getattr(self, field), low)
        if self.dataset_size is not None:
            whole(f"phases.{self.name}.dataset_size", self.dataset_size, 1, other="null")
        if self.objective.needs_rewards and not self.source.judges:
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} needs rewards, which source "
                f"{type(self.source).__name__} does not give"
            )
        if self.objective.needs_policy and not self.source.on_policy:
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} learns from responses of the "
                f"model in training, which source {type(self.source).__name__} does not give; valid: source "
                f"on_policy"
            )
        if self.objective.needs_teacher and not self.task.num_enumerated:
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} needs pi_D's next-token "
                f"laws; task {type(self.task).__name__} does not enumerate its responses"
            )
        if self.class_proposal is not None:
            self._check_proposal(self.class_proposal)

    def _check_proposal(self, given: Any) -> None:
        where, groups = f"phases.{self.name}.class_proposal", self.task.groups
        proposal = dict(given) if isinstance(given, tuple | Mapping) else given
        if not isinstance(proposal, dict) or set(proposal) != set(groups):
            raise ValueError(
                f"{where}: {proposal!r} is neither null nor a probability for each of {', '.join(groups)}"
            )
        # A phase is hashable.
        object.__setattr__(self, "class_proposal", distribution(where, proposal, groups, positive=True))

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optimizer, with the average of its iterates in its state where they are averaged."""
        return self.optimizer if self.averaging is None else self.averaging.of(self.optimizer)

    @property
    def proposal(self) -> tuple[float, ...]:
        """q(c), in the order of the task's classes."""
        if self.class_proposal is None:
            return self.task.group_probs
        own = dict(self.class_proposal)
        return tuple(float(own[name]) for name in self.task.groups)

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """p(c)/q(c) in the order of the task's classes; None where all are 1."""
        if self.class_proposal is None:
            return None
        return tuple(p / q for p, q in zip(self.task.group_probs, self.proposal, strict=True))

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Steps after which the host looks at the run: evaluations and records, on an absolute grid."""
        return tuple(
            sorted({*self.schedule.steps(self.steps), *range(0, self.steps, self.log_every), self.steps})
        )
