"""Checks of experiments.architectures, and notes."""

from __future__ import annotations

import numpy as np

from covlab.claims.shortcut import RISE_NS, FineTuning, turn
from covlab.claims.trained import check_bound
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most
from experiments.architectures.measure import Measurements
from metrics import Interval, mean_interval, name_of_n


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks, each of every model, with 95 % Student intervals over the seeds.

    The claim is that the shortcut does not depend on the architecture, so each model has to meet every one.
    The reasons for the targets, which are those of Figure 1 where that has the same check:

    - KL never rises by more than .02, and falls by .3; the class-blind closed form falls by .55, from the
      ideal start to the least KL.
    - The shortcut uncovers the minority: Cov_4, Cov_4.6 and Cov_5.7 rise from the turning point that
      `covlab.claims.shortcut.turn` chooses on other seeds and prompts. From Cov_4's turning point to the end
      the KL falls: this is the divergence.
    - Best-of-N pays for it: Pass@8 of the tournament's choice exceeds that of the least KL.
    - It is a shortcut, not a rule that was learned: the AUC of the log-odds lies within [.45, .55].
    - The coverage bound by KL holds at every evaluation.

    Raises:
        ValueError: with fewer than two seeds, which have no interval.
    """
    made: list[Check] = []
    for name, run in results.runs.items():
        blind = f"{name}: class-blindness: AUC of the log-odds between the rules"
        kl, gain = run.kl, run.gain(8)
        made += [
            at_most(
                f"{name}: KL: largest rise above its running minimum, worst seed (nats)",
                run.largest_rise,
                0.02,
            ),
            at_least(f"{name}: KL: fall from start to end (nats)", mean_interval(kl[:, 0] - kl[:, -1]), 0.3),
            *(
                above(
                    f"{name}: Cov_{name_of_n(n)}: rise from turning point to end",
                    mean_interval(turn(run.halves[n]).rise),
                    0,
                )
                for n in RISE_NS
            ),
            above(f"{name}: KL: fall from Cov_4's turning point to the end (nats)", later_fall(run), 0),
            above(f"{name}: Pass@8: tournament's choice over min-KL's", gain, 0),
            at_least(f"{blind}, from below", run.auc, 0.45),
            at_most(f"{name}: class-blindness: the same AUC, from above", run.auc, 0.55),
        ]
    return (*made, check_bound(max(run.bound_excess for run in results.runs.values())))


def later_fall(run: FineTuning) -> Interval:
    """KL at Cov_4's turning point minus KL at the end, the mean over both halves' turning points."""
    place = turn(run.halves[4.0]).place
    return mean_interval((np.take_along_axis(run.kl, place.T, axis=1) - run.kl[:, -1:]).mean(axis=1))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    made = []
    for name, run in results.runs.items():
        found, steps = turn(run.halves[4.0]), np.asarray(run.matrices.steps)
        chosen = steps[found.place]
        made.append(
            f"{name}: Cov_4 turns at steps {chosen.min()} to {chosen.max()}, median {np.median(chosen):g}, "
            f"and falls before by {interval_text(mean_interval(found.fall), '.4f')} (not judged). Pass@8 of "
            f"the min-KL checkpoint is {interval_text(mean_interval(run.lowest_passes), '.4f')}, the least "
            f"KL {interval_text(mean_interval(run.kl.min(axis=1)), '.4f')} nats."
        )
        if diverged := run.matrices.diverged:
            made.append(f"{name}: seeds {', '.join(map(str, diverged))} diverged and are left out.")
    return tuple(made)
