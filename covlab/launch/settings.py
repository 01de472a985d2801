"""Settings of a whole run, one class per configuration group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from covlab.launch.kept import kept_examples
from metrics.evaluators import DistributionEvaluator, Evaluator, HeldOut, SamplingEvaluator, make_held_out
from metrics.prompt_metrics import PromptMetrics
from tasks import Task, check_seed
from tasks.checks import flag, real, whole
from training import EvaluationSchedule

DEFAULT_SAMPLES = 16
"""Responses per prompt that are sampled where `num_samples` is null."""
SAMPLED_PROMPTS = 64
"""About the number of prompts of each class that responses are sampled to where `num_samples` is null."""


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Metrics, held-out data and schedule of the evaluations.

    Attributes:
        schedule: the steps at which the model is evaluated.
        num_examples: held-out examples of each class.
        batch_size: examples scored at a time: few enough for a CPU's cache, and for memory with many seeds.
        seed: seed of the held-out stream, shared by all training seeds.
        coverage_ns: the N of the coverage profile.
        pass_ns: the N of Pass@N.
        num_samples: responses sampled per held-out prompt for the sampling estimates of Pass@N and validity;
            0 for no estimates. null samples where the exact values are not known, that is if a task of the
            run does not enumerate its valid responses: 16 responses to 64 prompts of each class.
        table_prompts: held-out prompts whose sampled responses are tabulated at the end of every phase.
        extra: further evaluators, as nodes with a `_target_`; any names.
        pass_all_ns: the N of pass^N, that N responses are all right.
        taus: the tau of Cover@tau, the share of prompts with a probability of right responses >= tau.
        eps: the eps of the likelihood quantile of right responses, in nats.
        ratio_ns: the K of the coverage ratio, coverage lost over coverage gained since the phase's start.
    """

    schedule: EvaluationSchedule = dataclasses.field(default_factory=EvaluationSchedule)
    num_examples: int = 512
    batch_size: int = 64
    seed: int = 0
    coverage_ns: Sequence[float] = (2, 3, 4, 4.6, 5.7)
    pass_ns: Sequence[int] = (1, 4, 8, 12)
    num_samples: int | None = None
    table_prompts: int = 8
    extra: Sequence[Any] = ()
    # One number each, as every one is a panel for each class: the N of the Pass@N that the progress line
    # shows, and the usual levels.
    pass_all_ns: Sequence[int] = (8,)
    taus: Sequence[float] = (0.5,)
    eps: Sequence[float] = (0.05,)
    ratio_ns: Sequence[int] = (8,)

    def __post_init__(self) -> None:
        for field in ("coverage_ns", "pass_ns"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field, values in vars(self.prompt_metrics).items():
            object.__setattr__(self, field, values)
        object.__setattr__(self, "extra", tuple(self.extra))
        for evaluator in self.extra:
            if not isinstance(evaluator, Evaluator):
                raise ValueError(
                    f"evaluation.extra: {evaluator!r} is no evaluator; valid: [{{_target_: a class}}]"
                )
        for field, low in (("num_examples", 1), ("batch_size", 1), ("table_prompts", 0)):
            whole(f"evaluation.{field}", getattr(self, field), low)
        if self.num_samples is not None:
            whole("evaluation.num_samples", self.num_samples, 0, other="null")
        object.__setattr__(self, "seed", check_seed("evaluation.seed", self.seed))

    @property
    def prompt_metrics(self) -> PromptMetrics:
        """The metrics of the probability of right responses.

        Raises:
            ValueError: in one line, for a number out of range.
        """
        return PromptMetrics(self.pass_all_ns, self.taus, self.eps, self.ratio_ns)

    def evaluators(self, enumerated: bool = True) -> tuple[Evaluator, ...]:
        """The exact evaluator, the sampling evaluator if responses are to be sampled, and the evaluators in
        `extra`.

        Args:
            enumerated: True if the tasks enumerate their valid responses, so that the exact evaluator gives
                Pass@N.

        Raises:
            ValueError: two evaluators with one name.
        """
        evaluators: list[Evaluator] = [
            DistributionEvaluator(self.coverage_ns, self.pass_ns, self.prompt_metrics)
        ]
        if self.num_samples:
            evaluators.append(SamplingEvaluator(self.num_samples, self.pass_ns, self.seed))
        elif self.num_samples is None and not enumerated and min(self.pass_ns) <= DEFAULT_SAMPLES:
            stride = max(1, self.num_examples // SAMPLED_PROMPTS)
            evaluators.append(SamplingEvaluator(DEFAULT_SAMPLES, self.pass_ns, self.seed, stride))
        evaluators += self.extra
        names = [evaluator.name for evaluator in evaluators]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.extra: two evaluators have the same name, of {', '.join(names)}")
        return tuple(evaluators)

    def held_out(self, task: Task, split: str = "held-out") -> HeldOut:
        """The held-out set of a task, drawn or taken from the cache."""
        return make_held_out(task, self.num_examples, self.batch_size, self.seed, split, kept_examples)


@dataclasses.dataclass(frozen=True)
class TrackingSettings:
    """Mirroring to W&B and TensorBoard, progress display and figures of a run.

    Attributes:
        wandb: "auto" (online with a key, else offline), "online", "offline" or "disabled".
        project: project of the W&B run; by default WANDB_PROJECT, else covlab.
        entity: user or team of the W&B run; by default WANDB_ENTITY, else the user's own.
        tags: tags of the W&B run; by default WANDB_TAGS.
        notes: description of the W&B run; by default WANDB_NOTES.
        per_seed: one W&B (or TensorBoard) run per seed instead of one with medians and quantiles over the
            seeds.
        tensorboard: also write event files for TensorBoard, to `tensorboard/` in the run directory.
        progress: show a progress bar.
        interval: seconds between progress lines if the output is not a terminal.
        figures: draw `figures/*.png` at the end.
    """

    wandb: str = "auto"
    project: str | None = None
    entity: str | None = None
    tags: Sequence[str] = ()
    notes: str | None = None
    per_seed: bool = False
    tensorboard: bool = False
    progress: bool = True
    interval: float = 30.0
    figures: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(self.tags))
        valid = ("auto", "online", "offline", "disabled")
        if self.wandb not in valid:
            raise ValueError(f"tracking.wandb: {self.wandb!r} is not one of {', '.join(valid)}")
        real("tracking.interval", self.interval, above=0)
        for field in ("per_seed", "tensorboard", "progress", "figures"):
            flag(f"tracking.{field}", getattr(self, field))
