"""Checks of experiments.path_star, with the reason for each target, and notes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, at_least, at_most, between
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


def token_loss(position: int) -> Callable[[ArmScores], Float[np.ndarray, " prompts"]]:
    """-ln pi_hat of the right arm's token at `position` (from 0), given the tokens before, in nats."""
    return lambda scores: -scores.right_tokens[:, position]


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval.

    The reasons for the targets, with d arms and f = `factor`:

    - Forward, the look-up is learned: at least .95 of the responses follow some arm up to its last token but
      one, and every token but the choice costs at most .05 nats.
    - Forward, the choice is not: its loss is ln d within -5 and +10 %, accuracy is 1/d within .05 (a model
      that preferred one arm of every prompt for good reason would be above).
    - Clever Hans's closed form: cross-entropy ln d within -5 and +15 % (the look-up's remainder included),
      Cov at N = d/f at least .95 and at N = d f at most .05, and Pass@N within .05 at every N of the run.
    - Reversed, the task is solved: accuracy at least .95, KL at most .1 nats, Cov at d/f at most .05.
    - Multi-token heads teach the choice no better: its loss is at least .95 ln d, and accuracy at most .05
      above 1/d. They may cost the look-up (seeds 100 and 101), so that neither has another end.
    - An LSTM chooses no better either, by the same two targets: what hides the choice is the loss and not the
      network. Its look-up goes through a state of fixed size, and neither target has another end.

    What teacherless training reaches is reported and not judged: published accounts differ with the size.

    Raises:
        ValueError: with fewer than two seeds.
    """
    chance, nats = 1 / results.arms, math.log(results.arms)
    inside, outside, factor = results.inside, results.outside, short(results.factor)
    forward = functools.partial(interval, results, FORWARD)
    backward = functools.partial(interval, results, REVERSED)
    follows = f"{FORWARD}: mass of responses along an arm, last token left out"
    costliest = f"{FORWARD}: loss of the costliest token but the choice (nats)"
    lookups = [forward(token_loss(t)) for t in looked_up(results, FORWARD)]
    choice = scaled(forward(token_loss(1)), 1 / nats)
    loss = scaled(forward(lambda s: s.log_ratio), 1 / nats)
    accuracy = scaled(forward(lambda s: s.correct), 1, -chance)
    covered, missed = forward(lambda s: s.coverage(inside)), forward(lambda s: s.coverage(outside))
    passes = f"{FORWARD}: Pass@N minus the closed form, where farthest"
    return (
        at_least(follows, forward(lambda s: s.follows), 0.95),
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
            check
            for run in (MULTI_TOKEN, RECURRENT)
            for check in (
                at_least(
                    f"{run}: loss of the choice over ln d",
                    scaled(interval(results, run, token_loss(1)), 1 / nats),
                    0.95,
                ),
                at_most(
                    f"{run}: accuracy minus 1/d",
                    scaled(interval(results, run, lambda s: s.correct), 1, -chance),
                    0.05,
                ),
            )
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

    def reached(label: str, run: str) -> str:
        by_seed = ", ".join(f"{scores.correct.mean():.3f}" for scores in results.runs[run].last)
        return (
            f"{label}: accuracy {shown(run, lambda s: s.correct)}, by seed {by_seed}; KL "
            f"{shown(run, lambda s: s.log_ratio)} nats, against {math.log(results.arms):.4f} for a random "
            f"arm; loss of the choice {shown(run, token_loss(1))} nats."
        )

    written = [
        reached("Teacherless (not judged)", TEACHERLESS),
        reached("Multi-token", MULTI_TOKEN),
        reached("Recurrent", RECURRENT),
        f"Reversed: accuracy {shown(REVERSED, lambda s: s.correct)}; each of its tokens is one look-up, so "
        f"that teacher forcing shows nothing that makes one of them needless.",
        f"Forward, mass of whole arms: {shown(FORWARD, lambda s: s.valid)}. In training the last token is "
        f"always the goal, which the prompt shows: a model that copies it ends a wrong arm in the goal, not "
        f"in that arm's own end, and has the mass 1/d here.",
    ]
    return (*written, *left_out_notes(results.seeds, results.left_out))
