"""Events for early warnings: evaluations where coverage is worse although cross-entropy is better.

Events use the exact ln pi_D, which `metrics.early_warning` never sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.coverage import RATIO_TOLERANCE, check_ns


def paired_lower_bound(
    differences: Float[np.ndarray, "*batch prompts"],
    weights: Float[np.ndarray, " prompts"],
    groups: Int[np.ndarray, " prompts"],
    z: float,
) -> Float[np.ndarray, "*batch"]:
    """sum_g P_g mean_g - z sqrt(sum_g P_g^2 s_g^2 / n_g): a stratified mean minus z standard errors.

    Args:
        differences: one number per prompt.
        weights: one number per prompt, equal within a class; P_g is the share of class g in the sum.
        groups: class of every prompt.
        z: number of standard errors.

    Raises:
        ValueError: a class with a single prompt, which has no standard error.
    """
    mean = np.zeros(differences.shape[:-1])
    variance = np.zeros(differences.shape[:-1])
    for group in np.unique(groups):
        own = groups == group
        if own.sum() < 2:
            raise ValueError(f"groups: class {group} has one prompt; valid: two or more in each")
        share = weights[own].sum() / weights.sum()
        mean += share * differences[..., own].mean(axis=-1)
        variance += share**2 * differences[..., own].var(axis=-1, ddof=1) / own.sum()
    return np.asarray(mean - z * np.sqrt(variance))


def coverage_events(
    log_ratio: Float[np.ndarray, "checkpoints prompts candidates"],
    candidate_weight: Float[np.ndarray, "prompts candidates"],
    weights: Float[np.ndarray, " prompts"],
    groups: Int[np.ndarray, " prompts"],
    ns: Sequence[float],
    z: float,
    kl_margin: float,
    coverage_margin: float,
) -> Bool[np.ndarray, "n checkpoints"]:
    """True where some earlier checkpoint s exceeds both margins, per N and checkpoint t:

        KL_s - KL_t - z SE > kl_margin   and   Cov_N(t) - Cov_N(s) - z SE > coverage_margin,

    paired over prompts. Differences of KL are differences of cross-entropy, as the two differ by the entropy
    of pi_D.

    Args:
        log_ratio: X = ln pi_D - ln pi_hat in nats; ignored for candidates of weight 0.
        candidate_weight: pi_D-weight of every candidate within the prompt.
        weights, groups: weights and classes of the prompts, as in `paired_lower_bound`.
        ns: the N of Cov_N.

    Raises:
        ValueError: an N below 1, a class with a single prompt, or an X that is not finite.
    """
    kept = candidate_weight > 0
    ratio = np.where(kept, log_ratio, 0.0)
    if not np.isfinite(ratio).all():
        raise ValueError("log_ratio: not finite on pi_D's support; valid: models that give it probability")
    mean = np.sum(ratio * candidate_weight, axis=-1)
    tails = [
        np.sum((ratio >= math.log(n) - RATIO_TOLERANCE) * np.where(kept, candidate_weight, 0.0), axis=-1)
        for n in check_ns(ns)
    ]
    found = np.zeros((len(tails), len(mean)), bool)
    for now in range(1, len(mean)):
        better = paired_lower_bound(mean[:now] - mean[now], weights, groups, z) > kl_margin
        for i, tail in enumerate(tails):
            worse = paired_lower_bound(tail[now] - tail[:now], weights, groups, z) > coverage_margin
            found[i, now] = bool((better & worse).any())
    return found
