"""The lower-bound instances of maximum likelihood, as sweeps: coarse term, fine term, inherent variance."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from covlab.claims.sweeps import Sweep, columns, shown
from covlab.report.rates import Rate
from tasks import numpy_stream
from theory.maximum_likelihood.fitting import fit_categorical_in_box, fit_logistic_on_ball
from theory.maximum_likelihood.rate_classes import CoarseRate, FineRate
from theory.maximum_likelihood.rate_instances import VarianceNeeded
from tracking import Progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the three families: lists for the sweeps, single numbers where something else varies."""

    seed: int
    draws: int
    log_n: float
    coarse_norm: float
    coarse_samples: tuple[int, ...]
    coarse_sample: int
    coarse_sizes: tuple[int, ...]
    coarse_size: int
    coarse_log_ns: tuple[float, ...]
    fine_samples: tuple[int, ...]
    fine_sample: int
    fine_sizes: tuple[int, ...]
    fine_size: int
    fine_log_ns: tuple[float, ...]
    bits_norm: float
    bits_responses: int
    bits_samples: tuple[int, ...]
    bits_sample: int
    bits_horizons: tuple[int, ...]
    bits_horizon: int
    bits_long: int
    bits_log_n: float
    bits_log_ns: tuple[float, ...]


class Measured(NamedTuple):
    """What was measured.

    Attributes:
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


def coarse_instances(chosen: Settings) -> dict[str, list[CoarseRate]]:
    """Along n and along d."""
    b = chosen.coarse_norm
    return {
        "n": [CoarseRate(chosen.coarse_size, n, b) for n in chosen.coarse_samples],
        "d": [CoarseRate(d, chosen.coarse_sample, b) for d in chosen.coarse_sizes],
    }


def fine_instances(chosen: Settings) -> dict[str, list[FineRate]]:
    """Along n, d and ln N."""
    n, d, log_n = chosen.fine_sample, chosen.fine_size, chosen.log_n
    return {
        "n": [FineRate(d, each, log_n) for each in chosen.fine_samples],
        "d": [FineRate(each, n, log_n) for each in chosen.fine_sizes],
        "ln N": [FineRate(d, n, each) for each in chosen.fine_log_ns],
    }


def bit_instances(chosen: Settings) -> dict[str, list[VarianceNeeded]]:
    """Along n, H and ln N."""
    n, h, log_n, b = chosen.bits_sample, chosen.bits_horizon, chosen.bits_log_n, chosen.bits_norm
    return {
        "n": [VarianceNeeded(h, each, log_n, b) for each in chosen.bits_samples],
        "H": [VarianceNeeded(each, n, log_n, b) for each in chosen.bits_horizons],
        "ln N": [VarianceNeeded(chosen.bits_long, n, each, b) for each in chosen.bits_log_ns],
    }


def measured(chosen: Settings, progress: Progress) -> Measured:
    """All sweeps."""
    progress.update("families", 0, 3)
    coarse, promised, trivial = coarse_sweeps(chosen)
    progress.update("families", 1, 3)
    fine, missed, spread = fine_sweeps(chosen)
    progress.update("families", 2, 3)
    every = [*coarse, *fine, *bit_sweeps(chosen, progress)]
    progress.update("families", 3, 3)
    found = {(sweep.name, sweep.axis): sweep for sweep in every}
    return Measured(chosen, found, promised, trivial, missed, spread)


def coarse_sweeps(chosen: Settings) -> tuple[list[Sweep], list[np.ndarray], float]:
    """Cov_N at N = e^B against n and d, and against ln N."""
    b = chosen.coarse_norm
    levels = np.array([*chosen.coarse_log_ns, b, 2 * b])
    made, promised, trivial = [], [], 0.0
    fixed = {"n": f"d = {chosen.coarse_size}", "d": f"n = {chosen.coarse_sample}"}
    theory = {"n": -1.0, "d": 1.0}
    for axis, instances in coarse_instances(chosen).items():
        found = []
        for each in instances:
            rng = numpy_stream(chosen.seed, "mle", "coarse", axis, each.size, each.num_samples)
            fitted = fit_categorical_in_box(each.sample(rng, chosen.draws), b)
            found.append(each.coverage(fitted, levels))
            promised.append(found[-1][:, -2] >= each.promised)
            trivial = max(trivial, float(found[-1][:, -1].max()))
        sizes = chosen.coarse_samples if axis == "n" else chosen.coarse_sizes
        rate = Rate(
            "Cov_N, N = e^B",
            columns([each[:, -2] for each in found]),
            theory[axis],
            np.array([each.promised for each in instances]),
        )
        made.append(Sweep("coarse", axis, f"{fixed[axis]}, B = {b:g}", sizes, (rate,)))
        last = found[-1], instances[-1]
    flat = Rate("Cov_N", last[0][:, :-2], 0.0, np.full(len(levels) - 2, last[1].promised))
    largest = f"d = {last[1].size}, n = {last[1].num_samples}, B = {b:g}"
    made.append(Sweep("coarse", "ln N", largest, chosen.coarse_log_ns, (flat,)))
    return made, promised, trivial


def fine_sweeps(chosen: Settings) -> tuple[list[Sweep], list[np.ndarray], float]:
    """Cov_N against n, d and ln N."""
    d, n, level = (
        f"d = {chosen.fine_size}",
        f"n = {chosen.fine_sample}",
        f"N = {math.exp(chosen.log_n):g}",
    )
    fixed = {"n": f"{d}, {level}", "d": f"{n}, {level}", "ln N": f"{d}, {n}"}
    sizes = {"n": chosen.fine_samples, "d": chosen.fine_sizes, "ln N": chosen.fine_log_ns}
    theory = {"n": -1.0, "d": 1.0, "ln N": -1.0}
    made, missed, spread = [], [], 0.0
    for axis, instances in fine_instances(chosen).items():
        found = []
        for position, each in enumerate(instances):
            rng = numpy_stream(chosen.seed, "mle", "fine", axis, position)
            missed.append(each.misses(each.sample(rng, chosen.draws)))
            found.append(each.mass * missed[-1])
            spread = max(spread, -math.log1p(-each.tilt) / math.sqrt(each.size / each.num_samples))
        rate = Rate("Cov_N", columns(found), theory[axis], np.array([each.mass for each in instances]))
        made.append(Sweep("fine", axis, fixed[axis], sizes[axis], (rate,)))
    return made, missed, spread


def bit_sweeps(chosen: Settings, progress: Progress) -> list[Sweep]:
    """Cov_N against n, H, sigma*^2 (which varies with H) and ln N; KL against H."""
    h, n, level = (
        f"H = {chosen.bits_horizon}",
        f"n = {chosen.bits_sample}",
        f"N = {math.exp(chosen.bits_log_n):.3g}",
    )
    fixed = {"n": f"{h}, {level}", "H": f"{n}, {level}", "ln N": f"H = {chosen.bits_long}, {n}"}
    sizes = {"n": chosen.bits_samples, "H": chosen.bits_horizons, "ln N": chosen.bits_log_ns}
    theory = {"n": -1.0, "H": 1.0, "ln N": -1.0}
    made = []
    for axis, instances in bit_instances(chosen).items():
        coverage, bound = [], []
        for position, each in enumerate(instances):
            progress.update(f"bits against {axis}", position, len(instances))
            rng = numpy_stream(chosen.seed, "mle", "bits", axis, position)
            data = each.sample(rng, chosen.draws)
            fitted = fit_logistic_on_ball(data.ones, data.trials, each.norm).log_odds
            coverage.append(each.coverage(rng, data, fitted, chosen.bits_responses))
            bound.append(
                math.sqrt(each.variance / (each.num_samples * each.log_n)) + each.norm**2 / each.num_samples
            )
        progress.update(f"bits against {axis}", len(instances), len(instances))
        rate = Rate("Cov_N", columns(coverage), theory[axis], np.array(bound))
        made.append(Sweep("variance", axis, fixed[axis], sizes[axis], (rate,)))
        if axis == "H":
            variances = shown([each.variance for each in instances])
            made.append(
                Sweep(
                    "variance",
                    "sigma*^2",
                    f"{fixed[axis]}, H varies",
                    variances,
                    (rate._replace(theory=0.5),),
                )
            )
    return made


def constant(found: Measured) -> list[float]:
    """E Cov_N n ln N/H of the variance instance, at every size."""
    made: list[float] = []
    for axis, instances in bit_instances(found.settings).items():
        means: Float[np.ndarray, " sizes"] = found.sweeps["variance", axis].rates[0].values.mean(axis=0)
        made += [
            float(mean * each.num_samples * each.log_n / each.length)
            for mean, each in zip(means, instances, strict=True)
        ]
    return made
