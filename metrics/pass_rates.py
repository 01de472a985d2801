"""Pass@N: the probability that at least one of N independent responses is correct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from metrics.coverage import check_ns

LOG_PROB_SLACK = 1e-4
"""Tolerance (nats) for log-probabilities above 0 by rounding of float32 sums."""


def check_whole_ns(ns: Sequence[float]) -> tuple[int, ...]:
    """`ns` as integers.

    Raises:
        ValueError: an N that is not a whole number >= 1, or no N.
    """
    checked = check_ns(ns)
    for n in checked:
        if not n.is_integer():
            raise ValueError(f"ns: contains {n}; valid: whole numbers of responses N >= 1")
    return tuple(int(n) for n in checked)


def check_log_probs(
    name: str, log_probs: Float[np.ndarray, "*shape"], ndim: int
) -> Float[np.ndarray, "*shape"]:
    """Log-probabilities in float64.

    Raises:
        ValueError: a NaN, a number above 1e-4, another number of axes than `ndim`, an empty axis.
    """
    array = np.asarray(log_probs, dtype=np.float64)
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name}: shape {array.shape}; valid: {ndim} axes, none of them empty")
    if np.isnan(array).any():
        raise ValueError(f"{name}: contains NaN; valid: log-probabilities <= 0, or -inf")
    if (array > LOG_PROB_SLACK).any():
        raise ValueError(
            f"{name}: contains {array.max()}; valid: log-probabilities <= 0 (a loss is minus that)"
        )
    return array


def pass_at_n(
    log_prob_correct: Float[np.ndarray, "*shape"], ns: Sequence[float]
) -> Float[np.ndarray, "*shape n"]:
    """Pass@N = 1 - (1 - p)^N per prompt, from ln p (nats), p the model's total probability of being correct.

    Exact, without sampling; the relative precision of p is kept from p = 1e-300 to 1. Average over prompts
    with `weighted_mean` after moving the last axis out. ln p in (0, 1e-4] is rounding and counts as p = 1;
    -inf is p = 0.

    Source: Coverage Principle, arXiv 2510.15020, Best-of-N with a 0/1 reward.

    Raises:
        ValueError: a NaN, a log-probability above 1e-4, an N that is not a whole number >= 1.
    """
    log_prob = _log_prob_correct(log_prob_correct)
    with np.errstate(divide="ignore", under="ignore"):
        log_miss = np.log1p(-np.exp(log_prob))
    return np.stack([0.0 - np.expm1(n * log_miss) for n in check_whole_ns(ns)], axis=-1)


def pass_all_n(
    log_prob_correct: Float[np.ndarray, "*shape"], ns: Sequence[float]
) -> Float[np.ndarray, "*shape n"]:
    """pass^N = p^N per prompt, that N responses are all correct, from ln p (nats) as `pass_at_n` takes it.

    `metrics.counts.pass_all_n_of_counts` estimates it from counts.

    Source: Yao et al., tau-bench, arXiv 2406.12045, section 4.

    Raises:
        ValueError: as `pass_at_n`.

    >>> pass_all_n(np.log([0.5, 1.0]), (1, 2)).tolist()
    [[0.5, 0.25], [1.0, 1.0]]
    """
    log_prob = _log_prob_correct(log_prob_correct)
    return np.stack([np.exp(n * log_prob) for n in check_whole_ns(ns)], axis=-1)


def _log_prob_correct(log_prob_correct: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    log_prob = np.asarray(log_prob_correct, dtype=np.float64)
    if np.isnan(log_prob).any():
        raise ValueError("log_prob_correct: contains NaN; valid: log-probabilities <= 0, or -inf")
    if (log_prob > LOG_PROB_SLACK).any():
        raise ValueError(f"log_prob_correct: contains {log_prob.max()}; valid: log-probabilities <= 0")
    return np.minimum(log_prob, 0.0)


def pass_at_n_unbiased(
    num_samples: int, num_correct: Int[np.ndarray, "*shape"], ns: Sequence[float]
) -> Float[np.ndarray, "*shape n"]:
    """1 - C(n-c, N)/C(n, N): the unbiased estimate of Pass@N from n samples per prompt, c of them correct.

    It is the probability that N of the n samples, drawn without replacement, include a correct one.

    Source: Chen et al., arXiv 2107.03374, section 2.1.

    Raises:
        ValueError: an N that is not a whole number in [1, n], c not a whole number in [0, n], n < 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: {num_samples}; valid: a whole number >= 1")
    correct = np.asarray(num_correct)
    if not np.issubdtype(correct.dtype, np.integer):
        raise ValueError(f"num_correct: dtype {correct.dtype}; valid: whole numbers of correct samples")
    if correct.size and (correct.min() < 0 or correct.max() > num_samples):
        raise ValueError(
            f"num_correct: from {correct.min()} to {correct.max()}; valid: 0 to num_samples = {num_samples}"
        )
    columns = []
    for n in check_whole_ns(ns):
        if n > num_samples:
            raise ValueError(f"ns: contains {n}; valid: at most num_samples = {num_samples}")
        # C(n-c, N)/C(n, N) as the product of 1 - N/i over i = n-c+1..n avoids overflow of factorials. The
        # factor at i = N is 0, as is every longer product.
        factors = np.log1p(-n / np.arange(num_samples, n, -1.0))
        log_miss = np.concatenate([[0.0], np.cumsum(factors), np.full(n, -np.inf)])
        columns.append((0.0 - np.expm1(log_miss))[correct])
    return np.stack(columns, axis=-1)
