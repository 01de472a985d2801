"""How good alarms are: thresholds that keep false alarms rare, rates, the area under the curve.

Every function takes many sets of weights at once, one a row: a resample of the bootstrap is a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Rates:
    """Weighted shares, a number for each row of weights; NaN where there is nothing to divide by.

    Attributes:
        sensitivity: of the evaluations with an event, those with an alarm.
        false_alarm_rate: of the evaluations without an event, those with an alarm.
        precision: of the evaluations with an alarm, those with an event.
        base_rate: of all evaluations, those with an event: the precision of an alarm by chance.
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
    """The four shares of each row."""
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
    """The least v >= 0 with P[score > v] <= rate among evaluations without an event; an alarm is a score
    beyond it.

    Never below 0, where a statistic says that nothing is lost. A row without weight gets +inf.

    Raises:
        ValueError: a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate: {rate}; valid: a number in (0, 1)")
    order = np.argsort(scores)
    below = np.cumsum(weights[:, order], axis=1)
    if not order.size:
        return np.full(len(weights), np.inf)
    # The tolerance keeps a sum of equal weights that rounds below the level from skipping a value.
    index = np.argmax(below >= (1 - rate) * below[:, -1:] * (1 - 1e-12), axis=1)
    return np.where(below[:, -1] > 0, np.maximum(scores[order][index], 0.0), np.inf)


def area_under_curve(
    scores: Float[np.ndarray, " evaluations"],
    events: Bool[np.ndarray, " evaluations"],
    weights: Float[np.ndarray, "rows evaluations"],
) -> Float[np.ndarray, " rows"]:
    """AUC = P[score of an event > of none] + P[equal]/2 under the weights; scores may be -inf."""
    values, group = np.unique(scores, return_inverse=True)
    indicator = np.zeros((scores.size, values.size))
    indicator[np.arange(scores.size), group] = 1.0
    positive, negative = (weights * events) @ indicator, (weights * ~events) @ indicator
    below = np.cumsum(negative, axis=1) - negative / 2
    return _over(np.sum(positive * below, axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _over(part: Float[np.ndarray, " rows"], whole: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
