"""Known answers that the claims on fine-tuning's shortcut share, for `covlab.claims.shortcut.FineTuning`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metrics import Interval
from oracles.answers import Case, Known, columns


def both(values: np.ndarray) -> np.ndarray:
    """The same numbers on either half of the prompts."""
    return np.stack([values, values])


def kl(*values: Any) -> dict[str, Any]:
    """The KL of both seeds, by checkpoint."""
    return {"kl": columns(*values)}


def halves(of: Mapping[float, np.ndarray], n: float, *values: Any) -> dict[str, Any]:
    """`of` with another Cov_n."""
    return {"halves": {**of, n: both(columns(*values))}}


def rises(of: Mapping[float, np.ndarray], n: float) -> Known:
    """The rise of Cov_n where `of` rises by .03 n -+ .002 on every half."""
    return Known(
        "lower end of the interval > 0",
        Case({}, 0.03 * n, 0.002, True),
        # Both seeds rise, by too different amounts.
        Case(halves(of, n, 0.375, 0.125, 0.3, (0.25, 0.1)), 0.125, 0.1, False),
        # It falls to its end.
        Case(halves(of, n, 0.375, 0.3, 0.25, 0.125), 0, 0, False),
    )


def blind(first: Interval, second: Interval) -> dict[str, Any]:
    """The AUCs of two seeds."""
    return {"blindness": {3: first, 5: second}}


BLINDNESS = {0: Interval(0.49, 0.47, 0.51), 1: Interval(0.49, 0.46, 0.52)}
"""AUCs that are within [.45, .55]."""

_LOW, _HIGH = Interval(0.45, 0.45, 0.45), Interval(0.55, 0.55, 0.55)


def blindness(prefix: str = "") -> dict[str, Known]:
    """Both checks of class-blindness, on measurements with `BLINDNESS`."""
    return {
        f"{prefix}class-blindness: AUC of the log-odds between the rules, from below": Known(
            "lower end of the interval >= 0.45",
            Case({}, 0.49, (0.465, 0.515), True),
            Case(blind(Interval(0.48, 0.38, 0.58), Interval(0.48, 0.47, 0.49)), 0.48, (0.425, 0.535), False),
            Case(blind(_LOW, _LOW), 0.45, (0.45, 0.45), True),
        ),
        f"{prefix}class-blindness: the same AUC, from above": Known(
            "upper end of the interval <= 0.55",
            Case({}, 0.49, (0.465, 0.515), True),
            Case(blind(Interval(0.52, 0.42, 0.62), Interval(0.52, 0.51, 0.53)), 0.52, (0.465, 0.575), False),
            Case(blind(_HIGH, _HIGH), 0.55, (0.55, 0.55), True),
        ),
    }
