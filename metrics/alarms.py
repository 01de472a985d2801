"""Quality of alarms: thresholds for a given false-alarm rate, rates, and area under the curve.

Every function takes many sets of weights at once, one row per bootstrap resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Rates:
    """Weighted shares, one number per row of weights; NaN where the denominator is 0.

    Attributes:
        sensitivity: share of evaluations with an event that have an alarm.
        false_alarm_rate: share of evaluations without an event that have an alarm.
        precision: share of evaluations with an alarm that have an event.
        base_rate: share of evaluations with an event, which is the precision of random alarms.
    """

    sensitivity: Float[np.ndarray, " rows"]
    false_alarm_rate: Float[np.ndarray, " rows"]
    precision: Float[np.ndarray, " rows"]
    base_rate: Float[np.ndarray, " rows"]


def rates(
    alarms: Bool[np.ndarray, "rows evaluations"],
    events: Bool[np.ndarray, " evaluations"],
    weights: Float[np.ndarray, "rows evaluations"],
) -> Rates:
    """The four shares per row of weights."""
    hit, false = (weights * alarms) @ events, (weights * alarms) @ ~events
    positive, negative = weights @ events, weights @ ~events
    return Rates(
        _over(hit, positive),
        _over(false, negative),
        _over(hit, hit + false),
        _over(positive, positive + negative),
    )


def thresholds(
    scores: Float[np.ndarray, " negatives"], weights: Float[np.ndarray, "rows negatives"], rate: float
) -> Float[np.ndarray, " rows"]:
    """Smallest v >= 0 with P[score > v] <= rate among evaluations without an event; an alarm is a score > v.

    Thresholds are nonnegative because a score of 0 means that nothing is lost. A row without weight gets
    +inf.

    Raises:
        ValueError: a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate: {rate}; valid: a number in (0, 1)")
    order = np.argsort(scores)
    below = np.cumsum(weights[:, order], axis=1)
    if not order.size:
        return np.full(len(weights), np.inf)
    # With the tolerance, a sum of equal weights that rounds below the level does not skip a value.
    index = np.argmax(below >= (1 - rate) * below[:, -1:] * (1 - 1e-12), axis=1)
    return np.where(below[:, -1] > 0, np.maximum(scores[order][index], 0.0), np.inf)


def area_under_curve(
    scores: Float[np.ndarray, " evaluations"],
    events: Bool[np.ndarray, " evaluations"],
    weights: Float[np.ndarray, "rows evaluations"],
) -> Float[np.ndarray, " rows"]:
    """AUC = P[score with event > score without] + P[equal]/2 under the weights; scores may be -inf."""
    values, group = np.unique(scores, return_inverse=True)
    indicator = np.zeros((scores.size, values.size))
    indicator[np.arange(scores.size), group] = 1.0
    positive, negative = (weights * events) @ indicator, (weights * ~events) @ indicator
    below = np.cumsum(negative, axis=1) - negative / 2
    return _over(np.sum(positive * below, axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _over(part: Float[np.ndarray, " rows"], whole: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
