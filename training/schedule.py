"""Schedule of evaluations: linear or logarithmic grids of steps."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from tasks.checks import choice, flag, whole


@dataclasses.dataclass(frozen=True)
class EvaluationSchedule:
    """Steps of a phase at which its model is evaluated; the last step is always one of them.

    Attributes:
        every: number of steps between evaluations with linear spacing (1: a per-step curve); 0 evaluates only
            at the ends of the phase.
        spacing: "linear", or "logarithmic" with `per_decade` steps in each factor of ten.
        per_decade: density of the logarithmic grid.
        start: True to evaluate at step 0 too.
    """

    every: int = 100
    spacing: Literal["linear", "logarithmic"] = "linear"
    per_decade: int = 10
    start: bool = True

    def __post_init__(self) -> None:
        whole("evaluation.schedule.every", self.every)
        choice("evaluation.schedule.spacing", self.spacing, ("linear", "logarithmic"))
        whole("evaluation.schedule.per_decade", self.per_decade, 1)
        flag("evaluation.schedule.start", self.start)

    def steps(self, total: int) -> tuple[int, ...]:
        """Steps of the grid in a phase of `total` steps, ascending.

        >>> EvaluationSchedule(every=4).steps(10)
        (0, 4, 8, 10)
        """
        chosen = {total} | ({0} if self.start else set())
        if self.spacing == "linear" and self.every:
            chosen |= set(range(self.every, total, self.every))
        elif self.spacing == "logarithmic":
            points = np.arange(np.floor(np.log10(max(total, 1)) * self.per_decade) + 1) / self.per_decade
            chosen |= {round(10**point) for point in points}
        return tuple(sorted(step for step in chosen if step <= total))
