"""Both tournaments over many held-out sets at once, where the outcomes (x, y) can be counted.

The tournaments depend on a held-out set only through the counts of the outcomes, so that all sets of one
instance are one matrix product. Checkpoints are in the order of training; log-probabilities are in nats.
`metrics.selection` has these rules for one held-out set, example by example.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from metrics.coverage import RATIO_TOLERANCE, check_ns, check_tolerance, log_density_ratio
from metrics.selection import TIE_BREAKS, TIE_TOLERANCE, TieBreak


def challenges(
    log_probs: Float[np.ndarray, "checkpoints outcomes"], n: float, tolerance: float = RATIO_TOLERANCE
) -> Bool[np.ndarray, "chosen challenger outcomes"]:
    """True where pi'(y|x)/pi(y|x) >= N, for every chosen pi and challenger pi'; False at pi' = pi.

    Raises:
        ValueError: bad log-probabilities, N or tolerance.
    """
    array = np.asarray(log_probs, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(
            f"log_probs: shape {array.shape}; valid: one row a checkpoint, one column an outcome"
        )
    threshold = math.log(check_ns((n,))[0]) - check_tolerance(tolerance)
    reached = log_density_ratio(array[None], array[:, None]) >= threshold
    reached[np.arange(len(array)), np.arange(len(array))] = False
    return reached


def tournament_matrices(
    challenged: Bool[np.ndarray, "chosen challenger outcomes"], shares: Float[np.ndarray, "sets outcomes"]
) -> Float[np.ndarray, "sets chosen challenger"]:
    """Cov^_N(pi' || pi) of every held-out set, from the shares of the outcomes among the examples.

    With the probabilities of the outcomes as `shares` it is the estimated quantity, P_{pi_D}[pi'/pi >= N].
    """
    size, _, outcomes = challenged.shape
    flat = challenged.reshape(size * size, outcomes).astype(np.float64)
    return (np.asarray(shares, np.float64) @ flat.T).reshape(-1, size, size)


def own_matrices(
    challenged: Bool[np.ndarray, "chosen challenger outcomes"],
    shares: Float[np.ndarray, "sets chosen outcomes"],
) -> Float[np.ndarray, "sets chosen challenger"]:
    """Cov^pi_N(pi' || pi) of every held-out set, from the shares of the outcomes among draws of pi.

    With (share of the prompt) x pi(y|x) as `shares`, the term has no sampling error.
    """
    return np.einsum("sko,kjo->skj", shares, challenged.astype(np.float64), optimize=True)


def offset_gaps(
    matrices: Float[np.ndarray, "sets chosen challenger"],
    own: Float[np.ndarray, "sets chosen challenger"],
    n: float,
    a: float,
) -> Float[np.ndarray, "sets chosen challenger"]:
    """Cov^_N(pi' || pi) - 2 N^a Cov^pi_N(pi' || pi); 0 at pi' = pi, where both terms are 0."""
    return matrices - 2 * n**a * own


def select_many(
    scores: Float[np.ndarray, "sets checkpoints"],
    tie_break: TieBreak,
    cross_entropies: Float[np.ndarray, "sets checkpoints"],
    tie_tolerance: float = TIE_TOLERANCE,
) -> Int[np.ndarray, " sets"]:
    """Choice of `select_lowest` for every held-out set.

    Raises:
        ValueError: a NaN score, an unknown tie-break, or cross-entropies of another shape.
    """
    values, order = np.asarray(scores, np.float64), np.asarray(cross_entropies, np.float64)
    if values.ndim != 2 or not values.shape[1] or np.isnan(values).any():
        raise ValueError(f"scores: shape {values.shape}; valid: one row a set, no NaN")
    if order.shape != values.shape:
        raise ValueError(f"cross_entropies: shape {order.shape}; valid: as the scores, {values.shape}")
    tied = values <= values.min(axis=1, keepdims=True) + check_tolerance(tie_tolerance)
    rank = np.cumsum(tied, axis=1) - 1
    last = rank[:, -1:]
    if tie_break == "min_cross_entropy":
        return np.where(tied, np.minimum(order, np.finfo(np.float64).max), np.inf).argmin(axis=1)
    places = {"earliest": np.zeros_like(last), "latest": last, "middle": last // 2}
    if tie_break not in places:
        raise ValueError(f"tie_break: {tie_break!r}; valid: one of {', '.join(TIE_BREAKS)}")
    return (tied & (rank == places[tie_break])).argmax(axis=1)
