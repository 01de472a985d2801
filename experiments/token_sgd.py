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

from experiments import token_sgd_report as report
from experiments.cli import command
from experiments.direct_claim import (
    Claim,
    Findings,
    number_in,
    run_direct_claim,
    whole_number,
    whole_numbers,
)
from experiments.opposed_prompts import Family, Method, slope_steps, spike_steps
from experiments.rare_prompts import (
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
class Settings:
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
    family_horizons: tuple[int, ...]
    family: Family
    family_draws: int
    family_tuning_draws: int
    family_sequences: int
    token_grid: tuple[float, ...]
    sequence_grid: tuple[float, ...]
    tuning_seed: int
    seed: int


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    horizons = whole_numbers("horizons", config.horizons, 4, at_least=3)
    counts = whole_numbers("sequence_counts", config.sequence_counts, 16, at_least=3)
    variance, n = number_in("variance", config.variance, 0, 1e6), number_in("n", config.n, np.e, 1e12)
    horizon = whole_number("horizon", config.horizon, 4)
    robust = whole_number("robust_horizon", config.robust_horizon, 4)
    if short := [h for h in (*horizons, horizon, robust) if variance / (h * (1 - np.tanh(1) ** 2)) > 1]:
        raise ValueError(f"variance: {variance:g} is too large for H = {short[0]}; valid: mu(1) <= 1")
    factors = [float(each) for each in config.factors]
    if len(set(factors)) < 2 or min(factors) < 0 or 1.0 not in factors or 0.0 not in factors:
        raise ValueError(f"factors: {factors}; valid: different numbers >= 0, 0 and 1 among them")
    seeds = [whole_number(name, config[name], 0) for name in ("tuning_seed", "seed")]
    if seeds[0] == seeds[1]:
        raise ValueError(f"seed: {seeds[1]}; valid: another one than tuning_seed, which steps are chosen on")
    inner = number_in("family_inner", config.family_inner, 4, 100)
    plus = number_in("family_plus", config.family_plus, 1 / 16, 15 / 16)
    return Settings(
        horizons=horizons,
        sequences=whole_number("sequences", config.sequences, 16),
        sequence_counts=counts,
        horizon=horizon,
        variance=variance,
        n=n,
        grid=halvings("halvings", config.halvings),
        draws=whole_number("draws", config.draws, 8),
        responses=whole_number("responses", config.responses, 1),
        tuning_draws=whole_number("tuning_draws", config.tuning_draws, 2),
        robust_horizon=robust,
        factors=tuple(sorted(factors)),
        robust_responses=whole_number("robust_responses", config.robust_responses, 1),
        family_horizons=whole_numbers("family_horizons", config.family_horizons, 64, at_least=3),
        family=Family(0, n, inner, plus, 1 / 16),
        family_draws=whole_number("family_draws", config.family_draws, 8),
        family_tuning_draws=whole_number("family_tuning_draws", config.family_tuning_draws, 2),
        family_sequences=whole_number("family_sequences", config.family_sequences, 16),
        token_grid=halvings("token_halvings", config.token_halvings),
        sequence_grid=halvings("sequence_halvings", config.sequence_halvings),
        tuning_seed=seeds[0],
        seed=seeds[1],
    )


def halvings(name: str, value: object) -> tuple[float, ...]:
    """Step sizes 2^-k, the largest first."""
    return tuple(2.0**-k for k in whole_numbers(name, value, 0, at_least=2))


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


@dataclasses.dataclass(frozen=True)
class FamilyRun:
    """Sequences until Cov_N is at its target for good on the worst instance, (draws, H) by method, and the
    step sizes chosen."""

    needed: dict[str, Float[np.ndarray, "draws horizons"]]
    steps: dict[str, tuple[float, ...]]


def measure_family(chosen: Settings, progress: Progress) -> FamilyRun:
    """Every method at every H with the step of its grid that was best on the tuning seed."""
    arms: dict[str, tuple[Method, tuple[float, ...], int]] = {
        "TTT": ("token", chosen.token_grid, 3),
        "fixed": ("token", chosen.token_grid, 3),
        "sequence": ("sequence", chosen.sequence_grid, 256),
    }
    needed: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    steps: dict[str, list[float]] = {name: [] for name in arms}
    for done, horizon in enumerate(chosen.family_horizons):
        progress.update("family", done, len(chosen.family_horizons), {"H": horizon})
        family = chosen.family._replace(horizon=horizon)
        spikes: dict[Method, np.ndarray] = {}
        tuning: dict[Method, tuple[np.ndarray, np.ndarray | None]] = {}
        for name, (method, grid, most) in arms.items():
            rates = np.array(grid)
            if method not in spikes:
                spikes[method] = spike_steps(family, method, rates, 24 if method == "sequence" else 6, most)
                rng = generator(chosen.tuning_seed, "token_sgd", "family", method, horizon)
                limit = chosen.family_sequences if method == "sequence" else 256
                tuning[method] = slope_steps(
                    family, method, rates, chosen.family_tuning_draws, rng, limit, spikes[method]
                )
            tuned = tuning[method][0] if name != "TTT" else tuning[method][1]
            assert tuned is not None
            worst = np.maximum(spikes[method], tuned.mean(axis=1))
            best = int(worst.argmin())
            rng = generator(chosen.seed, "token_sgd", "family", name, horizon)
            limit = 4 * chosen.family_sequences if method == "sequence" else 1024
            found = slope_steps(family, method, rates[[best]], chosen.family_draws, rng, limit)
            own = found.running if name == "TTT" else found.fixed
            assert own is not None
            needed[name].append(np.maximum(own[0], spikes[method][best]))
            steps[name].append(float(rates[best]))
    progress.update("family", len(chosen.family_horizons), len(chosen.family_horizons))
    return FamilyRun(
        {name: np.stack(each, axis=1) for name, each in needed.items()},
        {name: tuple(each) for name, each in steps.items()},
    )


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
    family = measure_family(chosen, progress)
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

if __name__ == "__main__":
    main()
