"""Best-of-N and Pass@N of sampled responses, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from metrics.intervals import Interval, mean_interval
from metrics.pass_rates import check_whole_ns


def best_of_n(
    reward: Float[np.ndarray, "*prompts samples"], ns: Sequence[float]
) -> Float[np.ndarray, "*prompts n"]:
    """Unbiased estimate of the expected reward of Best-of-N from n samples per prompt.

    It is E[max of N rewards] over N of the n samples drawn without replacement: sum_i r_(i) C(i-1, N-1) /
    C(n, N) with r_(1) <= ... <= r_(n). With 0/1 rewards it is `pass_at_n_unbiased`.

    Raises:
        ValueError: no samples, a reward that is not finite, an N that is not a whole number in [1, n].
    """
    rewards = np.asarray(reward, np.float64)
    if rewards.ndim < 1 or rewards.shape[-1] < 1:
        raise ValueError(f"reward: shape {rewards.shape}; valid: (..., samples) with at least one sample")
    if not np.isfinite(rewards).all():
        raise ValueError("reward: contains a number that is not finite")
    num = rewards.shape[-1]
    ordered = np.sort(rewards, axis=-1)
    columns = []
    for n in check_whole_ns(ns):
        if n > num:
            raise ValueError(f"ns: contains {n}; valid: at most the number of samples, {num}")
        columns.append(ordered @ _weight_of_rank(num, n))
    return np.stack(columns, axis=-1)


def _weight_of_rank(num: int, n: int) -> Float[np.ndarray, " samples"]:
    """C(i-1, N-1) / C(n, N) for i = 1..n: the probability that the i-th smallest is the largest of N."""
    weights = np.zeros(num)
    weights[num - 1] = n / num
    # C(i-2, N-1)/C(i-1, N-1) = (i-N)/(i-1), downwards from C(n-1, N-1)/C(n, N) = N/n.
    for i in range(num, n, -1):
        weights[i - 2] = weights[i - 1] * (i - n) / (i - 1)
    return weights


def best_of_n_interval(
    reward: Float[np.ndarray, "prompts samples"], n: int, confidence: float = 0.95
) -> Interval:
    """Mean over prompts of `best_of_n`, with Student's interval over the prompts (`mean_interval`).

    Raises:
        ValueError: as `best_of_n`, or fewer than two prompts.
    """
    return mean_interval(best_of_n(reward, (n,))[:, 0], confidence)
