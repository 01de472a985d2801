"""Checks of experiments.batch_bias, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.verdict import Check, at_least, at_most, below, between
from experiments.batch_bias.measure import RUNS, Measurements
from metrics import line_fit, mean_interval

ROUNDING = 1e-8
"""Of sums in float64, and of batches of probability 1e-15 that are left out."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Lemmas I.8 and I.9: theorems, on exact laws, at lambda = 8 B ln N, the least that they allow.
    - Theorem 5.1 with the proof's constants: it has to say something (below 1), and every run is below it.
    - Closed form: K = 1 and lambda = 1, equal up to the root's tolerance.
    - Small lambda, K = 1: most sequences have no 1, so p goes down to about p* lambda/B or to sigmoid(-B),
      far below p*/16: Cov_N = p* exactly. In runs from theta* with the step size of the settings, p is below
      p*/16 in at least 9/10 of the second half; SGD, and normalised SGD with the theorem's K, in at most
      1/10.
    - Batch: the median of the number of ones is 0 up to K near ln 2/p*, and with N = 16 a mean update at
      p*/N has the sign of 1/2 - P(k = 0) for lambda -> 0. lambda shrinks the steps of batches without a 1,
      B p*/N long, by lambda N/(B p*) at most, .3 % at p* = 1/512: the least K times p* is ln 2 = .69 up to
      that and rounding (1/16 at p* = 1/16), and the exponent in 1/p* is 1.
    - Theorem's batch, K = B/(p* ln N) = 11.5/p*: Cov_N = 0.
    - The proof's lambda, K = 1: p solves lambda (p* - p) = B p (1 - p)(1 - 2 p*), so p*/p is at most
      1 + B/lambda = 1 + 1/(8 ln N) (derived).
    """
    settings = results.settings
    inverses = np.array(settings.inverses, float)
    product = results.least / inverses
    slope = float(line_fit(tuple(np.log(inverses)), np.log(results.least))[0])
    single, several, plain = (mean_interval(results.runs[name]) for name in RUNS)
    bound = results.rule[2]
    allowed = 1 + 1 / (8 * math.log(settings.n))
    return (
        at_most("Lemma I.8: left over right side, largest", results.squares.max(), 1 + ROUNDING),
        at_most("Lemma I.9: left over right side, largest", results.stopped.max(), 1 + ROUNDING),
        below("Theorem 5.1 at its own constants: right-hand side", bound, 1),
        at_most(
            "Theorem 5.1: mean Cov_N of a run over its right-hand side, largest",
            results.mean.max() / bound,
            1,
        ),
        at_most(
            "K = 1, lambda = 1: |p at rest over its closed form - 1|, largest",
            np.abs(results.closed - 1).max(),
            1e-6,
        ),
        at_least("K = 1, small lambda: Cov_N at rest over p*, least", results.single.min(), 1 - ROUNDING),
        *between("small lambda: exponent of the least K with Cov_N = 0 in 1/p*", slope, 0.9, 1.1),
        at_least("small lambda: least K times p*, least", product.min(), 0.6),
        at_most("small lambda: least K times p*, largest", product.max(), 0.8),
        at_most("small lambda, K = B/(p* ln N): Cov_N at rest over p*, largest", results.theorem.max(), 0),
        at_most("K = 1, the proof's lambda: p*/p at rest, largest", results.factor.max(), allowed + ROUNDING),
        at_least("runs, K = 1, small lambda: mean Cov_N over p*", single, 0.9),
        at_most("runs, K = B/(p* ln N), small lambda: mean Cov_N over p*", several, 0.1),
        at_most("runs, SGD with K = 1: mean Cov_N over p*", plain, 0.1),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    eta, damping, bound = results.rule
    return (
        f"At the proof's lambda a single sequence gives the rare response {results.factor.min():.3f} to "
        f"{results.factor.max():.3f} times too seldom: no Cov_N with N >= 2 sees it. The theorem's batch "
        f"is needed for smaller lambda.",
        "Lemma I.9 allows a bias of 240 B/K: its left side is at most "
        f"{results.stopped.max():.2g} of its right side.",
        f"Theorem 5.1 with eta = {eta:.3g}, lambda = {damping:.3g}: the right-hand side is {bound:.3g} after "
        f"{settings.theorem_updates} updates of {settings.theorem_batch} sequences at B = 1, the mean of "
        f"Cov_N {results.mean.mean():.2g}. Its term M/(T eta^2) is 16384 B^2 M/T, so the bound says "
        "something from about 10^5 B^2 updates on.",
        "A small lambda makes the update a sign for every batch, and its mean follows the median of the "
        "gradient, not the mean.",
    )
