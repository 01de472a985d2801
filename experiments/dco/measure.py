"""Exact Pass@N, coverage and calibration of the arms, by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.claims.claim import Study
from covlab.claims.matrices import RunMatrices, last_phase, run_matrices
from covlab.claims.settings import Overrides, Whole, check_names
from covlab.claims.trained import bound_excess
from metrics import weighted_mean
from tracking import load_log_probs
from training import DCO, CrossEntropy, Objective

PASS_NS = tuple(2**i for i in range(13))
"""The N of Pass@N and of Cov_N in the figures: 1 to 4096."""


ARM_KEYS = ("objective", "optimizer", "averaging", "steps", "batch_size")
"""Fields of a phase that an arm may have of its own."""


def overrides(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by the name of an arm.

    Raises:
        ValueError: not a mapping of mappings, a name that is none, or a field that an arm does not have.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{field}: {value!r} is not a mapping from names to overrides")
    made = {}
    for name, changes in {str(key): changes for key, changes in value.items()}.items():
        check_names(field, (name,), taken="ensemble")
        made[name] = Overrides(ARM_KEYS)(f"{field}.{name}", changes)
    return made


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        arms: overrides of objective, optimizer and averaging in one run, by name; the first is cross-entropy.
        early: step of the evaluation that the last one is compared with.
        large: N at which cross-entropy is expected to lose; the N' of one of the arms.
    """

    arms: Annotated[Mapping[str, Mapping[str, Any]], overrides]
    early: Annotated[int, Whole(1)]
    large: Annotated[int, Whole(2)]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run, or what is made of its checkpoints.

    Attributes:
        steps: of the evaluations.
        passes: N -> exact Pass@N.
        coverage: N -> Cov_N.
        kl: KL(pi_D || pi_hat) in nats.
        confidence: of the likeliest valid response, its share of the probability of all valid ones, mean over
            prompts.
        right: how often that response is the right one: what `confidence` of a calibrated model would be.
    """

    steps: Int[np.ndarray, " checkpoints"]
    passes: dict[int, Float[np.ndarray, "seeds checkpoints"]]
    coverage: dict[int, Float[np.ndarray, "seeds checkpoints"]]
    kl: Float[np.ndarray, "seeds checkpoints"]
    confidence: Float[np.ndarray, "seeds checkpoints"]
    right: Float[np.ndarray, "seeds checkpoints"]

    @property
    def overconfidence(self) -> Float[np.ndarray, "seeds checkpoints"]:
        """`confidence` - `right`."""
        return self.confidence - self.right

    def quantities(self, n: int) -> tuple[tuple[str, Float[np.ndarray, "seeds checkpoints"]], ...]:
        """Everything that was measured, with its title; coverage at `n` and Pass@N at 1 and `n`."""
        return (
            *(("Pass@1", self.passes[1]), (f"Pass@{n}", self.passes[n]), (f"Cov_{n}", self.coverage[n])),
            *(("KL", self.kl), ("confidence", self.confidence), ("how often right", self.right)),
        )


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        arms: by name; the first is cross-entropy.
        trained_for: name -> N' of the arms trained by DCO, 1 of the first arm; smallest first.
        early: the evaluation that the last one is compared with: an index of the first arm's `steps`.
        large: N at which cross-entropy is expected to lose, an N' of `trained_for`.
        epochs: of the whole training.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    arms: Mapping[str, Arm]
    trained_for: Mapping[str, int]
    early: int
    large: int
    epochs: float
    bound_excess: float

    @property
    def baseline(self) -> Arm:
        """The first arm."""
        return next(iter(self.arms.values()))

    def last(self, name: str, n: int) -> Float[np.ndarray, " seeds"]:
        """An arm's Pass@N after the last step."""
        return self.arms[name].passes[n][:, -1]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run's evaluations as they were stored: (seeds, checkpoints, prompts, candidates), nats.

    Attributes:
        matrices: the same pair by pair.
        log_prob: ln pi_hat of every valid response.
        correct, valid: of the candidates.
    """

    matrices: RunMatrices
    log_prob: Float[np.ndarray, "seeds checkpoints prompts candidates"]
    correct: Bool[np.ndarray, "prompts candidates"]
    valid: Bool[np.ndarray, "prompts candidates"]


def read(path: Path, seeds: Sequence[int] | None = None) -> Recorded:
    """Read a run, of all seeds that did not diverge or of those that are named.

    Raises:
        ValueError: as `run_matrices`; a task that does not enumerate its valid responses.
    """
    matrices = run_matrices(path)
    if matrices.log_prob_correct is None:
        raise ValueError("task: dco needs a task that enumerates its valid responses")
    kept = [i for i, seed in enumerate(matrices.seeds) if seeds is None or seed in seeds]
    phase = last_phase(path)
    held = load_log_probs(path, f"{phase}_held_out")[f"{phase}_held_out"]
    log_probs = load_log_probs(path, f"{phase}_[0-9]*")
    every = (*matrices.seeds, *matrices.diverged)
    rows = [sorted(every).index(matrices.seeds[i]) for i in kept]
    log_prob = np.stack(
        [log_probs[f"{phase}_{step:08d}"]["log_prob"][rows] for step in matrices.steps], axis=1
    )
    return Recorded(
        dataclasses.replace(
            matrices,
            seeds=tuple(matrices.seeds[i] for i in kept),
            log_probs=matrices.log_probs[kept],
            log_prob_correct=matrices.log_prob_correct[kept],
        ),
        log_prob.astype(np.float64),
        held["correct"].astype(bool),
        np.isfinite(log_prob).all(axis=(0, 1)),
    )


def arm_of(recorded: Recorded, ns: Sequence[int]) -> Arm:
    """Pass@N and Cov_N at `ns` and at `PASS_NS`, and the calibration among the valid responses."""
    every = sorted({*ns, *PASS_NS})
    matrices = recorded.matrices
    passes = matrices.pass_at_n(every)
    assert passes is not None
    confidence, right = calibration(
        recorded.log_prob, recorded.correct, recorded.valid, matrices.prompt_weights
    )
    covered = matrices.coverage(every)
    return Arm(
        np.asarray(matrices.steps),
        passes,
        {n: covered[float(n)] for n in every},
        matrices.kl(),
        confidence,
        right,
    )


def calibration(
    log_prob: Float[np.ndarray, "*batch prompts candidates"],
    correct: Bool[np.ndarray, "prompts candidates"],
    valid: Bool[np.ndarray, "prompts candidates"],
    weights: Float[np.ndarray, " prompts"],
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Mean over the prompts of the likeliest valid response's share of the probability of all valid ones, and
    how often it is correct. They agree for a model whose shares are the chances given what it sees."""
    masked = np.where(valid, log_prob, -np.inf)
    total = np.logaddexp.reduce(masked, axis=-1)
    top = np.argmax(masked, axis=-1)
    share = np.exp(np.max(masked, axis=-1) - total)
    hit = np.take_along_axis(np.broadcast_to(correct, masked.shape), top[..., None], axis=-1)[..., 0]
    return weighted_mean(share, weights), weighted_mean(hit.astype(np.float64), weights)


def ensemble(recorded: Recorded, first: int) -> Recorded:
    """The mixture of the checkpoints from the `first` evaluation on, each seed of its own: response by
    response, ln of the mean of their probabilities. Stands where the last checkpoint did."""

    def mixed(log_prob: np.ndarray) -> np.ndarray:
        tail = log_prob[:, first:]
        return np.logaddexp.reduce(tail, axis=1, keepdims=True) - np.log(tail.shape[1])

    matrices = recorded.matrices
    assert matrices.log_prob_correct is not None
    return dataclasses.replace(
        recorded,
        matrices=dataclasses.replace(
            matrices,
            steps=matrices.steps[-1:],
            log_probs=mixed(matrices.log_probs),
            log_prob_correct=mixed(matrices.log_prob_correct),
        ),
        log_prob=mixed(recorded.log_prob),
    )


def numbers_trained_for(objectives: Mapping[str, Objective]) -> dict[str, int]:
    """N' of the first arm, which is 1, and of the plain DCO arms, smallest first.

    Raises:
        ValueError: the first arm's objective is not cross-entropy, or too few arms are of DCO.
    """
    first, objective = next(iter(objectives.items()))
    if type(objective) is not CrossEntropy:
        kind = type(objective).__name__
        raise ValueError(f"arms.{first}.objective: {kind}; the first arm of dco is CrossEntropy")
    numbers = {first: 1}
    for name, objective in objectives.items():
        if isinstance(objective, DCO):
            n = objective.n
            if n != int(n) or n in numbers.values():
                raise ValueError(
                    f"arms.{name}.objective.n: {n}; valid: a whole number > 1 that no other arm has"
                )
            numbers[name] = int(n)
    if len(numbers) < 3:
        raise ValueError(f"arms: {len(numbers) - 1} of DCO; dco needs at least 2")
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs, for the seeds that diverged in none; the checkpoints of the first are mixed too.

    Raises:
        ValueError: as `read`; fewer than two such seeds; no evaluation at the step `early`.
    """
    runs, early = study.runs, settings.early
    matrices = {name: run_matrices(run.path) for name, run in runs.items()}
    healthy = set.intersection(*(set(matrix.seeds) for matrix in matrices.values()))
    left_out = tuple(
        f"seed {seed} of {name}" for name, matrix in matrices.items() for seed in matrix.diverged
    )
    if len(healthy) < 2:
        raise ValueError(f"seeds: {len(healthy)} finished every run; dco needs at least 2 for intervals")
    first = next(iter(runs))
    if early not in matrices[first].steps[:-1]:
        raise ValueError(f"early: {early}; valid: {', '.join(map(str, matrices[first].steps[:-1]))}")
    index = matrices[first].steps.index(early)
    trained_for = numbers_trained_for({name: run.setup.phases[0].objective for name, run in runs.items()})
    ns = sorted(set(trained_for.values()))
    arms: dict[str, Arm] = {}
    for name, run in runs.items():
        recorded = read(run.path, sorted(healthy))
        arms[name] = arm_of(recorded, ns)
        if name == first:
            mixture = arm_of(ensemble(recorded, index), ns)
    arms["ensemble"] = mixture
    phase = runs[first].setup.phases[0]
    assert phase.dataset_size is not None
    return Measurements(
        seeds=tuple(sorted(healthy)),
        left_out=left_out,
        arms=arms,
        trained_for=trained_for,
        early=index,
        large=settings.large,
        epochs=phase.steps * phase.batch_size / phase.dataset_size,
        bound_excess=max(map(bound_excess, runs.values())),
    )
