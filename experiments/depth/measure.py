"""Accuracy and coverage of trained models by the number of recursions in training and in evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Overrides, Real, Whole, Wholes, check_mapping, check_names
from covlab.claims.trained import bound_excess, evaluations, finished_seeds, score_checkpoints
from covlab.launch.build import PHASE_KEYS
from covlab.launch.trained import TrainedRun
from experiments.depth.flops import step_flops
from metrics import coverage_profile, kl, name_of_n, weighted_mean
from metrics.evaluators import DistributionEvaluator, HeldOut, log_ratios
from models import Recursive
from tracking import load_run


def problems(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by problem: fields of a phase, the task among them, and of the model.

    Raises:
        ValueError: no problem, a name that is no directory's, or another field.
    """
    check_names(field, check_mapping(field, value))
    read = Overrides((*PHASE_KEYS, "model"))
    return {name: read(f"{field}.{name}", changes) for name, changes in value.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        problems: a task for each problem, by name, with overrides of its runs: fields of a phase, and
            `model`.
        recursions: numbers of recursions in training. The first takes `steps` steps, all others as many as
            have the same FLOP.
        tested: numbers of recursions in evaluation: those of training, and others.
        n: the N of the Cov_N that is judged.
        fresh_examples: prompts of each class for all measurements after training.
    """

    problems: Annotated[Mapping[str, Mapping[str, Any]], problems]
    recursions: Annotated[tuple[int, ...], Wholes(1, at_least=2)]
    tested: Annotated[tuple[int, ...], Wholes(1, at_least=3)]
    n: Annotated[float, Real(above=1)]
    fresh_examples: Annotated[int, Whole(16)]

    def __post_init__(self) -> None:
        missing = set(self.recursions) - set(self.tested)
        if missing or max(self.tested) <= max(self.recursions):
            raise ValueError(
                f"tested: {[*self.tested]}; valid: all of recursions = {[*self.recursions]}, and a larger "
                "number"
            )

    def around(self, recursions: int) -> tuple[int, int]:
        """The next smaller and the next larger number of `tested`."""
        place = self.tested.index(recursions)
        return self.tested[place - 1], self.tested[place + 1]


@dataclasses.dataclass(frozen=True)
class Scores:
    """A run's last checkpoints with one number of recursions, on fresh prompts.

    Attributes:
        accuracy: share of prompts whose greedy response is right.
        log_ratio: X = ln(pi_D/pi_hat) of every pair (x, y) in the support of pi_D, nats.
        weights: of the pairs, which sum to 1.
    """

    accuracy: Float[np.ndarray, " seeds"]
    log_ratio: Float[np.ndarray, "seeds pairs"]
    weights: Float[np.ndarray, " pairs"]

    def coverage(self, ns: Sequence[float]) -> Float[np.ndarray, "seeds n"]:
        """Cov_N for every N."""
        return coverage_profile(self.log_ratio, ns, self.weights)

    @property
    def kl(self) -> Float[np.ndarray, " seeds"]:
        """KL(pi_D || pi_hat), nats."""
        return kl(self.log_ratio, self.weights)


@dataclasses.dataclass(frozen=True)
class Run:
    """One number of recursions in training.

    Attributes:
        steps: number of training steps.
        step_flops: FLOP of a step.
        tested: number of recursions in evaluation -> scores.
        evaluated: steps of the evaluations along training.
        curve_coverage, curve_accuracy: Cov_n and greedy accuracy at these steps.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation, <= 0 up to
            rounding.
    """

    steps: int
    step_flops: float
    tested: Mapping[int, Scores]
    evaluated: tuple[int, ...]
    curve_coverage: Float[np.ndarray, "seeds evaluations"]
    curve_accuracy: Float[np.ndarray, "seeds evaluations"]
    bound_excess: float

    @property
    def flops(self) -> float:
        """FLOP of the whole training."""
        return self.steps * self.step_flops


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        settings: the claim's settings.
        coverage_ns: the N of Cov_N in the tables.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        runs: problem -> number of recursions in training -> run.
    """

    settings: Settings
    coverage_ns: tuple[float, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    runs: Mapping[str, Mapping[int, Run]]

    def coverage(self, problem: str, trained: int, tested: int) -> Float[np.ndarray, " seeds"]:
        """Cov_n of the models trained with one number of recursions and evaluated with another."""
        return self.runs[problem][trained].tested[tested].coverage([self.settings.n])[:, 0]

    def accuracy(self, problem: str, trained: int, tested: int) -> Float[np.ndarray, " seeds"]:
        """Greedy accuracy of these models."""
        return self.runs[problem][trained].tested[tested].accuracy


def name_of(problem: str, recursions: int) -> str:
    """Name of a run."""
    return f"{problem}_{recursions}"


def measure(settings: Settings, study: Study) -> Measurements:
    """Score the last checkpoints on fresh prompts, with every number of recursions.

    Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run, or a run that cannot be read.
    """
    frames = {name: load_run(run.path) for name, run in study.runs.items()}
    first = next(iter(study.runs.values())).setup
    seeds, left_out = finished_seeds(frames, first.seeds)
    runs: dict[str, dict[int, Run]] = {}
    for problem in settings.problems:
        runs[problem] = {}
        for recursions in settings.recursions:
            name = name_of(problem, recursions)
            runs[problem][recursions] = _measure_run(settings, study.runs[name], frames[name], seeds)
    ns = tuple(float(n) for n in first.evaluation[-1].coverage_ns)
    return Measurements(settings, ns, seeds, left_out, runs)


def _measure_run(settings: Settings, run: TrainedRun, frame: Any, seeds: Sequence[int]) -> Run:
    """Fresh prompts come from the stream (evaluation.seed, "evaluation", "recursions", class)."""
    model, phase = run.setup.model, run.setup.phases[-1]
    assert isinstance(model, Recursive)
    evaluation = dataclasses.replace(run.setup.evaluation[-1], num_examples=settings.fresh_examples)
    held_out = evaluation.held_out(phase.task, "recursions")
    coverage = evaluations(frame, seeds, f"cov/{name_of_n(settings.n)}")
    return Run(
        steps=phase.steps,
        step_flops=step_flops(model, phase.batch_size),
        tested={count: scores(run, seeds, held_out, count) for count in settings.tested},
        evaluated=tuple(int(step) for step in coverage.columns),
        curve_coverage=coverage.to_numpy(float),
        curve_accuracy=evaluations(frame, seeds, "accuracy").to_numpy(float),
        bound_excess=bound_excess(run),
    )


def scores(run: TrainedRun, seeds: Sequence[int], held_out: HeldOut, recursions: int) -> Scores:
    """The last checkpoints with this number of recursions on all examples of `held_out`."""
    tested = run.with_model({"test_recursions": recursions})
    _, by_step = score_checkpoints(tested, seeds, DistributionEvaluator(), held_out, 1)
    count = held_out.num_examples
    log_prob = np.array([one["log_prob"] for one in by_step[-1]], np.float64)[:, :count]
    greedy = np.array([one["greedy"] for one in by_step[-1]])[:, :count]
    hit = np.any(greedy & held_out.correct, axis=-1).astype(np.float64)
    joint = held_out.weights[:, None] * held_out.candidate_weight
    kept = joint > 0
    return Scores(
        accuracy=weighted_mean(hit, held_out.weights),
        log_ratio=log_ratios(log_prob, held_out)[:, kept],
        weights=joint[kept] / joint.sum(),
    )
