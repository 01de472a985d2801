"""Checks of experiments.rl_pass_at_k on the first arm, with the reason for each target, and notes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from covlab.report.verdict import Check, at_least, at_most
from experiments.rl_pass_at_k.measure import NS, Measurements, blind_pass_at_k
from metrics import Interval, mean_interval, name_of_n, paired_difference_interval


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks on the first arm, with 95 % Student intervals over the seeds.

    The reasons for the targets. A base model that is calibrated and cannot tell the classes apart gives each
    class's path its probability: Pass@1 = sum p_c^2. The best that such a model can earn is max p_c, by
    always taking the likeliest class's path; then Pass@k = max p_c for every k, and Cov_N = 1 - max p_c for
    every N.

    - Pass@small_k rises by at least half of what there is to win, with the whole interval.
    - It ends at most .03 above max p_c: more would mean that the model has learned to tell the classes.
    - Pass@large_k falls by at least half of what the closed form loses, with the whole interval.
    - So the curves cross: in every seed, at k <= 8 (the closed form at k = 2).
    - Cov at N = large_k rises by at least half of 1 - max p_c, with the whole interval: the profile no longer
      falls with N.

    Raises:
        ValueError: with fewer than two seeds.
    """
    arm, probs = results.judged, results.probs
    best = max(probs)
    start_small, start_large = (blind_pass_at_k(probs, probs, k) for k in (results.small_k, results.large_k))
    small, large = arm.at(results.small_k), arm.at(results.large_k)
    missing = np.where(arm.crossing == 0, NS[-1] + 1, arm.crossing)
    rise = paired_difference_interval(small[:, -1], small[:, 0])
    fall = paired_difference_interval(large[:, 0], large[:, -1])
    spread = paired_difference_interval(arm.coverage[-1, :, -1], arm.coverage[-1, :, 0])
    end = f"Pass@{results.small_k} at the end minus the best without telling classes apart"
    fell = f"Pass@{results.large_k}: fall below the base model's"
    covered = f"Cov_{name_of_n(results.large_k)}: rise by reinforcement learning"
    least = round((best - start_small) / 2, 4)
    return (
        at_least(f"Pass@{results.small_k}: rise by reinforcement learning", rise, least),
        at_most(end, _shifted(mean_interval(small[:, -1]), -best), 0.03),
        at_least(fell, fall, round((start_large - best) / 2, 4)),
        at_most("least k at which Pass@k is below the base model's, worst seed", missing.max(), 8),
        at_least(covered, spread, round((1 - best) / 2, 4)),
    )


def _shifted(interval: Interval, by: float) -> Interval:
    return Interval(interval.estimate + by, interval.low + by, interval.high + by)


def kept_near(p: float, kl_weight: float) -> float:
    """The mass that maximises E[r] - kl_weight KL(q || p) for a blind model with two paths, the first right
    with probability p and the reference's mass p on it too: logit q = logit p + (2 p - 1)/kl_weight."""
    return 1 / (1 + math.exp(-math.log(p / (1 - p)) - (2 * p - 1) / kl_weight))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    best, written = max(results.probs), []
    for name, arm in results.arms.items():
        crossing = ", ".join(str(k) if k else "none" for k in arm.crossing.tolist())
        text = (
            f"{name}: Pass@{results.small_k} {_change(arm.at(results.small_k))}, Pass@{results.large_k} "
            f"{_change(arm.at(results.large_k))}, KL {_change(arm.kl)} nats; least k below the base model, "
            f"by seed: {crossing}; mass on the likeliest class's path {_change(arm.majority)}"
        )
        weight = results.kl_weights[name]
        if weight and len(results.probs) == 2:
            mass = kept_near(best, weight)
            closed = blind_pass_at_k(results.probs, (mass, 1 - mass), results.large_k)
            text += (
                f", where the closed form with weight {weight:g} has {mass:.3f} and Pass@{results.large_k} "
                f"{closed:.3f}"
            )
        written.append(f"{text}.")
    calibrated = blind_pass_at_k(results.probs, results.probs, results.large_k)
    written.append(
        f"Closed form: Pass@{results.large_k} {calibrated:.3f} for the calibrated base model, {best:g} for "
        f"the best class-blind rule."
    )
    return tuple(written)


def _change(values: Float[np.ndarray, "seeds checkpoints"]) -> str:
    return f"{values[:, 0].mean():.3f} -> {values[:, -1].mean():.3f}"
