"""KL and coverage of the model fitted to each data set: settings and measurements of the claim."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from covlab.claims.claim import Study
from covlab.claims.settings import Real, Seed, Whole, Wholes
from covlab.claims.sweeps import Sweep
from covlab.report.rates import Rate
from tasks import numpy_stream
from theory.maximum_likelihood.bit_laws import bit_kl
from theory.maximum_likelihood.fitting import fit_logistic_on_ball
from theory.maximum_likelihood.rate_instances import TwoPrompts

THETAS = (-1.0, 1.0)
PER_TOKEN = float(bit_kl(np.asarray(2.0), np.asarray(0.0))) / 2
"""KL n/H of theta = 0: KL(Ber(sigma(2)) || Ber(1/2))/2 = .1639."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and seeds of the measurement; the defaults are the scale `cpu`.

    Sizes were chosen on seed 900.

    Attributes:
        horizons: lengths H of the response.
        samples: examples of a data set; the bound on coverage by KL stays below 1 at the longest H.
        n: N of Cov_N.
        seed: seed of all data sets.
        draws: data sets for each H and each of the two theta*.
    """

    horizons: Annotated[tuple[int, ...], Wholes(1, at_least=3)] = (64, 128, 256, 512, 1024, 2048, 4096)
    samples: Annotated[int, Whole(1)] = 1024
    n: Annotated[float, Real(above=1, below=math.inf)] = 16
    seed: Annotated[int, Seed()] = 580
    draws: Annotated[int, Whole(32)] = 2048

    @property
    def log_n(self) -> float:
        """ln N."""
        return math.log(self.n)


SCALES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {"horizons": (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768), "draws": 8192},
}


class Measurements(NamedTuple):
    """Results of the measurement.

    Attributes:
        settings: of the measurement.
        kl, coverage: of the fitted models.
        unseen: true if the rare prompt is not in the data set.
    """

    settings: Settings
    kl: Float[np.ndarray, "thetas draws horizons"]
    coverage: Float[np.ndarray, "thetas draws horizons"]
    unseen: Bool[np.ndarray, "thetas draws horizons"]


def measure(settings: Settings, study: Study) -> Measurements:
    """KL and coverage of every data set's model."""
    shape = (len(THETAS), settings.draws, len(settings.horizons))
    kl, coverage, unseen = np.empty(shape), np.empty(shape), np.empty(shape, bool)
    log_n = np.array([settings.log_n])
    for t, theta in enumerate(THETAS):
        for h, horizon in enumerate(settings.horizons):
            instance = TwoPrompts(horizon, settings.samples)
            rng = numpy_stream(settings.seed, "mle", "two prompts", f"{theta:g}", horizon)
            data = instance.sample(rng, 2 * theta, settings.draws)
            fitted = fit_logistic_on_ball(data.ones, data.trials, instance.radius).log_odds[:, 0]
            kl[t, :, h] = instance.kl(2 * theta, fitted)
            coverage[t, :, h] = instance.coverage(2 * theta, fitted, log_n)[:, 0]
            unseen[t, :, h] = data.trials[:, 0] == 0
    study.progress.update("fits", len(settings.horizons), len(settings.horizons))
    return Measurements(settings, kl, coverage, unseen)


def swept(results: Measurements) -> tuple[Sweep, Sweep]:
    """KL and coverage against H, of both theta* together, which by symmetry have one law."""
    settings = results.settings
    h, n = np.array(settings.horizons, float), settings.samples
    kl = results.kl.reshape(-1, len(h))
    coverage = results.coverage.reshape(-1, len(h))
    by_kl = settings.log_n - 1 + math.exp(-settings.log_n)
    fixed = f"n = {n}"
    covered = Rate("Cov_N", coverage, 0.0, np.full(len(h), 1 / (2 * n)))
    expected = PER_TOKEN * h / n * (1 - 1 / (2 * n)) ** n
    return (
        Sweep("KL", "H", fixed, settings.horizons, (Rate("KL", kl, 1.0, expected),)),
        Sweep("coverage", "H", fixed, settings.horizons, (covered, Rate("bound by KL", kl / by_kl, 1.0))),
    )
