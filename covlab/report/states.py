"""Passed, failed, or open: what a measured number says about its target, and how many seeds would decide.

A check is open where its interval lies on both sides of the target: the target is neither reached nor
excluded.
"""

from __future__ import annotations

import math
import operator
import re
from typing import Literal, NamedTuple

State = Literal["passed", "failed", "open"]
Outcome = Literal["holds", "refuted", "open"]

OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
PLACES = {"estimate": "", "low": "lower end of the interval ", "high": "upper end of the interval "}
POWER = 0.8
"""Probability with which the number of seeds that is stated would decide an open check."""
MOST_SEEDS = 1_000_000
_TARGET = re.compile(rf"(?:{PLACES['low']}|{PLACES['high']})?(<=|>=|<|>) (\S+)")


class Target(NamedTuple):
    """What is asked of a number: that it be `operator` than `threshold`."""

    operator: str
    threshold: float

    def reached(self, value: float) -> bool:
        """True if `value` is what is asked."""
        return bool(OPERATORS[self.operator](value, self.threshold))


def parse_target(text: str) -> Target | None:
    """The target of a text as `check_interval` and `check_value` write it; None for another text."""
    match = _TARGET.fullmatch(text)
    try:
        return Target(match[1], float(match[2])) if match else None
    except ValueError:
        return None


def check_state(
    passed: bool, measured: float | None, interval: tuple[float, float] | None, target: str
) -> State:
    """Passed as it says; else failed where the number or its whole interval misses the target, else open.

    A number without an interval is exact: it has failed if it has not passed. A check without a number is
    open, and so is one with an interval and a target in free words.
    """
    if passed:
        return "passed"
    if measured is None:
        return "open"
    if interval is None:
        return "failed"
    asked = parse_target(target)
    if asked is None or any(asked.reached(end) for end in interval):
        return "open"
    return "failed"


def needed_seeds(
    measured: float | None, interval: tuple[float, float] | None, target: str, seeds: int
) -> int | None:
    """The number of seeds that would decide an open check with probability `POWER`, if mean and spread stay.

    With d the distance of the estimate from the threshold and s the standard deviation over seeds that a
    Student interval of half-width h = t_{.975, n-1} s / sqrt(n) stands for, it is the smallest m with
    (t_{.975, m-1} + t_{.8, m-1}) s / sqrt(m) <= d. Another kind of interval is read as a Student interval.
    An estimate on the right side of the threshold would then pass, one on the wrong side fail.

    Source: the usual sample size of a t-test (Cohen, Statistical Power Analysis, 1988, section 2.4), with
    Student's quantile in place of the non-central one.

    Returns:
        None where no number of seeds up to `MOST_SEEDS` would, or where the check says too little: fewer than
        two seeds, no number, no interval, or a target in free words.
    """
    from scipy import stats

    asked = parse_target(target)
    if measured is None or interval is None or asked is None or seeds < 2:
        return None
    distance = abs(measured - asked.threshold)
    half = (interval[1] - interval[0]) / 2
    spread = half * math.sqrt(seeds) / float(stats.t.ppf(0.975, seeds - 1))

    def decides(count: int) -> bool:
        quantiles = stats.t.ppf([0.975, POWER], count - 1).sum()
        return bool(quantiles * spread / math.sqrt(count) <= distance)

    if not decides(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
