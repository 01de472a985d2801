"""Runs of SGD and competing rules: every draw, step size and length of a method in one program.

The cost of an update does not depend on H, because a sequence enters through its token counts
(`theory.sgd.family`). Everything is float64, because sign-SGD and Adam act on signs of gradients far below
float32's smallest number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from tasks import numpy_stream
from theory.sgd.family import (
    Counts,
    Instance,
    Parameters,
    Scalar,
    SGDFamily,
    coverage,
    divergence,
    gradient,
    letters_token_law,
    likeliest,
)
from training.optimizers import adam, normalize_by_global_norm, project_onto_ball, sgd, sign_sgd


@dataclass(frozen=True)
class Family:
    """Parameters of the instances of all lengths.

    Attributes:
        horizons: the lengths H.
        letters: B'; B = B'^2.
        plus: mu(+) of the small-step instance.
        n: N of Cov_N.
        target: eps.
        updates: T of the longest run; the last iterate that counts is T - 1.
    """

    horizons: tuple[int, ...]
    letters: float
    plus: float
    n: float
    target: float
    updates: int

    def member(self, horizon: int) -> SGDFamily:
        """The class at one length."""
        return SGDFamily(horizon, self.letters, self.letters**2)

    @property
    def bound(self) -> float:
        """B."""
        return self.letters**2

    @property
    def log_n(self) -> float:
        """ln N in nats."""
        return math.log(self.n)


class Method(NamedTuple):
    """A training rule with mini-batches of `batch` sequences."""

    name: str
    rule: str
    batch: int


class Lane(NamedTuple):
    """State of a run between updates; `total` is the sum of Cov over iterates 1..t."""

    theta: Parameters
    state: Any
    total: Scalar
    mean: Int[Array, ""]
    last: Int[Array, ""]


def transformation(rule: str, step_size: Any, log_n: float) -> optax.GradientTransformation:
    """The rule with a step size that may be traced, on the unit ball.

    "normalised" has lambda = ln N/(16 eta), tied to the step size as in the theorem's proof, and "clipped"
    clips at norm 1, so neither has a second constant to tune. Adam has optax's default constants.
    """
    if rule == "normalised":
        rules = optax.chain(normalize_by_global_norm(log_n / (16 * step_size)), optax.scale(-1.0))
    elif rule == "adam":
        rules = adam(steps=1, learning_rate=1.0, weight_decay=0.0)
    elif rule == "sign":
        rules = sign_sgd(steps=1, learning_rate=1.0)
    else:
        rules = sgd(steps=1, learning_rate=1.0, clip_norm=1.0 if rule == "clipped" else None)
    return optax.chain(rules, optax.scale(step_size), project_onto_ball(1.0))


def begin(rule: str, start: Parameters, lanes: tuple[int, ...]) -> Lane:
    """Runs before the first update; `start` must broadcast to `lanes`."""
    theta = tuple(jnp.broadcast_to(coordinate, lanes) for coordinate in start)
    state = transformation(rule, 1.0, 1.0).init((jnp.zeros(()), jnp.zeros(())))
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, lanes), state)
    zeros = jnp.zeros(lanes, jnp.int32)
    return Lane((theta[0], theta[1]), state, jnp.zeros(lanes), zeros, zeros)


def advance(
    rule: str,
    log_n: float,
    target: float,
    instance: Instance,
    step_size: Scalar,
    lane: Lane,
    times: Int[Array, " updates"],
    counts: tuple[Counts, ...] | None,
) -> tuple[Lane, tuple[Parameters, Array, Array]]:
    """Apply updates number times[0], ..., with the mean token counts of each mini-batch, an array (updates)
    per count; None stands for the likeliest sequence at every update.

    Returns the run after the updates, and (theta, Cov_N, KL) of the iterate before each update.
    """
    rules = transformation(rule, step_size, log_n)

    def update(
        lane: Lane, now: tuple[Array, tuple[Counts, ...] | None]
    ) -> tuple[Lane, tuple[Parameters, Array, Array]]:
        time, seen = now
        cov = coverage(instance, lane.theta, log_n)
        total = lane.total + jnp.where(time > 0, cov, 0.0)
        reached = (time > 0) & (total <= target * time)
        upwards = gradient(instance, lane.theta, likeliest(instance) if seen is None else seen)
        downwards = tuple(-upward for upward in upwards)
        changes, state = rules.update(downwards, lane.state, lane.theta)
        after = Lane(
            optax.apply_updates(lane.theta, changes),
            state,
            total,
            jnp.where((lane.mean == 0) & reached, time, lane.mean),
            jnp.where((time > 0) & (cov > target), time, lane.last),
        )
        return after, (lane.theta, cov, divergence(instance, lane.theta))

    return jax.lax.scan(update, lane, (times, counts))


@functools.cache
def program(rule: str, log_n: float, target: float, letters: bool, traced: bool = False) -> Callable:
    """`advance` compiled for lanes: (H, step sizes, draws) of the small-step instance, or (H, step sizes,
    numbers) of the large-step instance. Returns the lanes and, if `traced`, the iterates."""

    def run(*arguments: Any) -> Any:
        lane, trace = advance(rule, log_n, target, *arguments)
        return (lane, trace) if traced else lane

    axes: tuple[tuple[Any, ...], ...] = (
        (None if letters else 0, None, 0, None, 1 if letters else None),
        (None if letters else 0, 0, 0, None, None),
        (0, 0, 0, None, 1 if letters else None),
    )
    every = functools.reduce(lambda inner, axis: jax.vmap(inner, in_axes=axis), axes, run)
    # Compiles twice as fast, and runs no slower.
    return jax.jit(every, compiler_options={"xla_backend_optimization_level": 1})


def letters_stream(
    family: Family, batch: int, draws: int, seed: int, role: str, chunk: int, updates: int
) -> tuple[tuple[np.ndarray, ...], ...]:
    """Mean token counts of `+` and of `-` in mini-batches of the small-step instance, each an array
    (updates, horizons, draws).

    Counts are independent for each length, draw and update. Methods with equal batches see equal counts.
    """
    shape = (updates, len(family.horizons), draws)
    counts = tuple(tuple(np.empty(shape) for _ in range(3)) for _ in range(2))
    for index, horizon in enumerate(family.horizons):
        path = ("evaluation", "sgd_horizon", role, batch, horizon, chunk)
        rng = numpy_stream(seed, *path)
        low, zero, _ = letters_token_law(family.member(horizon))
        plus = rng.binomial(batch, family.plus, (updates, draws))
        for (ones, zeros, lows), sequences in zip(counts, (plus, batch - plus), strict=True):
            tokens = sequences * horizon
            others = rare_events(tokens, low + zero, rng)
            lowest = np.zeros_like(others)
            some = others > 0
            lowest[some] = rng.binomial(others[some], low / (low + zero))
            for out, value in ((ones, tokens - others), (zeros, others - lowest), (lows, lowest)):
                out[:, index] = value / batch
    return counts


def rare_events(
    trials: Int[np.ndarray, "*cells"], probability: float, rng: np.random.Generator
) -> Int[np.ndarray, "*cells"]:
    """Independent Binomial(trials, probability) per cell, in time proportional to the number of events.

    The total number of events is binomial; given the total, the trials of the events are a uniform subset.
    """
    if probability > 0.01:
        return rng.binomial(trials, probability)
    ends = np.cumsum(trials.ravel(), dtype=np.int64)
    wanted = int(rng.binomial(ends[-1], probability))
    events = np.sort(rng.integers(ends[-1], size=wanted))
    while (again := np.flatnonzero(np.diff(events) == 0)).size:
        events[again] = rng.integers(ends[-1], size=again.size)
        events.sort()
    cells = np.searchsorted(ends, events, side="right")
    return np.bincount(cells, minlength=trials.size).reshape(trials.shape)
