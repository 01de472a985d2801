"""Two-sided confidence intervals, at 95 % by default.

Two sources of randomness are separate: seeds (`mean_interval`, `paired_difference_interval`) and held-out
examples (`stratified_mean_interval`, `coverage_profile_interval`, ...). In a stratified held-out set
`groups[i]` is the class of example i and `class_probabilities[g]` the probability of class g in the data.

SciPy is imported locally, because its import takes longer than the start of a small run, and training does
not use intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from metrics.coverage import RATIO_TOLERANCE, check_ns, check_tolerance, check_values
from tasks.checks import real


@dataclass(frozen=True)
class Interval:
    """A point estimate and both ends of a confidence interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float


def check_confidence(confidence: float) -> float:
    """The level, if it lies strictly between 0 and 1; a ValueError otherwise."""
    return real("confidence", confidence, above=0, below=1)


def check_finite(
    name: str, values: Float[np.ndarray, " values"], at_least: int
) -> Float[np.ndarray, " values"]:
    """The values in float64.

    Raises:
        ValueError: fewer than `at_least` values, several axes, or a value that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < at_least:
        raise ValueError(f"{name}: shape {array.shape}; valid: one axis of at least {at_least} values")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: contains NaN or an infinity; valid: finite numbers")
    return array


def mean_interval(values: Float[np.ndarray, " seeds"], confidence: float = 0.95) -> Interval:
    """mean +- t_{S-1} s/sqrt(S): Student's t over S independent seeds, s the sample standard deviation.

    Raises:
        ValueError: fewer than two values, or a value that is not finite.
    """
    from scipy import stats

    array = check_finite("values", values, 2)
    quantile = stats.t.ppf((1 + check_confidence(confidence)) / 2, array.size - 1)
    estimate = float(array.mean())
    half = float(quantile * array.std(ddof=1) / math.sqrt(array.size))
    return Interval(estimate, estimate - half, estimate + half)


def interval_over_shared_prompts(intervals: Sequence[Interval]) -> Interval:
    """Mean of the seeds' estimates, for intervals over one set of prompts that all seeds share.

    estimate +- sqrt(a^2 + b^2): a is Student's half-width over the seeds' estimates, 0 for a single seed, and
    b the mean half-width of the seeds' own intervals. More seeds shrink a and not b, because they see the
    same prompts. Conservative: what the prompts add to the seeds' spread counts twice.

    Raises:
        ValueError: no interval, or an estimate that is not finite.
    """
    if not intervals:
        raise ValueError("intervals: none; valid: one per seed")
    estimates = check_finite("estimates", np.array([interval.estimate for interval in intervals]), 1)
    over_prompts = float(np.mean([interval.high - interval.low for interval in intervals])) / 2
    seeds = mean_interval(estimates) if estimates.size > 1 else Interval(*estimates, *estimates, *estimates)
    half = math.hypot((seeds.high - seeds.low) / 2, over_prompts)
    return Interval(seeds.estimate, seeds.estimate - half, seeds.estimate + half)


def paired_difference_interval(
    first: Float[np.ndarray, " seeds"], second: Float[np.ndarray, " seeds"], confidence: float = 0.95
) -> Interval:
    """`mean_interval` of first - second, measured on the same seeds in the same order.

    Raises:
        ValueError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    one, two = check_finite("first", first, 2), check_finite("second", second, 2)
    if one.shape != two.shape:
        raise ValueError(f"second: {two.size} values; valid: as many as first has, {one.size}")
    return mean_interval(one - two, confidence)


def bootstrap_interval(
    values: Shaped[np.ndarray, examples * rest],
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray], float] = np.mean,
    num_resamples: int = 2000,
    method: Literal["bca", "percentile"] = "bca",
    confidence: float = 0.95,
) -> Interval:
    """Bootstrap over the first axis of `values`, for a statistic that maps an array to one number.

    "percentile" returns quantiles of the resampled statistics; "bca" shifts the levels by the bias z_0 and
    the
    jackknife acceleration a: level = Phi(z_0 + (z_0 + z)/(1 - a (z_0 + z))).

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 14.

    Raises:
        ValueError: fewer than two examples, no resamples, an unknown method, a statistic that is not finite.
    """
    array = np.asarray(values)
    if array.ndim == 0 or array.shape[0] < 2:
        raise ValueError(f"values: shape {array.shape}; valid: a first axis of at least two examples")
    if num_resamples < 1:
        raise ValueError(f"num_resamples: {num_resamples}; valid: a whole number >= 1")
    if method not in ("bca", "percentile"):
        raise ValueError(f"method: {method!r}; valid: 'bca' or 'percentile'")
    size = array.shape[0]
    estimate = float(statistic(array))
    draws = [float(statistic(array[rng.integers(size, size=size)])) for _ in range(num_resamples)]
    resampled = check_finite("statistic of a resample", np.array([estimate, *draws]), 1)[1:]
    tail = (1 - check_confidence(confidence)) / 2
    levels = np.array([tail, 1 - tail])
    if method == "bca":
        from scipy import special

        below = np.mean(resampled < estimate) + np.mean(resampled == estimate) / 2
        # At 0 or 1 the bias would be infinite; half a resample is the resolution of the draws.
        bias = special.ndtri(np.clip(below, 0.5 / num_resamples, 1 - 0.5 / num_resamples))
        left_out = np.array([float(statistic(np.delete(array, i, axis=0))) for i in range(size)])
        deviations = left_out.mean() - left_out
        spread = np.sum(deviations**2) ** 1.5
        acceleration = np.sum(deviations**3) / (6 * spread) if spread > 0 else 0.0
        shifted = bias + special.ndtri(levels)
        levels = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(resampled, levels)
    return Interval(estimate, float(low), float(high))


def _strata(
    values: Float[np.ndarray, " examples"],
    groups: Int[np.ndarray, " examples"],
    class_probabilities: Sequence[float],
    at_least: int,
) -> list[tuple[float, Float[np.ndarray, " stratum"]]]:
    names = np.asarray(groups)
    probabilities = np.asarray(class_probabilities, dtype=np.float64)
    if names.shape != values.shape or not np.issubdtype(names.dtype, np.integer):
        raise ValueError(f"groups: {names.dtype} of shape {names.shape}; valid: integers, {values.shape}")
    if probabilities.ndim != 1 or (probabilities < 0).any() or not abs(probabilities.sum() - 1) <= 1e-6:
        raise ValueError(f"class_probabilities: {probabilities.tolist()}; valid: numbers >= 0 that sum to 1")
    if names.size and not 0 <= names.min() <= names.max() < probabilities.size:
        raise ValueError(
            f"groups: from {names.min()} to {names.max()}; valid: indices of {probabilities.size} classes"
        )
    strata = []
    for group, probability in enumerate(probabilities):
        members = values[names == group]
        if probability > 0 and members.size < at_least:
            raise ValueError(
                f"groups: class {group} has {members.size} examples; valid: {at_least} or more in each"
            )
        if probability > 0:
            strata.append((float(probability), members))
    return strata


def stratified_mean_interval(
    values: Float[np.ndarray, " examples"],
    groups: Int[np.ndarray, " examples"],
    class_probabilities: Sequence[float],
    confidence: float = 0.95,
) -> Interval:
    """sum_g P_g mean_g +- t sqrt(sum_g P_g^2 s_g^2/n_g), with Welch-Satterthwaite degrees of freedom.

    For a per-example statistic such as X or Pass@N. For 0/1 values use `stratified_proportion_interval`,
    because this interval has width 0 where every class is constant. Classes of probability 0 do not count.

    Raises:
        ValueError: a class of positive probability with fewer than two examples, a value that is not finite,
            probabilities that do not sum to 1, groups that are not indices of `class_probabilities`.
    """
    from scipy import stats

    array = check_finite("values", values, 2)
    strata = _strata(array, groups, class_probabilities, at_least=2)
    level = (1 + check_confidence(confidence)) / 2
    # The probabilities may sum to slightly more than 1, but a mean lies between the values.
    estimate = min(max(sum(p * float(x.mean()) for p, x in strata), float(array.min())), float(array.max()))
    variances = [p * p * float(x.var(ddof=1)) / x.size for p, x in strata]
    total = sum(variances)
    if total == 0:
        return Interval(estimate, estimate, estimate)
    # Shares of the total, because squares of tiny variances underflow.
    freedom = 1 / sum((v / total) ** 2 / (x.size - 1) for v, (_, x) in zip(variances, strata, strict=True))
    half = float(stats.t.ppf(level, freedom)) * math.sqrt(total)
    return Interval(estimate, estimate - half, estimate + half)


def proportion_interval(num_successes: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """Clopper-Pearson exact interval: at least nominal coverage, and positive width at 0 and 1.

    Source: Clopper and Pearson, Biometrika 26 (1934), through quantiles of the beta distribution.

    Raises:
        ValueError: num_trials < 1, or num_successes outside [0, num_trials].
    """
    from scipy import stats

    if num_trials < 1:
        raise ValueError(f"num_trials: {num_trials}; valid: a whole number >= 1")
    if not 0 <= num_successes <= num_trials:
        raise ValueError(f"num_successes: {num_successes}; valid: 0 to num_trials = {num_trials}")
    tail = (1 - check_confidence(confidence)) / 2
    failures = num_trials - num_successes
    low = stats.beta.ppf(tail, num_successes, failures + 1) if num_successes else 0.0
    high = stats.beta.ppf(1 - tail, num_successes + 1, failures) if failures else 1.0
    return Interval(num_successes / num_trials, float(low), float(high))


def stratified_proportion_interval(
    successes: Bool[np.ndarray, " examples"],
    groups: Int[np.ndarray, " examples"],
    class_probabilities: Sequence[float],
    confidence: float = 0.95,
) -> Interval:
    """p = sum_g P_g p_g, with limits from the exact limits (l_g, u_g) of the classes, clipped to [0, 1]:

    low = p - sqrt(sum_g P_g^2 (p_g - l_g)^2), high = p + sqrt(sum_g P_g^2 (u_g - p_g)^2).

    Clopper-Pearson limits of the classes have positive width also at 0 and 1, so the interval never
    collapses. With one class it is the Clopper-Pearson interval. It is conservative, like Clopper-Pearson.

    Source: Zou, Huang and Zhang, Computational Statistics & Data Analysis 53 (2009), variance recovery.

    Raises:
        ValueError: successes that are not booleans, a class of positive probability without examples,
            probabilities that do not sum to 1, groups that are not indices of `class_probabilities`.
    """
    outcomes = np.asarray(successes)
    if outcomes.dtype != np.bool_ or outcomes.ndim != 1:
        raise ValueError(
            f"successes: {outcomes.dtype} of shape {outcomes.shape}; valid: one axis of booleans"
        )
    estimate, below, above = 0.0, 0.0, 0.0
    for probability, members in _strata(outcomes, groups, class_probabilities, at_least=1):
        one = proportion_interval(int(members.sum()), members.size, confidence)
        estimate += probability * one.estimate
        below += (probability * (one.estimate - one.low)) ** 2
        above += (probability * (one.high - one.estimate)) ** 2
    return Interval(estimate, max(0.0, estimate - math.sqrt(below)), min(1.0, estimate + math.sqrt(above)))


def coverage_profile_interval(
    log_ratio: Float[np.ndarray, " examples"],
    ns: Sequence[float],
    groups: Int[np.ndarray, " examples"] | None = None,
    class_probabilities: Sequence[float] = (1.0,),
    tolerance: float = RATIO_TOLERANCE,
    confidence: float = 0.95,
) -> tuple[Interval, ...]:
    """`stratified_proportion_interval` of Cov_N for every N (pointwise); without groups, Clopper-Pearson.

    Raises:
        ValueError: as `coverage_profile` and `stratified_proportion_interval`.
    """
    values, _ = check_values(log_ratio, None)
    classes = np.zeros(values.shape, dtype=np.int64) if groups is None else groups
    thresholds = [math.log(n) - check_tolerance(tolerance) for n in check_ns(ns)]
    return tuple(
        stratified_proportion_interval(values >= threshold, classes, class_probabilities, confidence)
        for threshold in thresholds
    )


def auc_interval(
    positive_scores: Float[np.ndarray, " positives"],
    negative_scores: Float[np.ndarray, " negatives"],
    confidence: float = 0.95,
) -> Interval:
    """AUC = P[score of a positive > of a negative] + P[equal]/2, with DeLong's interval on the logit scale.

    At 0.5 the scores do not separate the classes. Infinite scores are allowed. Where DeLong's variance is 0
    (separated classes, or all scores tied), the interval is Wilson's for a proportion of min(m, n) trials,
    because AUC (1 - AUC)/min(m, n) bounds the variance for every pair of distributions.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); van Dantzig (1951) for the bound.

    Raises:
        ValueError: fewer than two scores in a class, or a NaN.
    """
    from scipy import special, stats

    positive, negative = np.asarray(positive_scores, np.float64), np.asarray(negative_scores, np.float64)
    for name, scores in (("positive_scores", positive), ("negative_scores", negative)):
        if scores.ndim != 1 or scores.size < 2 or np.isnan(scores).any():
            raise ValueError(f"{name}: shape {scores.shape}; valid: one axis of at least two scores, no NaN")
    m, n = positive.size, negative.size
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - stats.rankdata(positive)) / n
    below = 1 - (ranks[m:] - stats.rankdata(negative)) / m
    auc = float(above.mean())
    z = float(special.ndtri((1 + check_confidence(confidence)) / 2))
    error = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    if error == 0 or not 0 < auc < 1:
        trials = min(m, n)
        centre = (auc + z * z / (2 * trials)) / (1 + z * z / trials)
        half = z / (1 + z * z / trials) * math.sqrt(auc * (1 - auc) / trials + z * z / (4 * trials**2))
        return Interval(auc, max(0.0, centre - half), min(1.0, centre + half))
    logit, half = float(special.logit(auc)), z * error / (auc * (1 - auc))
    return Interval(auc, float(special.expit(logit - half)), float(special.expit(logit + half)))
