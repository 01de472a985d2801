"""Checkpoint selection: the two tournaments, and the rules for comparison.

Checkpoints are on the first axis of every array, in the order of training. A rule gives every checkpoint a
score, lower is better, and returns all checkpoints tied for the lowest score and the choice of an explicit
tie-break. Log-probabilities are those of whole responses, in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from metrics.coverage import (
    RATIO_TOLERANCE,
    check_tolerance,
    coverage_profile,
    log_density_ratio,
    weighted_mean,
)
from metrics.divergence import cross_entropy, kl
from metrics.pairwise import tournament_matrices_of
from metrics.pass_rates import check_log_probs, pass_at_n
from tasks.checks import real

TieBreak = Literal["min_cross_entropy", "earliest", "latest", "middle"]
"""Choice among tied checkpoints, in the order of training.

The checkpoint of least held-out cross-entropy (the earliest of these), the first, the last, or the middle one
(the earlier middle of an even number).
"""
TIE_BREAKS: tuple[TieBreak, ...] = get_args(TieBreak)
TIE_TOLERANCE = 1e-12
"""Largest difference of tied scores: equal weighted counts differ by rounding if summed in another order."""


@dataclass(frozen=True)
class Selection:
    """Choice of a rule: `index` among the `tied`, by `scores` (one per checkpoint, lower is better).

    `note` is empty or a caveat of one sentence.
    """

    rule: str
    index: int
    tied: tuple[int, ...]
    scores: Float[np.ndarray, " checkpoints"]
    note: str = ""


def select_lowest(
    rule: str,
    scores: Float[np.ndarray, " checkpoints"],
    tie_break: TieBreak = "earliest",
    tie_tolerance: float = TIE_TOLERANCE,
    cross_entropies: Float[np.ndarray, " checkpoints"] | None = None,
    note: str = "",
) -> Selection:
    """The checkpoint of least score; scores within `tie_tolerance` are tied (see `TieBreak`).

    `cross_entropies` may be any number that orders checkpoints as the cross-entropy does, such as the KL.

    Raises:
        ValueError: a NaN score, an unknown tie-break, or "min_cross_entropy" without `cross_entropies`.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not values.size or np.isnan(values).any():
        raise ValueError(f"scores: shape {values.shape}; valid: one number a checkpoint, no NaN")
    tied = np.flatnonzero(values <= values.min() + check_tolerance(tie_tolerance))
    if tie_break == "earliest":
        index = tied[0]
    elif tie_break == "latest":
        index = tied[-1]
    elif tie_break == "middle":
        index = tied[(tied.size - 1) // 2]
    elif tie_break != "min_cross_entropy":
        raise ValueError(f"tie_break: {tie_break!r}; valid: one of {', '.join(TIE_BREAKS)}")
    elif cross_entropies is None:
        raise ValueError("cross_entropies: None; valid: one number a checkpoint for the tie-break by them")
    else:
        order = np.asarray(cross_entropies, dtype=np.float64)
        if order.shape != values.shape:
            raise ValueError(f"cross_entropies: shape {order.shape}; valid: as the scores, {values.shape}")
        index = tied[np.argmin(order[tied])]
    return Selection(rule, int(index), tuple(int(i) for i in tied), values, note)


def tournament_matrix(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    n: float,
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
) -> Float[np.ndarray, "chosen challenger"]:
    """Cov^_N(pi' || pi): the weighted fraction of held-out examples with pi'(y_i|x_i)/pi(y_i|x_i) >= N.

    Rows are the chosen pi, columns the challengers pi'. 0/0 counts as the ratio 1, as neither model gives the
    response any probability. The tolerance (nats) is as in `coverage_profile`. The diagonal is 0, as a
    checkpoint does not challenge itself. For N > 1 this agrees with the definition's maximum over all pi',
    because pi/pi = 1 < N; at N = 1 that maximum is 1 for every checkpoint.

    Source: Coverage Principle, arXiv 2510.15020, the simple tournament.

    Raises:
        ValueError: log-probabilities that are NaN or above 1e-4, N < 1, bad weights or tolerance.
    """
    return tournament_matrices_of(log_probs, (n,), weights, tolerance)[0]


def simple_tournament(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    n: float,
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
    tie_break: TieBreak = "min_cross_entropy",
    tie_tolerance: float = TIE_TOLERANCE,
) -> Selection:
    """argmin_pi max_pi' Cov^_N(pi' || pi) over the checkpoints, from held-out log-probabilities alone.

    The score is the largest entry of pi's row in `tournament_matrix`. Ties at 0 are common, so fix N and the
    tie-break beforehand and report both.

    Source: Coverage Principle, arXiv 2510.15020, the simple tournament.

    Raises:
        ValueError: as `tournament_matrix` and `select_lowest`.
    """
    scores = tournament_matrix(log_probs, n, weights, tolerance).max(axis=1)
    order = cross_entropy(log_probs, weights)
    return select_lowest("simple_tournament", scores, tie_break, tie_tolerance, order)


def offset_tournament(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    sample_log_probs: Float[np.ndarray, "chosen challenger examples samples"],
    n: float,
    a: float,
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
    tie_break: TieBreak = "min_cross_entropy",
    tie_tolerance: float = TIE_TOLERANCE,
) -> Selection:
    """argmin_pi max_pi' { Cov^_N(pi' || pi) - 2 N^a Cov^pi_N(pi' || pi) }.

    Cov^pi_N is the mean over prompts x_i of P_{y ~ pi(.|x_i)}[pi'(y|x_i)/pi(y|x_i) >= N], estimated from
    samples: `sample_log_probs[pi, pi', i, s]` is the log-probability under pi' of the s-th response of pi to
    prompt i (under pi at pi' = pi). The term of pi' = pi is 0 (for N > 1 by definition, at N = 1 by the
    convention of `tournament_matrix`), so scores are >= 0.

    The guarantee requires N^(1-2a) >= 8 (`note` reports a violation), and some pi with
    |ln pi_D - ln pi| <= a ln N everywhere, which data cannot verify. The computation requires neither.

    Source: Coverage Principle, arXiv 2510.15020, the offset tournament.

    Raises:
        ValueError: as `simple_tournament`; a sample that pi cannot have drawn, a shape that does not match, a
            negative a.
    """
    matrix = tournament_matrix(log_probs, n, weights, tolerance)
    samples = check_log_probs("sample_log_probs", sample_log_probs, 4)
    examples = np.shape(log_probs)[1]
    if samples.shape[:3] != (*matrix.shape, examples):
        raise ValueError(
            f"sample_log_probs: shape {samples.shape}; valid: {(*matrix.shape, examples, 'samples')}"
        )
    real("a", a, least=0)
    threshold = math.log(n) - tolerance
    own = np.zeros_like(matrix)
    for chosen, log_prob in enumerate(samples):
        if np.isneginf(log_prob[chosen]).any():
            raise ValueError(
                f"sample_log_probs: -inf for a sample of checkpoint {chosen} under itself; valid: finite"
            )
        reached = log_density_ratio(log_prob, log_prob[chosen]) >= threshold
        own[chosen] = weighted_mean(reached.mean(axis=-1), weights)
    gaps = matrix - 2 * n**a * own
    np.fill_diagonal(gaps, 0.0)
    size = n ** (1 - 2 * a)
    note = (
        "" if size >= 8 else f"no guarantee: N^(1-2a) = {size:.3g} at N = {n:g}, a = {a:g}; it asks for >= 8"
    )
    order = cross_entropy(log_probs, weights)
    return select_lowest("offset_tournament", gaps.max(axis=1), tie_break, tie_tolerance, order, note)


def min_cross_entropy(
    log_probs: Float[np.ndarray, "checkpoints examples"],
    weights: Float[np.ndarray, " examples"] | None = None,
    tie_break: TieBreak = "earliest",
    tie_tolerance: float = TIE_TOLERANCE,
) -> Selection:
    """Least held-out cross-entropy in nats: the usual rule. ValueError as `cross_entropy`."""
    scores = cross_entropy(check_log_probs("log_probs", log_probs, 2), weights)
    return select_lowest("min_cross_entropy", scores, tie_break, tie_tolerance, scores)


def min_kl(
    log_ratio: Float[np.ndarray, "checkpoints examples"],
    weights: Float[np.ndarray, " examples"] | None = None,
    tie_break: TieBreak = "earliest",
    tie_tolerance: float = TIE_TOLERANCE,
) -> Selection:
    """Least KL in nats: the choice of `min_cross_entropy` on the same examples. ValueError as `kl`."""
    scores = kl(log_ratio, weights)
    return select_lowest("min_kl", scores, tie_break, tie_tolerance, scores)


def oracle_coverage(
    log_ratio: Float[np.ndarray, "checkpoints examples"],
    n: float,
    weights: Float[np.ndarray, " examples"] | None = None,
    tolerance: float = RATIO_TOLERANCE,
    tie_break: TieBreak = "min_cross_entropy",
    tie_tolerance: float = TIE_TOLERANCE,
) -> Selection:
    """Least Cov_N(pi_D || pi), an oracle because it uses pi_D. ValueError as `coverage_profile`."""
    scores = coverage_profile(log_ratio, (n,), weights, tolerance)[:, 0]
    return select_lowest("oracle_coverage", scores, tie_break, tie_tolerance, kl(log_ratio, weights))


def oracle_pass_at_n(
    log_prob_correct: Float[np.ndarray, "checkpoints examples"],
    n: float,
    weights: Float[np.ndarray, " examples"] | None = None,
    tie_break: TieBreak = "earliest",
    tie_tolerance: float = TIE_TOLERANCE,
    cross_entropies: Float[np.ndarray, " checkpoints"] | None = None,
) -> Selection:
    """Least 1 - Pass@N, the optimum over all rules at this N. ValueError as `pass_at_n`."""
    scores = 1 - weighted_mean(pass_at_n(log_prob_correct, (n,))[..., 0], weights)
    return select_lowest("oracle_pass_at_n", scores, tie_break, tie_tolerance, cross_entropies)


def last(num_checkpoints: int) -> Selection:
    """The last checkpoint; scores count the checkpoints after. ValueError if there is none."""
    if num_checkpoints < 1:
        raise ValueError(f"num_checkpoints: {num_checkpoints}; valid: a whole number >= 1")
    return select_lowest("last", np.arange(num_checkpoints - 1.0, -1.0, -1.0))
