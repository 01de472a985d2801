"""Checks of experiments.uniform_race, with the reason for each target."""

from __future__ import annotations

import numpy as np

from covlab.report.rates import exponent
from covlab.report.verdict import Check, at_least, at_most, between
from experiments.uniform_race.measure import Measurements
from tasks import numpy_stream

ROUNDING = 1e-9
"""Of sums in float64."""
MARGIN = 0.1
"""About an exponent of the theory."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - The paper's statement: at the same N the race's total variation is no larger than that of rejection
      sampling at its best threshold, on each pair. Rejection may return nothing, or the last response, where
      it accepts none: both are asked, up to rounding.
    - The statement says something: at N = 16 or the next listed N the race is better by a twentieth on half
      of the pairs, and a threshold 4 times too large or small costs half again as much as the best one
      (medians).
    - Against self-normalised resampling nothing was published; asked here in the same way.
    - Derived: given a winning score above w_max, the winner's law is pi*, and the scores are all below w_max
      with probability (1 - Z/w_max)^N. So the race's error is at most that.
    - Tails: a rejection sampler with threshold N loses the part of pi* with ratios above N, Cov_N =
      (N/a)^-alpha up to a constant, so the race's error has the exponent -alpha. Resampling has a bias of
      order 1/N in addition, so that its exponent is -min(alpha, 1).
    - Decoder: the samples agree with the race's law, and are told from resampling's.
    """
    errors, settings = results.errors, results.settings
    race = errors["race"]
    middle = int(np.searchsorted(settings.ns, 16).clip(max=len(settings.ns) - 1))
    best = errors["rejection, none"][..., middle]
    share = np.mean(race[..., middle] <= 0.95 * best)
    seen = best > ROUNDING
    wrong = np.stack([errors["threshold x 4"][..., middle], errors["threshold / 4"][..., middle]])
    cost = np.median(np.where(seen, wrong, np.nan)[:, seen] / best[seen], axis=1)
    made = [
        at_most(f"race - {text}, largest", (race - errors[name]).max(), ROUNDING)
        for name, text in (
            ("rejection, none", "best rejection, nothing where none is accepted"),
            ("rejection, last", "best rejection, the last response where none is accepted"),
            ("resampling", "self-normalised resampling"),
            ("bound", "(1 - Z/w_max)^N (derived)"),
        )
    ]
    made += [
        at_least("share of pairs on which the race is better than the best rejection by a 20th", share, 0.5),
        at_least("rejection at 4 times the best threshold over the best, median", cost[0], 1.5),
        at_least("rejection at a quarter of the best threshold over the best, median", cost[1], 1.5),
    ]
    for alpha in settings.tails:
        for name, theory in (("race", -alpha), ("resampling", -min(alpha, 1.0))):
            rng = numpy_stream(settings.seed, "uniform_race", "bootstrap", f"{alpha:g} {name}")
            slope = exponent(settings.budgets, results.tails[alpha, name], rng)
            made += between(
                f"tail {alpha:g}: exponent of {name} in N", slope, theory - MARGIN, theory + MARGIN
            )
    own, other = results.goodness
    return (
        *made,
        at_least("decoder: p-value against the race's law", own, 1e-3),
        at_most("decoder: p-value against resampling's law (the test's power)", other, 1e-6),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences for the verdict."""
    errors = results.errors
    ratio = np.median(
        errors["race"][..., :2] / np.maximum(errors["rejection, none"][..., :2], 1e-12), axis=(0, 1, 2)
    )
    more = np.median(errors["resampling"] / np.maximum(errors["race"], 1e-12), axis=(0, 1, 2))
    ns = results.settings.ns
    return (
        f"Race over best rejection, medians over the pairs: {ratio[0]:.3g} at N = {ns[0]}, {ratio[1]:.3g} at "
        f"N = {ns[1]}.",
        "Resampling over race, medians: "
        + ", ".join(f"{each:.3g} at N = {n}" for n, each in zip(ns, more, strict=True))
        + ".",
        "The race's statement was read second-hand. Which rejection sampler it means is not known; both "
        "readings are judged.",
        "On these pairs the weights are exact. What a wrong weight does to a race is not part of the claim.",
    )
