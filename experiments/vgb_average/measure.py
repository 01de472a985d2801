"""VGB with trained values over horizons and rollouts, and with few children: settings and measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Seed, Whole, Wholes
from decoding.exact import Law, Tree, action_level_law, first_leaf_law, target_law, total_variation
from experiments.vgb_average.instances import exact_tree, mean_reward, trained_table, with_table
from metrics import coverage_profile, worst_loss
from tasks import check_seeds, numpy_stream
from theory.vgb.average_case import (
    average_errors,
    chain_laws,
    few_children_law,
    first_leaf_steps,
    leaf_mass,
    mean_return_steps,
)

LONGEST = 16
"""Largest horizon: the tree has 2^H leaves."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the claim; the defaults are the scale `cpu`.

    Attributes:
        horizons: lengths H of the response.
        rollouts: responses of the base model that values are trained on.
        tilt: lambda of tau = e^(-lambda zeros).
        steps: steps of VGB over H^2; the last is compared with the other samplers.
        miss: chance that Best-of-N may miss what is covered.
        children: numbers K of children drawn for a step.
        seed: first of `seeds` seeds, each with rollouts of its own.
        seeds: number of seeds.
    """

    horizons: Annotated[tuple[int, ...], Wholes(3, at_least=3)] = (4, 6, 8, 10, 12, 14)
    rollouts: Annotated[tuple[int, ...], Wholes(2, at_least=2)] = (500, 1000, 10000)
    tilt: Annotated[float, Real(above=0, most=5)] = 1.0
    steps: Annotated[tuple[int, ...], Wholes(1)] = (1, 2, 4, 8)
    miss: Annotated[float, Real(above=0, below=1)] = 0.05
    children: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (2, 4, 8, 16, 32, 64)
    # Seeds 100 to 107 served to choose horizons, steps and margins, not to judge.
    seed: Annotated[int, Seed()] = 5620
    seeds: Annotated[int, Whole(2)] = 8

    def __post_init__(self) -> None:
        """Refuse trees that are too large, and seeds beyond the last."""
        if max(self.horizons) > LONGEST:
            raise ValueError(f"horizons: {max(self.horizons)}; valid: at most {LONGEST}, with 2^H leaves")
        check_seeds(self.seed, self.seeds, 2)

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds."""
        return check_seeds(self.seed, self.seeds, 2)


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {"horizons": (4, 6, 8, 10, 12, 14, 16), "seeds": 16},
}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Distances of a law on the leaves from pi*.

    Attributes:
        kl: KL(pi* || law) in nats.
        variation: total variation.
        lost: the most that Best-of-N loses to pi* on a reward of 0 and 1, the worst for this law.
    """

    kl: float
    variation: float
    lost: float


@dataclasses.dataclass(frozen=True)
class Walk:
    """VGB after so many steps over H^2, given a leaf.

    Attributes:
        law: the law of the leaf, against pi*.
        steps: T.
        shortfall: E_pi*[(1 - N pi_hat/pi*)^+] at N = P_T(leaf)/m.
        uncovered: Cov_2N.
        leaf: P_T(leaf).
    """

    law: Sampler
    steps: int
    shortfall: float
    uncovered: float
    leaf: float


@dataclasses.dataclass(frozen=True)
class Trained:
    """Values of one seed, horizon and number of rollouts.

    Attributes:
        depth: H.
        over, under: the largest over the levels of E_pi*[V^/V] and of E_pi*[V/V^].
        uniform: the largest of V^/V and V/V^ over the nodes.
        leaf_mass: m.
        way_back: M, the mean number of steps from a leaf of pi* to the root.
        samples: N of Best-of-N, as many as the guarantee asks for after the most steps.
        action, first: action-level rejection sampling, and VGB stopped at its first leaf.
        first_steps: mean number of steps to the first leaf.
        walks: VGB after fixed numbers of steps.
    """

    depth: int
    over: float
    under: float
    uniform: float
    leaf_mass: float
    way_back: float
    samples: int
    action: Sampler
    first: Sampler
    first_steps: float
    walks: tuple[Walk, ...]


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        trained: by (H, rollouts), one for each seed.
        few: total variation of the walk with K children and exact values, a row for each horizon.
        few_kl: KL(pi* || law) in nats of that walk with most children, for each horizon.
        few_trained: total variation at the longest horizon with trained values, by rollouts, a row for each
            seed.
        exact_steps: mean number of steps to the first leaf with exact values, by horizon.
    """

    settings: Settings
    trained: Mapping[tuple[int, int], tuple[Trained, ...]]
    few: Float[np.ndarray, "horizons children"]
    few_kl: Float[np.ndarray, " horizons"]
    few_trained: Mapping[int, Float[np.ndarray, "seeds children"]]
    exact_steps: Float[np.ndarray, " horizons"]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return self.settings.every_seed

    def table(self, rollouts: int, value: Callable[[Trained], float]) -> Float[np.ndarray, "seeds horizons"]:
        """`value` of every seed and horizon."""
        rows = [[value(own) for own in self.trained[h, rollouts]] for h in self.settings.horizons]
        return np.array(rows, float).T

    def rejection(self) -> Float[np.ndarray, " horizons"]:
        """Mean number of tokens that outcome-level rejection writes for a response: H/V(root)."""
        settings = self.settings
        return np.array([h / mean_reward(h, settings.tilt) for h in settings.horizons])


def log_ratio(target: Law, law: Law) -> Float[np.ndarray, " leaves"]:
    """ln pi*/pi_hat by leaf, infinite where the law has no mass; pi* is positive everywhere."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(target / law))


def sampler(target: Law, law: Law, samples: int) -> Sampler:
    """A law on the leaves against pi*, which is positive everywhere."""
    kl = float(target @ log_ratio(target, law))
    return Sampler(kl, total_variation(law, target), float(worst_loss(target, law, (samples,))[0]))


def measure_values(tree: Tree, values: Tree, settings: Settings) -> Trained:
    """The samplers with `values` on the tree whose values are exact."""
    target, mass, depth = target_law(tree), leaf_mass(values), tree.depth
    over, under = average_errors(values, tree.values)
    ratio = np.concatenate(
        [own / exact for own, exact in zip(values.values[1:], tree.values[1:], strict=True)]
    )
    times = [factor * depth**2 for factor in sorted(settings.steps)]
    laws = list(chain_laws(values, times))
    samples = math.ceil(2 * laws[-1][0] / mass * math.log(1 / settings.miss))
    walks = []
    for time, (leaf, law) in zip(times, laws, strict=True):
        n = leaf / mass
        uncovered = coverage_profile(log_ratio(target, law), (max(2 * n, 1.0),), target)
        walks.append(
            Walk(
                sampler(target, law, samples),
                time,
                float(np.maximum(target - n * law, 0).sum()),
                float(uncovered[0]),
                leaf,
            )
        )
    return Trained(
        depth,
        float(over.max()),
        float(under.max()),
        float(max(ratio.max(), 1 / ratio.min())),
        mass,
        mean_return_steps(values),
        samples,
        sampler(target, action_level_law(values), samples),
        sampler(target, first_leaf_law(values), samples),
        first_leaf_steps(values),
        tuple(walks),
    )


def measure(settings: Settings, study: Study) -> Measurements:
    """All laws, exactly; only the rollouts are drawn."""
    trained, few, few_kl, steps = {}, [], [], []
    few_trained: dict[int, list[list[float]]] = {n: [] for n in settings.rollouts}
    trees = {h: exact_tree(h, settings.tilt) for h in settings.horizons}
    longest = max(settings.horizons)

    def with_few(tree: Tree, values: Tree) -> list[float]:
        target = target_law(tree)
        return [total_variation(few_children_law(values, k), target) for k in settings.children]

    todo = [(h, n) for h in settings.horizons for n in settings.rollouts]
    for h, n in study.progress.over("trained values", todo, lambda each: {"H": each[0], "n": each[1]}):
        made = []
        for seed in settings.every_seed:
            rng = numpy_stream(seed, "vgb_average", "rollouts", h, n)
            values = with_table(trees[h], trained_table(h, settings.tilt, n, rng))
            made.append(measure_values(trees[h], values, settings))
            if h == longest:
                few_trained[n].append(with_few(trees[h], values))
        trained[h, n] = tuple(made)
    for tree in trees.values():
        few.append(with_few(tree, tree))
        few_kl.append(sampler(target_law(tree), few_children_law(tree, max(settings.children)), 1).kl)
        steps.append(first_leaf_steps(tree))
    return Measurements(
        settings,
        trained,
        np.array(few),
        np.array(few_kl),
        {n: np.array(rows) for n, rows in few_trained.items()},
        np.array(steps),
    )
