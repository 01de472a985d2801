"""Checks of experiments.rl_from_checkpoint, with the reason for each target, and notes."""

from __future__ import annotations

from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_most, check_interval
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Measurements
from metrics import mean_interval, name_of_n, paired_difference_interval


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, the same for each kind of prompts.

    - The coverage of the start orders the rewards reached: a lower Cov_N (which is better) goes with a higher
      reward, so the mean rank correlation of the two, Cov_N's sign turned, is above 0.
    - It does so better than the cross-entropy: the difference of the two is above 0.
    - The tournament's start loses at most .02 of the best start's reward, and
    - no more than the start of least cross-entropy.

    The first two with the whole 95 % interval of a bootstrap over seeds and starts that is paired between
    predictors; the last two with Student's over the seeds, on the mean and on the whole interval.

    What to expect of a model that cannot see the class, with mass p on the majority's path (derived, before
    any run): policy gradients move p by an equation of one dimension, which keeps the order of the starts.
    On prompts as in training the reward is .9 p + .1 (1 - p): it is higher the larger p, and so is, up to
    p = .9, the start's likelihood. The cross-entropy then orders the starts without an error, and coverage at
    N = 4, which degrades once the minority's path has less than 1/4, orders them wrongly. On the minority's
    prompts the reward is 1 - p: everything is the other way round.

    Raises:
        ValueError: with fewer than two seeds.
    """
    made: list[Check] = []
    for prompts in results.outcomes:
        correlations, difference = results.correlations(prompts)
        name = f"Cov_{name_of_n(results.coverage_n)}"
        tournament, least = (results.regret(rule, prompts) for rule in (TOURNAMENT, CROSS_ENTROPY))
        ranks = f"{prompts}: rank correlation of a lower {name} at the start with a higher reward reached"
        loss = f"{prompts}: reward lost by the tournament's start against the best"
        over = paired_difference_interval(tournament, least)
        made += [
            above(ranks, correlations[COVERAGE], 0.0),
            above(f"{prompts}: the same minus that of the cross-entropy", difference, 0.0),
            check_interval(loss, mean_interval(tournament), "<=", 0.02),
            at_most(f"{prompts}: the same minus that of the least cross-entropy", over, 0.0),
        ]
    return tuple(made)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    written = []
    for prompts, outcome in results.outcomes.items():
        correlations, _ = results.correlations(prompts)
        shown = ", ".join(
            f"{name} {interval_text(correlation, '+.2f')}" for name, correlation in correlations.items()
        )
        means = outcome.reward.mean(axis=0)
        best = results.starts[int(means.argmax())]
        written.append(
            f"{prompts}: rank correlation of a lower predictor with a higher reward reached: {shown}."
        )
        written.append(
            f"{prompts}: reward {outcome.curves[1][:, :, 0].mean():.3f} at the start and {means.mean():.3f} "
            f"at the end on average over starts; best start: step {best} ({means.max():.3f}), worst: "
            f"{means.min():.3f}; Pass@8 at the end {outcome.curves[8][:, :, -1].mean():.3f}."
        )
    picks = "; ".join(
        f"{rule}: {', '.join(str(results.starts[i]) for i in index)}"
        for rule, index in results.chosen.items()
    )
    written.append(f"Starts picked, by seed: {picks}.")
    return tuple(written)
