"""Both sides of every inequality about coverage on every instance: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from metrics import (
    answer_level_log_ratio,
    coverage_profile,
    hellinger_tail_bound,
    kl,
    kl_converse_bound,
    log_density_ratio,
    squared_hellinger,
    stopped_kl,
    stopped_kl_bound,
    transitivity_bound,
)
from tasks import check_seed, numpy_stream
from tasks.checks import reals, whole, wholes
from theory.coverage_laws import (
    FAMILIES,
    Law,
    Sides,
    between,
    random_chains,
    random_triple,
)
from tracking import Progress

SLACK = 1e-9
"""Nats at a threshold: laws in float64 hit a ratio of exactly N up to rounding."""
LONGEST_TREE = 20
DELTAS = tuple(float(each) for each in np.geomspace(1e-3, 0.5, 6))
"""Of the lower bound of coverage, which holds at every delta: the largest over these is taken."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured; `sizes` by family."""

    seed: int
    draws: int
    ns: tuple[int, ...]
    fitted_n: int
    factors: tuple[float, ...]
    sizes: dict[str, tuple[int, ...]]


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    ns = wholes("ns", config.ns, 3)
    fitted = whole("fitted_n", config.fitted_n, 3)
    if fitted not in ns:
        raise ValueError(f"fitted_n: {fitted}; valid: one of ns, {list(ns)}")
    alphabets = wholes("alphabets", config.alphabets, 2, at_least=2)
    depths = wholes("depths", config.depths, 1, at_least=2)
    if depths[-1] > LONGEST_TREE:
        raise ValueError(f"depths: {depths[-1]}; valid: 1 to {LONGEST_TREE}, whose responses are enumerated")
    horizons = wholes("horizons", config.horizons, 2, at_least=2)
    return Settings(
        seed=check_seed("seed", config.seed),
        draws=whole("draws", config.draws, 32),
        ns=ns,
        fitted_n=fitted,
        factors=reals("factors", config.factors, 1, 1e6),
        sizes={
            "bernoulli": wholes("budgets", config.budgets, 2, at_least=2),
            "softmax": alphabets,
            "heavy tail": wholes("steps", config.steps, 1, at_least=2),
            "rare prompts": horizons,
            "switch": horizons,
            "tree": depths,
            "every token": wholes("short_horizons", config.short_horizons, 1, at_least=2),
            "triples": alphabets,
            "chains": alphabets,
        },
    )


@dataclasses.dataclass(frozen=True)
class Measurements:
    """`sides` by inequality and family; `tight` pairs by inequality: right/left of every draw;
    `growth` by family and quantity: one value a draw and size."""

    settings: Settings
    sides: dict[tuple[str, str], Sides]
    tight: dict[str, Float[np.ndarray, " draws"]]
    growth: dict[tuple[str, str], Float[np.ndarray, "draws sizes"]]

    def of(self, inequality: str) -> dict[str, Sides]:
        """Its sides by family."""
        return {family: each for (name, family), each in self.sides.items() if name == inequality}


def kl_bound(divergence: float, ns: tuple[int, ...]) -> list[float]:
    """KL/(ln N - 1 + 1/N) at each N (Proposition D.1)."""
    return [divergence / (math.log(n) - 1 + 1 / n) for n in ns]


def compare(law: Law, ns: tuple[int, ...]) -> dict[str, tuple[list[float], list[float]]]:
    """Left and right sides of the inequalities that concern one law, by name; one entry an N."""
    covered = coverage_profile(law.log_ratio, ns, law.mass, SLACK).tolist()
    divergence, hellinger = float(kl(law.log_ratio, law.mass)), squared_hellinger(law.log_ratio, law.mass)
    converse, largest = float(kl_converse_bound(law.log_ratio, law.mass)), float(law.log_ratio.max())
    found = {
        "KL": (covered, kl_bound(divergence, ns)),
        "Hellinger": (covered, [2 * n / (math.sqrt(n) - 1) ** 2 * float(hellinger) for n in ns]),
        "converse": ([divergence], [converse]),
        "converse below ln W": ([converse], [largest]),
    }
    if law.kl_along is not None and law.hellinger_along is not None:
        stopped = stopped_kl(law.kl_along, ns, law.mass)
        found["stopped KL"] = (covered, stopped_kl_bound(law.kl_along, ns, law.mass).tolist())
        factors = np.array([1 / math.log(n) + 1 / (math.log(n) - 1 + 1 / n) for n in ns])
        found["stopped KL, sharper"] = (covered, (factors * stopped).tolist())
        below = [hellinger_tail_bound(law.hellinger_along, ns, delta, law.mass) for delta in DELTAS]
        found["Hellinger along"] = (np.maximum(np.max(below, axis=0), 0.0).tolist(), covered)
    return found


def compare_triple(rng: np.random.Generator, size: int, chosen: Settings) -> dict:
    """Transitivity, at the best M of nine from 1 to N, even in ln M."""
    each = random_triple(rng, size)
    with np.errstate(divide="ignore"):
        logs = [np.log(part) for part in each]
    kept = each.target > 0
    data_over_model, target_over_data = logs[1] - logs[2], (logs[0] - logs[1])[kept]
    target = each.target[kept]
    left = coverage_profile((logs[0] - logs[2])[kept], chosen.ns, target, SLACK)
    right = []
    for n in chosen.ns:
        ms = [n ** (k / 8) for k in range(8)] + [n]
        bounds = transitivity_bound(data_over_model, each.data, target_over_data, target, n, ms)
        right.append(float(bounds.min()))
    return {"transitivity": (left.tolist(), right)}


def compare_chains(rng: np.random.Generator, size: int, chosen: Settings) -> dict:
    """Coverage of answers, as it holds at every factor c, and as it is printed (c = 1)."""
    each = random_chains(rng, size)
    mass = np.exp(each.data)
    by_answer = answer_level_log_ratio(each.data, each.model, each.answers)
    by_response = coverage_profile(log_density_ratio(each.data, each.model), chosen.ns, mass, SLACK)
    left, right = [], []
    for c in chosen.factors:
        left += coverage_profile(by_answer, [c * n for n in chosen.ns], mass, SLACK).tolist()
        right += (c / (c - 1) * by_response).tolist()
    printed = coverage_profile(by_answer, chosen.ns, mass, SLACK).tolist()
    return {"answers": (left, right), "answers, as printed": (printed, by_response.tolist())}


def measure_all(chosen: Settings, progress: Progress) -> Measurements:
    """Every family at every size."""
    compared: dict[str, Callable[[np.random.Generator, int], dict]] = {
        "triples": lambda rng, size: compare_triple(rng, size, chosen),
        "chains": lambda rng, size: compare_chains(rng, size, chosen),
    }
    for name, draw in FAMILIES.items():
        compared[name] = _on_law(name, draw, chosen)
    sides: dict[tuple[str, str], Sides] = {}
    todo = [(family, size) for family in compared for size in chosen.sizes[family]]
    results: dict[tuple[str, int], list[dict]] = {}
    for done, (family, size) in enumerate(todo):
        progress.update("instances", done, len(todo), {"size": size})
        rng = numpy_stream(chosen.seed, "coverage_bounds", family, size)
        results[family, size] = [compared[family](rng, size) for _ in range(chosen.draws)]
    progress.update("instances", len(todo), len(todo))
    for family in compared:
        columns = [results[family, size] for size in chosen.sizes[family]]
        for name in columns[0][0]:
            both = np.array([[each[name] for each in column] for column in columns], np.float64)
            sides[name, family] = Sides(*both.transpose(2, 1, 0, 3))
    return Measurements(chosen, sides, tight_pairs(chosen), growth(chosen, sides))


def _on_law(
    family: str, draw: Callable[[np.random.Generator, int], Law], chosen: Settings
) -> Callable[[np.random.Generator, int], dict]:
    def compared(rng: np.random.Generator, size: int) -> dict:
        return compare(draw(rng, size), (size,) if family == "bernoulli" else chosen.ns)

    return compared


def growth(
    chosen: Settings, sides: dict[tuple[str, str], Sides]
) -> dict[tuple[str, str], Float[np.ndarray, "draws sizes"]]:
    """At `fitted_n`, for the families in H: Cov_N and its bounds. For the heavy tail: 1 - KL/(its bound)."""
    at = chosen.ns.index(chosen.fitted_n)
    found = {}
    for family in ("rare prompts", "switch", "every token"):
        found[family, "Cov"] = sides["KL", family].left[:, :, at]
        found[family, "bound by KL"] = sides["KL", family].right[:, :, at]
        found[family, "bound by stopped KL"] = sides["stopped KL", family].right[:, :, at]
        found[family, "lower bound"] = sides["Hellinger along", family].left[:, :, at]
    converse = sides["converse", "heavy tail"]
    found["heavy tail", "gap"] = (1 - converse.left / converse.right)[:, :, 0]
    return found


def tight_pairs(chosen: Settings) -> dict[str, Float[np.ndarray, " draws"]]:
    """right/left for instances that attain transitivity and the answer-level bound (derived).

    Transitivity: pi_D writes the one correct response with probability 1/M, the model N times less often, and
    pi_T always. Answers: one answer; a chain of mass 1/c and ratio just below N, and one of mass 1 - 1/c that
    the model misses.
    """
    rng = numpy_stream(chosen.seed, "coverage_bounds", "tight")
    transitive, answers = [], []
    for _ in range(chosen.draws):
        m, n = between(rng, 1.5, 64), between(rng, 1.5, 64)
        data, model = np.array([1 / m, 1 - 1 / m]), np.array([1 / (m * n), 1 - 1 / (m * n)])
        # Just above M the second term is 0, and Cov_N is inclusive up to the tolerance.
        right = transitivity_bound(
            np.log(data / model), data, np.log([m]), np.ones(1), m * n, [m * (1 + 2e-5)]
        )
        left = coverage_profile(np.log([m * n]), [m * n], np.ones(1))
        transitive.append(float(right[0] / left[0]))
        c, slack = float(rng.choice(chosen.factors)), 1e-6
        data = np.array([1 / c, 1 - 1 / c])
        model = np.array([(1 + slack) / (c * n), slack**2])
        covered = coverage_profile(np.log(data / model), [n], data, 0.0)[0]
        reached = c * (1 - 3 * slack)
        by_answer = answer_level_log_ratio(np.log(data), np.log(model), np.zeros(2, int))
        left = coverage_profile(by_answer, [reached * n], data, 0.0)
        answers.append(float(reached / (reached - 1) * covered / left[0]))
    return {"transitivity": np.array(transitive), "answers": np.array(answers)}
