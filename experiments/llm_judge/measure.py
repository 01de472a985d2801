"""Errors of judged predictions, by quadrature and by simulation: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Reals, Seed, Whole, Wholes
from tasks import numpy_stream
from theory.judged_regression import (
    Predictive,
    best_of_k,
    best_temperature,
    far_sampling_error,
    leading_coefficient,
    mean_over_prompts,
    predictive,
    softmax_error,
    teacher_errors,
)

SIMULATED = ("teacher, k = 1", "teacher, k = 4", "teacher, k = 16", "far judge, k = 16")
_SOFTMAX_NODES = 12
"""Nodes a side of the mean over prompts at a positive temperature, which is smooth in both offsets."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The regression, the judges and the simulation; the defaults are the scale `cpu`.

    Judges, temperatures and margins were chosen on seed 100.

    Attributes:
        seed: seed of the simulation.
        alpha: examples per dimension.
        few: examples per dimension where the teacher is in doubt.
        difficulties: examples per dimension of tasks of falling difficulty.
        noise, prior: sigma and gamma.
        near, far: mean square offset of the judge's answer, in units of the predictive variance s^2.
        ks: numbers of predictions, from 1.
        many: numbers of predictions at which exponents are fitted.
        fixed: number of predictions at which the temperature is varied, and the gain measured.
        temperatures: T in units of s^2.
        dimension, datasets, prompts: of the simulation.
    """

    seed: Annotated[int, Seed()] = 2610
    alpha: Annotated[float, Real(above=0, most=100)] = 4.0
    few: Annotated[float, Real(above=0, most=100)] = 0.25
    difficulties: Annotated[tuple[float, ...], Reals(0, 100, at_least=2)] = (0.5, 1.0, 2.0, 4.0, 8.0)
    noise: Annotated[float, Real(above=0, most=10)] = 0.5
    prior: Annotated[float, Real(above=0, most=10)] = 1.0
    near: Annotated[float, Real(above=0, most=10)] = 0.05
    far: Annotated[float, Real(above=0, most=10)] = 1.0
    ks: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (
        1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512, 1024,
    )  # fmt: skip
    many: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (1024, 4096, 16384, 65536)
    fixed: Annotated[int, Whole(2)] = 16
    temperatures: Annotated[tuple[float, ...], Reals(0.005, 1000, at_least=3)] = (
        0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0,
    )  # fmt: skip
    dimension: Annotated[int, Whole(8, 512)] = 96
    datasets: Annotated[int, Whole(4)] = 24
    prompts: Annotated[int, Whole(50)] = 400

    def __post_init__(self) -> None:
        if self.ks[0] != 1:
            raise ValueError(f"ks: begins with {self.ks[0]}; valid: 1, the error without selection")


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {"dimension": 256, "datasets": 64, "prompts": 1000, "many": (4096, 16384, 65536, 262144)},
}


class Simulated(NamedTuple):
    """Mean error of each data set, and what the quadrature gives."""

    errors: Float[np.ndarray, " datasets"]
    expected: float


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Mean errors over prompts.

    Attributes:
        law: doubt and spread at `alpha`.
        at_k: temperature 0, by judge ("teacher", "near", "far"), over `ks`.
        at_many: temperature 0, the teacher as judge, with the examples "alpha" and "few", over `many`.
        coefficient: k^2 error over its limit, at the largest of `many`.
        at_temperature: `fixed` predictions, by judge ("teacher", "far"), over 0 and `temperatures`.
        far_limit: error of 512 predictions at the far judge's best temperature, and its closed form.
        gains: error of one prediction over that of `fixed`, the teacher as judge, over `difficulties`.
        noise_gains: the same with sigma halved, as it is, and doubled.
        simulated: by the names of `SIMULATED`.
    """

    settings: Settings
    law: Predictive
    at_k: dict[str, Float[np.ndarray, " ks"]]
    at_many: dict[str, Float[np.ndarray, " ks"]]
    coefficient: float
    at_temperature: dict[str, Float[np.ndarray, " temperatures"]]
    far_limit: tuple[float, float]
    gains: Float[np.ndarray, " difficulties"]
    noise_gains: Float[np.ndarray, " noises"]
    simulated: dict[str, Simulated]


def measure(settings: Settings, study: Study) -> Measurements:
    """Quadratures and simulations."""
    law = predictive(settings.alpha, settings.noise, settings.prior)
    few = predictive(settings.few, settings.noise, settings.prior)
    misfits = {"near": settings.near * law.spread, "far": settings.far * law.spread}
    at_k = {"teacher": teacher_errors(law, settings.ks)}
    for name, misfit in misfits.items():
        delta, rho, weights = mean_over_prompts(law, misfit)
        at_k[name] = weights @ best_of_k(delta, rho, law.spread, settings.ks)
    at_many = {"alpha": teacher_errors(law, settings.many), "few": teacher_errors(few, settings.many)}
    at_temperature = {
        name: _over_temperatures(law, misfit, settings)
        for name, misfit in (("teacher", 0.0), ("far", misfits["far"]))
    }
    best = best_temperature(law, misfits["far"])
    reached = _softmax(law, misfits["far"], 512, best) if best > 0 else math.nan
    limit = far_sampling_error(law, misfits["far"], best) if best > 0 else math.nan
    return Measurements(
        settings,
        law,
        at_k,
        at_many,
        float(at_many["alpha"][-1] * settings.many[-1] ** 2 / leading_coefficient(law)),
        at_temperature,
        (reached, limit),
        np.array(
            [_gain(predictive(a, settings.noise, settings.prior), settings) for a in settings.difficulties]
        ),
        np.array(
            [
                _gain(predictive(settings.alpha, f * settings.noise, settings.prior), settings)
                for f in (0.5, 1, 2)
            ]
        ),
        simulate(settings, law, study),
    )


def _gain(law: Predictive, settings: Settings) -> float:
    one, several = teacher_errors(law, (1, settings.fixed))
    return float(one / several)


def _softmax(law: Predictive, misfit: float, k: int, temperature: float) -> float:
    delta, rho, weights = mean_over_prompts(law, misfit, _SOFTMAX_NODES)
    return float(weights @ softmax_error(delta, rho, law.spread, k, temperature))


def _over_temperatures(
    law: Predictive, misfit: float, settings: Settings
) -> Float[np.ndarray, " temperatures"]:
    """Error of `fixed` predictions at temperature 0 and at each temperature."""
    delta, rho, weights = mean_over_prompts(law, misfit)
    first = float(weights @ best_of_k(delta, rho, law.spread, (settings.fixed,))[:, 0])
    others = [_softmax(law, misfit, settings.fixed, t * law.spread) for t in settings.temperatures]
    return np.array([first, *others])


def simulate(settings: Settings, law: Predictive, study: Study) -> dict[str, Simulated]:
    """Fitted regressions on drawn data sets, drawn predictions, and the judge's choice among them."""
    misfit = settings.far * law.spread
    temperature = settings.temperatures[len(settings.temperatures) // 2] * law.spread
    found: dict[str, list[float]] = {name: [] for name in SIMULATED}
    for index in study.progress.over(
        "data sets", range(settings.datasets), lambda index: {"data set": index}
    ):
        rng = numpy_stream(settings.seed, "llm_judge", index)
        delta, rho, spread = draw_prompts(settings, misfit, rng)
        draws = delta[:, None] + np.sqrt(spread)[:, None] * rng.normal(size=(len(delta), 16))
        for k in (1, 4, 16):
            own = np.abs(draws[:, :k]).min(axis=1)
            found[f"teacher, k = {k}"].append(float(np.mean(own**2)))
        # Gumbel-max: the softmax of the reward over T.
        noisy = -((draws - rho[:, None]) ** 2) / temperature + rng.gumbel(size=draws.shape)
        own = np.take_along_axis(draws, noisy.argmax(axis=1)[:, None], axis=1)[:, 0]
        found["far judge, k = 16"].append(float(np.mean(own**2)))
    expected = [*teacher_errors(law, (1, 4, 16)), _softmax(law, misfit, 16, temperature)]
    return {
        name: Simulated(np.array(found[name]), float(value))
        for name, value in zip(SIMULATED, expected, strict=True)
    }


def draw_prompts(
    settings: Settings, misfit: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " prompts"], Float[np.ndarray, " prompts"], Float[np.ndarray, " prompts"]]:
    """(delta, rho, s^2) of fresh prompts after regression on one drawn data set."""
    d, n = settings.dimension, max(round(settings.alpha * settings.dimension), 1)
    teacher = settings.prior * rng.normal(size=d)
    features = rng.normal(size=(n, d)) / math.sqrt(d)
    answers = features @ teacher + settings.noise * rng.normal(size=n)
    precision = features.T @ features / settings.noise**2 + np.eye(d) / settings.prior**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ features.T @ answers / settings.noise**2
    off = math.sqrt(misfit) * rng.normal(size=d)
    prompts = rng.normal(size=(settings.prompts, d)) / math.sqrt(d)
    spread = settings.noise**2 + np.einsum("pi,ij,pj->p", prompts, covariance, prompts)
    return prompts @ (mean - teacher), prompts @ off, spread
