"""Comparisons of every pair of checkpoints on held-out examples, for many checkpoints and examples.

Examples are taken in blocks that fit into a processor's cache, and a pair's difference is computed once for
both of its directions. Log-probabilities are those of whole responses, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from metrics.coverage import RATIO_TOLERANCE, check_ns, check_tolerance, check_values
from metrics.pass_rates import check_log_probs

_BLOCK = 8192
"""Examples of a block: 50 checkpoints of them are 3 MB."""


def differences(
    array: Float[np.ndarray, "checkpoints examples"], size: int
) -> Iterator[tuple[int, Float[np.ndarray, "later block"]]]:
    """(i, ln pi_j - ln pi_i of every j > i), block of examples by block, and in a block i by i.

    The difference is 0 where neither checkpoint gives the response any probability.
    """
    infinite = np.isneginf(array).any()
    for first in range(0, array.shape[1], size):
        block = np.ascontiguousarray(array[:, first : first + size])
        for i in range(len(array) - 1):
            with np.errstate(invalid="ignore"):
                difference = block[i + 1 :] - block[i]
            if infinite:
                difference[np.isnan(difference)] = 0.0
            yield i, difference


def tournament_matrices_of(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    ns: Sequence[float],
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
) -> Float[np.ndarray, "n chosen challenger"]:
    """`tournament_matrix` for several N in one pass.

    Raises:
        ValueError: as `tournament_matrix`.
    """
    array, weight = check_values(check_log_probs("log_probs", log_probs, 2), weights, "log_probs")
    thresholds = [math.log(n) - check_tolerance(tolerance) for n in check_ns(ns)]
    equal = weights is None
    totals = np.zeros((len(thresholds), len(array), len(array)))
    start = 0
    for i, difference in differences(array, _BLOCK):
        for place, threshold in enumerate(thresholds):
            for reached, at in (
                (difference >= threshold, (place, i, slice(i + 1, None))),
                (difference <= -threshold, (place, slice(i + 1, None), i)),
            ):
                if equal:
                    totals[at] += [np.count_nonzero(row) for row in reached]
                else:
                    totals[at] += reached.astype(np.float64) @ weight[start : start + reached.shape[1]]
        start += difference.shape[1] if i == len(array) - 2 else 0
    return np.minimum(totals / weight.sum(), 1.0)
