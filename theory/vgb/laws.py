"""Exactly known laws of VGB and competing decoders, and samples of the decoders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from decoding import VGB, ActionRejection, Decoded, Decoder, Problem, TaskPolicy, Walk, decode, problem_of
from decoding.exact import (
    action_level_law,
    chain_law,
    enumerate_tree,
    first_leaf_law,
    target_law,
)
from metrics import Interval, line_fit, mean_interval
from tasks import Task, numpy_stream, stream
from theory.vgb.typed_trees import (
    Moves,
    TypedTree,
    action_level_moves,
    chain_transform,
    first_leaf_moves,
    first_leaf_steps,
    log_probability,
    sample_types,
    stationary_leaf_mass,
    total_variation_of,
)
from tracking import Progress

UNLIMITED = 2**30
"""Budget of queries that no chain reaches."""
_MOST_RUNS = 512
"""Repetitions of a VGB run that may end at an inner node. With a leaf mass of 1/(2H), H <= 8, the probability
of needing more is e^-30."""


@dataclasses.dataclass(frozen=True)
class ChainSettings:
    """Settings for measuring VGB's chain.

    Attributes:
        steps: steps of a run, over H^2.
        longest: steps up to which the error is followed, over H^2.
        delta: total variation at which the chain counts as mixed.
        seeds: seeds of the leaves; intervals are Student's over seeds.
        leaves: number of leaves drawn from pi* per seed.
    """

    steps: int
    longest: int
    delta: float
    seeds: tuple[int, ...]
    leaves: int


@dataclasses.dataclass(frozen=True)
class Laws:
    """Laws on one tree. Errors are total variation to pi*; arrays are over seeds.

    Attributes:
        depth: H.
        error: 1 + eps, the largest factor between V^ and V in either direction.
        action_level: exact error of action-level rejection sampling.
        first_leaf: exact error of VGB stopped at the first leaf.
        first_leaf_steps: exact mean number of steps to the first leaf, including lazy steps.
        chain: error of VGB after `steps` steps, given that the chain is at a leaf.
        divergence: KL(law after `steps` steps || pi*) in nats.
        mixing_steps: the number of steps from which `chain` stays below delta; NaN if beyond `longest`.
        leaf_probability: exact probability of being at a leaf after `steps` steps.
        leaf_mass: exact stationary probability of the leaves.
        times: numbers of steps.
        curve: `chain` at `times`, mean over the seeds.
    """

    depth: int
    error: float
    action_level: float
    first_leaf: float
    first_leaf_steps: float
    steps: int
    chain: Float[np.ndarray, " seeds"]
    divergence: Float[np.ndarray, " seeds"]
    mixing_steps: Float[np.ndarray, " seeds"]
    leaf_probability: float
    leaf_mass: float
    times: Float[np.ndarray, " times"]
    curve: Float[np.ndarray, " times"]

    @property
    def guarantee(self) -> float:
        """H^2 (1 + eps)^4, the guaranteed order of the mixing steps without ln(1/delta)."""
        return self.depth**2 * self.error**4

    @property
    def guaranteed_leaf_mass(self) -> float:
        """1/(8 (1 + eps) H)."""
        return 1 / (8 * self.error * self.depth)

    @property
    def steps_per_response(self) -> float:
        """Mean number of steps of VGB with fixed steps, repeated until the chain ends at a leaf."""
        return self.steps / self.leaf_probability


def laws_of(tree: TypedTree, error: float, settings: ChainSettings) -> Laws:
    """All laws on one tree.

    The total variation of the chain's law P_t, given a leaf, to pi* is E_{y ~ pi*}|f_t(y)/E f_t - 1|/2 with
    f_t = P_t/pi*. P_t(y) of a leaf and E f_t = P_t(leaf) are exact, the outer mean is over leaves drawn from
    pi*.
    """
    depth = tree.depth
    steps, longest = settings.steps * depth**2, settings.longest * depth**2
    transform = chain_transform(tree, longest)
    leaf = transform.all_times(transform.leaves(), longest)
    curves, divergences = [], []
    for seed in settings.seeds:
        types = sample_types(tree.target, settings.leaves, generator(seed, "leaves", depth))
        weight = np.exp(-log_probability(tree.target, types))[:, None]
        density = transform.all_times(transform.of_leaves(types), longest) * weight
        # Before depth H no leaf is reached, so the transform's values there are rounding errors.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(np.arange(longest + 1) >= depth, density / leaf, 0.0)
        curves.append(np.abs(ratio - 1).mean(axis=0) / 2)
        at = np.maximum(ratio[:, steps], 1e-300)
        # x ln x - x + 1 >= 0 has the same mean as x ln x, because x has mean 1 under pi*.
        divergences.append(float(np.mean(at * np.log(at) - at + 1)))
    curve = np.stack(curves)
    times = np.unique(np.geomspace(depth, longest, 200).astype(int))
    return Laws(
        depth=depth,
        error=error,
        action_level=total_variation_of(action_level_moves(tree), tree.target),
        first_leaf=total_variation_of(first_leaf_moves(tree), tree.target),
        first_leaf_steps=first_leaf_steps(tree),
        steps=steps,
        chain=curve[:, steps],
        divergence=np.array(divergences),
        mixing_steps=np.array([_settled(errors, settings.delta) for errors in curve]),
        leaf_probability=float(leaf[steps]),
        leaf_mass=stationary_leaf_mass(tree),
        times=times.astype(np.float64),
        curve=curve[:, times].mean(axis=0),
    )


def _settled(curve: Float[np.ndarray, " times"], delta: float) -> float:
    above = np.flatnonzero(curve > delta)
    if len(above) == 0:
        return 0.0
    return float(above[-1] + 1) if above[-1] + 1 < len(curve) else float("nan")


def expected_queries(moves: Moves, actions: int) -> float:
    """Mean number of queries of one attempt of a sampler that never steps back: all `actions` children of
    every visited node before depth H."""
    _, types, _ = moves.shape
    law = np.eye(types)[0]
    reached = 0.0
    for table in moves:
        reached += float(law.sum())
        law = law @ table
    return actions * reached


class Sampled(NamedTuple):
    """Responses of a decoder, and the cost per response."""

    decoded: Decoded
    queries: Interval


def sample(task: Task, values: Walk, decoder: Decoder, chains: int, seed: int, name: str) -> Sampled:
    """`chains` responses to the task's only prompt under the task's base model."""
    problem = problem_of_task(task)
    key = stream(seed, "decoder", name)
    decoded = jax.tree.map(np.asarray, decode(decoder, task, TaskPolicy(task), values, problem, key, chains))
    return Sampled(decoded, mean_interval(decoded.queries[0].astype(np.float64)))


def problem_of_task(task: Task) -> Problem:
    """The prompt of a task with a single prompt."""
    example = jax.jit(jax.vmap(task.sample))(jax.random.split(stream(0, "prompt"), 1))
    return problem_of(task, example)


class Goodness(NamedTuple):
    """p-values of chi-square tests of a decoder's responses: against its exact law, and against pi*."""

    law: float
    target: float


def goodness_of_fit(
    task: Task, values: Walk, sampled: Mapping[str, Sampled], steps: int
) -> dict[str, Goodness]:
    """Goodness of fit of the decoders `action level`, `first leaf` and `fixed steps` (of `steps` steps), on a
    tree small enough to be enumerated."""
    tree = enumerate_tree(task, TaskPolicy(task), values, problem_of_task(task))
    laws = {"action level": action_level_law(tree), "first leaf": first_leaf_law(tree)}
    ended = chain_law(tree, steps)[-1]
    laws["fixed steps"] = ended / ended.sum()
    tests = {}
    for name, sample in sampled.items():
        counts = leaf_counts(task, sample.decoded)
        tests[name] = Goodness(chi_square(counts, laws[name]), chi_square(counts, target_law(tree)))
    return tests


def leaf_counts(task: Task, decoded: Decoded) -> Int[np.ndarray, " leaves"]:
    """Finished responses to the task's only prompt at each leaf of its whole tree, in the order of tokens."""
    size, first = len(task.response_tokens), task.response_tokens[0]
    places = size ** np.arange(task.response_length)[::-1]
    tokens = decoded.responses[0][decoded.finished[0]]
    return np.bincount((tokens - first) @ places, minlength=size ** len(places))


def sample_all(
    task: Task, values: Walk, settings: ChainSettings, chains: int, progress: Progress, phase: str
) -> dict[str, Any]:
    """`chains` responses of each decoder (`sampled`) and tests of the exact laws (`goodness`), on a tree
    small enough to be enumerated."""
    steps, seed = settings.steps * task.response_length**2, settings.seeds[0]
    sampled = {
        name: sample(task, values, decoder, chains, seed, name)
        for name, decoder in progress.over(phase, decoders(steps).items())
    }
    return {"goodness": goodness_of_fit(task, values, sampled, steps), "sampled": sampled}


def chi_square(counts: np.ndarray, law: Float[np.ndarray, " leaves"]) -> float:
    """p-value of Pearson's test. Leaves that expect fewer than 5 draws share one cell. A draw of a leaf with
    probability 0 gives 0."""
    from scipy import stats

    if counts[law <= 0].any():
        return 0.0
    expected = law / law.sum() * counts.sum()
    rare = expected < 5
    seen = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    keep = wanted > 0
    return float(stats.chisquare(seen[keep], wanted[keep]).pvalue) if keep.sum() > 1 else float("nan")


def decoders(steps: int) -> dict[str, Any]:
    """The three decoders by the names of `goodness_of_fit`."""
    return {
        "action level": ActionRejection(budget=UNLIMITED),
        "first leaf": VGB(budget=UNLIMITED, stop="first_leaf", steps=UNLIMITED, runs=1, laziness=0.0),
        "fixed steps": VGB(budget=UNLIMITED, steps=steps, runs=_MOST_RUNS),
    }


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """NumPy's generator on a named stream."""
    return numpy_stream(seed, "vgb", *path)


def log_slope(x: np.ndarray, y: Float[np.ndarray, "seeds points"]) -> Interval:
    """Least-squares slope of ln y in ln x per seed, with Student's interval over seeds; NaN, which passes no
    check, if it does not exist."""
    if not (np.isfinite(y).all() and (y > 0).all()):
        return Interval(math.nan, math.nan, math.nan)
    return mean_interval(line_fit(np.log(x), np.log(y))[0])


def over_seeds(values: Float[np.ndarray, " seeds"]) -> Interval:
    """Student's interval over the seeds; NaN where a value is not finite."""
    return mean_interval(values) if np.isfinite(values).all() else Interval(math.nan, math.nan, math.nan)


def slope_in_log(x: np.ndarray, values: np.ndarray) -> Interval:
    return mean_interval(line_fit(np.log(x), values)[0])


def upper_end(interval: Interval) -> float:
    """Upper end as a sort key for the worst interval; an end that is not finite counts as infinite."""
    return interval.high if math.isfinite(interval.high) else math.inf
