"""Checks of experiments.rl_from_checkpoint, with the reason for each target, and notes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool

from covlab.claims.trained import check_bound
from covlab.report.verdict import Check, above, at_least, at_most, between
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, FOUND, Measurements
from metrics import Interval, mean_interval, name_of_n, paired_difference_interval, proportion_interval

RISE = 0.01
"""Nats by which the cross-entropy of a start may exceed that of an earlier one."""
RIGHT = 0.75
"""Share of runs of which coverage must say rightly whether they find the answer; the law below has .92."""
MISSED = 0.05
"""Probability with which Best-of-N may miss what Cov_M covers, where N >= 2 M ln(1/MISSED)."""

UNDECIDED = 0.1
"""Pass@1 above which a run that has not found the answer counts in the notes as on its way."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, with 95 % intervals; each is asked of the whole interval.

    R is the number of all rollouts up to a budget, rollouts per visit x visits of prompts. What to expect
    (derived, before any run): a model that cannot tell the rules apart has the same mass m on the right
    answer to every prompt, so that a right answer to any prompt teaches all. Before the first right answer
    all rewards are equal and the gradient is exactly 0. So a run is stuck with probability (1 - m)^R, about
    e^-x at x = R m, and else has something to learn from. The largest m that is stuck is, over seeds, an
    exponential variable over R: ln(R m) has mean -.58 and standard deviation 1.28.

    - The starts are covered at one end and not at the other: Cov_R of the first start is at most .1 at the
      least R, and of the last at least .9 at the largest. Otherwise nothing could be predicted.
    - The cross-entropy improves to the end: no start is more than .01 nats worse than an earlier one.
    - N is about R: at the boundary N*, the N at which as many starts are covered as are found, log10(N*/R),
      mean over the budgets, is in [-1, 1]. By the law it is .25 with a standard deviation of .5 over the
      seeds, so the interval of 8 seeds reaches to about .65; rollouts that are spent on growing after the
      first right answer move it down. The other N on offer, the rollouts of one visit, is further away than
      a factor 10.
    - N* grows with the rollouts: log10 N* is higher for the largest budget than for the least.
    - Prediction: Cov_N < 1/2 at N = R is right about at least .75 of all starts and budgets. With starts a
      factor 3 apart, the law has .9 of a start per budget on the wrong side, one in twelve. Always saying
      what is commoner is right about .6.
    - Better than the cross-entropy: in most seeds the concordance of Cov_R with found and stuck is higher.
    - The choice of a start, at the largest budget: in most seeds the start of least cross-entropy is stuck.
      The last start that coverage allows finds: of those of least Cov_M, the one of least cross-entropy. M is
      R / (2 ln 20), because N >= 2 M ln(1/eps) draws of a covered answer miss it with probability eps or less
      (paper, coverage is sufficient for Best-of-N), here eps = .05.
    - The coverage bound by KL holds at every evaluation.

    Found or stuck is one of two, so what is asked of single runs is asked by seed, yes or no: the interval of
    the share of seeds is Clopper and Pearson's, exact for any law. Eight of eight seeds have [.63, 1], which
    is above 1/2; seven have [.47, 1], which is open. Means over the starts of a seed have Student's.

    Raises:
        ValueError: with fewer than two seeds.
    """
    covered, boundaries = results.matched, results.boundaries
    first, last = results.rollouts[0], results.rollouts[-1]
    made = [
        at_most(f"Cov_{first} of the first start", mean_interval(covered[:, 0, 0]), 0.1),
        at_least(f"Cov_{last} of the last start", mean_interval(covered[:, -1, -1]), 0.9),
        at_most("cross-entropy: largest rise above an earlier start, any seed", largest_rise(results), RISE),
    ]
    off = (boundaries - np.log(results.rollouts)).mean(axis=1) / math.log(10)
    name = "log10(N*/R), as many starts covered at N* as found with R rollouts, mean over budgets"
    grown = paired_difference_interval(boundaries[:, -1], boundaries[:, 0])
    scaled = Interval(*(each / math.log(10) for each in (grown.estimate, grown.low, grown.high)))
    predictors = results.predictors()
    better = results.concordance(predictors[COVERAGE]) > results.concordance(predictors[CROSS_ENTROPY])
    return (
        *made,
        *between(name, mean_interval(off), -1, 1),
        above(f"log10 N* of {last} rollouts minus that of {first}", scaled, 0),
        at_least(
            "share of runs of which Cov_N < 1/2 at N = rollouts tells found from stuck",
            mean_interval(results.right(covered < 0.5)),
            RIGHT,
        ),
        above(
            "share of seeds in which Cov_N orders the runs better than the cross-entropy", _of(better), 0.5
        ),
        above(
            f"share of seeds in which the start of least cross-entropy is stuck after {last} rollouts",
            _of(~chosen_found(results, results.least_entropy())),
            0.5,
        ),
        above(
            f"share of seeds in which the last start of least Cov_{name_of_n(enough(last))} finds within "
            f"{last}",
            _of(chosen_found(results, results.least_coverage(enough(last)))),
            0.5,
        ),
        check_bound(results.bound_excess),
    )


def enough(rollouts: int) -> float:
    """The largest M whose covered answers `rollouts` draws miss with a probability of at most `MISSED`,
    rounded down: N >= 2 M ln(1/MISSED)."""
    return float(max(2, math.floor(rollouts / (2 * math.log(1 / MISSED)))))


def largest_rise(results: Measurements) -> float:
    """The largest excess of a start's cross-entropy over the least of the earlier starts, of any seed."""
    entropy = results.cross_entropy
    return float(np.max(entropy - np.minimum.accumulate(entropy, axis=1)))


def chosen_found(results: Measurements, index: np.ndarray) -> Bool[np.ndarray, " seeds"]:
    """By seed, whether the run from a chosen start has found the answer at the largest budget."""
    return results.found[np.arange(len(index)), index, -1]


def _of(seeds: Bool[np.ndarray, " seeds"]) -> Interval:
    return proportion_interval(int(seeds.sum()), seeds.size)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    end, last = results.curves[..., -1], results.rollouts[-1]
    apart, ended = (end > UNDECIDED) & (end < FOUND), end[end >= FOUND]
    written = [
        f"Mass on the answer, mean over the seeds: {results.start[:, 0].mean():.2g} at the first start, "
        f"{results.start[:, -1].mean():.2g} at the last.",
        f"At the end of {end.size} runs {ended.size} have found the answer, with Pass@1 "
        f"{ended.mean() if ended.size else 0:.3f} on average; {int(apart.sum())} are between "
        f"{UNDECIDED:g} and {FOUND:g}; {int((end == results.start).sum())} have not moved at all.",
    ]
    for i, rollouts in enumerate(results.rollouts):
        shares = [each[..., i].mean() for each in (results.found, 1 - results.matched, results.expected())]
        written.append(
            "{} rollouts: {:.3f} of the starts found, {:.3f} covered at this N, {:.3f} expected to draw a "
            "right answer.".format(rollouts, *shares)
        )
    picks = {
        "least cross-entropy": results.least_entropy(),
        f"least Cov_{name_of_n(enough(last))}": results.least_coverage(enough(last)),
    }
    texts = [f"{rule}: {', '.join(str(results.starts[i]) for i in own)}" for rule, own in picks.items()]
    written.append(f"Starts picked, by seed: {'; '.join(texts)}.")
    return tuple(written)
