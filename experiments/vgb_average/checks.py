"""Checks of experiments.vgb_average, with the reason for each target."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from covlab.report.verdict import Check, above, at_least, at_most, between
from experiments.vgb_average.measure import Measurements, Trained
from metrics import line_fit, mean_interval
from theory.vgb.laws import log_slope, upper_end

MARGIN = 0.1
"""About an exponent."""
NO_BACKWARD_MOVE = 3
"""Letters that the first one counts for beside itself in the KL of few children: at the root there is no
backward weight, so that the relative bias is twice, and the KL four times, that of any other letter."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks. Intervals are Student's over seeds; laws are exact, and a theorem is asked of every
    seed.

    The reasons for the targets. V^ is positive and exact at the leaves; theory/vgb/average_case.py derives
    what is called derived here.

    - Uniform error: nodes that no rollout passed have the mean reward as value. V/V^ of the node with no
      zero before the last letter is then ((1 + e^-lambda)/2)^(1 - H), over 100 at H = 14, and V^/V of the
      node with zeros alone is larger. So a guarantee by the uniform error, of order (1 + eps)^4, says
      nothing. Ten is asked, of the fewest rollouts.
    - Guarantee (derived): E_pi*[(1 - N pi_hat/pi*)^+] <= M/T, Cov_2N <= 2M/T, m >= 1/(2 (1 + eps) H) with
      1 + eps = max_h E_pi*[V^/V]. It is not empty: exact values have M/T = 1/4 after 8 H^2 steps, and twice
      that is allowed.
    - Best-of-N on top (derived, docs/rates.md): ceil(M' ln(1/miss)) samples lose at most Cov_M' + miss on the
      worst reward of 0 and 1, here with M' = 2N, so at most 2M/T + miss. The action level has no such
      guarantee: with as many samples it loses more at the longest H.
    - KL against H: errors of values add up without going back, at least in proportion to H, so that the
      exponent is at least 1. VGB's KL is at most a tenth of the action level's at the longest H: it tends to
      0 with T for any V^.
    - Rejection: whole responses are accepted with probability ((1 + e^-lambda)/2)^H, so that the tokens for
      one grow exponentially, while VGB's steps to its first leaf are 2H^2 with exact values: exponent 2.
      Rejection is the cheaper one at the shortest H and the dearer one at the longest.
    - Few children (derived): K draws change each probability of a move by a relative O(1/K), so that the
      error has the exponent -1 in K, for any values. With exact values the letters are independent, each off
      by the same amount but the first, which is off by twice as much: KL has the exponent 1 in H + 3.
    """
    settings = results.settings
    h, few = np.array(settings.horizons, float), min(settings.rollouts)
    order = np.argsort(h)
    longest, shortest = int(order[-1]), int(order[0])
    action = {n: results.table(n, lambda own: own.action.kl) for n in settings.rollouts}
    chain = {n: results.table(n, lambda own: own.walks[-1].law.kl) for n in settings.rollouts}
    exponents = [log_slope(h, table) for table in action.values()]
    shares = [mean_interval(chain[n][:, longest] / action[n][:, longest]) for n in settings.rollouts]
    first = {n: results.table(n, lambda own: own.first_steps) for n in settings.rollouts}
    steps = max((log_slope(h, table) for table in first.values()), key=upper_end)
    cost = [results.rejection() / table for table in first.values()]
    lost = results.table(few, lambda own: own.action.lost - own.walks[-1].law.lost)[:, longest]
    uniform = results.table(few, lambda own: own.uniform)[:, longest]
    in_k, in_h = few_exponents(results)
    return (
        at_least("values: uniform error at the longest H, fewest rollouts, least", uniform.min(), 10),
        at_least("VGB: leaf mass * 2 (1 + eps) H, least", over_all(results, _mass_share, min), 1),
        at_most("VGB: shortfall over M/T, largest", over_all(results, _shortfall_share, max), 1),
        at_most("VGB: Cov_2N over 2M/T, largest", over_all(results, _cover_share, max), 1),
        at_most("VGB: M/T after the most steps, largest", over_all(results, _bound, max), 0.5),
        at_most(
            "Best-of-N on VGB: worst loss over its guarantee, largest",
            over_all(results, lambda own: own.walks[-1].law.lost / (2 * _bound(own) + settings.miss), max),
            1,
        ),
        above(
            "Best-of-N at the longest H, fewest rollouts: action level's worst loss - VGB's",
            mean_interval(lost),
            0,
        ),
        at_least(
            "action level: exponent of KL in H, least over rollouts",
            min(exponents, key=lambda each: each.low if math.isfinite(each.low) else -math.inf),
            1,
        ),
        at_most(
            "KL at the longest H: VGB's over the action level's, largest", max(shares, key=upper_end), 0.1
        ),
        at_most("VGB, first leaf: exponent of steps in H, largest over rollouts", steps, 2 + 2 * MARGIN),
        at_most("rejection: tokens over VGB's steps, shortest H, largest", _at(cost, shortest).max(), 1),
        at_least("rejection: tokens over VGB's steps, longest H, least", _at(cost, longest).min(), 1),
        at_least("few children: exponent of TV in K, steepest", in_k.min(), -1 - MARGIN),
        at_most("few children: exponent of TV in K, flattest", in_k.max(), -1 + MARGIN),
        *between("few children: exponent of KL in H + 3, most children", in_h, 1 - MARGIN, 1 + MARGIN),
    )


def over_all(
    results: Measurements, value: Callable[[Trained], float], pick: Callable[[list[float]], float]
) -> float:
    """The largest or least of `value` over all horizons, rollouts and seeds."""
    return pick([value(own) for every in results.trained.values() for own in every])


def few_exponents(results: Measurements) -> tuple[Float[np.ndarray, " laws"], float]:
    """The exponents in K of the total variation, of every horizon with exact values and of every seed with
    trained ones, and the exponent in H + 3 of KL with exact values and most children."""
    k = np.log(np.array(results.settings.children, float))
    laws = np.concatenate([results.few, *results.few_trained.values()])
    size = np.log(np.array(results.settings.horizons) + float(NO_BACKWARD_MOVE))
    return line_fit(tuple(k), np.log(laws))[0], float(line_fit(tuple(size), np.log(results.few_kl))[0])


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    longest, few = max(settings.horizons), min(settings.rollouts)
    own = results.trained[longest, few]

    def mean(value: Callable[[Trained], float]) -> float:
        return float(np.mean([value(each) for each in own]))

    return (
        f"H = {longest}, {few} rollouts, means over the seeds: E_pi*[V^/V] at most "
        f"{mean(lambda each: each.over):.3f}, E_pi*[V/V^] at most {mean(lambda each: each.under):.3f}, the "
        f"uniform error {mean(lambda each: each.uniform):.0f}, M/(2 H^2) "
        f"{mean(lambda each: each.way_back) / (2 * longest**2):.3f}; Best-of-N had "
        f"{mean(lambda each: each.samples):.1f} samples.",
        f"There the worst reward loses {mean(lambda each: each.action.lost):.4f} to the action level, "
        f"{mean(lambda each: each.first.lost):.4f} to VGB's first leaf and "
        f"{mean(lambda each: each.walks[-1].law.lost):.2g} to VGB after {max(settings.steps)} H^2 steps.",
        "The source's theorem on average errors was read second-hand, without its constants. What is checked "
        "is the guarantee that theory/vgb/average_case.py derives.",
        "The walk with few children is reversible, as every walk between neighbours on a tree; its "
        "stationary law is not pi* on the leaves.",
    )


def _bound(own: Trained) -> float:
    return own.way_back / own.walks[-1].steps


def _mass_share(own: Trained) -> float:
    return own.leaf_mass * 2 * own.over * own.depth


def _shortfall_share(own: Trained) -> float:
    return max(walk.shortfall * walk.steps / own.way_back for walk in own.walks)


def _cover_share(own: Trained) -> float:
    return max(walk.uncovered * walk.steps / (2 * own.way_back) for walk in own.walks)


def _at(tables: list[Float[np.ndarray, "seeds horizons"]], place: int) -> Float[np.ndarray, " all"]:
    return np.concatenate([table[:, place] for table in tables])
