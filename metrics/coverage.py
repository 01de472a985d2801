"""Coverage profile, quantiles and histograms of a sample of log ratios.

Throughout this package the log ratio of an example is X = ln pi_D(y|x) - ln pi_hat(y|x) in nats, for a
response y drawn from pi_D; X = +inf if the model gives the response probability 0. The last axis of an array
of log ratios is the examples. Optional `weights` (class probability over class count for a stratified
held-out set) are normalised here, so that only proportions matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from tasks.checks import real

RATIO_TOLERANCE = 1e-5
"""Tolerance in nats at the threshold ln N, above the rounding of float32 log-probabilities of a sequence."""


def check_ns(ns: Sequence[float]) -> tuple[float, ...]:
    """The values of N as floats.

    Raises:
        ValueError: no value, or a value that is below 1 or not finite.
    """
    checked = tuple(real("ns", n, least=1) for n in ns)
    if not checked:
        raise ValueError("ns: (); valid: at least one N >= 1")
    return checked


def check_tolerance(tolerance: float) -> float:
    """The tolerance in nats; ValueError if not a finite number >= 0."""
    return real("tolerance", tolerance, least=0)


def check_values(
    values: ArrayLike, weights: ArrayLike | None, name: str = "log_ratio"
) -> tuple[Float[np.ndarray, "*batch kept"], Float[np.ndarray, " kept"]]:
    """Values and unnormalised weights of examples in float64, without examples of weight 0.

    Examples of weight 0 are dropped rather than multiplied, because 0 * inf is NaN.

    Raises:
        ValueError: no examples, a NaN, or weights that are not one finite non-negative number per example
            with a positive sum.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name}: shape {array.shape}; valid: a last axis of at least one example")
    if np.isnan(array).any():
        raise ValueError(f"{name}: contains NaN; valid: numbers, or infinities where a probability is 0")
    if weights is None:
        return array, np.ones(array.shape[-1])
    weight = np.asarray(weights, dtype=np.float64)
    if weight.shape != array.shape[-1:]:
        raise ValueError(f"weights: shape {weight.shape}; valid: one weight an example, {array.shape[-1:]}")
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0):
        raise ValueError(
            f"weights: from {weight.min()} to {weight.max()}; valid: finite, >= 0, not all of them 0"
        )
    kept = weight > 0
    return array[..., kept], weight[kept]


def weighted_mean(
    values: Float[np.ndarray, "*batch examples"], weights: Float[np.ndarray, " examples"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """sum_i w_i v_i / sum_i w_i over the last axis, the reduction of every per-example array.

    The mean lies between the smallest and the largest value despite rounding, so that a mean of probabilities
    is a probability.

    Raises:
        ValueError: bad values or weights (see `check_values`), or both infinities among the values.
    """
    array, weight = check_values(values, weights, name="values")
    if np.isposinf(array).any() and np.isneginf(array).any():
        raise ValueError(
            "values: contains +inf and -inf; valid: at most one of them, or the mean is undefined"
        )
    return np.clip(array @ weight / weight.sum(), array.min(axis=-1), array.max(axis=-1))


def log_density_ratio(
    log_numerator: Float[np.ndarray, "*shape"], log_denominator: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """ln(p/q) in nats from ln p and ln q, with 0/0 defined as the ratio 1, that is 0 nats.

    p > 0 = q gives +inf, p = 0 < q gives -inf. The arguments broadcast.

    Raises:
        ValueError: a NaN or +inf log-probability.
    """
    numerator = np.asarray(log_numerator, dtype=np.float64)
    denominator = np.asarray(log_denominator, dtype=np.float64)
    for name, array in (("log_numerator", numerator), ("log_denominator", denominator)):
        if np.isnan(array).any() or np.isposinf(array).any():
            raise ValueError(f"{name}: contains NaN or +inf; valid: log-probabilities, finite or -inf")
    with np.errstate(invalid="ignore"):
        ratio = numerator - denominator
    return np.where(np.isneginf(numerator) & np.isneginf(denominator), 0.0, ratio)


def coverage_profile(
    log_ratio: Float[np.ndarray, "*batch examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
) -> Float[np.ndarray, "*batch n"]:
    """Cov_N = P[X >= ln N], the upper tail of the log ratio; lower is better.

    X counts if X >= ln N - tolerance; the tolerance (nats) absorbs the rounding of float32
    log-probabilities. For pi_hat = pi_D, Cov_1 = 1 and Cov_N = 0 for N > 1.

    Source: Coverage Principle, arXiv 2510.15020, definition of the coverage profile (any real N >= 1).

    Raises:
        ValueError: an N below 1 or not finite, a NaN log ratio, bad weights or tolerance.
    """
    values, weight = check_values(log_ratio, weights)
    thresholds = [math.log(n) - check_tolerance(tolerance) for n in check_ns(ns)]
    total = weight.sum()
    tails = np.stack([(values >= threshold) @ weight / total for threshold in thresholds], axis=-1)
    return np.minimum(tails, 1.0)


def name_of_n(n: float) -> str:
    """N in the name of a metric: "5.7" for 5.7, "4" for 4 and for 4.0.

    Raises:
        ValueError: an N below 1 or not finite.
    """
    (value,) = check_ns((n,))
    return repr(value).removesuffix(".0")


@dataclass(frozen=True)
class LogRatioSummary:
    """Weighted summary of the log ratio in nats; `quantiles[..., k]` belongs to `levels[k]`."""

    mean: Float[np.ndarray, "*batch"]
    minimum: Float[np.ndarray, "*batch"]
    maximum: Float[np.ndarray, "*batch"]
    levels: tuple[float, ...]
    quantiles: Float[np.ndarray, "*batch levels"]


def summarize_log_ratio(
    log_ratio: Float[np.ndarray, "*batch examples"],
    weights: Float[np.ndarray, " examples"] | None = None,
    levels: Sequence[float] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99),
) -> LogRatioSummary:
    """Mean, extremes and quantiles; the quantile at level q is the least x with P[X <= x] >= q.

    Quantiles by this convention are values of the sample and hence defined for infinite values.

    Raises:
        ValueError: a level outside [0, 1], a NaN log ratio, both infinities, bad weights.
    """
    chosen = tuple(float(level) for level in levels)
    for level in chosen:
        if not 0 <= level <= 1:
            raise ValueError(f"levels: contains {level}; valid: numbers from 0 to 1")
    values, weight = check_values(log_ratio, weights)
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    cumulative = np.cumsum(weight[order] / weight.sum(), axis=-1)
    # Rounding must not move a level that equals a cumulative weight to the next value.
    below = [np.sum(cumulative < level - 1e-12, axis=-1, keepdims=True) for level in chosen]
    positions = np.minimum(np.concatenate(below, axis=-1), values.shape[-1] - 1)
    return LogRatioSummary(
        mean=weighted_mean(values, weight),
        minimum=ordered[..., 0],
        maximum=ordered[..., -1],
        levels=chosen,
        quantiles=np.take_along_axis(ordered, positions, axis=-1),
    )


def log_ratio_histogram(
    log_ratio: Float[np.ndarray, "*batch examples"],
    edges: Float[np.ndarray, " edges"],
    weights: Float[np.ndarray, " examples"] | None = None,
) -> Float[np.ndarray, "*batch bins"]:
    """Probability mass in (-inf, e_1), [e_1, e_2), ..., [e_k, +inf]: k + 1 bins that sum to 1.

    Bins are closed on the left, so that the mass above an edge ln N is Cov_N at tolerance 0.

    Raises:
        ValueError: edges (nats) that are not finite and increasing, a NaN log ratio, bad weights.
    """
    borders = np.asarray(edges, dtype=np.float64)
    if (
        borders.ndim != 1
        or not borders.size
        or not np.isfinite(borders).all()
        or (np.diff(borders) <= 0).any()
    ):
        raise ValueError(f"edges: {borders}; valid: a non-empty list of finite, increasing numbers of nats")
    values, weight = check_values(log_ratio, weights)
    bins = np.searchsorted(borders, values, side="right")
    return np.stack([(bins == b) @ weight / weight.sum() for b in range(borders.size + 1)], axis=-1)


def answer_level_log_ratio(
    log_prob_data: Float[np.ndarray, " responses"],
    log_prob_model: Float[np.ndarray, " responses"],
    answers: Int[np.ndarray, " responses"],
) -> Float[np.ndarray, " responses"]:
    """ln of pi_D(answer|x) / pi_hat(answer|x) for every response of one prompt, the reasoning summed out.

    `log_prob_data` and `log_prob_model` (nats) enumerate the responses, `answers` the answers; responses with
    equal answers get equal ratios. The paper's bound of answer coverage by Cov_N is false as stated
    (counterexample in tests/claims). The correct bound is Cov^ans_{cN} <= c/(c-1) Cov_N for every c > 1.

    Source: Coverage Principle, arXiv 2510.15020, answer-level coverage; the correction is this project's.

    Raises:
        ValueError: shapes that differ, or a NaN or +inf log-probability.
    """
    names = np.asarray(answers)
    data, model = np.asarray(log_prob_data, dtype=np.float64), np.asarray(log_prob_model, dtype=np.float64)
    if not (names.ndim == 1 and names.shape == data.shape == model.shape):
        raise ValueError(f"answers: shape {names.shape}; valid: one axis, as both log-probabilities have")
    same: Bool[np.ndarray, "responses responses"] = names[:, None] == names[None, :]
    summed = [np.logaddexp.reduce(np.where(same, part, -np.inf), axis=-1) for part in (data, model)]
    return log_density_ratio(summed[0], summed[1])


def transitivity_bound(
    data_over_model: Float[np.ndarray, " responses"],
    data_weights: Float[np.ndarray, " responses"],
    target_over_data: Float[np.ndarray, " responses"],
    target_weights: Float[np.ndarray, " responses"],
    n: float,
    ms: Sequence[float],
) -> Float[np.ndarray, " m"]:
    """Cov_N(pi_T || pi_hat) <= M Cov_{N/M}(pi_D || pi_hat) + Cov_M(pi_T || pi_D), at every M of `ms`.

    The log ratios (nats) enumerate the responses (and prompts): ln pi_D/pi_hat with weights under pi_D, and
    ln pi_T/pi_D with weights under pi_T.

    Source: Coverage Principle, arXiv 2510.15020, Proposition D.5.

    Raises:
        ValueError: an M outside [1, N], a NaN log ratio, bad weights.
    """
    (whole,) = check_ns((n,))
    chosen = check_ns(ms)
    if max(chosen) > whole:
        raise ValueError(f"ms: contains {max(chosen)}; valid: numbers from 1 to N = {whole}")
    rest = coverage_profile(data_over_model, [whole / m for m in chosen], data_weights)
    return np.asarray(chosen) * rest + coverage_profile(target_over_data, chosen, target_weights)
