"""Settings shared by the claims on SGD's lower-bound family of opposed prompts."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

from covlab.claims.settings import Real, Seed, Whole, Wholes
from theory.sgd.opposed_prompts import Family, FamilySettings


@dataclasses.dataclass(frozen=True)
class OpposedSettings:
    """N, the lower bound's family and the seeds; the defaults are the scale `cpu`.

    Sizes, grids and draws were chosen on the seeds 900 to 905.

    Attributes:
        n: N of Cov_N.
        family_horizons: lengths H of the family.
        family_inner: B' of the family, B = B'^2.
        family_plus: mu(+) of the family.
        family_draws: draws of the order of the family's prompts.
        family_tuning_draws: such draws for choosing step sizes.
        tuning_seed: seed of the draws that step sizes are chosen on.
        seed: seed of all other draws.
    """

    n: Annotated[float, Real(above=math.e, below=1e12)] = 16
    family_horizons: Annotated[tuple[int, ...], Wholes(64, at_least=3)] = (256, 512, 1024, 2048, 4096)
    family_inner: Annotated[float, Real(above=4, below=100)] = 32
    family_plus: Annotated[float, Real(above=1 / 16, below=15 / 16)] = 0.25
    family_draws: Annotated[int, Whole(8)] = 32
    family_tuning_draws: Annotated[int, Whole(2)] = 4
    tuning_seed: Annotated[int, Seed()] = 905
    seed: Annotated[int, Seed()] = 0

    def __post_init__(self) -> None:
        if self.seed == self.tuning_seed:
            raise ValueError(
                f"seed: {self.seed}; valid: another one than tuning_seed, which steps are chosen on"
            )

    @property
    def family(self) -> FamilySettings:
        """The settings of `theory.sgd.opposed_prompts.measure_family`."""
        return FamilySettings(
            horizons=self.family_horizons,
            family=Family(0, self.n, self.family_inner, self.family_plus, 1 / 16),
            draws=self.family_draws,
            tuning_draws=self.family_tuning_draws,
            tuning_seed=self.tuning_seed,
            seed=self.seed,
        )


def step_sizes(halvings: tuple[int, ...]) -> tuple[float, ...]:
    """2^-k for every k."""
    return tuple(2.0**-k for k in halvings)
