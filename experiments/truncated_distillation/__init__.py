"""Distillation with truncated gradients against the same without truncation.

    python -m experiments.truncated_distillation scale=cpu|paper

A ladder of rare prompts shows how Cov_N falls with the number of steps and with ln N; the lower-bound family
of SGD shows how the number of steps depends on the length H. Teacher and student are linear models; nothing
else is trained, in float64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from covlab.claims.direct_claim import Claim, Findings, run_direct_claim
from covlab.launch.cli import command
from experiments.truncated_distillation import figures as report
from tasks.checks import real, reals, whole, wholes
from theory.sgd.opposed_prompts import (
    Arm,
    FamilyRun,
    FamilySettings,
    Method,
    family_settings,
    halvings,
    measure_family,
)
from theory.sgd.rare_prompts import (
    Gradient,
    Values,
    draw_visits,
    fixed_values,
    generator,
    rare_prompt,
    sequence_means,
)
from tracking import Progress
from training.distillation import distillation_learning_rate, stopped_kl_rate

CLAIM = Claim(
    name="truncated_distillation",
    source="Coverage Principle, arXiv 2510.15020, Theorem 6.2 and Proposition 5.1 (lower bound)",
    title="Truncated distillation: steps that do not grow with the length of responses",
    introduction=(
        "The teacher's next-token law is known, so the KL of every token is: eps_h. The gradient of a "
        "sequence keeps its tokens until their eps add up to ln N, the one that crosses ln N in part, and "
        "none after. The theorem bounds the mean of Cov_N over the iterates by order "
        "sqrt(sigma*^2/(T ln N)) + B^2/T, without H.",
        "The ladder: prompts with 16, 32, ..., 8192 informative tokens, each with a coordinate of its own "
        "and the same share of sigma*^2 = 1, so that at every step size some prompt is just not covered.",
        "The lower bound's family: prompts on which a step must be short of order 1/H without truncation, "
        "beside prompts that need order H of such steps. What counts is the number of sequences until Cov_N "
        "is at its target for good, on the worst member of the family.",
    ),
)
GRADIENTS: tuple[Gradient, ...] = ("truncated", "sampled", "soft")


@dataclasses.dataclass(frozen=True)
class Settings(FamilySettings):
    """See conf/experiment/truncated_distillation_cpu.yaml."""

    lengths: tuple[int, ...]
    step_counts: tuple[int, ...]
    n: float
    log_ns: tuple[float, ...]
    steps: int
    variance: float
    grid: tuple[float, ...]
    draws: int
    tuning_draws: int
    dense_length: int
    dense_steps: int
    family_grid: tuple[float, ...]
    family_steps: int


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    lengths = wholes("lengths", config.lengths, 1, at_least=2)
    counts = wholes("step_counts", config.step_counts, 64, at_least=3)
    n, variance = (
        real("n", config.n, above=math.e, below=1e12),
        real("variance", config.variance, above=0, below=1e6),
    )
    share = variance / len(lengths) ** 2 / (1 - math.tanh(1) ** 2)
    if share * sum(1 / length for length in lengths) > 1:
        raise ValueError(f"variance: {variance:g} is too large for the ladder; valid: probabilities below 1")
    return Settings(
        **vars(family_settings(config, n)),
        lengths=lengths,
        step_counts=counts,
        n=n,
        log_ns=reals("log_ns", config.log_ns, 1, 1000, at_least=3),
        steps=whole("steps", config.steps, 64),
        variance=variance,
        grid=halvings("halvings", config.halvings),
        draws=whole("draws", config.draws, 8),
        tuning_draws=whole("tuning_draws", config.tuning_draws, 2),
        dense_length=whole("dense_length", config.dense_length, 1),
        dense_steps=whole("dense_steps", config.dense_steps, 64),
        family_grid=halvings("family_halvings", config.family_halvings),
        family_steps=whole("family_steps", config.family_steps, 16),
    )


def ladder(
    chosen: Settings,
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
    count = len(chosen.lengths)
    bound, total = math.sqrt(count), None
    for length in chosen.lengths:
        rng = generator(seed, "truncated_distillation", "ladder", steps, length)
        rung = rare_prompt(length, chosen.variance / count, draws, rng, bound, 1 / bound)
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


def measure_point(chosen: Settings, steps: int, n: float, gradients: Sequence[Gradient]) -> Point:
    """Tune every gradient on one seed, then measure it on the other."""
    coverage, stopped, best = {}, {}, {}
    square = len(chosen.lengths)
    best["theorem"] = square * distillation_learning_rate(math.sqrt(square), chosen.variance, steps, n)
    for gradient in gradients:
        tuned = ladder(
            chosen, chosen.tuning_seed, chosen.tuning_draws, steps, n, np.array(chosen.grid), gradient
        )
        best[gradient] = chosen.grid[int(tuned.coverage.mean(axis=1).argmin())]
        names = [gradient, "theorem"] if gradient == "truncated" else [gradient]
        gains = np.array([best[name] for name in names])
        found = ladder(chosen, chosen.seed, chosen.draws, steps, n, gains, gradient)
        for row, name in enumerate(names):
            coverage[name], stopped[name] = found.coverage[row], found.stopped[row]
    return Point(coverage, stopped, best)


@dataclasses.dataclass(frozen=True)
class Dense:
    """One prompt that always comes up, theta* in {-1, +1}, so that Cov_N starts near 1: means over the
    iterates at the theorem's step, the bound on D_N, and Cov_N at the start."""

    coverage: Float[np.ndarray, " draws"]
    stopped: Float[np.ndarray, " draws"]
    bound: Float[np.ndarray, " draws"]
    start: Float[np.ndarray, " draws"]


def family_arms(chosen: Settings) -> dict[str, Arm]:
    """With truncation and without it."""
    methods: tuple[Method, ...] = ("truncated", "sequence")
    return {method: Arm(method, chosen.family_grid, chosen.family_steps) for method in methods}


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


def measure_dense(chosen: Settings) -> Dense:
    """See `Dense`."""
    rng = generator(chosen.seed, "truncated_distillation", "dense")
    rung = rare_prompt(chosen.dense_length, 1.0, chosen.draws, rng)
    rung = rung._replace(mass=np.ones(chosen.draws), truth=np.sign(rung.truth))
    visits = draw_visits(rung.mass, chosen.dense_steps, rng)
    worst = float(rung.variance.max())
    step = distillation_learning_rate(1.0, worst, chosen.dense_steps, chosen.n)
    found = sequence_means(rung, np.array([step]), visits, chosen.n, rng, "truncated", every=16)
    return Dense(
        found.coverage[0],
        found.stopped[0],
        np.array([stopped_kl_rate(step, v, chosen.dense_steps, chosen.n) for v in rung.variance]),
        fixed_values(rung, np.zeros(chosen.draws), chosen.n).coverage,
    )


def measure(chosen: Settings, progress: Progress) -> Findings:
    """Everything, and what follows from it."""
    todo = [(t, chosen.n, GRADIENTS) for t in chosen.step_counts]
    todo += [(chosen.steps, math.exp(a), GRADIENTS[:2]) for a in chosen.log_ns]
    points = []
    for done, (steps, n, gradients) in enumerate(todo):
        progress.update("ladder", done, len(todo), {"T": steps, "ln N": math.log(n)})
        points.append(measure_point(chosen, steps, n, gradients))
    progress.update("ladder", len(todo), len(todo))
    dense = measure_dense(chosen)
    count = len(chosen.step_counts)
    family = measure_family(CLAIM.name, family_arms(chosen), chosen, progress)
    found = Measurements(chosen, tuple(points[:count]), tuple(points[count:]), dense, family)
    return Findings(
        checks=report.checks(found),
        seeds=(chosen.seed,),
        notes=report.notes(found),
        drawings=report.drawings(found),
        tables=report.tables(found),
    )


def truncated_distillation(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("truncated_distillation", truncated_distillation)
