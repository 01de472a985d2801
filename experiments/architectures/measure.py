"""Settings and measurements of experiments.architectures: each model's fine-tuning, as in Figure 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from covlab.claims.claim import Study
from covlab.claims.settings import Overrides, Section, Whole, check_mapping, check_names, mapping
from covlab.claims.shortcut import FineTuning, Tournament, measure_run


def models(field: str, value: Any) -> dict[str, Mapping[str, Any]]:
    """Model nodes by name, at least one.

    Raises:
        ValueError: no mapping, no entry, a name that is no directory's, or an entry that is no mapping.
    """
    check_names(field, check_mapping(field, value))
    return {name: mapping(f"{field}.{name}", value[name]) for name in check_mapping(field, value)}


def per_run(field: str, value: Any) -> dict[str, Mapping[str, Any]]:
    """Overrides by the name of a run.

    Raises:
        ValueError: no mapping, or a key other than `phases`.
    """
    overrides = Overrides(("phases",))
    return {name: overrides(f"{field}.{name}", value[name]) for name in check_mapping(field, value, 0)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        models: a model for each run, by the run's name.
        per_run: overrides of `phases` in one run, by its name.
        tournament: the tournament that chooses a checkpoint by coverage.
        blindness_examples: held-out examples of each class for the test that a model cannot tell the classes
            apart.
    """

    models: Annotated[Mapping[str, Mapping[str, Any]], models]
    per_run: Annotated[Mapping[str, Mapping[str, Any]], per_run]
    tournament: Annotated[Tournament, Section(Tournament)]
    blindness_examples: Annotated[int, Whole(2)]

    def __post_init__(self) -> None:
        for name in self.per_run:
            if name not in self.models:
                raise ValueError(f"per_run: {name!r} is not one of {', '.join(self.models)}")


@dataclasses.dataclass(frozen=True)
class Measurements:
    """The fine-tuning of every model, by name."""

    runs: Mapping[str, FineTuning]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that diverged in no run; each run is judged on all of its own."""
        first, *others = self.runs.values()
        return tuple(seed for seed in first.seeds if all(seed in other.seeds for other in others))


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs, and test whether the last models tell the classes apart.

    Raises:
        ValueError: a task that does not enumerate its valid responses, or a run that cannot be read.
    """
    asked = settings.tournament, settings.blindness_examples
    return Measurements({name: measure_run("architectures", run, *asked) for name, run in study.runs.items()})
