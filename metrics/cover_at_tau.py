"""Cover@tau from counts: the share of examples whose probability p of a correct response is at least tau.

c/n is p with noise, and a share of c/n >= tau counts lucky examples. The law of p is estimated instead, by
maximum likelihood over all laws on a grid (a mixture of binomials). n samples determine only the first n
moments of that law, so that Cover@tau is known only up to the laws which agree with the counts: the interval
is over these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from metrics.counts import check_counts
from metrics.intervals import Interval
from tasks.checks import real

GRID = 200
"""Steps of the grid on [0, 1], to which each tau is added."""
_STEPS = 3000


@dataclass(frozen=True)
class CoverAtTau:
    """Cover@tau of one tau.

    Attributes:
        naive: share of examples with c/n >= tau.
        deconvolved: the share under the law of maximum likelihood, with an interval that holds for finite
            numbers of examples, whatever the law.
    """

    tau: float
    naive: float
    deconvolved: Interval


def cover_at_tau(
    num_samples: Int[np.ndarray, " examples"],
    num_correct: Int[np.ndarray, " examples"],
    taus: Sequence[float],
    confidence: float = 0.95,
) -> tuple[CoverAtTau, ...]:
    """P[p >= tau] for every tau in (0, 1], from n and c of the examples.

    The interval has the least and the largest P[p >= tau] of all laws of p on the grid whose distribution
    function of c is within the Dvoretzky-Kiefer-Wolfowitz band, sqrt(ln(2/(1 - confidence))/(2 examples)), of
    the empirical one. Where n differs between examples, c stands for the number of correct ones among the
    smallest n, averaged over all subsets.

    Source: Cover@tau, arXiv 2510.08325; F-localisation, Ignatiadis and Wager, Journal of the American
        Statistical
    Association 117 (2022); Massart (1990) for the constant of the band.

    Raises:
        ValueError: as `check_counts`, or a tau that is not in (0, 1].
    """
    n, c = check_counts(num_samples, num_correct)
    if n.ndim != 1:
        raise ValueError(f"num_samples: shape {n.shape}; valid: (examples,)")
    values = [real("tau", tau, above=0, most=1) for tau in taus]
    if not values:
        raise ValueError("taus: none; valid: at least one in (0, 1]")
    grid = np.union1d(np.linspace(0, 1, GRID + 1), values)
    law = _maximum_likelihood(n, c, grid)
    band = math.sqrt(math.log(2 / (1 - real("confidence", confidence, above=0, below=1))) / (2 * n.size))
    least = int(n.min())
    distribution = _distribution_at(n, c, least)
    columns = np.cumsum(_binomials(least, grid), axis=0)[:-1]
    covers = []
    for tau in values:
        above = (grid >= tau).astype(np.float64)
        low, high = _extremes(above, columns, distribution, band)
        estimate = min(max(float(law @ above), low), high)
        covers.append(CoverAtTau(tau, float(np.mean(c >= tau * n - 1e-12)), Interval(estimate, low, high)))
    return tuple(covers)


def _binomials(n: int, grid: Float[np.ndarray, " grid"]) -> Float[np.ndarray, "outcomes grid"]:
    """P[c | p] for c = 0..n."""
    from scipy import stats

    return np.asarray(stats.binom.pmf(np.arange(n + 1)[:, None], n, grid), np.float64)


def _maximum_likelihood(
    n: Int[np.ndarray, " examples"], c: Int[np.ndarray, " examples"], grid: Float[np.ndarray, " grid"]
) -> Float[np.ndarray, " grid"]:
    """The law of p on the grid that maximises the likelihood of the counts (EM from the uniform law)."""
    pairs, times = np.unique(np.stack([n, c]), axis=1, return_counts=True)
    likelihood = np.stack([_binomials(int(size), grid)[count] for size, count in pairs.T])
    shares = times / times.sum()
    law = np.full(grid.size, 1 / grid.size)
    for _ in range(_STEPS):
        updated = law * (likelihood.T @ (shares / (likelihood @ law)))
        done = np.abs(updated - law).sum() < 1e-9
        law = updated
        if done:
            break
    return law / law.sum()


def _distribution_at(
    n: Int[np.ndarray, " examples"], c: Int[np.ndarray, " examples"], size: int
) -> Float[np.ndarray, " outcomes"]:
    """P[at most k correct among `size` of the n samples], k = 0..size-1, mean over the examples."""
    from scipy import stats

    pairs, times = np.unique(np.stack([n, c]), axis=1, return_counts=True)
    outcomes = np.arange(size)
    rows = [stats.hypergeom.cdf(outcomes, int(total), int(right), size) for total, right in pairs.T]
    return np.asarray(np.array(rows).T @ times / times.sum(), np.float64)


def _extremes(
    above: Float[np.ndarray, " grid"],
    columns: Float[np.ndarray, "outcomes grid"],
    distribution: Float[np.ndarray, " outcomes"],
    band: float,
) -> tuple[float, float]:
    """Least and largest `above @ law` over laws whose distribution function is within the band.

    If no law on the grid is within it, the band is widened to the nearest one.
    """
    from scipy import optimize

    size = above.size
    # A last variable is the distance to the band, 0 where it can be kept.
    slack = np.ones((len(columns), 1))
    inequalities = np.concatenate([np.hstack([columns, -slack]), np.hstack([-columns, -slack])])
    limits = np.concatenate([distribution + band, band - distribution])
    equal = np.append(np.ones(size), 0.0)[None]
    solved = optimize.linprog(np.append(np.zeros(size), 1.0), inequalities, limits, equal, [1.0])
    # Rounding of the solver must not make the next problems infeasible.
    limits = limits + max(float(solved.fun), 0.0) + 1e-7
    ends = []
    for sign in (1, -1):
        found = optimize.linprog(sign * above, inequalities[:, :size], limits, equal[:, :size], [1.0])
        if not found.success:
            return 0.0, 1.0
        ends.append(min(max(sign * float(found.fun), 0.0), 1.0))
    return ends[0], ends[1]
