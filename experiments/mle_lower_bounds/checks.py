"""Checks of experiments.mle_lower_bounds, with the reason for each target."""

from __future__ import annotations

import numpy as np

from covlab.claims import sweeps
from covlab.report.verdict import Check, at_least, at_most
from experiments.mle_lower_bounds.measure import Measurements, bit_instances, constant, fine_instances


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, asked of whole intervals; the reasons for their targets:

    - Coarse: the proposition's own statement, (d - 1)/(10 n) with probability at least 1/2 at N = e^B; the
      exponents of that, within .15, for pi_D(y) = 1/(4n + d - 1) is of order 1/n only while d is well below
      n; no improvement with ln N at all, exponent 0 within .02; and 0 at N = e^2B, which is trivial, since
      ratios of the class's models end there.
    - Fine: pi_D is missed with probability at least .1, the proposition's; exponents within .15, which is a
      probability that drifts by a third over a factor of 16. Two models cover the class within sqrt(d/n):
      ln(1/(1 - eps)) <= sqrt(d/n), so no covering number at a coarse scale can give this rate.
    - Variance: exponents within .15, 1/2 in sigma*^2, and below the upper bound with constant 1.
    """
    seed = results.settings.seed

    def exponents(name: str, theories: dict[str, float], within: float = 0.15) -> list[Check]:
        made: list[Check] = []
        for axis, theory in theories.items():
            slope = sweeps.slope(results.sweeps[name, axis], 0, seed)
            made += sweeps.near(f"{name}: exponent of Cov_N in {axis}", slope, theory, within)
        return made

    shares = [sweeps.share_of_bound(results.sweeps["variance", axis], 0, seed) for axis in ("n", "H", "ln N")]
    promised, missed = sweeps.least_share(results.promised), sweeps.least_share(results.missed)
    return (
        at_least("coarse: probability of Cov_N >= (d - 1)/(10 n), least over n and d", promised, 0.5),
        *exponents("coarse", {"n": -1, "d": 1}),
        *exponents("coarse", {"ln N": 0}, 0.02),
        at_most("coarse: Cov_N at the trivial N = e^2B, largest", results.trivial, 0),
        at_least("fine: probability of missing pi_D, least over n, d and ln N", missed, 0.1),
        *exponents("fine", {"n": -1, "d": 1, "ln N": -1}),
        at_most("fine: ln(1/(1 - eps)) over sqrt(d/n), largest", results.spread, 1),
        *exponents("variance", {"n": -1, "H": 1, "sigma*^2": 0.5, "ln N": -1}),
        at_most("variance: largest share of the upper bound", max(shares, key=lambda each: each.high), 1),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    constants = constant(results)
    bounds = [
        float(np.max(s.rates[0].bound)) for s in results.sweeps.values() if s.rates[0].bound is not None
    ]
    fine = fine_instances(settings)["n"][0]
    bits = bit_instances(settings)["n"][0]
    return (
        "Fine term: the class has ln |Pi| = ln(2^d + 1), so that the exponent in d is that in ln |Pi|.",
        f"Fine term: c0 = {fine.c0:g}, where the proof has c0 <= 1e-4; with the proof's the mass of the "
        f"hidden prompt is of order 1e-12 d/(n ln N).",
        f"Inherent variance: c0 = {bits.c0:g}, c1 = {bits.c1:g}, chosen so that it shows; E Cov_N = c H/(n "
        f"ln N) with c from {min(constants):.3f} to {max(constants):.3f} over all sizes. The proposition is "
        f"about every proper estimator and its worst theta*; here is the maximum-likelihood estimator, whose "
        f"law is the same for all 2^H theta*.",
        f"Inherent variance: Cov_N is the share of {settings.bits_responses} responses drawn for each data "
        f"set, unbiased; everything else is an exact sum.",
        f"The largest bound drawn is {max(bounds):.3f}, so none is vacuous."
        if max(bounds) < 1
        else f"The largest bound drawn is {max(bounds):.3f}: at 1 or above it says nothing.",
        "Along ln N the fine-rate and variance instances change with N, as the propositions have it; the "
        "coarse one is a single instance.",
    )
