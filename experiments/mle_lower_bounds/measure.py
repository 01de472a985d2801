"""The lower-bound instances of maximum likelihood, as sweeps: coarse term, fine term, inherent variance.

The settings and measurements of experiments.mle_lower_bounds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.claim import Study
from covlab.claims.settings import Increasing, Real, Seed, Whole, Wholes
from covlab.claims.sweeps import Sweep, columns, shown
from covlab.report.rates import Rate
from tasks import numpy_stream
from theory.maximum_likelihood.fitting import fit_categorical_in_box, fit_logistic_on_ball
from theory.maximum_likelihood.rate_classes import CoarseRate, FineRate
from theory.maximum_likelihood.rate_instances import VarianceNeeded
from tracking import Progress

Sizes = Annotated[tuple[int, ...], Wholes(2, at_least=3)]
Size = Annotated[int, Whole(2)]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the three families: lists for the sweeps, single numbers where something else varies.

    The defaults are the scale `cpu`. An instance refuses sizes at which its proposition does not hold.

    Sizes, c0 and c1 were chosen on seed 900.

    Attributes:
        seed: seed of all data sets.
        draws: data sets of each size.
        log_n: ln N of the fine-rate instance where something else varies.
        coarse_norm: B of the coarse-rate instance.
        coarse_samples: numbers of examples n of the coarse-rate instance.
        coarse_sample: n of the coarse-rate instance where d varies.
        coarse_sizes: dimensions d of the coarse-rate instance.
        coarse_size: d of the coarse-rate instance where n varies.
        coarse_log_ns: ln N of the coarse-rate instance.
        fine_samples: numbers of examples n of the fine-rate instance.
        fine_sample: n of the fine-rate instance where something else varies.
        fine_sizes: dimensions d of the fine-rate instance.
        fine_size: d of the fine-rate instance where something else varies.
        fine_log_ns: ln N of the fine-rate instance.
        bits_norm: B of the instance on bits.
        bits_responses: responses drawn for each data set on bits.
        bits_samples: numbers of examples n on bits.
        bits_sample: n on bits where H or N varies.
        bits_horizons: lengths H on bits.
        bits_horizon: H on bits where n varies.
        bits_long: H on bits where N varies.
        bits_log_n: ln N on bits where something else varies.
        bits_log_ns: ln N on bits.
    """

    seed: Annotated[int, Seed()] = 601
    draws: Annotated[int, Whole(32)] = 256
    log_n: Annotated[float, Real(above=0.69, below=100)] = 2.772588722239781
    coarse_norm: Annotated[float, Real(above=0, below=300)] = 12
    coarse_samples: Sizes = (256, 512, 1024, 2048, 4096)
    coarse_sample: Size = 8192
    coarse_sizes: Sizes = (32, 64, 128, 256, 512)
    coarse_size: Size = 64
    coarse_log_ns: Annotated[tuple[float, ...], Increasing(0, 100)] = (0.75, 1.5, 3, 6, 12)
    fine_samples: Sizes = (256, 512, 1024, 2048, 4096)
    fine_sample: Size = 4096
    fine_sizes: Sizes = (16, 32, 64, 128, 256)
    fine_size: Size = 64
    fine_log_ns: Annotated[tuple[float, ...], Increasing(0.69, 100)] = (1, 2, 4, 8, 16)
    bits_norm: Annotated[float, Real(above=0, below=1000)] = 20
    bits_responses: Size = 256
    bits_samples: Sizes = (2048, 4096, 8192, 16384, 32768)
    bits_sample: Size = 8192
    bits_horizons: Sizes = (64, 128, 256, 512, 1024)
    bits_horizon: Size = 256
    bits_long: Size = 512
    bits_log_n: Annotated[float, Real(above=0, below=100)] = 1.3862943611198906
    bits_log_ns: Annotated[tuple[float, ...], Increasing(0, 100)] = (0.7, 1.4, 2.8, 5.6, 11.2)

    def __post_init__(self) -> None:
        if self.coarse_log_ns[-1] > self.coarse_norm:
            valid = f"at most coarse_norm = {self.coarse_norm:g}"
            raise ValueError(f"coarse_log_ns: {list(self.coarse_log_ns)}; valid: {valid}")
        # Each instance refuses sizes at which its proposition does not hold.
        coarse_instances(self), fine_instances(self), bit_instances(self)


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "draws": 1024,
        "coarse_samples": (256, 512, 1024, 2048, 4096, 8192),
        "coarse_sample": 16384,
        "coarse_sizes": (32, 64, 128, 256, 512, 1024),
        "fine_samples": (256, 512, 1024, 2048, 4096, 8192),
        "fine_sample": 8192,
        "fine_sizes": (16, 32, 64, 128, 256, 512),
        "bits_samples": (2048, 4096, 8192, 16384, 32768, 65536),
        "bits_sample": 16384,
        "bits_horizons": (64, 128, 256, 512, 1024, 2048),
    },
}


class Measurements(NamedTuple):
    """Results of the measurement.

    Attributes:
        settings: what was measured.
        sweeps: by name and axis.
        promised: coarse: per size of n and d, whether Cov_N at N = e^B reaches (d - 1)/(10 n).
        trivial: coarse: largest Cov_N at N = e^2B, which no model of the class can miss by.
        missed: fine: per size, whether the fit is not pi_D.
        spread: fine: largest of ln(1/(1 - eps))/sqrt(d/n), at most 1 where two models cover the class.
    """

    settings: Settings
    sweeps: dict[tuple[str, str], Sweep]
    promised: list[np.ndarray]
    trivial: float
    missed: list[np.ndarray]
    spread: float


def coarse_instances(settings: Settings) -> dict[str, list[CoarseRate]]:
    """Along n and along d."""
    b = settings.coarse_norm
    return {
        "n": [CoarseRate(settings.coarse_size, n, b) for n in settings.coarse_samples],
        "d": [CoarseRate(d, settings.coarse_sample, b) for d in settings.coarse_sizes],
    }


def fine_instances(settings: Settings) -> dict[str, list[FineRate]]:
    """Along n, d and ln N."""
    n, d, log_n = settings.fine_sample, settings.fine_size, settings.log_n
    return {
        "n": [FineRate(d, fine_sample, log_n) for fine_sample in settings.fine_samples],
        "d": [FineRate(fine_size, n, log_n) for fine_size in settings.fine_sizes],
        "ln N": [FineRate(d, n, fine_log_n) for fine_log_n in settings.fine_log_ns],
    }


def bit_instances(settings: Settings) -> dict[str, list[VarianceNeeded]]:
    """Along n, H and ln N."""
    n, h, log_n, b = settings.bits_sample, settings.bits_horizon, settings.bits_log_n, settings.bits_norm
    return {
        "n": [VarianceNeeded(h, bits_sample, log_n, b) for bits_sample in settings.bits_samples],
        "H": [VarianceNeeded(bits_horizon, n, log_n, b) for bits_horizon in settings.bits_horizons],
        "ln N": [VarianceNeeded(settings.bits_long, n, bits_log_n, b) for bits_log_n in settings.bits_log_ns],
    }


def measure(settings: Settings, study: Study) -> Measurements:
    """All sweeps."""
    study.progress.update("families", 0, 3)
    coarse, promised, trivial = coarse_sweeps(settings)
    study.progress.update("families", 1, 3)
    fine, missed, spread = fine_sweeps(settings)
    study.progress.update("families", 2, 3)
    every = [*coarse, *fine, *bit_sweeps(settings, study.progress)]
    study.progress.update("families", 3, 3)
    sweeps = {(sweep.name, sweep.axis): sweep for sweep in every}
    return Measurements(settings, sweeps, promised, trivial, missed, spread)


def coarse_sweeps(settings: Settings) -> tuple[list[Sweep], list[np.ndarray], float]:
    """Cov_N at N = e^B against n and d, and against ln N."""
    b = settings.coarse_norm
    levels = np.array([*settings.coarse_log_ns, b, 2 * b])
    made, promised, trivial = [], [], 0.0
    fixed = {"n": f"d = {settings.coarse_size}", "d": f"n = {settings.coarse_sample}"}
    theory = {"n": -1.0, "d": 1.0}
    for axis, instances in coarse_instances(settings).items():
        covered = []
        for instance in instances:
            rng = numpy_stream(settings.seed, "mle", "coarse", axis, instance.size, instance.num_samples)
            fitted = fit_categorical_in_box(instance.sample(rng, settings.draws), b)
            covered.append(instance.coverage(fitted, levels))
            promised.append(covered[-1][:, -2] >= instance.promised)
            trivial = max(trivial, float(covered[-1][:, -1].max()))
        sizes = settings.coarse_samples if axis == "n" else settings.coarse_sizes
        rate = Rate(
            "Cov_N, N = e^B",
            columns([coverage[:, -2] for coverage in covered]),
            theory[axis],
            np.array([instance.promised for instance in instances]),
        )
        made.append(Sweep("coarse", axis, f"{fixed[axis]}, B = {b:g}", sizes, (rate,)))
        last = covered[-1], instances[-1]
    flat = Rate("Cov_N", last[0][:, :-2], 0.0, np.full(len(levels) - 2, last[1].promised))
    largest = f"d = {last[1].size}, n = {last[1].num_samples}, B = {b:g}"
    made.append(Sweep("coarse", "ln N", largest, settings.coarse_log_ns, (flat,)))
    return made, promised, trivial


def fine_sweeps(settings: Settings) -> tuple[list[Sweep], list[np.ndarray], float]:
    """Cov_N against n, d and ln N."""
    d, n = f"d = {settings.fine_size}", f"n = {settings.fine_sample}"
    level = f"N = {math.exp(settings.log_n):g}"
    fixed = {"n": f"{d}, {level}", "d": f"{n}, {level}", "ln N": f"{d}, {n}"}
    sizes = {"n": settings.fine_samples, "d": settings.fine_sizes, "ln N": settings.fine_log_ns}
    theory = {"n": -1.0, "d": 1.0, "ln N": -1.0}
    made, missed, spread = [], [], 0.0
    for axis, instances in fine_instances(settings).items():
        covered = []
        for position, instance in enumerate(instances):
            rng = numpy_stream(settings.seed, "mle", "fine", axis, position)
            missed.append(instance.misses(instance.sample(rng, settings.draws)))
            covered.append(instance.mass * missed[-1])
            spread = max(
                spread, -math.log1p(-instance.tilt) / math.sqrt(instance.size / instance.num_samples)
            )
        rate = Rate(
            "Cov_N", columns(covered), theory[axis], np.array([instance.mass for instance in instances])
        )
        made.append(Sweep("fine", axis, fixed[axis], sizes[axis], (rate,)))
    return made, missed, spread


def bit_sweeps(settings: Settings, progress: Progress) -> list[Sweep]:
    """Cov_N against n, H, sigma*^2 (which varies with H) and ln N; KL against H."""
    h, size = f"H = {settings.bits_horizon}", f"n = {settings.bits_sample}"
    level = f"N = {math.exp(settings.bits_log_n):.3g}"
    fixed = {"n": f"{h}, {level}", "H": f"{size}, {level}", "ln N": f"H = {settings.bits_long}, {size}"}
    sizes = {"n": settings.bits_samples, "H": settings.bits_horizons, "ln N": settings.bits_log_ns}
    theory = {"n": -1.0, "H": 1.0, "ln N": -1.0}
    made = []
    for axis, instances in bit_instances(settings).items():
        coverage, bound = [], []
        for position, instance in enumerate(progress.over(f"bits against {axis}", instances)):
            rng = numpy_stream(settings.seed, "mle", "bits", axis, position)
            data = instance.sample(rng, settings.draws)
            fitted = fit_logistic_on_ball(data.ones, data.trials, instance.norm).log_odds
            coverage.append(instance.coverage(rng, data, fitted, settings.bits_responses))
            n = instance.num_samples
            bound.append(math.sqrt(instance.variance / (n * instance.log_n)) + instance.norm**2 / n)
        rate = Rate("Cov_N", columns(coverage), theory[axis], np.array(bound))
        made.append(Sweep("variance", axis, fixed[axis], sizes[axis], (rate,)))
        if axis == "H":
            variances, half = shown([one.variance for one in instances]), rate._replace(theory=0.5)
            made.append(Sweep("variance", "sigma*^2", f"{fixed[axis]}, H varies", variances, (half,)))
    return made


def constant(results: Measurements) -> list[float]:
    """E Cov_N n ln N/H of the variance instance, at every size."""
    made: list[float] = []
    for axis, instances in bit_instances(results.settings).items():
        means: Float[np.ndarray, " sizes"] = results.sweeps["variance", axis].rates[0].values.mean(axis=0)
        made += [
            float(mean * instance.num_samples * instance.log_n / instance.length)
            for mean, instance in zip(means, instances, strict=True)
        ]
    return made
