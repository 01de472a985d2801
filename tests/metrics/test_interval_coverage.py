"""Shares of intervals that contain the truth, by simulation, where it is known in closed form.

Every entry says how often an interval of 95 % must contain it at least and at most. Below the lower bound
it promises too much; above the upper one, where it is not conservative by construction, it wastes seeds. The
bounds leave four standard errors of the simulated share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from metrics import (
    Interval,
    auc_interval,
    bootstrap_interval,
    coverage_profile_interval,
    interval_over_shared_prompts,
    mean_interval,
    paired_difference_interval,
    proportion_interval,
    seeds_and_prompts_interval,
    sign_flip_interval,
    stratified_mean_interval,
    stuck_seeds_interval,
)
from metrics.counts import share_interval
from metrics.rank_correlation import rank_correlation_intervals, spearman_interval

DRAWS = 2000


class Kind(NamedTuple):
    """A drawn interval, the truth, and the range that the share of intervals with the truth must lie in."""

    draw: Callable[[np.random.Generator], Interval]
    truth: float
    low: float = 0.95
    high: float = 0.95
    draws: int = DRAWS


def shared_prompts(rng: np.random.Generator) -> Interval:
    """Eight seeds on the same 40 prompts: 0.3 of spread from the prompt, 0.2 from the seed, 0.5 from both."""
    values = 0.3 * rng.normal(size=40) + 0.2 * rng.normal(size=(8, 1)) + 0.5 * rng.normal(size=(8, 40))
    return interval_over_shared_prompts([mean_interval(row) for row in values])


def many_seeds_few_prompts(rng: np.random.Generator) -> Interval:
    """Twelve seeds on the same 40 prompts, most of whose spread is the prompt's."""
    values = 0.5 * rng.normal(size=40) + 0.2 * rng.normal(size=(12, 1)) + 0.5 * rng.normal(size=(12, 40))
    return seeds_and_prompts_interval(values)


def two_classes(rng: np.random.Generator) -> Interval:
    """Nine tenths with a standard deviation of 1, one tenth with one of 5 and a third of the examples."""
    values = np.concatenate([rng.normal(0, 1, 30), rng.normal(3, 5, 15)])
    return stratified_mean_interval(values, np.repeat([0, 1], [30, 15]), (0.9, 0.1))


def paired(rng: np.random.Generator) -> Interval:
    """Two results of eight seeds, most of whose spread is the seed's."""
    seeds = 10 * rng.normal(size=8)
    return paired_difference_interval(seeds + rng.normal(1, 1, 8), seeds + rng.normal(0, 1, 8))


def rank_correlation(rng: np.random.Generator) -> Interval:
    """Thirty pairs of correlation .6, whose Spearman correlation is (6/pi) asin(.3)."""
    pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=30)
    return spearman_interval(pairs[:, 0], pairs[:, 1])


def difference_of_rank_correlations(rng: np.random.Generator) -> Interval:
    """Two equally good predictors of one outcome, twelve items in each of eight groups."""
    outcome = rng.normal(size=(8, 12))
    predictors = outcome + rng.normal(size=(2, 8, 12))
    return rank_correlation_intervals(predictors, outcome, ((0, 1),), rng, 200)[1][0]


def pass_rates(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """c/16 of prompts whose responses are right with probability p."""
    return rng.binomial(16, p) / 16


KINDS = {
    "mean of eight normal seeds": Kind(lambda rng: mean_interval(rng.normal(2, 3, 8)), 2),
    "mean of four normal seeds": Kind(lambda rng: mean_interval(rng.normal(2, 3, 4)), 2),
    "paired difference": Kind(paired, 1),
    "seeds that share prompts": Kind(shared_prompts, 0, high=1),
    "seeds and prompts": Kind(many_seeds_few_prompts, 0, high=0.97),
    # .025 x 2^8 = 6.4: 1 - 12/256, whatever the tails.
    "sign flips of eight normal seeds": Kind(
        lambda rng: sign_flip_interval(rng.normal(2, 3, 8)), 2, low=1 - 12 / 256, high=1 - 12 / 256
    ),
    "sign flips of eight Cauchy seeds": Kind(
        lambda rng: sign_flip_interval(rng.standard_cauchy(8)), 0, low=1 - 12 / 256, high=1 - 12 / 256
    ),
    # 1 - 2/64.
    "sign flips of six uniform seeds": Kind(
        lambda rng: sign_flip_interval(rng.uniform(-1, 1, 6)), 0, low=1 - 2 / 64, high=1 - 2 / 64
    ),
    "two classes": Kind(two_classes, 0.3),
    "share of responses": Kind(
        lambda rng: share_interval(rng.binomial(16, 0.3, 50) / 16), 0.3, high=1, draws=400
    ),
    "Pass@1 of prompts that are right always or never": Kind(
        lambda rng: share_interval(pass_rates(rng, rng.random(200) < 0.5)), 0.5, high=0.97, draws=400
    ),
    # No prompt of these is drawn with probability .997^200 = .55. Intervals by the variance alone miss then.
    "Pass@1 near 1, three prompts in 1,000 never right": Kind(
        lambda rng: share_interval(pass_rates(rng, np.where(rng.random(200) < 0.003, 0, 0.99))),
        0.997 * 0.99,
        high=1,
        draws=400,
    ),
    "Pass@1 near 1 with a tail": Kind(
        lambda rng: share_interval(pass_rates(rng, rng.beta(2, 0.05, 50))), 2 / 2.05, high=1, draws=400
    ),
    "Pass@1 near 0 with a tail": Kind(
        lambda rng: share_interval(pass_rates(rng, rng.beta(0.05, 5, 100))), 0.05 / 5.05, high=1, draws=400
    ),
    "proportion": Kind(lambda rng: proportion_interval(rng.binomial(20, 0.1), 20), 0.1, high=1),
    "Cov_4 of a normal log ratio": Kind(
        lambda rng: coverage_profile_interval(rng.normal(1, 1, 64), (4,))[0],
        float(stats.norm.sf(math.log(4) - 1)),
        high=1,
    ),
    "AUC of two normal scores": Kind(
        lambda rng: auc_interval(rng.normal(1, 1, 40), rng.normal(0, 1, 30)),
        float(stats.norm.cdf(1 / math.sqrt(2))),
    ),
    # Of skewed numbers no interval is exact; BCa misses by less than the normal interval's 6 % at this size.
    "BCa of exponential numbers": Kind(
        lambda rng: bootstrap_interval(rng.exponential(1, 30), rng, num_resamples=400), 1, low=0.91, draws=400
    ),
    "rank correlation": Kind(rank_correlation, 6 / math.pi * math.asin(0.3), low=0.93, high=0.97),
    "difference of rank correlations": Kind(
        difference_of_rank_correlations, 0, low=0.9, high=0.99, draws=400
    ),
}


def covered(kind: Kind, rng: np.random.Generator) -> float:
    """The share of drawn intervals that contain the truth."""
    intervals = (kind.draw(rng) for _ in range(kind.draws))
    return float(np.mean([interval.low <= kind.truth <= interval.high for interval in intervals]))


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_an_interval_contains_the_truth_as_often_as_it_says(name: str) -> None:
    kind = KINDS[name]
    share = covered(kind, np.random.default_rng(20))
    slack = 4 * math.sqrt(0.95 * 0.05 / kind.draws)
    assert kind.low - slack <= share <= kind.high + slack


def test_an_interval_by_the_variance_fails_where_a_prompt_that_is_never_right_was_not_drawn() -> None:
    """Student's, on the prompts of the interval of shares that holds."""
    kind = Kind(
        lambda rng: mean_interval(pass_rates(rng, np.where(rng.random(200) < 0.003, 0, 0.99))), 0.997 * 0.99
    )
    assert covered(kind, np.random.default_rng(24)) < 0.85


def with_stuck_seeds(rng: np.random.Generator, seeds: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of seeds, 0 where stuck and about 1 elsewhere, and which are stuck."""
    stuck = rng.random(seeds) < share
    return np.where(stuck, 0.0, rng.normal(1, 0.01, seeds)), stuck


@pytest.mark.parametrize(("seeds", "share"), [(4, 0.1), (6, 1 / 6)])
def test_students_interval_fails_where_a_seed_is_stuck(seeds: int, share: float) -> None:
    """No spread shows where none is stuck: with probability .9^4 = .66 and (5/6)^6 = .33."""
    kind = Kind(lambda rng: mean_interval(with_stuck_seeds(rng, seeds, share)[0]), 1 - share)
    assert covered(kind, np.random.default_rng(21)) == pytest.approx(1 - (1 - share) ** seeds, abs=0.08)


@pytest.mark.parametrize(("seeds", "share"), [(6, 1 / 6), (8, 0.1)])
def test_both_intervals_hold_where_stuck_seeds_are_a_share(seeds: int, share: float) -> None:
    """Draws with fewer than two other seeds, of which there is no mean, are left out: one in 1,000."""
    rng = np.random.default_rng(23)
    drawn = [with_stuck_seeds(rng, seeds, share) for _ in range(DRAWS)]
    found = [stuck_seeds_interval(values, stuck) for values, stuck in drawn if stuck.sum() <= seeds - 2]
    assert len(found) >= 0.99 * DRAWS
    slack = 4 * math.sqrt(0.95 * 0.05 / DRAWS)
    others = np.mean([each.others.low <= 1 <= each.others.high for each in found])
    assert abs(others - 0.95) <= slack
    assert np.mean([each.stuck.low <= share <= each.stuck.high for each in found]) >= 0.95 - slack


def test_a_share_of_stuck_seeds_has_an_exact_interval() -> None:
    for truth in (0.02, 0.1, 1 / 6, 0.5):
        counts = np.arange(9)
        inside = [(one := proportion_interval(int(k), 8)).low <= truth <= one.high for k in counts]
        assert stats.binom.pmf(counts, 8, truth)[inside].sum() >= 0.95
