"""Truncated and other gradients on the ladder and on the opposed prompts: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.opposed import OpposedSettings, step_sizes
from covlab.claims.settings import Real, Reals, Seed, Whole, Wholes
from theory.sgd.opposed_prompts import Arm, FamilyRun, Method, measure_family
from theory.sgd.rare_prompts import (
    Gradient,
    Values,
    draw_visits,
    fixed_values,
    generator,
    rare_prompt,
    sequence_means,
)
from training.distillation import distillation_learning_rate, stopped_kl_rate

GRADIENTS: tuple[Gradient, ...] = ("truncated", "sampled", "soft")
NAMES = {
    "truncated": "truncated, best step",
    "sampled": "not truncated, best step",
    "soft": "teacher's mean gradient, not truncated, best step",
    "theorem": "truncated, the theorem's step",
}
FAMILY = {"truncated": "truncated", "sequence": "not truncated"}


@dataclasses.dataclass(frozen=True)
class Settings(OpposedSettings):
    """The ladder, the opposed prompts, draws and seeds; the defaults are the scale `cpu`.

    Attributes:
        lengths: informative tokens of the ladder's prompts.
        variance: sigma*^2 of the ladder, in equal shares.
        step_counts: steps T, at `n`.
        log_ns: ln N, at `steps`.
        steps: steps T where N varies.
        halvings: exponents k of eta B^2 = 2^-k on the ladder, from which every gradient chooses.
        draws: instances: theta*, prompts, responses.
        tuning_draws: instances that step sizes are chosen on.
        dense_length: informative tokens of the one prompt on which the theorem's constants are checked.
        dense_steps: steps on that prompt.
        family_halvings: exponents k of the step sizes eta = 2^-k on the family, for both gradients.
        family_steps: sequences after which training on the slopes is given up.
    """

    family_inner: Annotated[float, Real(above=4, below=100)] = 44
    seed: Annotated[int, Seed()] = 640
    lengths: Annotated[tuple[int, ...], Wholes(1, at_least=2)] = tuple(2**k for k in range(4, 14))
    variance: Annotated[float, Real(above=0, below=1e6)] = 1.0
    step_counts: Annotated[tuple[int, ...], Wholes(64, at_least=3)] = tuple(2**k for k in range(16, 21))
    log_ns: Annotated[tuple[float, ...], Reals(1, 1000, at_least=3)] = (2, 4, 8, 16, 32)
    steps: Annotated[int, Whole(64)] = 131072
    halvings: Annotated[tuple[int, ...], Wholes(0, at_least=2)] = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    draws: Annotated[int, Whole(8)] = 32
    tuning_draws: Annotated[int, Whole(2)] = 16
    dense_length: Annotated[int, Whole(1)] = 16
    dense_steps: Annotated[int, Whole(64)] = 131072
    family_halvings: Annotated[tuple[int, ...], Wholes(0, at_least=2)] = tuple(range(2, 25))
    family_steps: Annotated[int, Whole(16)] = 16384

    def __post_init__(self) -> None:
        share = self.variance / len(self.lengths) ** 2 / (1 - math.tanh(1) ** 2)
        if share * sum(1 / length for length in self.lengths) > 1:
            raise ValueError(
                f"variance: {self.variance:g} is too large for the ladder; valid: probabilities below 1"
            )
        super().__post_init__()


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "step_counts": (65536, 131072, 262144, 524288, 1048576, 2097152, 4194304),
        "draws": 128,
        "dense_steps": 524288,
        "family_horizons": (256, 512, 1024, 2048, 4096, 8192),
        "family_inner": 48,
        "family_draws": 128,
        "family_steps": 32768,
    },
}


def ladder(
    settings: Settings,
    seed: int,
    draws: int,
    steps: int,
    n: float,
    gains: Float[np.ndarray, " rates"],
    gradient: Gradient,
) -> Values:
    """Means over T = `steps` iterates of the ladder's KL, Cov_N and D_N, (rates, draws).

    Instances and visits are those of (seed, T) whatever the gradient and N.
    """
    count = len(settings.lengths)
    bound, total = math.sqrt(count), None
    for length in settings.lengths:
        rng = generator(seed, "truncated_distillation", "ladder", steps, length)
        rung = rare_prompt(length, settings.variance / count, draws, rng, bound, 1 / bound)
        visits = draw_visits(rung.mass, steps, rng)
        rng = generator(seed, "truncated_distillation", "ladder", "tokens", gradient, steps, length)
        part = sequence_means(rung, gains, visits, n, rng, gradient)
        total = part if total is None else Values(*(a + b for a, b in zip(total, part, strict=True)))
    assert total is not None
    return total


@dataclasses.dataclass(frozen=True)
class Point:
    """The ladder at one (T, N): draws by gradient, each with its best step (`steps`, of eta B^2), and with
    the theorem's step under "theorem"."""

    coverage: dict[str, Float[np.ndarray, " draws"]]
    stopped: dict[str, Float[np.ndarray, " draws"]]
    steps: dict[str, float]


def measure_point(settings: Settings, steps: int, n: float, gradients: Sequence[Gradient]) -> Point:
    """Tune every gradient on one seed, then measure it on the other."""
    coverage, stopped, best = {}, {}, {}
    square = len(settings.lengths)
    best["theorem"] = square * distillation_learning_rate(math.sqrt(square), settings.variance, steps, n)
    grid = step_sizes(settings.halvings)
    for gradient in gradients:
        tuned = ladder(
            settings, settings.tuning_seed, settings.tuning_draws, steps, n, np.array(grid), gradient
        )
        best[gradient] = grid[int(tuned.coverage.mean(axis=1).argmin())]
        names = [gradient, "theorem"] if gradient == "truncated" else [gradient]
        gains = np.array([best[name] for name in names])
        results = ladder(settings, settings.seed, settings.draws, steps, n, gains, gradient)
        for row, name in enumerate(names):
            coverage[name], stopped[name] = results.coverage[row], results.stopped[row]
    return Point(coverage, stopped, best)


@dataclasses.dataclass(frozen=True)
class Dense:
    """One prompt that always comes up, theta* in {-1, +1}, so that Cov_N starts near 1: means over the
    iterates at the theorem's step, the bound on D_N, and Cov_N at the start."""

    coverage: Float[np.ndarray, " draws"]
    stopped: Float[np.ndarray, " draws"]
    bound: Float[np.ndarray, " draws"]
    start: Float[np.ndarray, " draws"]


def family_arms(settings: Settings) -> dict[str, Arm]:
    """With truncation and without it."""
    methods: tuple[Method, ...] = ("truncated", "sequence")
    return {
        method: Arm(method, step_sizes(settings.family_halvings), settings.family_steps) for method in methods
    }


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything, by T and by N."""

    settings: Settings
    by_steps: tuple[Point, ...]
    by_n: tuple[Point, ...]
    dense: Dense
    family: FamilyRun

    def over_steps(self, name: str, what: str = "coverage") -> Float[np.ndarray, "draws counts"]:
        """Draws at every T."""
        return np.stack([getattr(point, what)[name] for point in self.by_steps], axis=1)

    def over_n(self, name: str, what: str = "coverage") -> Float[np.ndarray, "draws ns"]:
        """Draws at every N."""
        return np.stack([getattr(point, what)[name] for point in self.by_n], axis=1)


def measure_dense(settings: Settings) -> Dense:
    """See `Dense`."""
    rng = generator(settings.seed, "truncated_distillation", "dense")
    rung = rare_prompt(settings.dense_length, 1.0, settings.draws, rng)
    rung = rung._replace(mass=np.ones(settings.draws), truth=np.sign(rung.truth))
    visits = draw_visits(rung.mass, settings.dense_steps, rng)
    worst = float(rung.variance.max())
    step = distillation_learning_rate(1.0, worst, settings.dense_steps, settings.n)
    results = sequence_means(rung, np.array([step]), visits, settings.n, rng, "truncated", every=16)
    return Dense(
        results.coverage[0],
        results.stopped[0],
        np.array([stopped_kl_rate(step, v, settings.dense_steps, settings.n) for v in rung.variance]),
        fixed_values(rung, np.zeros(settings.draws), settings.n).coverage,
    )


def resampler(results: Measurements) -> np.random.Generator:
    """Of the bootstrap: the same at every call, so that figures and checks agree."""
    return generator(results.settings.seed, "truncated_distillation", "bootstrap")


def ladder_bounds(results: Measurements) -> Float[np.ndarray, " counts"]:
    """4/(eta T) + 2 eta (32 ln N + 1) sigma*^2 of the ladder at the theorem's step, at every T."""
    settings = results.settings
    bound = math.sqrt(len(settings.lengths))
    variance, n = settings.variance, settings.n
    return np.array(
        [
            stopped_kl_rate(distillation_learning_rate(bound, variance, t, n), variance, t, n)
            for t in settings.step_counts
        ]
    )


def measure(settings: Settings, study: Study) -> Measurements:
    """All points of the ladder, then the one prompt, then the family."""
    todo = [(t, settings.n, GRADIENTS) for t in settings.step_counts]
    todo += [(settings.steps, math.exp(a), GRADIENTS[:2]) for a in settings.log_ns]
    points = []
    for cell in study.progress.over("ladder", todo, lambda key: {"T": key[0], "ln N": math.log(key[1])}):
        points.append(measure_point(settings, *cell))
    dense = measure_dense(settings)
    count = len(settings.step_counts)
    family = measure_family("truncated_distillation", family_arms(settings), settings.family, study.progress)
    return Measurements(settings, tuple(points[:count]), tuple(points[count:]), dense, family)
