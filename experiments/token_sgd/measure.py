"""Token-level SGD and its rivals on the rare prompt and on the opposed prompts: settings and measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.opposed import OpposedSettings, step_sizes
from covlab.claims.settings import Real, Seed, Whole, Wholes
from tasks.checks import real
from theory.sgd.opposed_prompts import Arm, FamilyRun, measure_family
from theory.sgd.rare_prompts import (
    draw_signs,
    draw_visits,
    generator,
    rare_prompt,
    running_values,
    sequence_means,
    token_kl,
    token_means,
)
from training.token_sgd import token_learning_rate, token_sgd_bound

NAMES = {
    "TTT": "a step a token, test-time training, the theorem's step",
    "TTT, best": "a step a token, test-time training, best step",
    "fixed, best": "a step a token, fixed parameters, best step",
    "sequence, best": "a step a sequence, best step",
    "sequence": "a step a sequence, step 1/(2 H B^2)",
}
FAMILY = {
    "TTT": "a step a token, test-time training",
    "fixed": "a step a token, fixed parameters",
    "sequence": "a step a sequence",
}


def _factors(field: str, value: Any) -> tuple[float, ...]:
    """Different numbers >= 0, 0 and 1 among them, kept in increasing order."""
    given = value if isinstance(value, list | tuple) else [value]
    factors = [real(field, factor, least=0) for factor in given]
    if len(set(factors)) < 2 or 1.0 not in factors or 0.0 not in factors:
        raise ValueError(f"{field}: {factors}; valid: different numbers >= 0, 0 and 1 among them")
    return tuple(sorted(factors))


@dataclasses.dataclass(frozen=True)
class Settings(OpposedSettings):
    """The rare prompt, the opposed prompts, draws and seeds; the defaults are the scale `cpu`.

    Attributes:
        horizons: H of the rare prompt, at `sequences` sequences.
        sequences: sequences T where H varies.
        sequence_counts: sequences T, at `horizon`.
        horizon: H where T varies.
        variance: sigma*^2, the same at every H: mu(1) = variance / (H (1 - tanh^2 theta*)).
        halvings: exponents k of the step sizes 2^-k that every method chooses from, for each H.
        draws: instances: theta*, prompts, responses.
        responses: responses of each iterate, for test-time training.
        tuning_draws: instances that step sizes are chosen on.
        robust_horizon: H at which step sizes at test time are varied.
        factors: step at test time over step in training; 0 decodes with fixed parameters.
        robust_responses: responses of each iterate there.
        family_sequences: sequences after which training on the slopes is given up.
        token_halvings: exponents k of the step sizes 2^-k on the family, for a step a token.
        sequence_halvings: the same for a step a sequence.
    """

    seed: Annotated[int, Seed()] = 620
    horizons: Annotated[tuple[int, ...], Wholes(4, at_least=3)] = (64, 128, 256, 512, 1024)
    sequences: Annotated[int, Whole(16)] = 8192
    sequence_counts: Annotated[tuple[int, ...], Wholes(16, at_least=3)] = (1024, 2048, 4096, 8192, 16384)
    horizon: Annotated[int, Whole(4)] = 64
    variance: Annotated[float, Real(above=0, below=1e6)] = 0.25
    halvings: Annotated[tuple[int, ...], Wholes(0, at_least=2)] = (2, 3, 4, 5, 6, 7, 8)
    draws: Annotated[int, Whole(8)] = 48
    responses: Annotated[int, Whole(1)] = 4
    tuning_draws: Annotated[int, Whole(2)] = 16
    robust_horizon: Annotated[int, Whole(4)] = 256
    factors: Annotated[tuple[float, ...], _factors] = (0, 0.0625, 0.25, 1, 4, 16)
    robust_responses: Annotated[int, Whole(1)] = 8
    family_sequences: Annotated[int, Whole(16)] = 8192
    token_halvings: Annotated[tuple[int, ...], Wholes(0, at_least=2)] = (10, 11, 12, 13)
    sequence_halvings: Annotated[tuple[int, ...], Wholes(0, at_least=2)] = tuple(range(16, 25))

    def __post_init__(self) -> None:
        sizes = (*self.horizons, self.horizon, self.robust_horizon)
        if short := [h for h in sizes if self.variance / (h * (1 - np.tanh(1) ** 2)) > 1]:
            raise ValueError(
                f"variance: {self.variance:g} is too large for H = {short[0]}; valid: mu(1) <= 1"
            )
        super().__post_init__()


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "horizons": (64, 128, 256, 512, 1024, 2048, 4096),
        "sequences": 32768,
        "sequence_counts": (1024, 2048, 4096, 8192, 16384, 32768, 65536),
        "halvings": (2, 3, 4, 5, 6, 7, 8, 9, 10),
        "draws": 256,
        "family_draws": 128,
    },
}


@dataclasses.dataclass(frozen=True)
class Point:
    """Results at one (H, T): draws of the mean over the iterates, by method. `floor` is what no
    proper method can be below on average over the sign of theta*; `steps` are the step sizes."""

    kl: dict[str, Float[np.ndarray, " draws"]]
    coverage: dict[str, Float[np.ndarray, " draws"]]
    steps: dict[str, float]
    floor: Float[np.ndarray, " draws"]


def measure_point(settings: Settings, horizon: int, sequences: int, tuned: bool) -> Point:
    """Tune on one seed if asked, then measure every method on the other."""
    theory = token_learning_rate(1.0, settings.variance, sequences)
    steps = {"TTT": theory}
    if tuned:
        rng = generator(settings.tuning_seed, "token_sgd", "tune", horizon, sequences)
        rung = rare_prompt(horizon, settings.variance, settings.tuning_draws, rng)
        visits, grid = draw_visits(rung.mass, sequences, rng), np.array(step_sizes(settings.halvings))
        running, fixed, _ = token_means(rung, grid, visits, settings.responses, settings.n, rng)
        whole = sequence_means(rung, grid, visits, settings.n, rng)
        for name, values in (("TTT, best", running), ("fixed, best", fixed), ("sequence, best", whole)):
            steps[name] = float(grid[values.kl.mean(axis=1).argmin()])
        steps["sequence"] = 1 / (2 * horizon)
    rng = generator(settings.seed, "token_sgd", "verdict", horizon, sequences)
    rung = rare_prompt(horizon, settings.variance, settings.draws, rng)
    visits = draw_visits(rung.mass, sequences, rng)
    token = np.array([theory] + ([steps["TTT, best"], steps["fixed, best"]] if tuned else []))
    running, fixed, _ = token_means(rung, token, visits, settings.responses, settings.n, rng)
    kl, coverage = {"TTT": running.kl[0]}, {"TTT": running.coverage[0]}
    if tuned:
        pair = np.array([steps["sequence"], steps["sequence, best"]])
        whole = sequence_means(rung, pair, visits, settings.n, rng)
        for name, values, row in (
            ("TTT, best", running, 1),
            ("fixed, best", fixed, 2),
            ("sequence", whole, 0),
            ("sequence, best", whole, 1),
        ):
            kl[name], coverage[name] = values.kl[row], values.coverage[row]
    unseen = visits.durations[0] / sequences
    floor = rung.mass * unseen * horizon * token_kl(rung.truth, np.zeros_like(rung.truth))
    return Point(kl, coverage, steps, floor)


@dataclasses.dataclass(frozen=True)
class Robust:
    """After training, a response at another step size: KL in nats and Cov_N of one prompt, axes (factors,
    draws), and what the proof of the theorem gives for any start (NaN beyond its step sizes)."""

    kl: dict[str, Float[np.ndarray, "factors draws"]]
    coverage: dict[str, Float[np.ndarray, "factors draws"]]
    bound: dict[str, Float[np.ndarray, "factors draws"]]


def measure_robust(settings: Settings) -> Robust:
    """The last iterate on three kinds of prompts: trained ones; new ones, with features of their own that
    training never saw; and trained ones that pi_D now answers with the opposite theta*."""
    rng = generator(settings.seed, "token_sgd", "robust")
    horizon, theory = settings.robust_horizon, token_learning_rate(1.0, settings.variance, settings.sequences)
    rung = rare_prompt(horizon, settings.variance, settings.draws, rng)
    visits = draw_visits(rung.mass, settings.sequences, rng)
    last = token_means(rung, np.array([theory]), visits, 1, settings.n, rng)[2][0]
    kinds = {"trained": (last, rung.truth), "new": (0 * last, rung.truth), "opposite": (last, -rung.truth)}
    kl, coverage, bound = {}, {}, {}
    for name, (start, truth) in kinds.items():
        there = rung._replace(truth=truth)
        signs = draw_signs(there, (horizon, 1, settings.robust_responses), rng)
        gains = theory * np.array(settings.factors)
        values, _ = running_values(there, start[None, None], gains[:, None, None], signs, settings.n)
        kl[name], coverage[name] = values.kl, values.coverage
        spread = horizon * (1 - np.tanh(truth) ** 2)
        with np.errstate(divide="ignore"):
            limit = (start - truth) ** 2 / gains[:, None] + 2 * gains[:, None] * spread
        bound[name] = np.where((gains[:, None] > 0) & (gains[:, None] <= 0.5), limit, np.nan)
    return Robust(kl, coverage, bound)


def family_arms(settings: Settings) -> dict[str, Arm]:
    """A step a token, answered with running and with fixed parameters, and a step a sequence."""
    token = Arm("token", step_sizes(settings.token_halvings), most=256, spikes=6, spike_most=3)
    return {
        "TTT": token._replace(running=True),
        "fixed": token,
        "sequence": Arm("sequence", step_sizes(settings.sequence_halvings), settings.family_sequences),
    }


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything, by H and by T."""

    settings: Settings
    by_horizon: tuple[Point, ...]
    by_count: tuple[Point, ...]
    robust: Robust
    family: FamilyRun

    def over_horizons(self, name: str, what: str = "kl") -> Float[np.ndarray, "draws horizons"]:
        """Draws of a method at every H."""
        return np.stack([getattr(point, what)[name] for point in self.by_horizon], axis=1)

    @property
    def over_counts(self) -> Float[np.ndarray, "draws counts"]:
        """Draws of test-time training's KL at every T."""
        return np.stack([point.kl["TTT"] for point in self.by_count], axis=1)

    @property
    def floor(self) -> Float[np.ndarray, "draws horizons"]:
        """Draws of what no proper method is below, at every H."""
        return np.stack([point.floor for point in self.by_horizon], axis=1)

    def bounds(self, counts: tuple[int, ...]) -> Float[np.ndarray, " counts"]:
        """4/(eta T) + 2 eta sigma*^2 with the theorem's step."""
        variance = self.settings.variance
        return np.array([token_sgd_bound(token_learning_rate(1.0, variance, t), variance, t) for t in counts])


def resampler(results: Measurements) -> np.random.Generator:
    """Of the bootstrap: the same at every call, so that figures and checks agree."""
    return generator(results.settings.seed, "token_sgd", "bootstrap")


def measure(settings: Settings, study: Study) -> Measurements:
    """All points, then the response at other steps, then the family."""
    todo = [(h, settings.sequences, True) for h in settings.horizons]
    todo += [(settings.horizon, t, False) for t in settings.sequence_counts]
    points = []
    for cell in study.progress.over("rare prompt", todo, lambda key: {"H": key[0], "T": key[1]}):
        points.append(measure_point(settings, *cell))
    robust = measure_robust(settings)
    count = len(settings.horizons)
    family = measure_family("token_sgd", family_arms(settings), settings.family, study.progress)
    return Measurements(settings, tuple(points[:count]), tuple(points[count:]), robust, family)
