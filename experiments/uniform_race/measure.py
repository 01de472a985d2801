"""Exact errors of choices among N responses: settings and measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Reals, Seed, Whole, Wholes
from decoding import TaskPolicy, TaskValues, UniformRace
from decoding.exact import enumerate_tree, reference_law
from decoding.exact_selection import distance, race_law, rejection_law, resampling_law
from tasks import numpy_stream
from tasks.tabular import Tabular
from theory.vgb.laws import UNLIMITED, chi_square, leaf_counts, problem_of_task, sample

FAMILIES = ("bounded", "lognormal", "with zeros")
METHODS = (
    "race",
    "resampling",
    "rejection, none",
    "rejection, last",
    "threshold x 4",
    "threshold / 4",
    "bound",
)
"""Rejection returns nothing, or the last response, where none is accepted; its threshold is the best one, or
that of "none" times or over 4. The bound is (1 - Z/w_max)^N."""
_THRESHOLDS = 60
_TREE = 106
"""Seed of the decoder's tree, chosen because the laws of the race and of resampling are far apart on it."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seeds of the measurement; the defaults are the scale `cpu`.

    The ranges of the pairs were chosen on seed 100.

    Attributes:
        seed: seed of all pairs and of the decoder's samples.
        draws: pairs of each family and size, and of each tail.
        alphabets: numbers of responses of the random pairs.
        ns: numbers of candidates N of the random pairs.
        tails: exponents alpha of the tails of the density ratio.
        budgets: numbers of candidates N of the tails.
        chains: samples of the compiled decoder.
        candidates: N of the decoder.
    """

    seed: Annotated[int, Seed()] = 2600
    draws: Annotated[int, Whole(8)] = 32
    alphabets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (4, 16, 64)
    ns: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (2, 4, 16, 64)
    tails: Annotated[tuple[float, ...], Reals(0.1, 3)] = (0.5, 1.5)
    budgets: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (32, 128, 512, 2048)
    chains: Annotated[int, Whole(256)] = 16384
    candidates: Annotated[int, Whole(2)] = 4


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {"draws": 256, "alphabets": (4, 16, 64, 256), "ns": (2, 3, 4, 8, 16, 32, 64, 256)},
}


class Pair(NamedTuple):
    """pi_ref and the weights of its responses."""

    reference: Float[np.ndarray, " responses"]
    weights: Float[np.ndarray, " responses"]

    @property
    def target(self) -> Float[np.ndarray, " responses"]:
        """pi*, prop. to pi_ref w."""
        return self.reference * self.weights / (self.reference @ self.weights)

    def error(self, law: Float[np.ndarray, "*rows responses"]) -> Float[np.ndarray, "*rows"]:
        """Total variation to pi*; where nothing is returned, that is a response of its own."""
        return distance(law, self.target)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Total variations to pi*.

    Attributes:
        errors: by method, over (families, alphabets, draws, ns).
        tails: by (alpha, "race" or "resampling" or "Cov"), over (draws, budgets).
        goodness: p-value of the decoder's samples against the race's law, and against that of resampling.
    """

    settings: Settings
    errors: dict[str, Float[np.ndarray, "families alphabets draws ns"]]
    tails: dict[tuple[float, str], Float[np.ndarray, "draws budgets"]]
    goodness: tuple[float, float]


def measure(settings: Settings, study: Study) -> Measurements:
    """All pairs, and the decoder's samples."""
    found: dict[str, list[Any]] = {name: [] for name in METHODS}
    todo = [(family, size) for family in FAMILIES for size in settings.alphabets]
    for family, size in study.progress.over("pairs", todo, lambda each: {"responses": each[1]}):
        rng = numpy_stream(settings.seed, "uniform_race", family, size)
        pairs = [draw_pair(family, size, rng) for _ in range(settings.draws)]
        rows = [[pair_errors(pair, n) for n in settings.ns] for pair in pairs]
        for name in METHODS:
            found[name].append([[each[name] for each in row] for row in rows])
    shape = (len(FAMILIES), len(settings.alphabets), settings.draws, len(settings.ns))
    tails: dict[tuple[float, str], np.ndarray] = {}
    for alpha in study.progress.over("tails", settings.tails, lambda alpha: {"alpha": alpha}):
        rng = numpy_stream(settings.seed, "uniform_race", f"tail {alpha:g}")
        tails |= tail_errors(alpha, settings, rng)
    errors = {name: np.reshape(values, shape) for name, values in found.items()}
    return Measurements(settings, errors, tails, decoder_goodness(settings))


def draw_pair(family: str, size: int, rng: np.random.Generator) -> Pair:
    """A random pair: Dirichlet pi_ref, and weights uniform on (0, 1), lognormal, or half of them 0."""
    reference = rng.dirichlet(np.full(size, rng.choice([0.5, 1.0, 3.0])))
    weights = rng.random(size)
    if family == "lognormal":
        weights = np.exp(rng.normal(0, rng.choice([0.5, 1.0, 2.0]), size))
    if family == "with zeros":
        weights = weights * (rng.random(size) < 0.5)
        weights[rng.integers(size)] = rng.random()
    return Pair(reference, weights)


def pair_errors(pair: Pair, candidates: int) -> dict[str, float]:
    """The errors of all methods on one pair."""
    best, threshold = best_rejection(pair, candidates, "none")
    last, _ = best_rejection(pair, candidates, "last")
    mean = float(pair.reference @ pair.weights)
    return {
        "race": float(pair.error(race_law(*pair, candidates))),
        "resampling": float(pair.error(resampling_law(*pair, candidates))),
        "rejection, none": best,
        "rejection, last": last,
        "threshold x 4": float(pair.error(rejection_law(*pair, candidates, 4 * threshold))),
        "threshold / 4": float(pair.error(rejection_law(*pair, candidates, threshold / 4))),
        "bound": (1 - mean / pair.weights.max()) ** candidates,
    }


def best_rejection(pair: Pair, candidates: int, fallback: Any) -> tuple[float, float]:
    """The least error of rejection sampling over thresholds M, and the threshold.

    A grid over the positive weights is refined about its best point four times. A threshold above the largest
    weight only accepts less, and one below the smallest positive weight accepts as that weight does.
    """
    positive = pair.weights[pair.weights > 0]
    low, high = np.log(positive.min()), np.log(positive.max())
    best, at = np.inf, high
    for _ in range(5):
        grid = np.linspace(low, high, _THRESHOLDS)
        errors = pair.error(rejection_law(*pair, candidates, np.exp(grid), fallback))
        place = int(errors.argmin())
        if errors[place] < best:
            best, at = float(errors[place]), float(grid[place])
        low, high = grid[max(place - 1, 0)], grid[min(place + 1, _THRESHOLDS - 1)]
    return best, float(np.exp(at))


def tail_pair(alpha: float, rng: np.random.Generator, largest: float = 1e6, atoms: int = 400) -> Pair:
    """P*[pi*/pi_ref >= u] = (u/a)^-alpha on [a, `largest`], a = alpha/(1 + alpha), on atoms at random ratios.

    The weights are the density ratios up to the normalisation of pi_ref.
    """
    start = alpha / (1 + alpha)
    edges = np.exp(np.sort(rng.uniform(0, np.log(largest / start), atoms - 1)))
    edges = np.concatenate([[1.0], edges, [largest / start]])
    tail = edges**-alpha
    target = (tail[:-1] - tail[1:]) / (1 - tail[-1])
    # The ratio of an atom is the mass of pi* over that of pi_ref, int u^-1 dP*, in the interval.
    reference = (edges[:-1] ** -(alpha + 1) - edges[1:] ** -(alpha + 1)) * alpha / (alpha + 1) / start
    return Pair(reference / reference.sum(), target / reference)


def tail_errors(
    alpha: float, settings: Settings, rng: np.random.Generator
) -> dict[tuple[float, str], np.ndarray]:
    """Errors on the tail at every budget, and Cov_N = P*[pi*/pi_ref > N]."""
    rows: dict[str, list[list[float]]] = {"race": [], "resampling": [], "Cov": []}
    for _ in range(settings.draws):
        pair = tail_pair(alpha, rng)
        ratio = pair.target / pair.reference
        budgets = settings.budgets
        rows["race"].append([float(pair.error(race_law(*pair, n))) for n in budgets])
        rows["resampling"].append([float(pair.error(resampling_law(*pair, n))) for n in budgets])
        rows["Cov"].append([float(pair.target[ratio > n].sum()) for n in budgets])
    return {(alpha, name): np.array(values) for name, values in rows.items()}


def decoder_goodness(settings: Settings) -> tuple[float, float]:
    """Chi-square p-values of the compiled decoder on a random tree: its own law, and resampling's."""
    task = Tabular(length=2, num_symbols=3, num_prompts=1, seed=_TREE, rewards="graded", density=0.8)
    tree = enumerate_tree(task, TaskPolicy(task), TaskValues(task), problem_of_task(task))
    decoder = UniformRace(budget=UNLIMITED, candidates=settings.candidates)
    decoded = sample(task, TaskValues(task), decoder, settings.chains, settings.seed, "uniform race").decoded
    counts = leaf_counts(task, decoded)
    laws = [
        law(reference_law(tree), tree.values[-1], settings.candidates) for law in (race_law, resampling_law)
    ]
    own, other = (chi_square(counts, law) for law in laws)
    return own, other
