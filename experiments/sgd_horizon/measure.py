"""SGD and its rivals at every length, each with its own best step size: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from covlab.claims.claim import Study
from covlab.claims.settings import Given, Real, Seed, Whole, Wholes
from tasks.checks import real, whole
from theory.sgd.family import check_family, letters_variance
from theory.sgd.horizon_runs import Family
from theory.sgd.horizon_sweep import Measurements, sweep


def _ends(field: str, value: Any) -> tuple[int, int]:
    """Two integers from -60 to 10 in increasing order."""
    ends = list(value) if isinstance(value, list | tuple) else []
    if len(ends) != 2 or not whole(field, ends[0], -60, 10) < whole(field, ends[1], -60, 10):
        raise ValueError(f"{field}: {value}; valid: two integers, from -60 to 10, in increasing order")
    return ends[0], ends[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The family, a mini-batch, the grid of step sizes, draws and seeds; the defaults are the scale `cpu`.

    Number of draws, grid and batch were chosen on the seeds 900 (tuning) and 901.

    Attributes:
        horizons: lengths H of the response.
        letters: B', length of the features of + and -; B = B'^2. The least power of 2 with sigma*^2 <= 1 at H
            = 4096.
        plus: mu(+), probability of the prompts +.
        coverage_n: N of Cov_N.
        target: eps, half of mu(+).
        updates: updates of every run: SGD needs H/(eps ln N) in theory, 1.1e4 at the longest H.
        batch: a mini-batch beside 1 and normalised SGD's B/(eps ln N).
        log2_steps: ends of the grid of step sizes in powers of 2, the same for all methods.
        steps_per_octave: step sizes of the grid per power of 2.
        draws: draws of the order of the prompts.
        seed: seed of the draws.
        tuning_draws: draws that every step size is tried on, at every H.
        tuning_seed: seed of these draws.
    """

    horizons: Annotated[tuple[int, ...], Wholes(2, at_least=3)] = (256, 512, 1024, 2048, 4096)
    letters: Annotated[float, Real(above=1, below=1000)] = 32
    plus: Annotated[float, Real(above=0, below=1)] = 0.25
    coverage_n: Annotated[float, Real(above=1, below=math.inf)] = 16
    target: Annotated[float, Given()] = 0.125
    updates: Annotated[int, Whole(2)] = 12288
    batch: Annotated[int, Whole(2)] = 32
    log2_steps: Annotated[tuple[int, int], _ends] = (-24, 2)
    steps_per_octave: Annotated[int, Whole(1)] = 1
    draws: Annotated[int, Whole(32)] = 128
    seed: Annotated[int, Seed()] = 560
    tuning_draws: Annotated[int, Whole(2)] = 16
    tuning_seed: Annotated[int, Seed()] = 900

    def __post_init__(self) -> None:
        real("target", self.target, above=0, below=self.plus)
        family = self.family
        for horizon in family.horizons:
            member = family.member(horizon)
            check_family(member, family.plus, family.n)
            if letters_variance(member) > 1:
                raise ValueError(
                    f"letters: {family.letters:g} gives sigma*^2 = {letters_variance(member):.3g} at H = "
                    f"{horizon}; valid: larger, so that it is at most 1"
                )
        if self.seed == self.tuning_seed:
            raise ValueError(f"seed: {self.seed}; valid: another than tuning_seed")

    @property
    def family(self) -> Family:
        """The instances."""
        return Family(self.horizons, self.letters, self.plus, self.coverage_n, self.target, self.updates)

    @property
    def step_sizes(self) -> tuple[float, ...]:
        """The grid, in increasing order."""
        (first, last), parts = self.log2_steps, self.steps_per_octave
        return tuple(2.0 ** (k / parts) for k in range(first * parts, last * parts + 1))


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "horizons": (256, 512, 1024, 2048, 4096, 8192, 16384),
        # sigma*^2 <= 1 at H = 16384.
        "letters": 36,
        "updates": 49152,
        "log2_steps": (-28, 2),
        "steps_per_octave": 2,
        "draws": 256,
        "tuning_draws": 32,
    },
}


def measure(settings: Settings, study: Study) -> Measurements:
    """All runs."""
    return sweep(
        settings.family,
        settings.batch,
        np.array(settings.step_sizes),
        (settings.tuning_draws, settings.tuning_seed),
        (settings.draws, settings.seed),
        study.progress,
    )
