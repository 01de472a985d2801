"""Coverage of maximum likelihood on four families, as sweeps: Bernoulli, linear, finite, convex."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.sweeps import Sweep, as_row, columns, shown
from covlab.report.rates import Rate
from tasks import numpy_stream
from theory.maximum_likelihood.fitting import best_of_class, fit_logistic_on_ball
from theory.maximum_likelihood.random_trees import RandomTrees
from theory.maximum_likelihood.rate_classes import Bernoulli, FineRate
from theory.maximum_likelihood.rate_instances import HeavyTail
from tracking import Progress

_PROBABILITIES = 2000
"""Points of the grid on which the worst p* is looked for."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the four families; `log_n` is ln N of the sweeps in something else, `log_ns` the sweep's."""

    seed: int
    draws: int
    log_n: float
    log_ns: tuple[float, ...]
    bernoulli_samples: tuple[int, ...]
    bernoulli_draws: int
    log_deltas: tuple[float, ...]
    linear_samples: tuple[int, ...]
    linear_horizons: tuple[int, ...]
    linear_horizon: int
    linear_sample: int
    tree_length: int
    tree_samples: tuple[int, ...]
    tree_sample: int
    tree_models: tuple[int, ...]
    tree_sets: int
    convex_size: int
    convex_samples: int
    convex_ns: tuple[int, ...]


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        sweeps: by name and axis.
        infinite: Bernoulli: whether KL is infinite; data sets x n.
        dimension: d of the linear instances.
        spared: convex: whether Cov_N of the hull's model is 0 where the class's own fails; data sets x N.
    """

    settings: Settings
    sweeps: dict[tuple[str, str], Sweep]
    infinite: Float[np.ndarray, "draws sizes"]
    dimension: int
    spared: Float[np.ndarray, "draws ns"]


def measured(chosen: Settings, progress: Progress) -> Measured:
    """All sweeps."""
    parts = 4
    progress.update("families", 0, parts)
    bernoulli, infinite = bernoulli_sweeps(chosen)
    progress.update("families", 1, parts)
    linear, dimension = linear_sweeps(chosen)
    progress.update("families", 2, parts)
    trees = tree_sweeps(chosen, progress)
    progress.update("families", 3, parts)
    convex, spared = convex_sweeps(chosen)
    progress.update("families", 4, parts)
    every = [*bernoulli, *linear, *trees, *convex]
    return Measured(chosen, {(s.name, s.axis): s for s in every}, infinite, dimension, spared)


def worst_probability(num_samples: int, log_n: float) -> float:
    """p* at which E Cov_N of the Bernoulli model is largest, on a logarithmic grid."""
    return float(max(_grid(num_samples), key=lambda p: Bernoulli(p, num_samples).mean_coverage(log_n)))


def worst_quantile(num_samples: int, log_n: float, log_delta: float) -> float:
    """max over p* of the (1 - delta) quantile of Cov_N, exactly but for the grid of p*.

    Cov_N is p* or 0, so that its quantile is p* where P[Cov_N > 0] > delta and else 0; `log_delta` is
    ln(1/delta).
    """
    failing = [
        p for p in _grid(num_samples) if Bernoulli(p, num_samples).missed(log_n) > math.exp(-log_delta)
    ]
    return max(failing, default=0.0)


def bernoulli_sweeps(chosen: Settings) -> tuple[list[Sweep], Float[np.ndarray, "draws sizes"]]:
    """E Cov_N at the worst p*, against n; its worst quantile against n and against ln 1/delta."""
    covers, infinite = [], []
    for n in chosen.bernoulli_samples:
        instance = Bernoulli(worst_probability(n, chosen.log_n), n)
        fitted = instance.fit(
            instance.sample(numpy_stream(chosen.seed, "mle", "Bernoulli", n), chosen.bernoulli_draws)
        )
        covers.append(instance.coverage(fitted, chosen.log_n))
        infinite.append(np.isinf(instance.kl(fitted)))
    samples, deltas = chosen.bernoulli_samples, chosen.log_deltas
    middle, tail = samples[len(samples) // 2], deltas[len(deltas) // 2]
    by_n = [worst_quantile(n, chosen.log_n, tail) for n in samples]
    by_delta = [worst_quantile(middle, chosen.log_n, each) for each in deltas]
    at, name = f"N = {math.exp(chosen.log_n):g}", "Bernoulli"
    return [
        Sweep(
            name,
            "n",
            f"{at}, worst p*",
            samples,
            (
                Rate("E Cov_N", columns(covers), -1.0),
                Rate(
                    f"(1 - delta) quantile, ln 1/delta = {tail:g}",
                    as_row(by_n),
                    -1.0,
                    8 * tail / np.array(samples),
                ),
            ),
        ),
        Sweep(
            name,
            "ln 1/delta",
            f"{at}, n = {middle}, worst p*",
            deltas,
            (Rate("(1 - delta) quantile", as_row(by_delta), 1.0, 8 * np.array(deltas) / middle),),
        ),
    ], columns(infinite)


def linear_sweeps(chosen: Settings) -> tuple[list[Sweep], int]:
    """Cov_N against n, H (through sigma*^2) and ln N, with sqrt(sigma*^2/(n ln N)) + B^2/n drawn."""
    name, at = "linear", f"N = {math.exp(chosen.log_n):g}"
    log_n = np.array([chosen.log_n])

    def bound(instance: HeavyTail, variance: float, log_n: np.ndarray) -> np.ndarray:
        n = instance.num_samples
        return np.sqrt(variance / (n * log_n)) + (instance.radius / 2) ** 2 / n

    against_n, by_n = [], []
    for n in chosen.linear_samples:
        instance = HeavyTail(chosen.linear_horizon, n)
        coverage, variance = _linear(chosen, instance, log_n)
        against_n.append(coverage[:, 0])
        by_n.append(float(bound(instance, variance, log_n)[0]))
    against_h, by_h, variances = [], [], []
    for horizon in chosen.linear_horizons:
        instance = HeavyTail(horizon, chosen.linear_sample)
        coverage, variance = _linear(chosen, instance, log_n)
        against_h.append(coverage[:, 0])
        by_h.append(float(bound(instance, variance, log_n)[0]))
        variances.append(variance)
    instance = HeavyTail(chosen.linear_horizon, chosen.linear_sample)
    log_ns = np.array(chosen.log_ns)
    against_log_n, variance = _linear(chosen, instance, log_ns)
    h, fixed = f"H = {chosen.linear_horizon}", f"n = {chosen.linear_sample}"
    return [
        Sweep(
            name,
            "n",
            f"{h}, {at}",
            chosen.linear_samples,
            (Rate("Cov_N", columns(against_n), -0.5, np.array(by_n)),),
        ),
        Sweep(
            name,
            "sigma*^2",
            f"{fixed}, {at}, H = {chosen.linear_horizons[0]} to {chosen.linear_horizons[-1]}",
            shown(variances),
            (Rate("Cov_N", columns(against_h), 0.5, np.array(by_h)),),
        ),
        Sweep(
            name,
            "ln N",
            f"{h}, {fixed}",
            chosen.log_ns,
            (Rate("Cov_N", against_log_n, -0.5, bound(instance, variance, log_ns)),),
        ),
    ], instance.features.dimension


def tree_sweeps(chosen: Settings, progress: Progress) -> list[Sweep]:
    """Cov_N of the best of a random finite class against n, ln |Pi| and ln N, for the worst share of
    disturbed prefixes at each size; a draw is a class, with the mean over its data sets.

    The worst share is chosen on every other draw and its coverage measured on the rest. The bound drawn is
    Hellinger's: with probability 1 - delta, D_H^2 <= ln(|Pi|/delta)/n, so that
    E Cov_N <= 2N/(sqrt N - 1)^2 (ln |Pi| + 1)/n.
    """
    levels = np.array([chosen.log_n, *chosen.log_ns])
    models, samples = chosen.tree_models, chosen.tree_samples
    family = RandomTrees(chosen.tree_length, models[-1])
    every = np.empty((chosen.draws, len(samples), len(models), len(levels), len(family.shares)))
    for draw in range(chosen.draws):
        progress.update("classes", draw, chosen.draws)
        rng = numpy_stream(chosen.seed, "mle", "trees", draw)
        classes = family.sample_classes(rng)
        star = np.exp(classes[0, 0])
        counts = [rng.multinomial(n, star / star.sum(), chosen.tree_sets).T.astype(float) for n in samples]
        for share, log_probs in enumerate(classes):
            coverage = family.coverage(log_probs, levels)
            for column in range(len(samples)):
                for row, size in enumerate(models):
                    best = best_of_class(log_probs[:size], counts[column])
                    every[draw, column, row, :, share] = coverage[best].mean(axis=0)
    progress.update("classes", chosen.draws, chosen.draws)
    worst = np.argmax(every[::2].mean(axis=0), axis=-1)[None, ..., None]
    found = np.take_along_axis(every[1::2], worst, axis=-1)[..., 0]
    at = samples.index(chosen.tree_sample)
    log_sizes = np.log(np.array(models, float))

    def bound(n: np.ndarray, log_size: np.ndarray, log_n: np.ndarray) -> np.ndarray:
        root = np.exp(log_n / 2)
        return np.asarray(2 * root**2 / (root - 1) ** 2 * (log_size + 1) / n)

    here = np.array([chosen.log_n])
    name, level = "finite class", f"N = {math.exp(chosen.log_n):g}"
    largest, fixed = f"|Pi| = {models[-1]}, worst share", f"n = {chosen.tree_sample}"
    return [
        Sweep(
            name,
            "n",
            f"{largest}, {level}",
            samples,
            (Rate("Cov_N", found[:, :, -1, 0], -1.0, bound(np.array(samples), log_sizes[-1:], here)),),
        ),
        Sweep(
            name,
            "ln |Pi|",
            f"{fixed}, {level}, worst share",
            shown(log_sizes),
            (
                Rate(
                    "Cov_N", found[:, at, :, 0], None, bound(np.array([chosen.tree_sample]), log_sizes, here)
                ),
            ),
        ),
        Sweep(
            name,
            "ln N",
            f"{largest}, {fixed}",
            chosen.log_ns,
            (
                Rate(
                    "Cov_N",
                    found[:, at, -1, 1:],
                    -1.0,
                    bound(np.array([chosen.tree_sample]), log_sizes[-1:], np.array(chosen.log_ns)),
                ),
            ),
        ),
    ]


def convex_sweeps(chosen: Settings) -> tuple[list[Sweep], Float[np.ndarray, "draws ns"]]:
    """The fine-rate class and its convex hull, each at the hidden mass that is worst for it, against N."""
    d, samples = chosen.convex_size, chosen.convex_samples
    ns = np.array(chosen.convex_ns)
    finite, hull, spared = [], [], []
    for each in chosen.convex_ns:
        for rarer in (False, True):
            instance = FineRate(d, samples, math.log(each), rarer=rarer)
            rng = numpy_stream(chosen.seed, "mle", "convex", each, int(rarer))
            data = instance.sample(rng, chosen.draws)
            of_hull = instance.coverage(instance.hull_weight(data))
            if rarer:
                hull.append(of_hull)
            else:
                finite.append(instance.mass * instance.misses(data))
                spared.append(of_hull == 0)
    fixed = f"d = {d}, n = {samples}"
    name = "convex hull"
    return [
        Sweep(
            name,
            "ln N",
            fixed,
            shown(np.log(ns)),
            (Rate("class: Cov_N", columns(finite), -1.0, d / (samples * np.log(ns))),),
        ),
        Sweep(
            name,
            "N",
            fixed,
            chosen.convex_ns,
            (Rate("hull: Cov_N", columns(hull), -1.0, d / (samples * ns) + 1 / samples),),
        ),
    ], columns(spared)


def _linear(
    chosen: Settings, instance: HeavyTail, log_n: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "draws n"], float]:
    rng = numpy_stream(chosen.seed, "mle", "linear", instance.length, instance.num_samples)
    star = instance.parameters(rng, chosen.draws)
    data = instance.sample(rng, star)
    fitted = fit_logistic_on_ball(data.ones, data.trials, instance.radius).log_odds
    return instance.coverage(star, fitted, log_n), float(instance.variance(star).mean())


def _grid(num_samples: int) -> list[float]:
    ends = math.log(0.01 / num_samples), math.log(0.499)
    return np.exp(np.linspace(*ends, _PROBABILITIES)).tolist()
