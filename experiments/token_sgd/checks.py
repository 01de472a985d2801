"""Checks of experiments.token_sgd, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.rates import exponent, largest_ratio, size_intervals
from covlab.report.verdict import Check, above, at_most, below
from experiments.token_sgd.measure import FAMILY, NAMES, Measurements, resampler


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - The bound is explicit: mean KL <= 4/(eta T) + 2 eta sigma*^2 at the theorem's step, so the ratio is at
      most 1, interval and all. Over ln N - 1 + 1/N it bounds Cov_N, and must be below 1 to say anything.
    - H: the bound is flat in H. Twofold over a factor of 16 would be an exponent of .25; the whole interval
      stays within +-.25.
    - H, fixed parameters: before the prompt has come up, KL is that of theta = 0 or worse (averaged over the
      sign of theta*), which is proportional to H while mu(1) T is large; added to it is noise that is flat.
      So the exponent is between 0 and 1 and grows with H; above 1/2 is asked.
    - Below every proper method: at the longest H test-time training's mean KL is below that floor.
    - A step a sequence has its own bound, 4/(eta T) + 2 eta sigma*^2 at eta <= 1/(2 H B^2).
    - T: with the theorem's step both terms of the bound are proportional to T^-1/2; KL falls at least so
      fast, up to .15.
    - Family: bounds without H for a step a token; the lower bound, of order H, for a step a sequence.
    - Other prompts, other steps: one sequence of the theorem's proof bounds KL(pi_D(.|x) || pi_TTT(.|x)) for
      any start and any eta <= 1/(2 B^2) by |theta - theta*|^2/eta + 2 eta sum_h Var_h.
    """
    settings, rng = results.settings, resampler(results)
    sizes, flat = settings.horizons, 0.25
    by_h, by_t = results.bounds((settings.sequences,) * len(sizes)), results.bounds(settings.sequence_counts)
    to_coverage = math.log(settings.n) - 1 + 1 / settings.n
    h = np.array(sizes, np.float64)
    whole = 4 * 2 * h / settings.sequences + 2 * settings.variance / (2 * h)
    ttt = size_intervals(results.over_horizons("TTT"), rng)
    over_t = largest_ratio(size_intervals(results.over_counts, rng), by_t)
    sequence = largest_ratio(size_intervals(results.over_horizons("sequence"), rng), whole)
    made: list[Check] = [
        at_most("TTT: KL over its bound, largest over H", largest_ratio(ttt, by_h), 1),
        at_most("TTT: KL over its bound, largest over T", over_t, 1),
        below("TTT: the bound on Cov_N, largest", max(*by_h, *by_t) / to_coverage, 1),
        at_most("a step a sequence: KL over its bound, largest over H", sequence, 1),
    ]
    for label, step in (("the theorem's step", "TTT"), ("best step", "TTT, best")):
        slope = exponent(sizes, results.over_horizons(step), rng)
        name = f"TTT, {label}: exponent of H in KL"
        made.append(below(f"{name}, from above", slope, flat))
        made.append(above(f"{name}, from below", slope, -flat))
    for name in ("fixed, best", "sequence, best"):
        slope = exponent(sizes, results.over_horizons(name), rng)
        made.append(above(f"{NAMES[name]}: exponent of H in KL", slope, 0.5))
    over_floor = largest_ratio(ttt[-1:], results.floor[:, -1:].mean(axis=0))
    in_t = exponent(settings.sequence_counts, results.over_counts, rng)
    made += [
        below("TTT: KL over the least of any proper method, longest H", over_floor, 1),
        below("TTT: exponent of T in KL", in_t, -0.35),
    ]
    for name in FAMILY:
        slope = exponent(settings.family_horizons, results.family.needed[name], rng)
        text = f"family, {FAMILY[name]}: exponent of H in the sequences needed"
        made.append(above(text, slope, 0.75) if name == "sequence" else below(text, slope, flat))
    ratios = []
    for kind, bound in results.robust.bound.items():
        ratio = (results.robust.kl[kind] / bound)[np.isfinite(bound).all(axis=1)]
        ratios.append(largest_ratio(size_intervals(ratio.T, rng), np.ones(len(ratio))))
    worst = max(ratios, key=lambda interval: interval.high)
    made.append(at_most("TTT, other steps and prompts: KL over its bound, largest", worst, 1))
    return tuple(made)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings, last = results.settings, results.by_horizon[-1]
    factors = list(settings.factors)
    zero, one = factors.index(0.0), factors.index(1.0)
    robust = results.robust
    return (
        f"At H = {settings.horizons[-1]} and T = {settings.sequences}, mean KL in nats: test-time training "
        f"{last.kl['TTT, best'].mean():.4f}, fixed parameters {last.kl['fixed, best'].mean():.4f}, a step a "
        f"sequence {last.kl['sequence, best'].mean():.4f}, each with its best step; no proper method is "
        f"below {last.floor.mean():.4f}.",
        f"Coverage tells them apart much less: Cov_{settings.n:g} is "
        f"{last.coverage['TTT, best'].mean():.2g}, {last.coverage['fixed, best'].mean():.2g} and "
        f"{last.coverage['sequence, best'].mean():.2g}, because the prompt that fixed parameters do not know "
        f"is rare.",
        "A response of the last iterate at the training step, KL in nats with fixed parameters and with "
        "test-time training: "
        + "; ".join(
            f"{kind} prompts {robust.kl[kind][zero].mean():.3g} and {robust.kl[kind][one].mean():.3g}"
            for kind in robust.kl
        )
        + ".",
        "A step of 16 times the training step at test time is "
        f"{robust.kl['trained'][-1].mean() / robust.kl['trained'][one].mean():.3g} times as bad on trained "
        f"prompts.",
        "Theta is [-1, 1] on the rare prompt; that mu(1) falls as 1/H, |theta*| in [1/2, 1] and the target "
        "of 1/16 for the family are this project's choice.",
    )
