"""The runs of experiments.sgd_horizon on draws of their own: settings and measurements."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from covlab.claims.settings import Seed
from experiments.sgd_horizon.measure import SCALES, measure
from experiments.sgd_horizon.measure import Settings as HorizonSettings

__all__ = ["SCALES", "Settings", "measure"]


@dataclasses.dataclass(frozen=True)
class Settings(HorizonSettings):
    """The class, grid and number of draws of sgd_horizon."""

    seed: Annotated[int, Seed()] = 561
