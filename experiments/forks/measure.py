"""Exact Pass@1, Pass@k, KL and coverage of every arm along fine-tuning, by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import RunMatrices, common_seeds, run_matrices
from covlab.claims.settings import Whole, Wholes
from covlab.claims.trained import bound_excess
from experiments.forks.laws import decision_entropy
from tasks import CLASSES, LayeredGraph

FORKS, FIRST = "forks", "first_fork"
"""Classes of the task: every branching layer is a hidden decision, or only the first."""
COVERAGE_NS = (2.0, 4.0, 8.0, 16.0, 64.0)
"""The N of the coverage profile in figures and tables, besides k."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the base runs are of experiments.train.

    Attributes:
        k: k of Pass@k, and N of the Cov_N that is compared with it.
        branching: numbers of branching layers; 0 is the control.
        tune: settings of fine-tuning, of experiments.train_rl.
    """

    k: Annotated[int, Whole(2)]
    branching: Annotated[tuple[int, ...], Wholes(0, at_least=3)]
    tune: Annotated[Mapping[str, Any], check_rl_settings]

    def __post_init__(self) -> None:
        if self.branching[0] != 0:
            raise ValueError(f"branching: {[*self.branching]}; valid: 0, the control, and others")

    def cells(self) -> Iterator[Cell]:
        """The arms in order; with one branching layer or none the classes have the same law."""
        for name in (FORKS, FIRST):
            for count in self.branching:
                if name == FORKS or count > 1:
                    yield Cell(name, count)


class Cell(NamedTuple):
    """An arm: its class, and its number of branching layers."""

    group: str
    branching: int

    @property
    def run(self) -> str:
        """Name of the run of fine-tuning."""
        return f"{self.group}_{self.branching}"

    @property
    def decisions(self) -> int:
        """Hidden decisions of a response."""
        return self.branching if self.group == FORKS else min(1, self.branching)


def base_name(branching: int) -> str:
    """Name of the run that the arms with this number of branching layers start from."""
    return f"base_{branching}"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of fine-tuning, over its evaluations; the first is before fine-tuning.

    Attributes:
        steps: steps of the evaluations.
        pass_1, pass_k: exact Pass@1 and Pass@k.
        kl: KL(pi_D || pi_hat) in nats.
        coverage: N -> Cov_N, of `COVERAGE_NS` and k.
    """

    steps: Int[np.ndarray, " checkpoints"]
    pass_1: Float[np.ndarray, "seeds checkpoints"]
    pass_k: Float[np.ndarray, "seeds checkpoints"]
    kl: Float[np.ndarray, "seeds checkpoints"]
    coverage: Mapping[float, Float[np.ndarray, "seeds checkpoints"]]

    @property
    def lost(self) -> Float[np.ndarray, " seeds"]:
        """Pass@k before fine-tuning minus that after the last step."""
        return self.pass_k[:, 0] - self.pass_k[:, -1]

    @property
    def gained(self) -> Float[np.ndarray, " seeds"]:
        """Pass@1 after the last step minus that before fine-tuning."""
        return self.pass_1[:, -1] - self.pass_1[:, 0]

    @property
    def lost_from_best(self) -> Float[np.ndarray, " seeds"]:
        """Largest Pass@k of any evaluation minus that after the last step."""
        return self.pass_k.max(axis=1) - self.pass_k[:, -1]


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        k: k of Pass@k.
        minority: share of the decisions that are the minority's.
        response_length: tokens of a response.
        seeds: seeds that diverged in no run.
        arms: cell -> arm, in order.
        epochs: number of times that each training example is seen; None for fresh examples.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    k: int
    minority: float
    response_length: int
    seeds: tuple[int, ...]
    arms: Mapping[Cell, Arm]
    epochs: float | None
    bound_excess: float

    def of(self, group: str) -> tuple[Cell, ...]:
        """The arms of a class."""
        return tuple(cell for cell in self.arms if cell.group == group)

    def share(self, cell: Cell) -> float:
        """Share of the response's tokens that are decision points."""
        return cell.decisions / self.response_length

    def entropy(self, cell: Cell) -> float:
        """Entropy of a response to a model that knows all but the hidden decisions, nats."""
        return cell.decisions * decision_entropy(self.minority)

    def lost(self, cells: tuple[Cell, ...]) -> Float[np.ndarray, "seeds cells"]:
        """Pass@k lost in these arms."""
        return np.stack([self.arms[cell].lost for cell in cells], axis=1)

    def uncovered(self, cells: tuple[Cell, ...]) -> Float[np.ndarray, "seeds cells"]:
        """Rise of Cov_k in these arms."""
        own = (self.arms[cell].coverage[float(self.k)] for cell in cells)
        return np.stack([coverage[:, -1] - coverage[:, 0] for coverage in own], axis=1)


def arm_of(matrices: RunMatrices, k: int) -> Arm:
    """Measurements of one run.

    Raises:
        ValueError: a task that does not enumerate its valid responses.
    """
    passes = matrices.exact_passes("forks", (1, k))
    return Arm(
        np.asarray(matrices.steps),
        passes[1],
        passes[k],
        matrices.kl(),
        matrices.coverage(sorted({*COVERAGE_NS, float(k)})),
    )


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs of all arms, for the seeds that diverged in none.

    Raises:
        ValueError: as `arm_of`, or fewer than two such seeds.
    """
    tuned = {cell: study.runs[cell.run] for cell in settings.cells()}
    seeds = common_seeds(run.path for run in tuned.values())
    require_seeds("forks", seeds)
    phase = next(iter(tuned.values())).setup.phases[-1]
    assert isinstance(phase.task, LayeredGraph)
    size = phase.dataset_size
    return Measurements(
        settings.k,
        CLASSES[FORKS].minority,
        phase.task.response_length,
        seeds,
        {cell: arm_of(run_matrices(run.path).of_seeds(seeds), settings.k) for cell, run in tuned.items()},
        None if size is None else phase.steps * phase.batch_size / size,
        max(map(bound_excess, tuned.values())),
    )
