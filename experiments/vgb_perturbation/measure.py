"""Values that overrate one action, over horizons and errors: settings and measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from covlab.claims.claim import Study
from covlab.claims.decoders import WalkSettings
from covlab.claims.settings import Real, Seed, Whole, Wholes
from decoding.analytic_values import Overrated
from tasks.checks import real
from tasks.perturbation import Perturbation
from theory.vgb.laws import Goodness, Laws, Sampled, laws_of, sample_all
from theory.vgb.typed_trees import perturbation_tree


def _epsilons(field: str, value: Any) -> tuple[float, ...]:
    """At least two different numbers strictly between 0 and 10, kept in increasing order."""
    given = list(value) if isinstance(value, Sequence) else []
    if len(set(given)) < 2 or len(set(given)) != len(given):
        raise ValueError(f"{field}: {value}; valid: at least 2 different positive numbers")
    return tuple(sorted(real(field, number, above=0, below=10) for number in given))


@dataclasses.dataclass(frozen=True)
class Settings(WalkSettings):
    """All horizons with all errors, VGB's chain, and the decoders' samples at one small instance; the
    defaults are the scale `cpu`.

    The number of steps was chosen on eps = .1, .3 and .9.

    Attributes:
        horizons: lengths H of the response.
        epsilons: eps: V^ overrates the action `a` by 1 + eps.
        sampled_horizon: H at which the decoders' samples are tested against their exact laws.
        sampled_epsilon: eps there.
        chains: samples of each decoder there.
    """

    horizons: Annotated[tuple[int, ...], Wholes(3, at_least=3)] = (4, 8, 16, 32, 64)
    epsilons: Annotated[tuple[float, ...], _epsilons] = (0.0625, 0.125, 0.25, 0.5, 1.0)
    seed: Annotated[int, Seed()] = 300
    sampled_horizon: Annotated[int, Whole(2)] = 6
    sampled_epsilon: Annotated[float, Real(above=0, below=10)] = 0.5
    chains: Annotated[int, Whole(32)] = 1024

    def __post_init__(self) -> None:
        sampled = self.sampled_horizon
        for length in (*self.horizons, sampled):
            Perturbation(length=length)
        if sampled > 8:
            raise ValueError(f"sampled_horizon: {sampled}; valid: 2 to 8, whose trees can be enumerated")
        super().__post_init__()


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        # An array of 2 H x 16 H^2 complex numbers has 1.1 GB at H = 128, and there are a few.
        "horizons": (4, 8, 16, 32, 64, 128),
        "epsilons": (0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0),
        "seeds": 16,
        "chains": 4096,
    },
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """`laws` by (H, eps); p-values and samples of the decoders, by name."""

    settings: Settings
    laws: dict[tuple[int, float], Laws]
    goodness: dict[str, Goodness]
    sampled: dict[str, Sampled]

    def table(self, value: Any) -> np.ndarray:
        """`value(laws)` for every (H, eps), seeds first where it has them."""
        rows = [[value(self.laws[h, eps]) for eps in self.settings.epsilons] for h in self.settings.horizons]
        array = np.asarray(rows, np.float64)
        return np.moveaxis(array, 2, 0) if array.ndim == 3 else array


def measure(settings: Settings, study: Study) -> Measurements:
    """All laws and the decoders' samples."""
    laws = {}
    todo = [(h, eps) for h in settings.horizons for eps in settings.epsilons]
    for h, eps in study.progress.over("laws", todo, lambda each: {"H": each[0], "eps": each[1]}):
        laws[h, eps] = laws_of(perturbation_tree(h, eps), 1 + eps, settings.chain)
    task = Perturbation(length=settings.sampled_horizon)
    values = Overrated(task, task.response_tokens[0], settings.sampled_epsilon)
    decoded = sample_all(task, values, settings.chain, settings.chains, study.progress, "decoders")
    return Measurements(settings, laws, **decoded)
