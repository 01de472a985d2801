"""Checks of experiments.rl_from_base, with the reason for each target, and notes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.rl_from_base.measure import DISTIL, RL, ROUTES, TUNED_RL, Measurements
from metrics import Interval, mean_interval, name_of_n, paired_difference_interval

APART = 0.05
"""Pass@k before reinforcement learning that is nearer than this to the likeliest class's share decides
nothing; nor does a run that raised Pass@1 by less."""
SLACK = 0.03
"""Pass@1 by which a model may exceed the best of a model that cannot tell the classes apart, as in
rl_pass_at_k: more would mean that it has learned to tell them."""
EQUAL = 0.1
"""Rank correlation by which coverage may be worse than Pass@k: with 9 starts of both routes, intervals extend
less than this to either side (pilots)."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, with 95 % intervals; each is asked of the whole interval.

    The reasons for the targets:

    - The source's statements, in the mean over the starts: from the base, Pass@k after reinforcement learning
      is above that before it; after fine-tuning Pass@1 rises and Pass@k does not. Thresholds are 0, because
      the source states signs.
      From the base the change of Pass@k is above that after fine-tuning.
    - Derived: a model that cannot tell the classes apart ends at Pass@k = max p_c for every k, if
      reinforcement learning has found the likeliest class's path at all. So Pass@k rises where it was below
      max p_c, and falls where it was above. The share of runs with this sign is at least .9, over starts of
      both routes whose Pass@k was at least .05 away from max p_c and whose Pass@1 rose by at least .05.
    - No route ends more than .03 above max p_c.
    - Distillation is told the law at every prefix, where reinforcement learning is told whether it was right.
      With as many responses its Pass@1 is higher, in the mean over the starts.
    - The reverse KL commits to the likelier class too (derived), so from the last start Pass@k falls.
    - Prediction of Pass@1 after reinforcement learning, over the starts of both routes together: a lower
      Cov_N before goes with a higher Pass@1 after; better than Pass@1 before does, because a model that is
      spread over many responses has coverage without accuracy; and no worse than Pass@k, up to .1. With one
      right response Cov_N is Pass@N with a step in place of 1 - (1 - p)^N, so that more could not be asked.
    - After fine-tuning, Cov_N before reinforcement learning predicts better than rho_k of fine-tuning.
    - The coverage bound by KL holds at every evaluation.

    Raises:
        ValueError: with fewer than two seeds.
    """
    base, tuned, distil = (results.routes[name] for name in (RL, TUNED_RL, DISTIL))
    k, cov = results.k, f"Cov_{name_of_n(results.n)}"
    ends = np.stack([route.pass_1[..., -1] for route in results.routes.values()])
    most = max(
        (_shifted(mean_interval(own), -results.best) for route in ends for own in route.T),
        key=lambda each: each.high,
    )
    told = paired_difference_interval(distil.pass_1[..., -1].mean(axis=1), base.pass_1[..., -1].mean(axis=1))
    apart = paired_difference_interval(base.rise_k.mean(axis=1), tuned.rise_k.mean(axis=1))
    pooled, over = results.correlations(RL, TUNED_RL)
    _, over_ratio = results.correlations(TUNED_RL)
    return (
        above(f"{ROUTES[RL]}: change of Pass@{k}, mean over the starts", _mean(base.rise_k), 0),
        above(f"{ROUTES[TUNED_RL]}: change of Pass@1 by RL, mean over the starts", _mean(tuned.rise_1), 0),
        at_most(
            f"{ROUTES[TUNED_RL]}: change of Pass@{k} by RL, mean over the starts", _mean(tuned.rise_k), 0
        ),
        above(f"the same: {ROUTES[RL]} minus {ROUTES[TUNED_RL]}", apart, 0),
        at_least(
            f"share of runs that expand below, and sharpen above, Pass@{k} = {results.best:g} before RL",
            _interval(as_derived(results)),
            0.9,
        ),
        at_most("Pass@1 after a route minus the best without telling classes apart, largest", most, SLACK),
        above(f"{ROUTES[DISTIL]} minus {ROUTES[RL]}: Pass@1 after, mean over the starts", told, 0),
        above(
            f"{ROUTES[DISTIL]} from the last start: fall of Pass@{k}", mean_interval(-distil.rise_k[:, -1]), 0
        ),
        above(f"rank correlation of a lower {cov} before RL with a higher Pass@1 after it", pooled[cov], 0),
        above("the same minus that of Pass@1 before RL", over["Pass@1"], 0),
        at_least(f"the same minus that of Pass@{k} before RL", over[f"Pass@{k}"], -EQUAL),
        above(f"after fine-tuning: that of {cov} minus that of rho_{k}", over_ratio[f"rho_{k}"], 0),
        check_bound(results.bound_excess),
    )


def as_derived(results: Measurements) -> Float[np.ndarray, " seeds"]:
    """By seed, the share of the runs of reinforcement learning whose change of Pass@k has the sign of max p_c
    minus Pass@k before; NaN for a seed without a run that is counted."""
    routes = [results.routes[name] for name in (RL, TUNED_RL)]
    room = results.best - np.concatenate([route.pass_k[..., 0] for route in routes], axis=1)
    moved = np.concatenate([route.rise_1 for route in routes], axis=1) >= APART
    counted = moved & (np.abs(room) >= APART)
    right = counted & (np.sign(np.concatenate([route.rise_k for route in routes], axis=1)) == np.sign(room))
    total = counted.sum(axis=1)
    return np.where(total > 0, right.sum(axis=1) / np.maximum(total, 1), np.nan)


def _mean(values: Float[np.ndarray, "seeds starts"]) -> Interval:
    return mean_interval(values.mean(axis=1))


def _interval(values: Float[np.ndarray, " seeds"]) -> Interval | float:
    """Student's interval over the seeds that have a number; NaN, which leaves a check open, of fewer than
    two."""
    known = values[np.isfinite(values)]
    return mean_interval(known) if known.size > 1 else math.nan


def _shifted(interval: Interval, by: float) -> Interval:
    return Interval(interval.estimate + by, interval.low + by, interval.high + by)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    written = []
    for name, route in results.routes.items():
        moves = [
            f"{share:.3g} %: Pass@1 {interval_text(mean_interval(one), '+.3f')}, Pass@{results.k} "
            f"{interval_text(mean_interval(many), '+.3f')}"
            for share, one, many in zip(
                (100 * share for share in results.shares), route.rise_1.T, route.rise_k.T, strict=True
            )
        ]
        written.append(f"{ROUTES[name]}, change by share of pre-training: {'; '.join(moves)}.")
    for names in ((RL, TUNED_RL), (RL,), (TUNED_RL,)):
        each, _ = results.correlations(*names)
        ranks = ", ".join(f"{name} {interval_text(own, '+.2f')}" for name, own in each.items())
        where = " and ".join(ROUTES[name] for name in names)
        written.append(f"Rank correlation with Pass@1 after it, {where}: {ranks}.")
    gains, _ = results.correlations(DISTIL, gain=True)
    ranks = ", ".join(f"{name} {interval_text(own, '+.2f')}" for name, own in gains.items())
    written.append(f"Rank correlation with the change of Pass@1, {ROUTES[DISTIL]}: {ranks}.")
    return tuple(written)
