"""Checks of experiments.vgb_delay, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from covlab.claims import decoders
from covlab.report.verdict import Check, above, at_least, at_most, below
from experiments.vgb_delay.measure import Measurements
from metrics import Interval, line_fit
from theory.vgb.laws import log_slope, over_seeds, slope_in_log, upper_end

GROUPS = 8
"""Groups of parity chains, each with a slope of its own, for the slope's interval."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; what has an interval is asked of the whole interval.

    The reasons for the targets:

    - Action level: uniform, exactly, in all bits but the last. It loses (1 - 1/H) kl(1/2 || e^l/(1 + e^l))/l
      of the regularised reward, .09 to .12 at lambda = 1: at least .08 at every H.
    - VGB: within .01 of pi* at every H, flat in H (slope of its TV in ln H below .005, the action level's is
      above .05), and a loss of at most .001.
    - First leaf: biased in the last bits only; TV grows by less than a tenth over the last quadrupling of H.
    - Steps to mix and leaf mass: the guarantee.
    - Parity: the action level's queries until reward 1 are exponential in H, growing by at least
      .8 (ln 2)/block a bit; VGB's are polynomial, with an exponent of at most 2.5 (2 for a walk on a path of
      length H).
    - Decoders: samples agree with the exact laws; the test has the power to tell the action level's from pi*.
    """
    settings = results.settings
    h = np.array(settings.horizons, float)
    action = np.array([law.action_level for law in results.laws])
    first = np.array([law.first_leaf for law in results.laws])
    chain = np.stack([law.chain for law in results.laws], axis=1)
    beta = 1 / (settings.tilt * h)
    loss = np.stack([law.divergence for law in results.laws], axis=1) * beta
    mixing = np.stack([law.mixing_steps for law in results.laws], axis=1)
    guarantee = np.array([law.guarantee for law in results.laws]) * math.log(1 / settings.chain.delta)
    mass = [min(law.leaf_mass, law.leaf_probability) / law.guaranteed_leaf_mass for law in results.laws]
    grows = first[-1] / first[int(np.abs(h - h[-1] / 4).argmin())]
    lost, slowest = (results.divergence * beta).min(), _worst(mixing / guarantee)
    gap = np.abs(results.mean["VGB"] - results.mean["pi*"]).max()
    return (
        at_most(
            "delay, action level: largest |P(bit = 1) - 1/2| before the last bit", results.blind.max(), 1e-12
        ),
        at_least("delay, action level: loss of regularised reward, least over H", lost, 0.08),
        at_least("delay, action level: TV at the longest H", action[-1], 0.9),
        above("delay, action level: slope of TV in ln H", line_fit(np.log(h), action)[0], 0.05),
        below("delay, VGB: slope of TV in ln H", slope_in_log(h, chain), 0.005),
        at_most("delay, VGB: largest TV over H", _worst(chain), 0.01),
        at_most("delay, VGB: loss of regularised reward, largest over H", _worst(loss), 0.001),
        at_most("delay, VGB: largest |E mean(y) - that of pi*| over H", gap, 0.005),
        at_most("delay, VGB, first leaf: TV at the longest H over TV at a quarter of it", grows, 1.1),
        at_most("delay, VGB: exponent of H in the steps to mix", log_slope(h, mixing), 2.2),
        at_most("delay, VGB: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest", slowest, 1),
        at_least("delay, VGB: leaf mass * 8 (1 + eps) H, least", min(mass), 1),
        *_of_parity(results),
        *decoders.goodness_checks(results.goodness),
    )


def _of_parity(results: Measurements) -> tuple[Check, ...]:
    settings = results.settings
    h = np.array(settings.horizons, float)
    action = np.array([result.action_level for result in results.parity])
    steps = np.array([result.steps for result in results.parity])
    queries = np.stack(
        [_grouped(np.asarray(result.backtracking.decoded.queries)[0]) for result in results.parity], axis=1
    )
    rewarded = [result.backtracking.decoded.reward.mean() for result in results.parity]
    last = results.parity[-1].backtracking.queries
    in_h = line_fit(np.log(h), np.log(steps))[0]
    return (
        at_least(
            "parity, action level: slope of ln queries until reward 1 in H, over (ln 2)/block",
            float(line_fit(settings.horizons, np.log(action))[0]) * settings.block / math.log(2),
            0.8,
        ),
        at_most("parity, VGB: exponent of H in the steps until reward 1", in_h, 2.5),
        at_most("parity, VGB: exponent of H in the queries until reward 1", log_slope(h, queries), 2.5),
        at_least("parity, VGB: share of responses with reward 1, least", min(rewarded), 1),
        at_most(
            "parity: queries of VGB (upper end) over the action level's, longest H",
            last.high / results.parity[-1].action_level,
            0.1,
        ),
    )


def _grouped(queries: np.ndarray) -> Float[np.ndarray, " groups"]:
    return np.array([part.mean() for part in np.array_split(queries.astype(np.float64), GROUPS)])


def _worst(values: Float[np.ndarray, "seeds points"]) -> Interval:
    return max((over_seeds(column) for column in values.T), key=upper_end)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    last = results.laws[-1]
    linear = ", ".join(f"{tv:.3f}" for tv in results.linear)
    return (
        f"VGB takes {settings.chain.steps} H^2 steps, lazy ones included, and is repeated until it ends at a "
        f"leaf: {last.steps_per_response:.3g} steps a response at H = {last.depth}.",
        f"With tau = mean(y) itself, beta not of order 1/H, late values cost little: pi* tends to the base "
        f"model, and the action level's total variation falls with H: {linear} at H = "
        f"{', '.join(map(str, settings.horizons))} (exact). The tilt exp(lambda H mean(y)) is what makes the "
        f"loss constant.",
        "VGB stopped at its first leaf is biased, in the last bits, by an amount that does not grow with H.",
        "Where parity is violated the true value is 0 and the late one is not, for one step: the assumption "
        "of a bounded ratio fails there, and VGB still comes through.",
    )
