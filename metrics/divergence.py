"""KL divergence, related divergences, and inequalities between them and the coverage profile.

Unless stated otherwise, inequalities hold sample by sample: they hold exactly for the weighted empirical
distribution of the log ratios, so sampling noise cannot violate them, and a violation is a bug.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from metrics.coverage import (
    RATIO_TOLERANCE,
    check_ns,
    check_tolerance,
    check_values,
    coverage_profile,
    weighted_mean,
)


def _on_support(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None
) -> tuple[Float[np.ndarray, "*batch kept"], Float[np.ndarray, " kept"]]:
    values, weight = check_values(log_ratio, weights)
    if np.isneginf(values).any():
        raise ValueError("log_ratio: contains -inf; valid: responses with pi_D > 0, that is X finite or +inf")
    return values, weight


def _excess_part(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    # expm1 avoids cancellation near X = 0, where X + e^-X - 1 ~ X^2/2.
    with np.errstate(over="ignore"):
        return np.maximum(values + np.expm1(-values), 0.0)


def kl(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """KL(pi_D || pi_hat) = E[X] in nats per sequence; +inf if one ratio is. A sample mean can be negative.

    Raises:
        ValueError: a NaN or -inf log ratio, bad weights.
    """
    values, weight = _on_support(log_ratio, weights)
    return weighted_mean(values, weight)


def cross_entropy(
    log_prob_model: Float[np.ndarray, "*batch examples"],
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch"]:
    """-E[ln pi_hat(y|x)] = KL + H(pi_D) in nats per sequence, +inf if a held-out response has probability 0.

    Raises:
        ValueError: a NaN or +inf log-probability, bad weights.
    """
    values, weight = check_values(log_prob_model, weights, name="log_prob_model")
    if np.isposinf(values).any():
        raise ValueError("log_prob_model: contains +inf; valid: log-probabilities, finite or -inf")
    return weighted_mean(-values, weight)


def f_divergence_part(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """E[X + e^-X - 1] >= 0 in nats: KL as an f-divergence, restricted to pi_D's support.

    The expectation is KL minus the mass of pi_hat outside pi_D's support (E[e^-X] is the mass inside), hence
    at most KL.

    Source: Coverage Principle, arXiv 2510.15020, proof of the bound of coverage by KL.

    Raises:
        ValueError: a NaN or -inf log ratio, bad weights.
    """
    values, weight = _on_support(log_ratio, weights)
    return weighted_mean(_excess_part(values), weight)


def squared_hellinger(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """D_H^2 = (1/2) sum_y (sqrt pi_D - sqrt pi_hat)^2 = E[1 - e^(-X/2)], from 0 to 1.

    The estimate from samples is unbiased and can be negative; an enumeration weighted by pi_D is exact.

    Raises:
        ValueError: a NaN or -inf log ratio, bad weights.
    """
    values, weight = _on_support(log_ratio, weights)
    with np.errstate(over="ignore"):
        return weighted_mean(-np.expm1(-values / 2), weight)


def _bound(
    part: Float[np.ndarray, "*batch"],
    threshold_parts: Sequence[float],
) -> Float[np.ndarray, "*batch n"]:
    bounds = [part / at_n if at_n > 0 else np.ones_like(part) for at_n in threshold_parts]
    return np.stack(bounds, axis=-1)


def coverage_bound(
    log_ratio: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = 0.0,
) -> Float[np.ndarray, "*batch n"]:
    """Cov_N <= E[X + e^-X - 1] / (ln N - 1 + 1/N), sample by sample.

    f(t) = t + e^-t - 1 is non-negative and increasing for t >= 0, so 1{X >= t} <= f(X)/f(t), at t = ln N. The
    result is not capped at 1. At N = 1, where the formula divides by 0, the trivial bound 1 is returned. With
    a `tolerance` (nats) the threshold is t = ln N - tolerance, which bounds `coverage_profile` at equal
    tolerance.

    Source: Coverage Principle, arXiv 2510.15020, the bound of the coverage profile by KL.

    Raises:
        ValueError: an N below 1, a NaN or -inf log ratio, bad weights or tolerance.
    """
    thresholds = [math.log(n) - check_tolerance(tolerance) for n in check_ns(ns)]
    at_thresholds = [t + math.expm1(-t) if t > 0 else 0.0 for t in thresholds]
    return _bound(f_divergence_part(log_ratio, weights), at_thresholds)


def bound_violations(
    log_ratio: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
) -> Float[np.ndarray, "*batch n"]:
    """Coverage minus `coverage_bound` at equal tolerance: <= 0 where the inequality holds.

    Equality occurs (every X = 0 or X = ln N), so compare with 1e-12, the rounding of float64, not with 0.

    Raises:
        ValueError: as `coverage_bound`.
    """
    profile = coverage_profile(log_ratio, ns, weights, tolerance)
    return profile - coverage_bound(log_ratio, ns, weights, tolerance)


def check_coverage_bound(
    log_ratio: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
) -> float:
    """Largest of `bound_violations`: at most 1e-12 for any input, or there is a bug.

    Raises:
        ValueError: as `coverage_bound`.
    """
    return float(np.max(bound_violations(log_ratio, ns, weights, tolerance)))


def hellinger_bound(
    log_ratio: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = 0.0,
) -> Float[np.ndarray, "*batch n"]:
    """Cov_N <= 2N/(sqrt N - 1)^2 D, with D = E[(1 - e^(-X/2))^2]/2 <= D_H^2.

    D is the part of the squared Hellinger distance on pi_D's support. The inequality holds sample by sample,
    because (1 - e^(-t/2))^2 increases for t >= 0 and is (sqrt N - 1)^2/N at t = ln N. The trivial bound 1 is
    returned at N = 1; `tolerance` as in `coverage_bound`.

    Source: Coverage Principle, arXiv 2510.15020, coverage and the Hellinger distance.

    Raises:
        ValueError: an N below 1, a NaN or -inf log ratio, bad weights or tolerance.
    """
    thresholds = [math.log(n) - check_tolerance(tolerance) for n in check_ns(ns)]
    at_thresholds = [math.expm1(-t / 2) ** 2 / 2 if t > 0 else 0.0 for t in thresholds]
    values, weight = _on_support(log_ratio, weights)
    with np.errstate(over="ignore"):
        part = weighted_mean(np.expm1(-values / 2) ** 2 / 2, weight)
    return _bound(part, at_thresholds)


def coverage_supremum(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """C = sup over all N >= 1 of Cov_N ln N in nats, exact for the empirical profile.

    The profile is a step function that falls just after every observed ratio, so the supremum is attained at
    an observed ratio: C = max over positive x_i of x_i P[X >= x_i]; 0 if no x_i is positive, +inf if one is.

    Source: Coverage Principle, arXiv 2510.15020, converse of the bound by KL.

    Raises:
        ValueError: a NaN or -inf log ratio, bad weights.
    """
    values, weight = _on_support(log_ratio, weights)
    order = np.argsort(-values, axis=-1)
    descending = np.take_along_axis(values, order, axis=-1)
    # The last of equal ratios has the whole tail and attains the maximum below.
    tails = np.cumsum(weight[order], axis=-1) / weight.sum()
    return np.max(np.maximum(descending, 0.0) * tails, axis=-1)


def kl_converse_bound(
    log_ratio: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """KL <= C (1 + ln(ln W_max / C)) in nats, with C of `coverage_supremum` and W_max the largest ratio.

    Sample by sample: E[X] <= E[max(X, 0)] = integral of P[X >= t] <= integral of min(1, C/t) up to ln W_max.

    Source: Coverage Principle, arXiv 2510.15020, converse of the bound by KL.

    Raises:
        ValueError: a NaN or -inf log ratio, bad weights.
    """
    supremum = coverage_supremum(log_ratio, weights)
    largest = np.max(_on_support(log_ratio, weights)[0], axis=-1)
    defined = (supremum > 0) & np.isfinite(supremum)
    inside = np.where(defined, largest, 1.0) / np.where(defined, supremum, 1.0)
    return np.where(defined, supremum * (1 + np.log(inside)), supremum)


def stopped_kl(
    kl_along: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch n"]:
    """D_N = E min{ln N, sum_h KL_h} in nats: the KL of autoregressive laws, stopped at ln N.

    `kl_along` is sum_h KL(pi_D(. | x, y_1:h-1) || pi_hat(. | x, y_1:h-1)) for every response, the sum of
    token-level KLs at the prefixes of the response; +inf is allowed. D_N <= ln N for any response length.

    Source: Coverage Principle, arXiv 2510.15020, Proposition D.10.

    Raises:
        ValueError: an N below 1, a sum that is NaN or negative, bad weights.
    """
    sums, weight = check_values(kl_along, weights, name="kl_along")
    if (sums < 0).any():
        raise ValueError(f"kl_along: contains {sums.min()}; valid: sums of divergences, >= 0")
    return np.stack([weighted_mean(np.minimum(math.log(n), sums), weight) for n in check_ns(ns)], axis=-1)


def stopped_kl_bound(
    kl_along: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch n"]:
    """Cov_N <= 2/(ln N - 1) D_N for N > e, with D_N of `stopped_kl`; the trivial bound 1 for N <= e.

    The bound requires the exact law of the responses and does not hold sample by sample. The proof gives the
    smaller factor 1/ln N + 1/(ln N - 1 + 1/N) instead of 2/(ln N - 1).

    Source: Coverage Principle, arXiv 2510.15020, Proposition D.10.

    Raises:
        ValueError: as `stopped_kl`.
    """
    stopped = stopped_kl(kl_along, ns, weights)
    logs = np.log(np.asarray(check_ns(ns)))
    return np.where(logs > 1, 2 * stopped / np.where(logs > 1, logs - 1, 1.0), 1.0)


def hellinger_tail_bound(
    hellinger_along: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    delta: float,
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch n"]:
    """Cov_N >= P[sum_h D_H,h^2 >= ln(sqrt(N)/delta)] - delta, a lower bound for autoregressive laws.

    `hellinger_along` is the sum over the prefixes of a response of the token-level squared Hellinger
    distances (factor 1/2). The paper states N instead of sqrt(N), which the proof gives. The bound requires
    the exact law and is vacuous where negative.

    Source: Coverage Principle, arXiv 2510.15020, Proposition D.11 and its proof.

    Raises:
        ValueError: an N below 1, delta outside (0, 1), a sum that is NaN or negative, bad weights.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta: {delta}; valid: a number strictly between 0 and 1")
    sums, weight = check_values(hellinger_along, weights, name="hellinger_along")
    if (sums < 0).any():
        raise ValueError(f"hellinger_along: contains {sums.min()}; valid: sums of distances, >= 0")
    thresholds = [math.log(n) / 2 - math.log(delta) for n in check_ns(ns)]
    tails = np.stack([(sums >= threshold) @ weight for threshold in thresholds], axis=-1)
    return tails / weight.sum() - delta
