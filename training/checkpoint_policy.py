"""Checkpoints and evaluations that a run keeps on disk, and disk budgets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tasks.checks import choice, real, whole


@dataclasses.dataclass(frozen=True)
class CheckpointPolicy:
    """Retention of checkpoints and evaluations on disk.

    Attributes:
        every_seconds: least wall time between two saves of the full state at boundaries of the step grid; 0
            saves at every boundary. The end of a phase and a signal always save.
        keep: number of full states kept.
        parameters: "evaluations" keeps the parameters of every evaluation, thinned evenly to the budget;
            "ends" keeps those of the last step of every phase, without a budget; "none".
        budget_mb: disk budget in MB (10^6 bytes, whole blocks of files) of all parameter checkpoints of a
            run with parameters="evaluations".
        log_probs_mb: disk budget in MB of `log_probs/`, shared by the phases in proportion to the number and
            size of evaluations. If the evaluations of a phase exceed the share, the first, the last and every
            k-th between are kept, with the smallest k that fits.
    """

    every_seconds: float = 60.0
    keep: int = 2
    parameters: Literal["evaluations", "ends", "none"] = "ends"
    budget_mb: float = 500.0
    log_probs_mb: float = 1000.0

    def __post_init__(self) -> None:
        real("checkpoint.every_seconds", self.every_seconds, least=0)
        whole("checkpoint.keep", self.keep, 1)
        choice("checkpoint.parameters", self.parameters, ("evaluations", "ends", "none"))
        for field in ("budget_mb", "log_probs_mb"):
            real(f"checkpoint.{field}", getattr(self, field), above=0)

    def parameter_steps(self, grids: Sequence[Sequence[int]], bytes_each: int) -> list[set[int]]:
        """Steps per phase whose parameters are kept within the budget.

        Args:
            grids: evaluation steps of every phase.
            bytes_each: space on disk of one checkpoint.

        Raises:
            ValueError: the last steps alone exceed the budget.
        """
        if self.parameters == "none":
            return [set() for _ in grids]
        if self.parameters == "ends":
            return thinned(grids, 0)
        least = len(grids) * bytes_each / 1e6
        if least > self.budget_mb:
            raise ValueError(
                f"checkpoint.budget_mb: {self.budget_mb:g} is less than the {least:.3g} MB of the parameters "
                "at the end of every phase; valid: more, or checkpoint.parameters=ends"
            )
        return thinned(grids, int(self.budget_mb * 1e6 / max(bytes_each, 1)))

    def evaluation_steps(
        self, grids: Sequence[Sequence[int]], pairs: Sequence[int], phase: int, bytes_each: int, others: int
    ) -> set[int]:
        """Steps of one phase whose log-probabilities are kept within `log_probs_mb`.

        Args:
            grids: evaluation steps of every phase.
            pairs: number of held-out pairs (x, y) of every phase; the size of an evaluation is proportional.
            phase: index of the phase.
            bytes_each: space on disk of one evaluation of the phase.
            others: space on disk of other data in `log_probs/`.
        """
        sizes = [len(grid) * count for grid, count in zip(grids, pairs, strict=True)]
        share = (self.log_probs_mb * 1e6 - others) * sizes[phase] / max(sum(sizes), 1)
        room = int(share / max(bytes_each, 1))
        return thinned([grids[phase]], room)[0] if room >= 1 else set()


def thinned(grids: Sequence[Sequence[int]], room: int) -> list[set[int]]:
    """The last step of every grid and every k-th of the other steps from the first on.

    k is the smallest number for which there are at most `room` steps in total. Without such a k, only the
    last steps are kept.
    """
    ends = [{max(grid)} for grid in grids]
    others = [sorted(set(grid) - end) for grid, end in zip(grids, ends, strict=True)]
    for stride in range(1, max(map(len, others)) + 1):
        if sum(math.ceil(len(steps) / stride) for steps in others) <= room - len(grids):
            return [set(steps[::stride]) | end for steps, end in zip(others, ends, strict=True)]
    return ends


def stored_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of the arrays in a file of `log_probs/`, including the header of a record."""
    return 1024 + sum(array.nbytes + 128 for array in arrays.values())
