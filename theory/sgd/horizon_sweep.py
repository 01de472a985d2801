"""All methods on the whole family: step sizes chosen on separate draws, and the updates that they need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from covlab.report.rates import Centre
from theory.sgd.family import Instance, letters_instance, letters_variance, number_instance
from theory.sgd.horizon_runs import Family, Lane, Method, begin, letters_stream, program
from tracking import Progress

CHUNK = 2048
"""Number of updates per call of the program."""

NUMBERS = (1.0, 2.0, 8.0)
"""Number-prompts of every family, over 8/(HB). The step size in use (or 8/(HB) if larger) comes before them
and the largest step size after. Prompts differ only in a(e), which falls from 4/7 at 8/(HB) to 1/2."""

CENTRES: Mapping[str, Centre] = {"mean": "mean", "good": "median"}
"""Criteria for choosing a step size: field of `Needed` -> statistic over draws. The theorems bound the
expected mean over iterates, and all iterates with probability 1/2."""

CRITERIA = tuple(CENTRES)


class Needed(NamedTuple):
    """Updates that a run needed; inf if the target was not reached within T - 1 updates.

    Attributes:
        mean: first T with (Cov(theta^1) + ... + Cov(theta^T))/T <= eps.
        good: first t with Cov(theta^s) <= eps for every s from t to T - 1.
        average: mean Cov over all iterates; not a number of updates.
    """

    mean: Float[np.ndarray, "*lanes"]
    good: Float[np.ndarray, "*lanes"]
    average: Float[np.ndarray, "*lanes"]


class Trace(NamedTuple):
    """Iterates 0, 1, ...: theta's coordinates, Cov_N and KL in nats, each (horizons, draws, iterates)."""

    theta: tuple[np.ndarray, np.ndarray]
    coverage: np.ndarray
    kl: np.ndarray


class Chosen(NamedTuple):
    """A method with its best step size at every length, for each criterion.

    Attributes:
        method: rule and batch.
        tuning: updates on the small-step instance: (horizons, step sizes, tuning draws).
        steps: index of the chosen step size at each length.
        letters: updates on the small-step instance at the chosen steps, fresh draws: (draws, horizons).
        worst: updates on the worst instance of the family, for the draws of `letters`.
    """

    method: Method
    tuning: Needed
    steps: Mapping[str, np.ndarray]
    letters: Mapping[str, np.ndarray]
    worst: Mapping[str, np.ndarray]


class Bound(NamedTuple):
    """SGD with eta = 1/(2HB^2): mean KL of iterates 1..T, and 4/(eta T) + 2 eta sigma*^2, in nats.

    Attributes:
        letters: mean KL on the small-step instance, over draws, (horizons, T).
        numbers: mean KL on the large-step instance, (horizons, T).
        bound: the bound, (horizons, T).
    """

    letters: np.ndarray
    numbers: np.ndarray
    bound: np.ndarray


@dataclass(frozen=True)
class Compared:
    """Updates that every method needs.

    Attributes:
        family: the instances.
        seed: seed of all draws except those for choosing step sizes.
        step_sizes: the grid, in increasing order.
        numbers: rule -> updates on the large-step instances, (horizons, step sizes, numbers).
        chosen: method's name -> method with chosen step sizes.
    """

    family: Family
    seed: int
    step_sizes: Float[np.ndarray, " steps"]
    numbers: Mapping[str, Needed]
    chosen: Mapping[str, Chosen]


@dataclass(frozen=True)
class Measurements(Compared):
    """Updates that every method needs, iterates and the bound.

    Attributes:
        shown: method's name -> iterates on the small-step instance, with step sizes chosen by "mean".
        trap: iterates of SGD with eta = 8/(HB) on the number-prompt 8/(HB).
        bound: SGD's KL and its upper bound.
    """

    shown: Mapping[str, Trace]
    trap: Trace
    bound: Bound


def methods(family: Family, batch: int) -> tuple[Method, ...]:
    """The compared methods; the last batch of normalised SGD makes the theorem's term B/(K ln N) <= eps."""
    enough = math.ceil(family.bound / (family.target * family.log_n))
    return (
        Method("SGD", "sgd", 1),
        Method(f"SGD, batch {batch}", "sgd", batch),
        Method("clipped SGD", "clipped", 1),
        Method("normalised SGD", "normalised", 1),
        Method(f"normalised SGD, batch {batch}", "normalised", batch),
        Method(f"normalised SGD, batch {enough}", "normalised", enough),
        Method("sign-SGD", "sign", 1),
        Method("Adam", "adam", 1),
    )


SHOWN = ("SGD", "normalised SGD", "Adam")
"""Methods whose iterates are kept."""


def sweep(
    family: Family,
    batch: int,
    step_sizes: Float[np.ndarray, " steps"],
    tuning: tuple[int, int],
    verdict: tuple[int, int],
    progress: Progress,
) -> Measurements:
    """Every method of `methods`; `tuning` and `verdict` are (draws, seed)."""
    found = compare(family, methods(family, batch), step_sizes, tuning, verdict, progress)
    with jax.enable_x64(True):
        shown = {}
        for name in progress.over("iterates", SHOWN):
            size = step_sizes[found.chosen[name].steps["mean"]]
            shown[name] = _trace_letters(family, found.chosen[name].method, size, verdict[1], "shown")
        trap, bound = _guarantees(family, verdict[1])
    return Measurements(
        family, found.seed, step_sizes, found.numbers, found.chosen, shown=shown, trap=trap, bound=bound
    )


def compare(
    family: Family,
    every: Sequence[Method],
    step_sizes: Float[np.ndarray, " steps"],
    tuning: tuple[int, int],
    verdict: tuple[int, int],
    progress: Progress,
) -> Compared:
    """The methods `every`, each with its best step size at every length; `tuning` and `verdict` are (draws,
    seed).

    Responses to number-prompts are certain, so runs on them do not depend on the draw and are made once per
    step size.
    """
    with jax.enable_x64(True):
        numbers = _on_numbers(family, [method.rule for method in every], step_sizes, progress)
        grid = np.broadcast_to(step_sizes, (len(family.horizons), len(step_sizes)))
        tried = _on_letters(family, dict.fromkeys(every, grid), *tuning, "tuning", progress)
        steps = {
            method: {
                criterion: choose(_worst(getattr(tried[method], criterion), fixed, criterion), criterion)
                for criterion in CRITERIA
            }
            for method, fixed in ((method, numbers[method.rule]) for method in every)
        }
        sizes = {
            method: step_sizes[np.stack([by_criterion[criterion] for criterion in CRITERIA], axis=-1)]
            for method, by_criterion in steps.items()
        }
        needed = _on_letters(family, sizes, *verdict, "verdict", progress)
        chosen, at = {}, np.arange(len(family.horizons))
        for method in every:
            letters, worst = {}, {}
            for index, criterion in enumerate(CRITERIA):
                fixed = getattr(numbers[method.rule], criterion)[at, steps[method][criterion]]
                letters[criterion] = getattr(needed[method], criterion)[:, index].T
                worst[criterion] = np.maximum(letters[criterion], fixed.max(axis=-1))
            chosen[method.name] = Chosen(method, tried[method], steps[method], letters, worst)
    return Compared(family, verdict[1], step_sizes, numbers, chosen)


def choose(worst: Float[np.ndarray, "horizons steps draws"], criterion: str) -> np.ndarray:
    """Index of the step size with the fewest updates at each length, by the statistic `CENTRES[criterion]` of
    the draws; the smallest step size wins ties."""
    centre = np.mean if CENTRES[criterion] == "mean" else np.median
    return np.argmin(centre(worst, axis=-1), axis=-1)


def _worst(letters: np.ndarray, fixed: Needed, criterion: str) -> np.ndarray:
    return np.maximum(letters, getattr(fixed, criterion).max(axis=-1)[..., None])


def _on_numbers(
    family: Family, rules: Sequence[str], step_sizes: np.ndarray, progress: Progress
) -> dict[str, Needed]:
    def prompts(least: float) -> np.ndarray:
        shared = [*(least * factor for factor in NUMBERS), max(step_sizes[-1], least)]
        return np.stack([np.maximum(step_sizes, least), *(np.full(len(step_sizes), e) for e in shared)], -1)

    members = [family.member(horizon) for horizon in family.horizons]
    instance = _stack([number_instance(member, prompts(member.least_number)) for member in members])
    lanes = instance.start[0].shape
    steps = jnp.broadcast_to(jnp.asarray(step_sizes), lanes[:2])
    needed = {}
    for rule in progress.over("number-prompts", dict.fromkeys(rules)):
        lane = begin(rule, instance.start, lanes)
        run = program(rule, family.log_n, family.target, letters=False)
        for times in _chunks(family.updates):
            lane = run(instance, steps, lane, times, None)
        needed[rule] = _needed(family, lane)
    return needed


def _on_letters(
    family: Family,
    steps: Mapping[Method, Float[np.ndarray, "horizons steps"]],
    draws: int,
    seed: int,
    role: str,
    progress: Progress,
) -> dict[Method, Needed]:
    """Updates of each method on the small-step instance, (horizons, steps, draws)."""
    instance = _letters(family)
    lanes = {method: _begin_letters(method, instance, (*step.shape, draws)) for method, step in steps.items()}
    for chunk, times in enumerate(progress.over(f"letters, {role}", _chunks(family.updates))):
        for batch in dict.fromkeys(method.batch for method in steps):
            counts = letters_stream(family, batch, draws, seed, role, chunk, len(times))
            for method in (step for step in steps if step.batch == batch):
                run = program(method.rule, family.log_n, family.target, letters=True)
                lanes[method] = run(instance, jnp.asarray(steps[method]), lanes[method], times, counts)
    return {method: _needed(family, lane) for method, lane in lanes.items()}


TRACED = 32
"""Number of draws whose iterates are kept."""


def _trace_letters(family: Family, method: Method, steps: np.ndarray, seed: int, role: str) -> Trace:
    instance = _letters(family)
    lane = _begin_letters(method, instance, (len(family.horizons), 1, TRACED))
    run = program(method.rule, family.log_n, family.target, letters=True, traced=True)
    parts = []
    for chunk, times in enumerate(_chunks(family.updates)):
        counts = letters_stream(family, method.batch, TRACED, seed, role, chunk, len(times))
        lane, trace = run(instance, jnp.asarray(steps[:, None]), lane, times, counts)
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf[:, 0]), trace))
    return _joined(parts)


def _guarantees(family: Family, seed: int) -> tuple[Trace, Bound]:
    """SGD with eta = 1/(2HB^2) on the small-step instance and on the number-prompt 8/(HB), and with
    eta = 8/(HB) on the number-prompt."""
    members = [family.member(horizon) for horizon in family.horizons]
    small = 1 / (2 * np.array(family.horizons) * family.bound**2)
    least = np.array([member.least_number for member in members])
    letters = _trace_letters(family, Method("SGD", "sgd", 1), small, seed, "bound")
    instance = _stack([number_instance(member, np.full((2, 1), member.least_number)) for member in members])
    lane = begin("sgd", instance.start, instance.start[0].shape)
    run = program("sgd", family.log_n, family.target, letters=False, traced=True)
    parts = []
    for times in _chunks(family.updates):
        lane, trace = run(instance, jnp.asarray(np.stack([small, least], -1)), lane, times, None)
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf[:, :, 0]), trace))
    both = _joined(parts)
    time = np.arange(1, family.updates)
    # sigma*^2 of the number-prompt is below that of the letters.
    variance = np.array([letters_variance(member) for member in members])
    bound = 4 / (small[:, None] * time) + (2 * small * variance)[:, None]
    means = [np.cumsum(kl[:, 1:], axis=-1) / time for kl in (letters.kl.mean(axis=1), both.kl[:, 0])]
    return jax.tree.map(lambda leaf: leaf[:, 1:], both), Bound(means[0], means[1], bound)


def _letters(family: Family) -> Instance:
    return _stack([letters_instance(family.member(h), family.plus, family.n) for h in family.horizons])


def _begin_letters(method: Method, instance: Instance, lanes: tuple[int, ...]) -> Lane:
    first, second = instance.start
    return begin(method.rule, (first[:, None, None], second[:, None, None]), lanes)


def _stack(instances: Sequence[Instance]) -> Instance:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *instances)


def _chunks(updates: int) -> list[jax.Array]:
    return [
        jnp.arange(start, min(start + CHUNK, updates), dtype=jnp.int32) for start in range(0, updates, CHUNK)
    ]


def _joined(parts: Sequence[Any]) -> Trace:
    return Trace(*jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts))


def _needed(family: Family, lane: Lane) -> Needed:
    mean, last, end = np.asarray(lane.mean), np.asarray(lane.last), family.updates - 1
    return Needed(
        np.where(mean == 0, np.inf, mean),
        np.where(last == end, np.inf, last + 1.0),
        np.asarray(lane.total) / end,
    )


def visits(family: Family, step_size: float) -> float:
    """Derived number of visits to `+` until SGD covers it: (1 - 1/(4e))/(eta B'^2 ln N).

    To first order a visit adds eta H B'^2 to exp(B' theta_1), which starts at H/(4e ln N) and covers `+` at
    H/ln N.
    """
    return (1 - 1 / (4 * math.e)) / (family.log_n * step_size * family.letters**2)


def proof_updates(family: Family) -> float:
    """Derived number of updates until normalised SGD with the proof's constants covers `+`, free of H.

    eta = 1/(128B) and lambda = 8B ln N. A large batch has the gradient g = mu(+) B' H/w along `+`, where
    w = exp(B' theta_1) goes from H/(4e ln N) to H/ln N. Each update adds B' eta g/(lambda + g) to ln w.
    """
    eta, damping = 1 / (128 * family.bound), 8 * family.bound * family.log_n
    far = damping * (1 - 1 / (4 * math.e)) / (family.plus * family.letters * family.log_n)
    return (1 + math.log(4) + far) / (family.letters * eta)
