"""Both sides of every inequality about coverage on every instance: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Reals, Seed, Whole, Wholes
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
from tasks import numpy_stream
from tasks.checks import wholes
from theory.coverage_laws import (
    FAMILIES,
    Law,
    Sides,
    between,
    random_chains,
    random_triple,
)

SLACK = 1e-9
"""Nats at a threshold: laws in float64 hit a ratio of exactly N up to rounding."""
LONGEST_TREE = 20
IN_LENGTH = ("rare prompts", "switch", "every token")
"""The families whose size is the length H."""
DELTAS = tuple(float(level) for level in np.geomspace(1e-3, 0.5, 6))
"""Of the lower bound of coverage, which holds at every delta: the largest over these is taken."""


def _tree_depths(field: str, value: Any) -> tuple[int, ...]:
    depths = wholes(field, value, 1, at_least=2)
    if depths[-1] > LONGEST_TREE:
        raise ValueError(f"{field}: {depths[-1]}; valid: 1 to {LONGEST_TREE}, whose responses are enumerated")
    return depths


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seeds of the measurement; the defaults are the scale `cpu`.

    The ranges of the instances were chosen on seed 900.

    Attributes:
        seed: seed of all instances.
        draws: instances of each family and size.
        ns: N of Cov_N.
        fitted_n: the N, one of `ns`, at which exponents are measured.
        factors: c of the answer-level bound.
        budgets: N of the Bernoulli pair.
        alphabets: numbers of responses of softmax pairs, triples and chains of thought.
        steps: steps of the heavy tail.
        depths: depths H of the trees, whose 2^H responses are all enumerated.
        horizons: tokens where prompts, or what follows a switch, are hard.
        short_horizons: tokens where every token is a little off.
    """

    seed: Annotated[int, Seed()] = 500
    draws: Annotated[int, Whole(32)] = 96
    ns: Annotated[tuple[int, ...], Wholes(3)] = (4, 16, 64, 256)
    fitted_n: Annotated[int, Whole(3)] = 16
    factors: Annotated[tuple[float, ...], Reals(1, 1e6)] = (1.5, 2, 4, 16)
    budgets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (4, 8, 16, 32, 64, 128, 256)
    alphabets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (4, 8, 16, 32, 64)
    steps: Annotated[tuple[int, ...], Wholes(1, at_least=2)] = (32, 64, 128, 256, 512)
    depths: Annotated[tuple[int, ...], _tree_depths] = (1, 2, 4, 8, 16)
    horizons: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (128, 256, 512, 1024, 2048)
    short_horizons: Annotated[tuple[int, ...], Wholes(1, at_least=2)] = (8, 16, 32, 64, 128)

    def __post_init__(self) -> None:
        if self.fitted_n not in self.ns:
            raise ValueError(f"fitted_n: {self.fitted_n}; valid: one of ns, {list(self.ns)}")

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes of each family's instances."""
        return {
            "bernoulli": self.budgets,
            "softmax": self.alphabets,
            "heavy tail": self.steps,
            "rare prompts": self.horizons,
            "switch": self.horizons,
            "tree": self.depths,
            "every token": self.short_horizons,
            "triples": self.alphabets,
            "chains": self.alphabets,
        }


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "draws": 256,
        "ns": (4, 8, 16, 32, 64, 128, 256, 1024),
        "factors": (1.1, 1.5, 2, 4, 16),
        "budgets": (4, 8, 16, 32, 64, 128, 256, 512, 1024),
        "alphabets": (4, 8, 16, 32, 64, 128, 256),
        "steps": (32, 64, 128, 256, 512, 1024),
        "depths": (1, 2, 4, 8, 16, 18),
        "horizons": (128, 256, 512, 1024, 2048, 4096),
        "short_horizons": (8, 16, 32, 64, 128, 256),
    },
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Both sides of the inequalities, and what is made of them.

    Attributes:
        settings: what was measured.
        sides: by inequality and family.
        tight: right side over left side of the pairs that attain an inequality, by inequality.
        growth: by family and quantity.
    """

    settings: Settings
    sides: dict[tuple[str, str], Sides]
    tight: dict[str, Float[np.ndarray, " draws"]]
    growth: dict[tuple[str, str], Float[np.ndarray, "draws sizes"]]

    def of(self, inequality: str) -> dict[str, Sides]:
        """The sides of an inequality, by family."""
        return {family: side for (name, family), side in self.sides.items() if name == inequality}


def bernoulli_constants(n: Float[np.ndarray, " n"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Largest ratio of bound and Cov_N of the Bernoulli pair with p <= 1/2, at each N, by bound."""
    return {
        "KL": (np.log(n) - 0.5 + 0.5 / n) / (np.log(n) - 1 + 1 / n),
        "Hellinger": 1 + (1 + n**-0.5) ** 2 / 4,
    }


def kl_bound(divergence: float, ns: tuple[int, ...]) -> list[float]:
    """KL/(ln N - 1 + 1/N) at each N (Proposition D.1)."""
    return [divergence / (math.log(n) - 1 + 1 / n) for n in ns]


def compare(law: Law, ns: tuple[int, ...]) -> dict[str, tuple[list[float], list[float]]]:
    """Left and right sides of the inequalities that concern one law, by name; one entry per N."""
    covered = coverage_profile(law.log_ratio, ns, law.mass, SLACK).tolist()
    divergence, hellinger = float(kl(law.log_ratio, law.mass)), squared_hellinger(law.log_ratio, law.mass)
    converse, largest = float(kl_converse_bound(law.log_ratio, law.mass)), float(law.log_ratio.max())
    sides = {
        "KL": (covered, kl_bound(divergence, ns)),
        "Hellinger": (covered, [2 * n / (math.sqrt(n) - 1) ** 2 * float(hellinger) for n in ns]),
        "converse": ([divergence], [converse]),
        "converse below ln W": ([converse], [largest]),
    }
    if law.kl_along is not None and law.hellinger_along is not None:
        stopped = stopped_kl(law.kl_along, ns, law.mass)
        sides["stopped KL"] = (covered, stopped_kl_bound(law.kl_along, ns, law.mass).tolist())
        factors = np.array([1 / math.log(n) + 1 / (math.log(n) - 1 + 1 / n) for n in ns])
        sides["stopped KL, sharper"] = (covered, (factors * stopped).tolist())
        below = [hellinger_tail_bound(law.hellinger_along, ns, delta, law.mass) for delta in DELTAS]
        sides["Hellinger along"] = (np.maximum(np.max(below, axis=0), 0.0).tolist(), covered)
    return sides


def compare_triple(rng: np.random.Generator, size: int, settings: Settings) -> dict:
    """Transitivity, at the best M of nine from 1 to N, even in ln M."""
    triple = random_triple(rng, size)
    with np.errstate(divide="ignore"):
        logs = [np.log(part) for part in triple]
    kept = triple.target > 0
    data_over_model, target_over_data = logs[1] - logs[2], (logs[0] - logs[1])[kept]
    target = triple.target[kept]
    left = coverage_profile((logs[0] - logs[2])[kept], settings.ns, target, SLACK)
    right = []
    for n in settings.ns:
        ms = [n ** (k / 8) for k in range(8)] + [n]
        bounds = transitivity_bound(data_over_model, triple.data, target_over_data, target, n, ms)
        right.append(float(bounds.min()))
    return {"transitivity": (left.tolist(), right)}


def compare_chains(rng: np.random.Generator, size: int, settings: Settings) -> dict:
    """Coverage of answers, as it holds at every factor c, and as it is printed (c = 1)."""
    chains = random_chains(rng, size)
    mass = np.exp(chains.data)
    by_answer = answer_level_log_ratio(chains.data, chains.model, chains.answers)
    by_response = coverage_profile(log_density_ratio(chains.data, chains.model), settings.ns, mass, SLACK)
    left, right = [], []
    for c in settings.factors:
        left += coverage_profile(by_answer, [c * n for n in settings.ns], mass, SLACK).tolist()
        right += (c / (c - 1) * by_response).tolist()
    printed = coverage_profile(by_answer, settings.ns, mass, SLACK).tolist()
    return {"answers": (left, right), "answers, as printed": (printed, by_response.tolist())}


def measure(settings: Settings, study: Study) -> Measurements:
    """Every family at every size."""
    sides: dict[tuple[str, str], Sides] = {}
    families = ("triples", "chains", *FAMILIES)
    todo = [(family, size) for family in families for size in settings.sizes[family]]
    measured: dict[tuple[str, int], list[dict]] = {}
    for family, size in study.progress.over("instances", todo, lambda each: {"size": each[1]}):
        rng = numpy_stream(settings.seed, "coverage_bounds", family, size)
        measured[family, size] = [_compared(family, rng, size, settings) for _ in range(settings.draws)]
    for family in families:
        columns = [measured[family, size] for size in settings.sizes[family]]
        for name in columns[0][0]:
            both = np.array([[instance[name] for instance in column] for column in columns], np.float64)
            sides[name, family] = Sides(*both.transpose(2, 1, 0, 3))
    return Measurements(settings, sides, tight_pairs(settings), growth(settings, sides))


def _compared(family: str, rng: np.random.Generator, size: int, settings: Settings) -> dict:
    if family == "triples":
        return compare_triple(rng, size, settings)
    if family == "chains":
        return compare_chains(rng, size, settings)
    return compare(FAMILIES[family](rng, size), (size,) if family == "bernoulli" else settings.ns)


def growth(
    settings: Settings, sides: dict[tuple[str, str], Sides]
) -> dict[tuple[str, str], Float[np.ndarray, "draws sizes"]]:
    """At `fitted_n`, for the families in H: Cov_N and its bounds. For the heavy tail: 1 - KL/(its bound)."""
    at = settings.ns.index(settings.fitted_n)
    grown = {}
    for family in IN_LENGTH:
        grown[family, "Cov"] = sides["KL", family].left[:, :, at]
        grown[family, "bound by KL"] = sides["KL", family].right[:, :, at]
        grown[family, "bound by stopped KL"] = sides["stopped KL", family].right[:, :, at]
        grown[family, "lower bound"] = sides["Hellinger along", family].left[:, :, at]
    converse = sides["converse", "heavy tail"]
    grown["heavy tail", "gap"] = (1 - converse.left / converse.right)[:, :, 0]
    return grown


def tight_pairs(settings: Settings) -> dict[str, Float[np.ndarray, " draws"]]:
    """right/left for instances that attain transitivity and the answer-level bound (derived).

    Transitivity: pi_D writes the one correct response with probability 1/M, the model N times less often, and
    pi_T always. Answers: one answer; a chain of mass 1/c and ratio just below N, and one of mass 1 - 1/c that
    the model misses.
    """
    rng = numpy_stream(settings.seed, "coverage_bounds", "tight")
    transitive, answers = [], []
    for _ in range(settings.draws):
        m, n = between(rng, 1.5, 64), between(rng, 1.5, 64)
        data, model = np.array([1 / m, 1 - 1 / m]), np.array([1 / (m * n), 1 - 1 / (m * n)])
        # Just above M the second term is 0, and Cov_N is inclusive up to the tolerance.
        right = transitivity_bound(
            np.log(data / model), data, np.log([m]), np.ones(1), m * n, [m * (1 + 2e-5)]
        )
        left = coverage_profile(np.log([m * n]), [m * n], np.ones(1))
        transitive.append(float(right[0] / left[0]))
        c, slack = float(rng.choice(settings.factors)), 1e-6
        data = np.array([1 / c, 1 - 1 / c])
        model = np.array([(1 + slack) / (c * n), slack**2])
        covered = coverage_profile(np.log(data / model), [n], data, 0.0)[0]
        reached = c * (1 - 3 * slack)
        by_answer = answer_level_log_ratio(np.log(data), np.log(model), np.zeros(2, int))
        left = coverage_profile(by_answer, [reached * n], data, 0.0)
        answers.append(float(reached / (reached - 1) * covered / left[0]))
    return {"transitivity": np.array(transitive), "answers": np.array(answers)}
