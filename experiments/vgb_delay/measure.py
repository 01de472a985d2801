"""The delay and parity tasks under values that are one step late: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from covlab.claims.claim import Study
from covlab.claims.decoders import WalkSettings
from covlab.claims.settings import Real, Seed, Whole, Wholes
from decoding.analytic_values import Delayed
from tasks.delay import Delay
from tasks.parity import Parity
from theory.vgb.laws import (
    Goodness,
    Laws,
    Sampled,
    decoders,
    expected_queries,
    laws_of,
    sample,
    sample_all,
)
from theory.vgb.typed_trees import (
    action_level_moves,
    chain_transform,
    count_law,
    delay_tree,
    first_leaf_moves,
    first_leaf_steps,
    leaf_probability,
    parity_tree,
)


@dataclasses.dataclass(frozen=True)
class Settings(WalkSettings):
    """The two tasks at all horizons, VGB's chain and the decoders' samples; the defaults are the scale `cpu`.

    The number of steps was chosen on lambda = .7 and 1.3.

    Attributes:
        horizons: lengths H of the response.
        tilt: lambda: pi* has bits with odds e^lambda; beta = 1/(lambda H).
        block: bits of a parity block.
        sampled_horizon: H at which the decoders' samples on the delay task are tested against their exact
            laws.
        chains: samples of each decoder there.
        parity_chains: samples of the queries on parity.
    """

    horizons: Annotated[tuple[int, ...], Wholes(4, at_least=3)] = (4, 8, 16, 32, 64)
    tilt: Annotated[float, Real(above=0, below=5)] = 1.0
    block: Annotated[int, Whole(2)] = 4
    seed: Annotated[int, Seed()] = 400
    sampled_horizon: Annotated[int, Whole(2)] = 6
    chains: Annotated[int, Whole(32)] = 1024
    parity_chains: Annotated[int, Whole(32)] = 256

    def __post_init__(self) -> None:
        sampled = self.sampled_horizon
        if sampled > 10:
            raise ValueError(f"sampled_horizon: {sampled}; valid: 2 to 10, whose trees can be enumerated")
        for length in self.horizons:
            Delay(length=length, tilt=self.tilt)
            if length % self.block:
                divided = list(self.horizons)
                raise ValueError(f"block: {self.block}; valid: a divisor of all horizons {divided}")
        super().__post_init__()


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        # At lambda = 1 tau is a float32 up to H = 80.
        "horizons": (4, 8, 16, 32, 64, 80),
        "seeds": 16,
        "leaves": 64,
        "sampled_horizon": 8,
        "chains": 8192,
        "parity_chains": 2048,
    },
}


@dataclasses.dataclass(frozen=True)
class ParityCost:
    """Until the first response of reward 1.

    Attributes:
        success: exact probability that an attempt of the action level succeeds.
        action_level: exact mean number of queries, attempts that fail included.
        steps: exact mean number of VGB's steps to the first leaf, lazy ones included.
        backtracking: queries of VGB, sampled.
    """

    depth: int
    success: float
    action_level: float
    steps: float
    backtracking: Sampled


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        laws: of the delay task, for each horizon.
        mean: E mean(y), exact, of each method for each horizon.
        blind: largest |P(bit = 1) - 1/2| of the action level over all bits but the last, for each horizon.
        counts: law of the number of ones at the longest horizon, of each method and of pi*.
        divergence: KL(action level || pi*) in nats, for each horizon.
        linear: total variation to pi* of the action level where tau is the mean itself, for each horizon.
        parity: for each horizon.
        goodness, sampled: of the decoders on the delay task, by name.
    """

    settings: Settings
    laws: tuple[Laws, ...]
    mean: dict[str, Float[np.ndarray, " horizons"]]
    blind: Float[np.ndarray, " horizons"]
    counts: dict[str, Float[np.ndarray, " counts"]]
    divergence: Float[np.ndarray, " horizons"]
    linear: Float[np.ndarray, " horizons"]
    parity: tuple[ParityCost, ...]
    goodness: dict[str, Goodness]
    sampled: dict[str, Sampled]


def measure(settings: Settings, study: Study) -> Measurements:
    """All laws and the decoders' samples."""
    laws, parity = [], []
    for length in study.progress.over("delay: laws", settings.horizons, lambda h: {"H": h}):
        laws.append(laws_of(delay_tree(length, settings.tilt), error_of(settings.tilt), settings.chain))
    for length in study.progress.over("parity: samples", settings.horizons, lambda h: {"H": h}):
        parity.append(parity_cost(length, settings))
    task = Delay(length=settings.sampled_horizon, tilt=settings.tilt)
    decoded = sample_all(
        task, Delayed(task), settings.chain, settings.chains, study.progress, "delay: samples"
    )
    return Measurements(settings, tuple(laws), parity=tuple(parity), **decoded, **_of_counts(settings))


def error_of(tilt: float) -> float:
    """1 + eps of late values: the largest factor between V(y_1:h-1) and V(y_1:h), either way, which is
    (1 + e^lambda)/2 for a 0 and 2/(1 + e^-lambda) for a 1."""
    return max((1 + math.exp(tilt)) / 2, 2 / (1 + math.exp(-tilt)))


def _of_counts(settings: Settings) -> dict[str, Any]:
    """Quantities that follow from the laws of the number of ones."""
    mean: dict[str, list[float]] = {name: [] for name in ("pi*", "action level", "first leaf", "VGB")}
    counts: dict[str, np.ndarray] = {}
    blind, divergence, linear = [], [], []
    for length in settings.horizons:
        tree = delay_tree(length, settings.tilt)
        action = action_level_moves(tree)
        steps = settings.chain.steps * length**2
        ended = chain_transform(tree, steps).counts(1, steps)
        counts = {
            "pi*": count_law(tree.target, 1),
            "action level": count_law(action, 1),
            "first leaf": count_law(first_leaf_moves(tree), 1),
            "VGB": ended / ended.sum(),
        }
        for name, law in counts.items():
            mean[name].append(float(law @ np.arange(length + 1)) / length)
        blind.append(float(np.abs(action[:-1] - 0.5).max()))
        # Both laws are products, and differ in all bits but the last, by kl(1/2 || e^lambda/(1 + e^lambda)).
        one = math.log(1 + math.exp(settings.tilt)) - math.log(4 * math.exp(settings.tilt)) / 2
        divergence.append((length - 1) * one)
        linear.append(linear_error(length))
    return {
        "mean": {name: np.array(values) for name, values in mean.items()},
        "counts": counts,
        "blind": np.array(blind),
        "divergence": np.array(divergence),
        "linear": np.array(linear),
    }


def linear_error(length: int) -> float:
    """Total variation of the action level to pi* for tau = mean(y) and late values.

    All bits but the last are uniform; with s ones among them the last is 1 with probability (s + 1)/(2 s +
    1). pi* gives y the probability 2 mean(y)/2^H.
    """
    ones = np.arange(length)
    mass = stats.binom.pmf(ones, length - 1, 0.5)
    last = (ones + 1) / (2 * ones + 1)
    first = np.abs(last - (ones + 1) / length) + np.abs(1 - last - ones / length)
    return float(mass @ first / 2)


def parity_cost(length: int, settings: Settings) -> ParityCost:
    """One horizon of the parity task."""
    tree = parity_tree(length, settings.block)
    task = Parity(length=length, block=settings.block)
    action = action_level_moves(tree)
    success = leaf_probability(action)
    walk = decoders(1)["first leaf"]
    seed = settings.chain.seeds[0]
    return ParityCost(
        depth=length,
        success=success,
        action_level=expected_queries(action, 2) / success,
        steps=first_leaf_steps(tree),
        backtracking=sample(task, Delayed(task), walk, settings.parity_chains, seed, f"parity {length}"),
    )
