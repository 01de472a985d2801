"""Phase of a run: a stretch of training on one data distribution."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from tasks import Task
from tasks.checks import distribution, whole
from tasks.compiling import Option
from training.averaging import Averaging
from training.objectives import Objective
from training.precision import Precision, check_precision
from training.schedule import EvaluationSchedule
from training.sources import Demonstrations, Source


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training on one data distribution.

    Attributes:
        name: part of the keys of the phase's random streams, and of its records.
        task, objective: what is learned.
        optimizer: how it is learned; the optimizer's state is new in every phase.
        steps: number of steps.
        batch_size: number of prompts per step.
        dataset_size: number of fixed prompts, which are drawn with replacement; None draws fresh prompts at
            every step.
        schedule: steps at which the model is evaluated.
        log_every: largest number of steps between two records of the training loss. A signal waits at most as
            many steps until it is obeyed.
        class_proposal: class -> probability q(c) of the class in training; None takes the task's own p(c). A
            loss is weighted by p(c)/q(c), so that its expectation stays the mixture's. A rare class can so be
            drawn more often, which lowers the variance.
        source: origin of the responses to the prompts.
        averaging: average of the iterates; None evaluates, saves and passes on the last iterate.
        precision: how training computes, see `training.precision.Precision`.
        compiler_options: options of XLA's compiler for the programs of training and evaluation, by name.
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
    precision: Precision = "auto"
    compiler_options: Mapping[str, Option] | tuple[tuple[str, Option], ...] | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision)
        self._check_options()
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
        if self.objective.needs_teacher and not (self.task.num_enumerated or self.task.knows_next_tokens):
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} needs pi_D's next-token "
                f"laws; task {type(self.task).__name__} does not enumerate its responses"
            )
        if self.objective.by_token and self.source.updates > 1:
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} updates once per token, but "
                f"source {type(self.source).__name__} updates {self.source.updates} times per batch; valid: 1"
            )
        if self.objective.ahead >= self.task.response_length:
            raise ValueError(
                f"phases.{self.name}.objective: {type(self.objective).__name__} predicts "
                f"{self.objective.ahead + 1} tokens at once; valid: at most the {self.task.response_length} "
                f"of a response of {type(self.task).__name__}"
            )
        if self.class_proposal is not None:
            self._check_proposal(self.class_proposal)

    def _check_options(self) -> None:
        given: Any = () if self.compiler_options is None else self.compiler_options
        if not isinstance(given, tuple | Mapping):
            raise ValueError(f"compiler_options: {given!r} is not a mapping of XLA's options to their values")
        for name, value in dict(given).items():
            if not isinstance(value, Option):
                valid = "valid: true, false, a number or a text"
                raise ValueError(f"compiler_options.{name}: {value!r}; {valid}")
        # As a tuple, because a phase must be hashable.
        object.__setattr__(self, "compiler_options", tuple(dict(given).items()))

    @property
    def options(self) -> dict[str, Option]:
        """`compiler_options` by name."""
        return dict(self.compiler_options or ())

    def _check_proposal(self, given: Any) -> None:
        where, groups = f"phases.{self.name}.class_proposal", self.task.groups
        proposal = dict(given) if isinstance(given, tuple | Mapping) else given
        if not isinstance(proposal, dict) or set(proposal) != set(groups):
            raise ValueError(
                f"{where}: {proposal!r} is neither null nor a probability for each of {', '.join(groups)}"
            )
        # As a tuple, because a phase must be hashable.
        object.__setattr__(self, "class_proposal", distribution(where, proposal, groups, positive=True))

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optimizer; if iterates are averaged, the optimizer's state holds the average."""
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
        """p(c)/q(c) in the order of the task's classes; None without a proposal, when all are 1."""
        if self.class_proposal is None:
            return None
        return tuple(p / q for p, q in zip(self.task.group_probs, self.proposal, strict=True))

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Steps after which the host evaluates or records, on an absolute grid."""
        return tuple(
            sorted({*self.schedule.steps(self.steps), *range(0, self.steps, self.log_every), self.steps})
        )
