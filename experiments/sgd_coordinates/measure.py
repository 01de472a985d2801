"""Rules that normalise per coordinate, with several mini-batches: settings and measurements."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from covlab.claims.claim import Study
from covlab.claims.settings import Seed, Wholes
from experiments.sgd_horizon.measure import SCALES
from experiments.sgd_horizon.measure import Settings as HorizonSettings
from theory.sgd.horizon_runs import Method
from theory.sgd.horizon_sweep import Compared, compare

__all__ = ["RULES", "SCALES", "Settings", "measure", "methods"]

RULES = {"clipped SGD": "clipped", "sign-SGD": "sign", "Adam": "adam"}
"""Name in the report -> rule of `theory.sgd.horizon_runs`."""


@dataclasses.dataclass(frozen=True)
class Settings(HorizonSettings):
    """The class, grid, mini-batch and number of draws of sgd_horizon.

    Seed 561 gave the result on single sequences that this claim replaces, so it is not used again.

    Attributes:
        smaller_batches: batches that are measured beside `batch`, the one that the checks judge.
    """

    seed: Annotated[int, Seed()] = 4561
    smaller_batches: Annotated[tuple[int, ...], Wholes(1)] = (1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smaller_batches[-1] >= self.batch:
            raise ValueError(
                f"smaller_batches: {list(self.smaller_batches)}; valid: all below batch = {self.batch}"
            )


def methods(settings: Settings) -> tuple[Method, ...]:
    """SGD with `batch` in comparison, and every rule of `RULES` with every batch."""
    batches = (*settings.smaller_batches, settings.batch)
    return (
        Method(named("SGD", settings.batch), "sgd", settings.batch),
        *(Method(named(name, batch), rule, batch) for name, rule in RULES.items() for batch in batches),
    )


def named(name: str, batch: int) -> str:
    """Name of a rule with a batch."""
    return f"{name}, batch {batch}"


@dataclasses.dataclass(frozen=True)
class Measurements(Compared):
    """Updates that every method needs.

    Attributes:
        batch: the batch that the checks judge.
        smaller_batches: the others, in increasing order.
    """

    batch: int
    smaller_batches: tuple[int, ...]


def measure(settings: Settings, study: Study) -> Measurements:
    """All runs."""
    found = compare(
        settings.family,
        methods(settings),
        np.array(settings.step_sizes),
        (settings.tuning_draws, settings.tuning_seed),
        (settings.draws, settings.seed),
        study.progress,
    )
    return Measurements(**vars(found), batch=settings.batch, smaller_batches=settings.smaller_batches)
