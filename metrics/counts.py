"""Pass@N, pass^N and their intervals from counts: n sampled responses of an example, c of them correct.

n may differ between examples, and every N is at most the smallest n: no unbiased estimate exists beyond.
Intervals are over examples, at 95 % by default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from metrics.intervals import Interval, check_confidence, mean_interval, proportion_interval
from metrics.pass_rates import check_whole_ns, pass_at_n_unbiased
from tasks.checks import real


def check_counts(
    num_samples: Int[np.ndarray, "*shape examples"],
    num_correct: Int[np.ndarray, "*shape examples"],
    ns: Sequence[float] = (1,),
) -> tuple[Int[np.ndarray, "*shape examples"], Int[np.ndarray, "*shape examples"]]:
    """Both arrays.

    Raises:
        ValueError: shapes that differ, numbers that are not whole, c not in 0 to n, an N above the smallest
            n.
    """
    n, c = np.asarray(num_samples), np.asarray(num_correct)
    if n.shape != c.shape or not n.ndim or not n.size:
        raise ValueError(f"num_samples, num_correct: shapes {n.shape}, {c.shape}; valid: equal, not empty")
    for name, array in (("num_samples", n), ("num_correct", c)):
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name}: {array.dtype}; valid: whole numbers")
    if n.min() < 1 or c.min() < 0 or (c > n).any():
        raise ValueError("num_samples, num_correct: valid: n >= 1 and 0 <= c <= n for each example")
    largest = max(check_whole_ns(ns))
    if largest > n.min():
        raise ValueError(f"ns: contains {largest}; valid: at most the smallest num_samples, {n.min()}")
    return n, c


def pass_at_n_of_counts(
    num_samples: Int[np.ndarray, "*shape examples"],
    num_correct: Int[np.ndarray, "*shape examples"],
    ns: Sequence[float],
) -> Float[np.ndarray, "*shape examples n"]:
    """`pass_at_n_unbiased` of every example, 1 - C(n-c, N)/C(n, N).

    Raises:
        ValueError: as `check_counts`.
    """
    n, c = check_counts(num_samples, num_correct, ns)
    values = np.empty((*n.shape, len(ns)))
    for size in np.unique(n):
        here = n == size
        values[here] = pass_at_n_unbiased(int(size), c[here], ns)
    return values


def pass_all_n_of_counts(
    num_samples: Int[np.ndarray, "*shape examples"],
    num_correct: Int[np.ndarray, "*shape examples"],
    ns: Sequence[float],
) -> Float[np.ndarray, "*shape examples n"]:
    """C(c, N)/C(n, N): the unbiased estimate of pass^N = p^N, that N responses are all correct.

    Source: Yao et al., tau-bench, arXiv 2406.12045, section 4.

    Raises:
        ValueError: as `check_counts`.
    """
    n, c = check_counts(num_samples, num_correct, ns)
    return 1.0 - pass_at_n_of_counts(n, n - c, ns)


def share_interval(values: Float[np.ndarray, " examples"], confidence: float = 0.95) -> Interval:
    """An interval for the mean of values in [0, 1], within [0, 1], that assumes nothing else of their law.

    With z the sorted values and one 1 more, the upper end is the quantile at (1 + confidence)/2 of
    sum_i D_i z_i, where D is uniform on the simplex: with 0/1 values that is Clopper and Pearson's end. The
    lower end is that of 1 - values, turned round. A value near 0 that occurs once in as many examples as were
    drawn may be missing from the sample: the added value allows for it. That coverage is at least
    `confidence` for every law is conjectured, not proven; `tests/metrics/test_interval_coverage.py` simulates
    skewed ones.

    Source: Gaffke (2005); Learned-Miller and Thomas, arXiv 1905.06208, where the quantile is simulated. Here
    it is computed.

    Raises:
        ValueError: fewer than two values, or a value outside [0, 1].
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size < 2 or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"values: shape {array.shape}; valid: two or more numbers from 0 to 1")
    tail = (1 - check_confidence(confidence)) / 2
    return Interval(float(array.mean()), 1 - _upper_end(1 - array, tail), _upper_end(array, tail))


def _upper_end(values: Float[np.ndarray, " examples"], tail: float) -> float:
    """t with P[sum_i D_i z_i > t] = tail, z = (values, 1) and D uniform on the simplex."""
    from scipy import optimize

    points, times = np.unique(np.append(values, 1.0), return_counts=True)
    if points.size == 1:
        return 1.0
    ends = float(points[0]), float(points[-1])
    return float(optimize.brentq(lambda t: _exceeds(points, times, t, tail) - tail, *ends, xtol=1e-10))


_STEP = 0.1
_LOG_NODES = np.arange(-34, 24, _STEP)
"""ln u at the nodes of the trapezoidal rule, whose error falls exponentially with 1/_STEP."""


def _exceeds(
    points: Float[np.ndarray, " points"], times: Int[np.ndarray, " points"], t: float, tail: float
) -> float:
    """P[sum_i D_i z_i > t], where points[j] occurs times[j] in z; 0 or 1 where that is below or above `tail`.

    D_i = E_i/sum E with independent exponential E: the sum exceeds t where Q = sum_i E_i (z_i - t) > 0, and
    P[Q > 0] = 1/2 + 1/pi int_0^inf sin(sum_i arctan(l_i u))/(u prod_i sqrt(1 + l_i^2 u^2)) du with
    l = z - t. Where Q's mean is s standard deviations from 0, its tail beyond is at most (1 + s) e^(-s).

    Source: Gil-Pelaez (1951); Imhof, Biometrika 48 (1961), whose chi-squares of 2 degrees are 2 E.
    """
    scales = (points - t) / math.sqrt(float(times @ (points - t) ** 2))
    mean = float(times @ scales)
    # The integrand oscillates with the mean: far from 0 the bound decides.
    if (1 + abs(mean)) * math.exp(-abs(mean)) < min(tail, 0.5) / 2:
        return float(mean > 0)
    nodes = np.exp(_LOG_NODES)
    angle, log_size = np.zeros(nodes.size), np.zeros(nodes.size)
    for at in range(0, points.size, 1024):
        block = np.multiply.outer(nodes, scales[at : at + 1024])
        angle += np.arctan(block) @ times[at : at + 1024]
        log_size += np.log1p(block * block) @ times[at : at + 1024] / 2
    return 0.5 + _STEP / math.pi * float(np.sin(angle) @ np.exp(-log_size))


def _normal_quantile(level: float) -> float:
    from scipy import special

    return float(special.ndtri(level))


@dataclass(frozen=True)
class Comparison:
    """Whether Pass@N of two checkpoints can be told apart on the examples that both answered.

    Attributes:
        difference: the second checkpoint's Pass@N minus the first's, over examples.
        detectable: the least true difference that such data would show in 4 of 5 cases (power 80 %).
        examples_needed: examples at which the observed difference would be shown in 4 of 5 cases.
        sampling_share: share of the variance that comes from sampling n responses instead of infinitely many;
            the rest comes from the choice of examples, which further responses do not reduce.
    """

    difference: Interval
    detectable: float
    examples_needed: float
    sampling_share: float

    @property
    def told_apart(self) -> bool:
        """True if the interval of the difference excludes 0."""
        return not self.difference.low <= 0 <= self.difference.high


def compare_pass_at_n(
    first: tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]],
    second: tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]],
    n: int,
    confidence: float = 0.95,
    power: float = 0.8,
) -> Comparison:
    """Pass@N of two checkpoints, each (num_samples, num_correct) of equal examples, as a paired difference.

    With standard error s of the mean difference, the detectable difference is (z_(1-a/2) + z_power) s, and
    examples_needed scales the number of examples by (detectable/|difference|)^2.

    Raises:
        ValueError: as `check_counts`; different numbers of examples, or fewer than two.
    """
    both = [pass_at_n_of_counts(*counts, (n,))[:, 0] for counts in (first, second)]
    if both[0].shape != both[1].shape or both[0].size < 2:
        raise ValueError(
            f"second: {both[1].size} examples; valid: as many as first has, {both[0].size}, >= 2"
        )
    gaps = both[1] - both[0]
    size = gaps.size
    difference = mean_interval(gaps, confidence)
    if np.ptp(gaps) == 0:
        # Equal gaps show no variance; that of a share of 1 in `size` examples bounds what was not seen.
        width = proportion_interval(0, size, confidence).high
        difference = Interval(difference.estimate, difference.estimate - width, difference.estimate + width)
    error = float(gaps.std(ddof=1)) / math.sqrt(size)
    factor = _normal_quantile((1 + confidence) / 2) + _normal_quantile(real("power", power, above=0, below=1))
    observed = abs(difference.estimate)
    sampling = sum(float(sampling_variance(*counts, n).mean()) for counts in (first, second)) / size
    return Comparison(
        difference,
        factor * error,
        size * (factor * error / observed) ** 2 if observed > 0 else math.inf,
        min(1.0, sampling / error**2) if error > 0 else 0.0,
    )


def sampling_variance(
    num_samples: Int[np.ndarray, " examples"], num_correct: Int[np.ndarray, " examples"], n: int
) -> Float[np.ndarray, " examples"]:
    """Variance of an example's estimate of Pass@N over draws of its responses, at p = (c + 1/2)/(n + 1).

    c is enumerated, so that only p is estimated; the shift by 1/2 keeps p off 0 and 1, where it would be 0.

    Raises:
        ValueError: as `check_counts`.
    """
    from scipy import stats

    sizes, correct = check_counts(num_samples, num_correct, (n,))
    variance = np.empty(sizes.shape)
    for size, c in set(zip(sizes.tolist(), correct.tolist(), strict=True)):
        outcomes = np.arange(size + 1)
        law = stats.binom.pmf(outcomes, size, (c + 0.5) / (size + 1))
        estimate = pass_at_n_unbiased(size, outcomes, (n,))[:, 0]
        mean = law @ estimate
        variance[(sizes == size) & (correct == c)] = law @ (estimate - mean) ** 2
    return variance


def changed_examples(
    first: tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]],
    second: tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]],
    level: float = 0.05,
) -> Int[np.ndarray, " examples"]:
    """-1 for examples lost from the first checkpoint to the second, 1 for gained ones, 0 for the rest.

    Fisher's exact test for each example; those whose p-value passes Benjamini and Hochberg's step-up rule at
    `level` count, so that at most this share of them is expected to be wrong.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995).

    Raises:
        ValueError: as `check_counts`; different numbers of examples.
    """
    from scipy import stats

    (n1, c1), (n2, c2) = check_counts(*first), check_counts(*second)
    if n1.shape != n2.shape:
        raise ValueError(f"second: {n2.size} examples; valid: as many as first has, {n1.size}")
    real("level", level, above=0, below=1)
    cells = list(zip(n1.tolist(), c1.tolist(), n2.tolist(), c2.tolist(), strict=True))
    known = {
        cell: float(stats.fisher_exact([[cell[1], cell[0] - cell[1]], [cell[3], cell[2] - cell[3]]]).pvalue)
        for cell in set(cells)
    }
    p_values = np.array([known[cell] for cell in cells])
    ordered = np.sort(p_values)
    passing = np.flatnonzero(ordered <= level * np.arange(1, ordered.size + 1) / ordered.size)
    bound = ordered[passing[-1]] if passing.size else -1.0
    direction = np.sign(c2 / n2 - c1 / n1).astype(np.int64)
    return np.where(p_values <= bound, direction, 0)
