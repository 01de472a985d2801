"""Checks of experiments.path_star, with the reason for each target, and notes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most, between
from experiments.path_star.measure import (
    FORWARD,
    MULTI_TOKEN,
    RECURRENT,
    REVERSED,
    TEACHERLESS,
    ArmScores,
    Measurements,
    clever_hans,
)
from metrics import Interval, interval_over_shared_prompts, mean_interval, proportion_interval

HALF = 0.5
"""The share of seeds that a check on seeds is judged by."""
ALONG = 0.95
"""A seed follows edges on all arms if its mean mass along an arm is at least this."""
LEAST_LOSS, MOST_GAIN = 0.95, 0.05
"""A seed chooses no better than a random arm: loss of the choice over ln d, accuracy minus 1/d."""


def interval(results: Measurements, run: str, of: Callable[[ArmScores], np.ndarray]) -> Interval:
    """Mean over prompts and seeds of a quantity of each prompt at the last checkpoint, with a 95 % interval.

    `interval_over_shared_prompts` of the seeds' own intervals, which are exact (Clopper-Pearson) for
    quantities that are true or false. Proportions are cut to [0, 1].
    """
    values = [np.asarray(of(scores)) for scores in results.runs[run].last]
    if not all(np.isfinite(value).all() for value in values):
        return Interval(math.nan, math.nan, math.nan)
    shares = values[0].dtype == np.bool_
    over_prompts = [
        proportion_interval(int(value.sum()), value.size) if shares else mean_interval(value.astype(float))
        for value in values
    ]
    found = interval_over_shared_prompts(over_prompts)
    return Interval(found.estimate, max(found.low, 0.0), min(found.high, 1.0)) if shares else found


def scaled(value: Interval, scale: float, shift: float = 0.0) -> Interval:
    """scale x interval + shift, for a positive scale."""
    return Interval(*(scale * number + shift for number in (value.estimate, value.low, value.high)))


def share_of_seeds(results: Measurements, run: str, of: Callable[[ArmScores], bool]) -> Interval:
    """Share of the run's seeds of which `of` is true, with its exact 95 % interval (Clopper and Pearson)."""
    which = [bool(of(scores)) for scores in results.runs[run].last]
    return proportion_interval(sum(which), len(which))


def follows_edges(scores: ArmScores) -> bool:
    """True if the mean mass along an arm, last token left out, is at least `ALONG`; not if it is NaN."""
    return bool(scores.follows.mean() >= ALONG)


def no_better(results: Measurements) -> Callable[[ArmScores], bool]:
    """True if a seed chooses no better than a random arm, in loss and in accuracy; not if the loss is NaN."""
    least, most = LEAST_LOSS * math.log(results.arms), 1 / results.arms + MOST_GAIN
    return lambda scores: bool(scores.loss[1] >= least and scores.correct.mean() <= most)


def token_loss(position: int) -> Callable[[ArmScores], Float[np.ndarray, " prompts"]]:
    """-ln pi_hat of the right arm's token at `position` (from 0), given the tokens before, in nats."""
    return lambda scores: -scores.right_tokens[:, position]


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval.

    The reasons for the targets, with d arms and f = `factor`:

    - Forward, the look-up is learned: every token but the choice costs at most .05 nats.
    - Forward, it is learned as an edge to follow: on more than half of the seeds at least .95 of the
      responses follow some arm up to its last token but one. Training shows right arms alone, where every
      token has a second derivation, back from the goal; the two differ on wrong arms. No training loss tells
      them apart, so that the mass has two modes over seeds, near 1 and near 1/d. A mean with Student's
      interval describes neither. So the share of seeds is judged, as in experiments.state_tracking. Its lower
      end exceeds 1/2 at ten of twelve seeds and more.
    - Forward, the choice is not: its loss is ln d within -5 and +10 %, accuracy is 1/d within .05 (a model
      that preferred one arm of every prompt for good reason would be above).
    - Clever Hans's closed form: cross-entropy ln d within -5 and +15 % (the look-up's remainder included),
      Cov at N = d/f at least .95 and at N = d f at most .05, and Pass@N within .05 at every N of the run.
    - Reversed, the task is solved: accuracy at least .95, KL at most .1 nats, Cov at d/f at most .05.
    - Multi-token heads teach the choice no better: on more than half of the seeds its loss is at least .95
      ln d and accuracy at most .05 above 1/d. Neither has another end, because heads may cost the look-up: a
      seed without it is far worse than a random arm (seeds 100 and 101), and would widen an interval of the
      mean until better than a random arm were not excluded. So the share of seeds is judged here too.
    - An LSTM chooses no better either, by the same rule. Its look-up goes through a state of fixed size, and
      it too may fail it. The loss of its costliest other token is in the notes: only if that is small does
      the check say that the loss hides the choice from another network too.

    What teacherless training reaches is reported and not judged: published accounts differ with the size.

    Raises:
        ValueError: with fewer than two seeds.
    """
    chance, nats = 1 / results.arms, math.log(results.arms)
    inside, outside, factor = results.inside, results.outside, short(results.factor)
    forward = functools.partial(interval, results, FORWARD)
    backward = functools.partial(interval, results, REVERSED)
    follows = f"{FORWARD}: share of seeds with mass >= {ALONG:g} along an arm, last token left out"
    costliest = f"{FORWARD}: loss of the costliest token but the choice (nats)"
    lookups = [forward(token_loss(t)) for t in looked_up(results, FORWARD)]
    choice = scaled(forward(token_loss(1)), 1 / nats)
    loss = scaled(forward(lambda s: s.log_ratio), 1 / nats)
    accuracy = scaled(forward(lambda s: s.correct), 1, -chance)
    covered, missed = forward(lambda s: s.coverage(inside)), forward(lambda s: s.coverage(outside))
    passes = f"{FORWARD}: Pass@N minus the closed form, where farthest"
    return (
        above(follows, share_of_seeds(results, FORWARD, follows_edges), HALF),
        at_most(costliest, max(lookups, key=lambda each: each.high), 0.05),
        *between(f"{FORWARD}: loss of the choice over ln d", choice, 0.95, 1.1),
        *between(f"{FORWARD}: accuracy minus 1/d", accuracy, -0.05, 0.05),
        *between(f"{FORWARD}: cross-entropy over ln d", loss, 0.95, 1.15),
        at_least(f"{FORWARD}: Cov_{short(inside)}, at N = d/{factor}", covered, 0.95),
        at_most(f"{FORWARD}: Cov_{short(outside)}, at N = {factor} d", missed, 0.05),
        *between(passes, worst_pass(results), -0.05, 0.05),
        at_least(f"{REVERSED}: accuracy", backward(lambda s: s.correct), 0.95),
        at_most(f"{REVERSED}: KL (nats)", backward(lambda s: s.log_ratio), 0.1),
        at_most(f"{REVERSED}: Cov_{short(inside)}", backward(lambda s: s.coverage(inside)), 0.05),
        *(
            above(
                f"{run}: share of seeds that choose no better than a random arm",
                share_of_seeds(results, run, no_better(results)),
                HALF,
            )
            for run in (MULTI_TOKEN, RECURRENT)
        ),
        check_bound(max(run.bound_excess for run in results.runs.values())),
    )


def short(n: float) -> str:
    """N with three digits: d/factor is seldom round."""
    return f"{n:.3g}"


def looked_up(results: Measurements, run: str) -> list[int]:
    """Positions of the tokens other than the choice: all but the second, written from the start."""
    length = results.runs[run].loss.shape[-1]
    return [t for t in range(length) if run == REVERSED or t != 1]


def pass_deviations(results: Measurements, run: str = FORWARD) -> dict[int, Interval]:
    """N -> Pass@N minus Clever Hans's."""
    closed = clever_hans(results.arms, (1,), results.pass_ns).passes
    return {
        n: scaled(interval(results, run, lambda s, n=n: s.passes((n,))[:, 0]), 1, -closed[n])  # type: ignore[misc]
        for n in results.pass_ns
    }


def worst_pass(results: Measurements) -> Interval:
    """The deviation that reaches farthest from 0."""
    return max(pass_deviations(results).values(), key=lambda each: max(abs(each.low), abs(each.high)))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""

    def shown(run: str, of: Callable[[ArmScores], np.ndarray]) -> str:
        return interval_text(interval(results, run, of), ".4f")

    def by_seed(values: Iterable[float]) -> str:
        return ", ".join(f"{value:.3f}" for value in values)

    def reached(label: str, run: str) -> str:
        last = results.runs[run].last
        other = max(interval(results, run, token_loss(t)).estimate for t in looked_up(results, run))
        return (
            f"{label}: accuracy {shown(run, lambda s: s.correct)}, by seed "
            f"{by_seed(scores.correct.mean() for scores in last)}; KL "
            f"{shown(run, lambda s: s.log_ratio)} nats, against {math.log(results.arms):.4f} for a random "
            f"arm; loss of the choice {shown(run, token_loss(1))} nats, by seed "
            f"{by_seed(scores.loss[1] for scores in last)}, of the costliest other token {other:.4f} nats."
        )

    last = results.runs[FORWARD].last
    following = [float(scores.follows.mean()) for scores in last if follows_edges(scores)]
    mean = f"{np.mean(following):.3f}" if following else "none"
    written = [
        reached("Teacherless (not judged)", TEACHERLESS),
        reached("Multi-token", MULTI_TOKEN),
        reached("Recurrent", RECURRENT),
        f"Reversed: accuracy {shown(REVERSED, lambda s: s.correct)}; each of its tokens is one look-up, so "
        f"that teacher forcing shows nothing that makes one of them needless.",
        f"Forward, mass along an arm without its last token, by seed "
        f"{by_seed(scores.follows.mean() for scores in last)}; mean of the {len(following)} with at least "
        f"{ALONG:g}: {mean}. Mass of the right arm's third token after a wrong arm's second, by seed "
        f"{by_seed(scores.crosses.mean() for scores in last)}.",
        f"Forward, mass of whole arms: {shown(FORWARD, lambda s: s.valid)}. In training the last token is "
        f"always the goal, which the prompt shows: a model that copies it ends a wrong arm in the goal, not "
        f"in that arm's own end, and has the mass 1/d here.",
    ]
    return (*written, *left_out_notes(results.seeds, results.left_out))
