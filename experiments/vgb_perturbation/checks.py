"""Checks of experiments.vgb_perturbation, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.claims import decoders
from covlab.report.verdict import Check, above, at_least, at_most, below, between
from experiments.vgb_perturbation.measure import Measurements
from metrics import line_fit
from theory.vgb.laws import log_slope, over_seeds, slope_in_log, upper_end

LOG_SLOPE = (0.4, 0.6)
"""Of the total variation in H where it is small: 1/2, up to the last letter, whose value is exact."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; what has an interval is asked of the whole interval.

    The reasons for the targets:

    - Action level: order min(eps sqrt(H), 1). Where eps sqrt(H) is small, the slopes of ln TV are 1/2 in ln H
      and 1 in ln eps; the ratio TV/min(eps sqrt(H), 1) stays within constants, [.1, 1].
    - VGB: within .01 of pi* everywhere, and flat: the slopes of its TV in ln H at the largest eps, and in
      ln eps at the longest H, are below .005, while the action level's are above .05.
    - First leaf: biased, but the bias of a letter falls off with its distance from the leaf, so that the sum
      converges: it grows by less than a tenth over the last quadrupling of H, or is not there.
    - Steps to mix and leaf mass: the guarantee.
    - Decoders: samples agree with the exact laws; the test has the power to tell the action level's from pi*.
    """
    settings = results.settings
    h, eps = np.array(settings.horizons, float), np.array(settings.epsilons)
    action, first = results.table(lambda each: each.action_level), results.table(lambda each: each.first_leaf)
    chain = results.table(lambda each: each.chain)
    bound = np.minimum(eps * np.sqrt(h)[:, None], 1)
    in_h = float(line_fit(np.log(h), np.log(action[:, 0]))[0])
    in_eps = float(line_fit(np.log(eps[:3]), np.log(action[0, :3]))[0])
    worst = max((over_seeds(chain[:, i, j]) for i in range(len(h)) for j in range(len(eps))), key=upper_end)
    mixing = results.table(lambda each: each.mixing_steps)
    exponent = max((log_slope(h, mixing[:, :, j]) for j in range(len(eps))), key=upper_end)
    grows = first[-1, -1] / first[int(np.abs(h - h[-1] / 4).argmin()), -1]
    guarantee = results.table(lambda each: each.guarantee) * math.log(1 / settings.chain.delta)
    most = max((over_seeds(row) for row in (mixing / guarantee).reshape(len(mixing), -1).T), key=upper_end)
    mass = results.table(lambda each: min(each.leaf_mass, each.leaf_probability) / each.guaranteed_leaf_mass)
    return (
        *between("action level: slope of ln TV in ln H, least eps", in_h, *LOG_SLOPE),
        *between("action level: slope of ln TV in ln eps, shortest H", in_eps, 0.8, 1.1),
        at_least("action level: least TV / min(eps sqrt H, 1)", (action / bound).min(), 0.1),
        at_most("action level: largest TV / min(eps sqrt H, 1)", (action / bound).max(), 1),
        at_least("action level: TV at the longest H and largest eps", action[-1, -1], 0.7),
        above("action level: slope of TV in ln H, largest eps", line_fit(np.log(h), action[:, -1])[0], 0.05),
        below("VGB: slope of TV in ln H, largest eps", slope_in_log(h, chain[:, :, -1]), 0.005),
        above("action level: slope of TV in ln eps, longest H", line_fit(np.log(eps), action[-1])[0], 0.05),
        below("VGB: slope of TV in ln eps, longest H", slope_in_log(eps, chain[:, -1]), 0.005),
        at_most("VGB: largest TV over all H and eps", worst, 0.01),
        at_most("VGB, first leaf: TV at the longest H over TV at a quarter of it, largest eps", grows, 1.1),
        at_most("VGB: exponent of H in the steps to mix, largest over eps", exponent, 2.2),
        at_most("VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest", most, 1),
        at_least("VGB: leaf mass * 8 (1 + eps) H, least", mass.min(), 1),
        *decoders.goodness_checks(results.goodness),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    last = results.laws[settings.horizons[-1], settings.epsilons[-1]]
    return (
        f"VGB takes {settings.chain.steps} H^2 steps, lazy ones included, and is repeated until it ends at a "
        f"leaf: {last.steps_per_response:.3g} steps a response at H = {last.depth}, eps = "
        f"{settings.epsilons[-1]:g}.",
        "Stopped at its first leaf VGB is biased, by an amount that depends on eps and not on H: of order "
        "eps/k in the letter k steps before the end (derived).",
        "The reward (no c) and the uniform base model are this project's choice.",
    )
