"""Coverage of maximum likelihood on four families, as sweeps: Bernoulli, linear, finite, convex.

The settings and measurements of experiments.mle_rates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Given, Increasing, Real, Seed, Whole, Wholes
from covlab.claims.sweeps import Sweep, as_row, columns, shown
from covlab.report.rates import Rate
from tasks import numpy_stream
from tasks.checks import whole
from theory.maximum_likelihood.fitting import best_of_class, fit_logistic_on_ball
from theory.maximum_likelihood.random_trees import RandomTrees
from theory.maximum_likelihood.rate_classes import Bernoulli, FineRate
from theory.maximum_likelihood.rate_instances import HeavyTail
from tracking import Progress

_PROBABILITIES = 2000
"""Points of the grid on which the worst p* is looked for."""


def _summed_length(field: str, value: Any) -> int:
    length = whole(field, value, 2)
    if length > 12:
        raise ValueError(f"{field}: {length}; valid: 2 to 12, 2^length responses are summed")
    return length


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the four families; the defaults are the scale `cpu`.

    Sizes and the linear instance were chosen on seed 900.

    Attributes:
        seed: seed of all data sets.
        draws: instances of the linear and the convex family, and classes of the finite one.
        log_n: ln N where something else varies.
        log_ns: ln N.
        bernoulli_samples: numbers of examples n of the Bernoulli family.
        bernoulli_draws: data sets of the Bernoulli family.
        log_deltas: ln 1/delta.
        linear_samples: numbers of examples n of the linear family.
        linear_horizons: lengths H of the linear family.
        linear_horizon: H of the linear family where n or N varies.
        linear_sample: n of the linear family where H or N varies.
        tree_length: length of the finite family's responses, all enumerated.
        tree_samples: numbers of examples n of the finite family.
        tree_sample: n of the finite family where |Pi| or N varies.
        tree_models: sizes |Pi| of the finite family.
        tree_sets: data sets for each class and n.
        convex_size: dimension d of the convex family.
        convex_samples: n of the convex family, at least 2 d.
        convex_ns: N of the convex family.
    """

    seed: Annotated[int, Seed()] = 600
    draws: Annotated[int, Whole(32)] = 64
    log_n: Annotated[float, Real(above=0.69, below=100)] = 2.772588722239781
    log_ns: Annotated[tuple[float, ...], Increasing(0, 100)] = (0.75, 1.5, 3, 6, 12)
    bernoulli_samples: Annotated[tuple[int, ...], Wholes(16, at_least=3)] = (64, 256, 1024, 4096, 16384)
    bernoulli_draws: Annotated[int, Whole(32)] = 4096
    log_deltas: Annotated[tuple[float, ...], Increasing(0, 100)] = (0.7, 1.4, 2.8, 5.6, 11.2)
    linear_samples: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (512, 1024, 2048, 4096, 8192)
    linear_horizons: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (16, 32, 64, 128, 256)
    linear_horizon: Annotated[int, Whole(1)] = 32
    linear_sample: Annotated[int, Whole(1)] = 4096
    tree_length: Annotated[int, _summed_length] = 7
    tree_samples: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (64, 128, 256, 512, 1024)
    tree_sample: Annotated[int, Whole(1)] = 256
    tree_models: Annotated[tuple[int, ...], Wholes(2, at_least=3)] = (2, 8, 32, 128, 512)
    tree_sets: Annotated[int, Whole(1)] = 64
    convex_size: Annotated[int, Whole(1)] = 1024
    convex_samples: Annotated[int, Given()] = 4096
    convex_ns: Annotated[tuple[int, ...], Wholes(2, at_least=3)] = (4, 8, 16, 32, 64)

    def __post_init__(self) -> None:
        whole("convex_samples", self.convex_samples, 2 * self.convex_size)
        if self.tree_sample not in self.tree_samples:
            valid = f"one of tree_samples, {list(self.tree_samples)}"
            raise ValueError(f"tree_sample: {self.tree_sample}; valid: {valid}")


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "draws": 512,
        "bernoulli_samples": (64, 256, 1024, 4096, 16384, 65536),
        "bernoulli_draws": 16384,
        "linear_samples": (512, 1024, 2048, 4096, 8192, 16384),
        "linear_horizons": (16, 32, 64, 128, 256, 512),
        "tree_length": 8,
        "tree_samples": (64, 128, 256, 512, 1024, 2048),
        "tree_models": (2, 8, 32, 128, 512, 2048),
        "tree_sets": 256,
        "convex_size": 2048,
        "convex_samples": 8192,
        "convex_ns": (4, 8, 16, 32, 64, 128),
    },
}


class Measurements(NamedTuple):
    """Results of the measurement.

    Attributes:
        settings: what was measured.
        sweeps: by name and axis.
        infinite: Bernoulli: whether KL is infinite; data sets x n.
        dimension: d of the linear instances.
        spared: convex: whether Cov_N of the hull's model is 0 where the class's model fails; data sets x N.
    """

    settings: Settings
    sweeps: dict[tuple[str, str], Sweep]
    infinite: Float[np.ndarray, "draws sizes"]
    dimension: int
    spared: Float[np.ndarray, "draws ns"]


def measure(settings: Settings, study: Study) -> Measurements:
    """All sweeps."""
    parts = 4
    study.progress.update("families", 0, parts)
    bernoulli, infinite = bernoulli_sweeps(settings)
    study.progress.update("families", 1, parts)
    linear, dimension = linear_sweeps(settings)
    study.progress.update("families", 2, parts)
    trees = tree_sweeps(settings, study.progress)
    study.progress.update("families", 3, parts)
    convex, spared = convex_sweeps(settings)
    study.progress.update("families", 4, parts)
    every = [*bernoulli, *linear, *trees, *convex]
    return Measurements(settings, {(s.name, s.axis): s for s in every}, infinite, dimension, spared)


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


def bernoulli_sweeps(settings: Settings) -> tuple[list[Sweep], Float[np.ndarray, "draws sizes"]]:
    """E Cov_N at the worst p*, against n; its worst quantile against n and against ln 1/delta."""
    covers, infinite = [], []
    for n in settings.bernoulli_samples:
        instance = Bernoulli(worst_probability(n, settings.log_n), n)
        fitted = instance.fit(
            instance.sample(numpy_stream(settings.seed, "mle", "Bernoulli", n), settings.bernoulli_draws)
        )
        covers.append(instance.coverage(fitted, settings.log_n))
        infinite.append(np.isinf(instance.kl(fitted)))
    samples, deltas = settings.bernoulli_samples, settings.log_deltas
    middle, tail = samples[len(samples) // 2], deltas[len(deltas) // 2]
    by_n = [worst_quantile(n, settings.log_n, tail) for n in samples]
    by_delta = [worst_quantile(middle, settings.log_n, delta) for delta in deltas]
    at, name = f"N = {math.exp(settings.log_n):g}", "Bernoulli"
    mean = Rate("E Cov_N", columns(covers), -1.0)
    quantile = f"(1 - delta) quantile, ln 1/delta = {tail:g}"
    of_n = Rate(quantile, as_row(by_n), -1.0, 8 * tail / np.array(samples))
    of_delta = Rate("(1 - delta) quantile", as_row(by_delta), 1.0, 8 * np.array(deltas) / middle)
    return [
        Sweep(name, "n", f"{at}, worst p*", samples, (mean, of_n)),
        Sweep(name, "ln 1/delta", f"{at}, n = {middle}, worst p*", deltas, (of_delta,)),
    ], columns(infinite)


def linear_sweeps(settings: Settings) -> tuple[list[Sweep], int]:
    """Cov_N against n, H (through sigma*^2) and ln N, with sqrt(sigma*^2/(n ln N)) + B^2/n drawn."""
    name, at = "linear", f"N = {math.exp(settings.log_n):g}"
    log_n = np.array([settings.log_n])

    def bound(instance: HeavyTail, variance: float, log_n: np.ndarray) -> np.ndarray:
        n = instance.num_samples
        return np.sqrt(variance / (n * log_n)) + (instance.radius / 2) ** 2 / n

    against_n, by_n = [], []
    for n in settings.linear_samples:
        instance = HeavyTail(settings.linear_horizon, n)
        coverage, variance = _linear(settings, instance, log_n)
        against_n.append(coverage[:, 0])
        by_n.append(float(bound(instance, variance, log_n)[0]))
    against_h, by_h, variances = [], [], []
    for horizon in settings.linear_horizons:
        instance = HeavyTail(horizon, settings.linear_sample)
        coverage, variance = _linear(settings, instance, log_n)
        against_h.append(coverage[:, 0])
        by_h.append(float(bound(instance, variance, log_n)[0]))
        variances.append(variance)
    instance = HeavyTail(settings.linear_horizon, settings.linear_sample)
    log_ns = np.array(settings.log_ns)
    against_log_n, variance = _linear(settings, instance, log_ns)
    h, fixed = f"H = {settings.linear_horizon}", f"n = {settings.linear_sample}"
    of_n = Rate("Cov_N", columns(against_n), -0.5, np.array(by_n))
    of_variance = Rate("Cov_N", columns(against_h), 0.5, np.array(by_h))
    of_log_n = Rate("Cov_N", against_log_n, -0.5, bound(instance, variance, log_ns))
    varied = f"H = {settings.linear_horizons[0]} to {settings.linear_horizons[-1]}"
    return [
        Sweep(name, "n", f"{h}, {at}", settings.linear_samples, (of_n,)),
        Sweep(name, "sigma*^2", f"{fixed}, {at}, {varied}", shown(variances), (of_variance,)),
        Sweep(name, "ln N", f"{h}, {fixed}", settings.log_ns, (of_log_n,)),
    ], instance.active + instance.passive


def tree_sweeps(settings: Settings, progress: Progress) -> list[Sweep]:
    """Cov_N of the best of a random finite class against n, ln |Pi| and ln N, for the worst share of
    disturbed prefixes at each size; a draw is a class, with the mean over its data sets.

    The worst share is chosen on every other draw and its coverage measured on the rest. The bound drawn is
    Hellinger's: with probability 1 - delta, D_H^2 <= ln(|Pi|/delta)/n, so that
    E Cov_N <= 2N/(sqrt N - 1)^2 (ln |Pi| + 1)/n.
    """
    levels = np.array([settings.log_n, *settings.log_ns])
    models, samples = settings.tree_models, settings.tree_samples
    family = RandomTrees(settings.tree_length, models[-1])
    every = np.empty((settings.draws, len(samples), len(models), len(levels), len(family.shares)))
    for draw in progress.over("classes", range(settings.draws)):
        rng = numpy_stream(settings.seed, "mle", "trees", draw)
        classes = family.sample_classes(rng)
        star = np.exp(classes[0, 0])
        counts = [rng.multinomial(n, star / star.sum(), settings.tree_sets).T.astype(float) for n in samples]
        for share, log_probs in enumerate(classes):
            coverage = family.coverage(log_probs, levels)
            for column in range(len(samples)):
                for row, size in enumerate(models):
                    best = best_of_class(log_probs[:size], counts[column])
                    every[draw, column, row, :, share] = coverage[best].mean(axis=0)
    worst = np.argmax(every[::2].mean(axis=0), axis=-1)[None, ..., None]
    covered = np.take_along_axis(every[1::2], worst, axis=-1)[..., 0]
    at = samples.index(settings.tree_sample)
    log_sizes = np.log(np.array(models, float))

    def bound(n: np.ndarray, log_size: np.ndarray, log_n: np.ndarray) -> np.ndarray:
        root = np.exp(log_n / 2)
        return np.asarray(2 * root**2 / (root - 1) ** 2 * (log_size + 1) / n)

    here = np.array([settings.log_n])
    name, level = "finite class", f"N = {math.exp(settings.log_n):g}"
    largest, fixed = f"|Pi| = {models[-1]}, worst share", f"n = {settings.tree_sample}"
    sample, log_ns = np.array([settings.tree_sample]), np.array(settings.log_ns)
    of_n = Rate("Cov_N", covered[:, :, -1, 0], -1.0, bound(np.array(samples), log_sizes[-1:], here))
    of_size = Rate("Cov_N", covered[:, at, :, 0], None, bound(sample, log_sizes, here))
    of_log_n = Rate("Cov_N", covered[:, at, -1, 1:], -1.0, bound(sample, log_sizes[-1:], log_ns))
    return [
        Sweep(name, "n", f"{largest}, {level}", samples, (of_n,)),
        Sweep(name, "ln |Pi|", f"{fixed}, {level}, worst share", shown(log_sizes), (of_size,)),
        Sweep(name, "ln N", f"{largest}, {fixed}", settings.log_ns, (of_log_n,)),
    ]


def convex_sweeps(settings: Settings) -> tuple[list[Sweep], Float[np.ndarray, "draws ns"]]:
    """The fine-rate class and its convex hull, each at the hidden mass that is worst for it, against N."""
    d, samples = settings.convex_size, settings.convex_samples
    ns = np.array(settings.convex_ns)
    finite, hull, spared = [], [], []
    for n in settings.convex_ns:
        for rarer in (False, True):
            instance = FineRate(d, samples, math.log(n), rarer=rarer)
            rng = numpy_stream(settings.seed, "mle", "convex", n, int(rarer))
            data = instance.sample(rng, settings.draws)
            of_hull = instance.coverage(instance.hull_weight(data))
            if rarer:
                hull.append(of_hull)
            else:
                finite.append(instance.mass * instance.misses(data))
                spared.append(of_hull == 0)
    fixed = f"d = {d}, n = {samples}"
    name = "convex hull"
    of_class = Rate("class: Cov_N", columns(finite), -1.0, d / (samples * np.log(ns)))
    rate_of_hull = Rate("hull: Cov_N", columns(hull), -1.0, d / (samples * ns) + 1 / samples)
    return [
        Sweep(name, "ln N", fixed, shown(np.log(ns)), (of_class,)),
        Sweep(name, "N", fixed, settings.convex_ns, (rate_of_hull,)),
    ], columns(spared)


def _linear(
    settings: Settings, instance: HeavyTail, log_n: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "draws n"], float]:
    rng = numpy_stream(settings.seed, "mle", "linear", instance.length, instance.num_samples)
    star = instance.parameters(rng, settings.draws)
    data = instance.sample(rng, star)
    fitted = fit_logistic_on_ball(data.ones, data.trials, instance.radius).log_odds
    return instance.coverage(star, fitted, log_n), float(instance.variance(star).mean())


def _grid(num_samples: int) -> list[float]:
    ends = math.log(0.01 / num_samples), math.log(0.499)
    return np.exp(np.linspace(*ends, _PROBABILITIES)).tolist()
