"""What the delay claim measures: the delay and parity tasks under values that are one step late."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig
from scipy import stats

from decoding.analytic_values import Delayed
from tasks.checks import real, whole, wholes
from tasks.delay import Delay
from tasks.parity import Parity
from theory.vgb.laws import (
    ChainSettings,
    Goodness,
    Laws,
    Sampled,
    chain_settings,
    decoders,
    expected_queries,
    goodness_of_fit,
    laws_of,
    sample,
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
from tracking import Progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured: the two tasks at all `horizons`, and the decoders' samples.

    Attributes:
        tilt: lambda.
        block: of the parity task.
        sampled_horizon, chains: of the delay task's samples that are tested against exact laws.
        parity_chains: for the queries on parity.
    """

    horizons: tuple[int, ...]
    tilt: float
    block: int
    chain: ChainSettings
    sampled_horizon: int
    chains: int
    parity_chains: int


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


def settings(config: DictConfig) -> Settings:
    """Check the configuration.

    Raises:
        ValueError: one line, with the field, its value and what would be valid.
    """
    horizons = wholes("horizons", config.horizons, 4, at_least=3)
    tilt = real("tilt", config.tilt, above=0, below=5)
    block = whole("block", config.block, 2)
    sampled = whole("sampled_horizon", config.sampled_horizon, 2)
    if sampled > 10:
        raise ValueError(f"sampled_horizon: {sampled}; valid: 2 to 10, whose trees can be enumerated")
    for length in horizons:
        Delay(length=length, tilt=tilt)
        if length % block:
            raise ValueError(f"block: {block}; valid: a divisor of all horizons {list(horizons)}")
    return Settings(
        horizons=horizons,
        tilt=tilt,
        block=block,
        chain=chain_settings(config),
        sampled_horizon=sampled,
        chains=whole("chains", config.chains, 32),
        parity_chains=whole("parity_chains", config.parity_chains, 32),
    )


def measure(chosen: Settings, progress: Progress) -> Measurements:
    """All laws and the decoders' samples."""
    todo = len(chosen.horizons)
    laws, parity = [], []
    for done, length in enumerate(chosen.horizons):
        progress.update("delay: laws", done, todo, {"H": length})
        laws.append(laws_of(delay_tree(length, chosen.tilt), error_of(chosen.tilt), chosen.chain))
    progress.update("delay: laws", todo, todo)
    for done, length in enumerate(chosen.horizons):
        progress.update("parity: samples", done, todo, {"H": length})
        parity.append(parity_cost(length, chosen))
    progress.update("parity: samples", todo, todo)
    task = Delay(length=chosen.sampled_horizon, tilt=chosen.tilt)
    values, steps = Delayed(task), chosen.chain.steps * task.length**2
    methods = decoders(steps)
    sampled = {}
    for done, (name, decoder) in enumerate(methods.items()):
        progress.update("delay: samples", done, len(methods))
        sampled[name] = sample(task, values, decoder, chosen.chains, chosen.chain.seeds[0], name)
    progress.update("delay: samples", len(methods), len(methods))
    return Measurements(
        settings=chosen,
        laws=tuple(laws),
        parity=tuple(parity),
        goodness=goodness_of_fit(task, values, sampled, steps),
        sampled=sampled,
        **_of_counts(chosen),
    )


def error_of(tilt: float) -> float:
    """1 + eps of late values: the largest factor between V(y_1:h-1) and V(y_1:h), either way, which is
    (1 + e^lambda)/2 for a 0 and 2/(1 + e^-lambda) for a 1."""
    return max((1 + math.exp(tilt)) / 2, 2 / (1 + math.exp(-tilt)))


def _of_counts(chosen: Settings) -> dict[str, Any]:
    """What follows from the laws of the number of ones."""
    mean: dict[str, list[float]] = {name: [] for name in ("pi*", "action level", "first leaf", "VGB")}
    counts: dict[str, np.ndarray] = {}
    blind, divergence, linear = [], [], []
    for length in chosen.horizons:
        tree = delay_tree(length, chosen.tilt)
        action = action_level_moves(tree)
        steps = chosen.chain.steps * length**2
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
        one = math.log(1 + math.exp(chosen.tilt)) - math.log(4 * math.exp(chosen.tilt)) / 2
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


def parity_cost(length: int, chosen: Settings) -> ParityCost:
    """One horizon of the parity task."""
    tree = parity_tree(length, chosen.block)
    task = Parity(length=length, block=chosen.block)
    action = action_level_moves(tree)
    success = leaf_probability(action)
    walk = decoders(1)["first leaf"]
    seed = chosen.chain.seeds[0]
    return ParityCost(
        depth=length,
        success=success,
        action_level=expected_queries(action, 2) / success,
        steps=first_leaf_steps(tree),
        backtracking=sample(task, Delayed(task), walk, chosen.parity_chains, seed, f"parity {length}"),
    )
