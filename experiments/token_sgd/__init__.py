"""Token-level SGD with and without test-time training, against a step a sequence.

    python -m experiments.token_sgd scale=cpu|paper

On a prompt that is the rarer the longer its responses are, so that the inherent variance sigma*^2 stays the
same, every model that answers with fixed parameters has a KL that grows with H; test-time training's does
not. On the lower-bound family of SGD the sequences that a step a sequence needs grow with H, and those of a
step a token do not. Nothing but linear models is trained, in float64.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from covlab.claims.direct_claim import Claim, Findings, run_direct_claim
from covlab.launch.cli import command
from experiments.token_sgd import figures as report
from tasks.checks import real, whole, wholes
from theory.sgd.opposed_prompts import (
    Arm,
    FamilyRun,
    FamilySettings,
    family_settings,
    halvings,
    measure_family,
)
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
from tracking import Progress
from training.token_sgd import token_learning_rate, token_sgd_bound

CLAIM = Claim(
    name="token_sgd",
    source="Coverage Principle, arXiv 2510.15020, Theorem 6.1, Propositions 3.2 and 5.1",
    title="Token-level SGD with test-time training does not depend on the length of responses",
    introduction=(
        "Token-level SGD takes a gradient step after every token and carries the parameters on to the next "
        "sequence. Test-time training decodes the same way: it takes the same step on every token that it "
        "has just written, and forgets it after the response. The theorem bounds the mean over the iterates "
        "of KL(pi_D || pi_TTT) by 4/(eta T) + 2 eta sigma*^2: H is not in it.",
        "The rare prompt: one prompt has H informative tokens, phi = y_h in {-1, +1}, all others have none. "
        "Its probability falls as 1/H, so that sigma*^2 is the same at every H. As long as it has not come "
        "up, fixed parameters know nothing of it: any proper estimator, averaged over the two signs of "
        "theta*, has at least the KL of theta = 0. Test-time training learns it while it writes.",
        "The lower bound's family: prompts on which a step a sequence must be short of order 1/H, beside "
        "prompts that need order H of such steps. What counts is the number of sequences until Cov_N is at "
        "its target for good, on the worst member of the family.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Settings(FamilySettings):
    """See conf/experiment/token_sgd_cpu.yaml."""

    horizons: tuple[int, ...]
    sequences: int
    sequence_counts: tuple[int, ...]
    horizon: int
    variance: float
    n: float
    grid: tuple[float, ...]
    draws: int
    responses: int
    tuning_draws: int
    robust_horizon: int
    factors: tuple[float, ...]
    robust_responses: int
    family_sequences: int
    token_grid: tuple[float, ...]
    sequence_grid: tuple[float, ...]


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    horizons = wholes("horizons", config.horizons, 4, at_least=3)
    counts = wholes("sequence_counts", config.sequence_counts, 16, at_least=3)
    variance, n = (
        real("variance", config.variance, above=0, below=1e6),
        real("n", config.n, above=np.e, below=1e12),
    )
    horizon = whole("horizon", config.horizon, 4)
    robust = whole("robust_horizon", config.robust_horizon, 4)
    if short := [h for h in (*horizons, horizon, robust) if variance / (h * (1 - np.tanh(1) ** 2)) > 1]:
        raise ValueError(f"variance: {variance:g} is too large for H = {short[0]}; valid: mu(1) <= 1")
    factors = [real("factors", each, least=0) for each in config.factors]
    if len(set(factors)) < 2 or 1.0 not in factors or 0.0 not in factors:
        raise ValueError(f"factors: {factors}; valid: different numbers >= 0, 0 and 1 among them")
    return Settings(
        **vars(family_settings(config, n)),
        horizons=horizons,
        sequences=whole("sequences", config.sequences, 16),
        sequence_counts=counts,
        horizon=horizon,
        variance=variance,
        n=n,
        grid=halvings("halvings", config.halvings),
        draws=whole("draws", config.draws, 8),
        responses=whole("responses", config.responses, 1),
        tuning_draws=whole("tuning_draws", config.tuning_draws, 2),
        robust_horizon=robust,
        factors=tuple(sorted(factors)),
        robust_responses=whole("robust_responses", config.robust_responses, 1),
        family_sequences=whole("family_sequences", config.family_sequences, 16),
        token_grid=halvings("token_halvings", config.token_halvings),
        sequence_grid=halvings("sequence_halvings", config.sequence_halvings),
    )


@dataclasses.dataclass(frozen=True)
class Point:
    """What was measured at one (H, T): draws of the mean over the iterates, by method. `floor` is what no
    proper method can be below on average over the sign of theta*; `steps` are the step sizes."""

    kl: dict[str, Float[np.ndarray, " draws"]]
    coverage: dict[str, Float[np.ndarray, " draws"]]
    steps: dict[str, float]
    floor: Float[np.ndarray, " draws"]


def measure_point(chosen: Settings, horizon: int, sequences: int, tuned: bool) -> Point:
    """Tune on one seed if asked, then measure every method on the other."""
    theory = token_learning_rate(1.0, chosen.variance, sequences)
    steps = {"TTT": theory}
    if tuned:
        rng = generator(chosen.tuning_seed, "token_sgd", "tune", horizon, sequences)
        rung = rare_prompt(horizon, chosen.variance, chosen.tuning_draws, rng)
        visits, grid = draw_visits(rung.mass, sequences, rng), np.array(chosen.grid)
        running, fixed, _ = token_means(rung, grid, visits, chosen.responses, chosen.n, rng)
        whole = sequence_means(rung, grid, visits, chosen.n, rng)
        for name, values in (("TTT, best", running), ("fixed, best", fixed), ("sequence, best", whole)):
            steps[name] = float(grid[values.kl.mean(axis=1).argmin()])
        steps["sequence"] = 1 / (2 * horizon)
    rng = generator(chosen.seed, "token_sgd", "verdict", horizon, sequences)
    rung = rare_prompt(horizon, chosen.variance, chosen.draws, rng)
    visits = draw_visits(rung.mass, sequences, rng)
    token = np.array([theory] + ([steps["TTT, best"], steps["fixed, best"]] if tuned else []))
    running, fixed, _ = token_means(rung, token, visits, chosen.responses, chosen.n, rng)
    kl, coverage = {"TTT": running.kl[0]}, {"TTT": running.coverage[0]}
    if tuned:
        pair = np.array([steps["sequence"], steps["sequence, best"]])
        whole = sequence_means(rung, pair, visits, chosen.n, rng)
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
    fixed_step: float


def measure_robust(chosen: Settings) -> Robust:
    """The last iterate on three kinds of prompts: trained ones; new ones, with features of their own that
    training never saw; and trained ones that pi_D now answers with the opposite theta*."""
    rng = generator(chosen.seed, "token_sgd", "robust")
    horizon, theory = chosen.robust_horizon, token_learning_rate(1.0, chosen.variance, chosen.sequences)
    rung = rare_prompt(horizon, chosen.variance, chosen.draws, rng)
    visits = draw_visits(rung.mass, chosen.sequences, rng)
    last = token_means(rung, np.array([theory]), visits, 1, chosen.n, rng)[2][0]
    kinds = {"trained": (last, rung.truth), "new": (0 * last, rung.truth), "opposite": (last, -rung.truth)}
    kl, coverage, bound = {}, {}, {}
    for name, (start, truth) in kinds.items():
        there = rung._replace(truth=truth)
        signs = draw_signs(there, (horizon, 1, chosen.robust_responses), rng)
        gains = theory * np.array(chosen.factors)
        values, _ = running_values(there, start[None, None], gains[:, None, None], signs, chosen.n)
        kl[name], coverage[name] = values.kl, values.coverage
        spread = horizon * (1 - np.tanh(truth) ** 2)
        with np.errstate(divide="ignore"):
            limit = (start - truth) ** 2 / gains[:, None] + 2 * gains[:, None] * spread
        bound[name] = np.where((gains[:, None] > 0) & (gains[:, None] <= 0.5), limit, np.nan)
    return Robust(kl, coverage, bound, theory)


def family_arms(chosen: Settings) -> dict[str, Arm]:
    """A step a token, answered with running and with fixed parameters, and a step a sequence."""
    token = Arm("token", chosen.token_grid, most=256, spikes=6, spike_most=3)
    return {
        "TTT": token._replace(running=True),
        "fixed": token,
        "sequence": Arm("sequence", chosen.sequence_grid, chosen.family_sequences),
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


def measure(chosen: Settings, progress: Progress) -> Findings:
    """Everything, and what follows from it."""
    todo = [(h, chosen.sequences, True) for h in chosen.horizons]
    todo += [(chosen.horizon, t, False) for t in chosen.sequence_counts]
    points = []
    for done, (horizon, sequences, tuned) in enumerate(todo):
        progress.update("rare prompt", done, len(todo), {"H": horizon, "T": sequences})
        points.append(measure_point(chosen, horizon, sequences, tuned))
    progress.update("rare prompt", len(todo), len(todo))
    robust = measure_robust(chosen)
    count = len(chosen.horizons)
    family = measure_family(CLAIM.name, family_arms(chosen), chosen, progress)
    found = Measurements(chosen, tuple(points[:count]), tuple(points[count:]), robust, family)
    return Findings(
        checks=report.checks(found),
        seeds=(chosen.seed,),
        notes=report.notes(found),
        drawings=report.drawings(found),
        tables=report.tables(found),
    )


def token_sgd(config: DictConfig) -> int:
    """Run the claim."""
    return run_direct_claim(CLAIM, config, settings(config), measure)


main = command("token_sgd", token_sgd)
