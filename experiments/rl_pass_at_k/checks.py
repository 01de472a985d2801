"""Checks of experiments.rl_pass_at_k on the first blind arm and the open arm, with the reasons, and notes."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.tables import change_text, interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.rl_pass_at_k.measure import NS, OPEN, Measurements, blind_pass_at_k
from metrics import Interval, mean_interval, name_of_n, paired_difference_interval, proportion_interval

ROOM = 0.95
"""Largest Pass@large_k of the open arm's base model: what is left above allows a rise of .05 or more, what is
below a fall by any amount."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks on the first blind arm and on the open arm, with 95 % Student intervals over seeds.

    **Blind: what is forced.** The model cannot tell the classes apart. Calibrated, it gives each class's path
    its probability: Pass@1 = sum p_c^2. The best that such a model can earn is max p_c, by always taking the
    likeliest class's path; then Pass@k = max p_c for every k, and Cov_N = 1 - max p_c for every N. So what
    raises Pass@1 lowers Pass@k at large k, by construction. Left to measurement is that the base model is
    calibrated and does not tell the classes, and that a policy gradient goes this way in so many steps.

    - Pass@small_k rises by at least half of what there is to win, with the whole interval.
    - It ends at most .03 above max p_c: more would mean that the model has learned to tell the classes.
    - Pass@large_k falls by at least half of what the closed form loses, with the whole interval.
    - So the curves cross: in every seed, at k <= 8 (the closed form at k = 2).
    - Cov at N = large_k rises by at least half of 1 - max p_c, with the whole interval: the profile no longer
      falls with N.

    **Open: what is not forced.** Every valid path is right, and the prompt tells which paths are valid. No
    rule that raises Pass@1 has to lower Pass@large_k: a model that knows the edges has 1 at every k, one that
    commits to a rule which fails on some prompts has less than the base model at large k. The base model is
    stopped while it still learns, so that Pass@large_k can go either way: each seed's at its first checkpoint
    whose Pass@large_k lies in a window. Seeds without such a checkpoint are no part of these means, and the
    notes give their share with its exact interval.

    - The base model's Pass@large_k is at most `ROOM`, with the whole interval: else it could only fall.
    - Pass@small_k gains at least half of what the base model misses to 1, as in the blind arm.
    - Pass@large_k rises, with the whole interval, where the blind arm's falls.
    - The blind arm's fall and the open arm's rise are together at least what the blind arm has to lose by
      half of its closed form: the fall is of the blindness, and not of the policy gradient alone.

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
    least, lost = round((best - start_small) / 2, 4), round((start_large - best) / 2, 4)
    return (
        at_least(f"Pass@{results.small_k}: rise by reinforcement learning", rise, least),
        at_most(end, _shifted(mean_interval(small[:, -1]), -best), 0.03),
        at_least(fell, fall, lost),
        at_most("least k at which Pass@k is below the base model's, worst seed", missing.max(), 8),
        at_least(covered, spread, round((1 - best) / 2, 4)),
        *_open_checks(results, lost),
    )


def _open_checks(results: Measurements, lost: float) -> tuple[Check, ...]:
    """Checks of the open arm, given the target of the blind arm's fall of Pass@large_k."""
    rows = [results.judged.seeds.index(seed) for seed in results.open.seeds]
    blind = results.judged.at(results.large_k)[rows]
    small, large = (results.open.at(k) for k in (results.small_k, results.large_k))
    gained = (small[:, -1] - small[:, 0]) / (1 - small[:, 0])
    rise = large[:, -1] - large[:, 0]
    both = mean_interval(blind[:, 0] - blind[:, -1] + rise)
    name, least = f"open: Pass@{results.large_k}", f"open: Pass@{results.small_k}"
    return (
        at_most(f"{name} of the base model", mean_interval(large[:, 0]), ROOM),
        at_least(f"{least}: share gained of what the base model misses", mean_interval(gained), 0.5),
        above(f"{name}: rise by reinforcement learning", mean_interval(rise), 0),
        at_least(f"Pass@{results.large_k}: blind fall and open rise together", both, lost),
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
    for name, arm in results.every_arm.items():
        crossing = ", ".join(str(k) if k else "none" for k in arm.crossing.tolist())
        text = (
            f"{name}: Pass@{results.small_k} {change_text(arm.at(results.small_k))}, Pass@{results.large_k} "
            f"{change_text(arm.at(results.large_k))}, Cov_{name_of_n(results.large_k)} "
            f"{change_text(arm.coverage[-1])}, KL {change_text(arm.kl)} nats; least k below the base model, "
            f"by seed: {crossing}"
        )
        if arm.majority is not None:
            text += f"; mass on the likeliest class's path {change_text(arm.majority)}"
        weight = results.kl_weights.get(name)
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
        f"Closed form of the blind arms: Pass@{results.large_k} {calibrated:.3f} for the calibrated base "
        f"model, {best:g} for the best class-blind rule."
    )
    return (*written, *_shares(results))


def _shares(results: Measurements) -> tuple[str, str]:
    """Seeds of the open arm that have a start, and those of them that rise at both k, as exact shares."""
    arm, total = results.open, len(results.open.seeds)
    rose = [arm.at(k)[:, -1] > arm.at(k)[:, 0] for k in (results.small_k, results.large_k)]
    both, all_seeds = int(np.logical_and(*rose).sum()), total + len(results.outside)
    low, high = results.window
    without = ", ".join(map(str, results.outside)) or "none"
    return (
        f"{OPEN}: base model at its first checkpoint with Pass@{results.large_k} in [{low:g}, {high:g}]: "
        f"{total} of {all_seeds} seeds, {interval_text(proportion_interval(total, all_seeds), '.2f')}; "
        f"without one: {without}.",
        f"{OPEN}: Pass@{results.small_k} and Pass@{results.large_k} both rise in {both} of {total} seeds, "
        f"{interval_text(proportion_interval(both, total), '.2f')}.",
    )
