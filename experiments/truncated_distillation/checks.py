"""Checks of experiments.truncated_distillation, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.rates import exponent, largest_ratio, size_intervals
from covlab.report.verdict import Check, above, at_most, below
from experiments.truncated_distillation.measure import FAMILY, Measurements, ladder_bounds, resampler


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - The proof's bound on D_N is explicit: 4/(eta T) + 2 eta (32 ln N + 1) sigma*^2 at the theorem's step;
      with 2/(ln N - 1) it bounds Cov_N. The ladder's Cov_N starts small, so the same is asked where it starts
      near 1: one prompt that always comes up.
    - T: the rate is T^-1/2 as long as B^2/T is smaller; on the ladder it is attained, because at every step
      size some prompt is just not covered. Asked: falling so fast up to .15.
    - ln N: falling at least as (ln N)^-1/2, up to .15.
    - The rate's constant: Cov_N <= sqrt(sigma*^2/(T ln N)) + B^2/T at every T and N, constant 1. The theorem
      says "up to a constant".
    - Family: no H in the theorem, so an exponent within +-.25 (twofold over a factor of 16); of order H
      without truncation, by the lower bound.
    """
    settings, rng = results.settings, resampler(results)
    bounds, factor = ladder_bounds(results), 2 / (math.log(settings.n) - 1)
    dense = results.dense
    d_ratio = largest_ratio(size_intervals(results.over_steps("theorem", "stopped"), rng), bounds)
    c_ratio = largest_ratio(size_intervals(results.over_steps("theorem"), rng), factor * bounds)
    square = len(settings.lengths)
    rates = [
        (math.sqrt(settings.variance / (t * math.log(settings.n))) + square / t) for t in settings.step_counts
    ]
    rates += [
        math.sqrt(settings.variance / (settings.steps * a)) + square / settings.steps for a in settings.log_ns
    ]
    covs = size_intervals(results.over_steps("truncated"), rng)
    covs += size_intervals(results.over_n("truncated"), rng)
    covered = largest_ratio(covs, np.array(rates))
    in_t = exponent(settings.step_counts, results.over_steps("truncated"), rng)
    in_n = exponent(settings.log_ns, results.over_n("truncated"), rng)
    needed = {name: exponent(settings.family_horizons, results.family.needed[name], rng) for name in FAMILY}
    gain = results.family.needed["sequence"][:, -1] / results.family.needed["truncated"][:, -1]
    return (
        at_most("ladder, the theorem's step: D_N over its bound, largest over T", d_ratio, 1),
        at_most("ladder, the theorem's step: Cov_N over its bound, largest over T", c_ratio, 1),
        below("ladder: the bound on Cov_N, largest", factor * bounds.max(), 1),
        at_most(
            "one prompt, the theorem's step: D_N over its bound",
            size_intervals((dense.stopped / dense.bound)[:, None], rng)[0],
            1,
        ),
        above("one prompt: Cov_N at the start", dense.start.mean(), 0.5),
        below("one prompt: the bound on Cov_N", factor * dense.bound.max(), 1),
        below("truncated, best step: exponent of T in Cov_N", in_t, -0.35),
        below("truncated, best step: exponent of ln N in Cov_N", in_n, -0.35),
        at_most("truncated, best step: Cov_N over sqrt(sigma*^2/(T ln N)) + B^2/T, largest", covered, 1),
        below("family, truncated: exponent of H in the steps needed, from above", needed["truncated"], 0.25),
        above("family, truncated: exponent of H in the steps needed, from below", needed["truncated"], -0.25),
        above("family, not truncated: exponent of H in the steps needed", needed["sequence"], 0.75),
        above(
            "family: steps needed without truncation over those with it, longest H",
            size_intervals(gain[:, None], rng)[0],
            16,
        ),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    ratio = {
        name: results.over_steps(name).mean(axis=0) / results.over_steps("truncated").mean(axis=0)
        for name in ("sampled", "soft")
    }
    family, last = results.family, results.by_steps[-1]
    return (
        "On the ladder truncation brings nothing: with its own best step the gradient without truncation "
        f"has {ratio['sampled'].min():.2f} to {ratio['sampled'].max():.2f} times the Cov_N of the truncated "
        f"one, the teacher's mean gradient {ratio['soft'].min():.2f} to {ratio['soft'].max():.2f} times: a "
        "prompt on which the step is too long is so rare that giving it up costs little.",
        f"On the lower bound's family it decides: at H = {settings.family_horizons[-1]} "
        f"{family.needed['truncated'][:, -1].mean():.3g} sequences at eta = "
        f"{family.steps['truncated'][-1]:.3g} against {family.needed['sequence'][:, -1].mean():.4g} at eta = "
        f"{family.steps['sequence'][-1]:.3g}.",
        "The theorem's step is far below the best one (eta B^2 on the ladder "
        f"{last.steps['theorem']:.2g} against {last.steps['truncated']:.2g} at "
        f"T = {settings.step_counts[-1]}): its constants are those of a proof.",
        "Theta is the box |theta_k| <= 1/sqrt(K), a part of the unit ball, on the ladder, and the ball on "
        "the family; the ladder, its lengths and the family's target of 1/16 are this project's choice.",
    )
