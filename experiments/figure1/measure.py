"""Settings and measurements of experiments.figure1."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from covlab.claims.claim import Study
from covlab.claims.settings import Section, Whole
from covlab.claims.shortcut import FineTuning, Tournament, measure_run

RUN = "run"
"""The name of the only training run."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the run are of experiments.train.

    Attributes:
        tournament: the tournament that chooses a checkpoint by coverage.
        blindness_examples: held-out examples of each class for the test that the model cannot tell the
            classes apart.
    """

    tournament: Annotated[Tournament, Section(Tournament)]
    blindness_examples: Annotated[int, Whole(2)]


def measure(settings: Settings, study: Study) -> FineTuning:
    """Read the run, and test whether its last model tells the classes apart.

    Raises:
        ValueError: a task that does not enumerate its valid responses, or a run that cannot be read.
    """
    return measure_run("figure1", study.runs[RUN], settings.tournament, settings.blindness_examples)
