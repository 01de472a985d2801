"""Checks of experiments.tail_sft, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np

from covlab.claims.trained import check_bound
from covlab.report.tables import change_text, interval_text
from covlab.report.verdict import Check, above, at_most
from experiments.tail_sft.measure import BASE, DESTROYED, KEPT, STOPPED, Measurements
from metrics import mean_interval, paired_difference_interval
from metrics.rank_correlation import spearman

NO_HELP = 0.01
"""Pass@k by which TailSFT may be better where plain fine-tuning destroys no coverage."""
SEEN = 0.03
"""Pass@1 above the likeliest class's probability from which on a model tells the classes apart, as in
`rl_pass_at_k`."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; each is asked of the whole 95 % interval over seeds.

    The reasons for the targets:

    - The set-ups are those that the source tells apart: plain fine-tuning loses more coverage than it gains
      in one (rho_k > 1), and not in the other (rho_k <= 1). Compared is the difference, which is finite where
      nothing was gained.
    - Coverage destroyed: Pass@k after TailSFT is higher than after plain fine-tuning at equal steps, for each
      fraction and schedule. Threshold 0, because the source states a sign.
    - Coverage kept: TailSFT does not help, up to a hundredth of Pass@k, a tenth of the order of the source's
      gains (up to .17).
    - If TailSFT were no more than training less, plain fine-tuning that stops where its KL is that of TailSFT
      would have the same Pass@k. TailSFT's is higher.
    - The coverage bound by KL holds at every evaluation.

    Pass@1 right after fine-tuning may be lower (the source), so no check is on it.

    Reinforcement learning, with equal prompts and rollouts from every start. It is judged for the arms of
    TailSFT from which it starts:

    - Coverage destroyed: Pass@1 and Pass@k after it are higher than after plain fine-tuning and reinforcement
      learning. The source states the sign for Pass@1 (GRPO, up to +.04), and that coverage is what is gained.
    - If TailSFT were no more than training less, plain fine-tuning that stops at its KL would do as well
      before reinforcement learning. Pass@1 after reinforcement learning from TailSFT is higher.
    - Fine-tuning is worth having: Pass@1 after it is higher than after reinforcement learning from the base
      (disputed, see docs/after_the_principle.md).
    - Coverage kept: Pass@1 after it is no more than `NO_HELP` higher than after plain fine-tuning and
      reinforcement learning.
    - The models cannot tell the classes apart: Pass@1 after it is at most `SEEN` above the likeliest class's
      probability, of all starts. Otherwise more would be learned than the rules.

    Raises:
        ValueError: with fewer than two seeds.
    """
    plain, k = results.plain, results.k
    nets = {
        set_up: mean_interval(results.arms[set_up][plain].lost - results.arms[set_up][plain].gained)
        for set_up in (DESTROYED, KEPT)
    }
    what = f"coverage lost minus gained by {plain}"
    judged = [
        above(f"{DESTROYED}: {what} (rho_{k} > 1)", nets[DESTROYED], 0),
        at_most(f"{KEPT}: {what} (rho_{k} <= 1)", nets[KEPT], 0),
    ]
    for name in results.tails:
        own = results.last(DESTROYED, name)
        gain = paired_difference_interval(own, results.last(DESTROYED, plain))
        over = paired_difference_interval(own, results.stopped(DESTROYED, name, "KL"))
        other = paired_difference_interval(results.last(KEPT, name), results.last(KEPT, plain))
        judged += [
            above(f"{DESTROYED}: Pass@{k} at the end: {name} minus {plain}", gain, 0),
            above(f"{DESTROYED}: Pass@{k}: {name} minus {plain} stopped at equal KL", over, 0),
            at_most(f"{KEPT}: Pass@{k} at the end: {name} minus {plain}", other, NO_HELP),
        ]
    return (*judged, *_rl_checks(results), check_bound(results.bound_excess))


def _rl_checks(results: Measurements) -> list[Check]:
    """Checks of reinforcement learning, see `checks`."""
    plain, k, starts = results.plain, results.k, results.after[DESTROYED]
    judged = []
    for name in results.tails:
        stopped = f"{STOPPED}{name}"
        others = {
            plain: f"{plain} then RL",
            stopped: f"{plain} stopped at equal KL then RL",
            BASE: "RL from the base",
        }
        for other, text in others.items():
            if name in starts and other in starts:
                gain = mean_interval(results.gain_after(DESTROYED, name, other))
                judged.append(above(f"{DESTROYED}: Pass@1: {name} then RL minus {text}", gain, 0))
        if name in starts:
            gain = mean_interval(results.gain_after(DESTROYED, name, plain, k))
            judged.append(above(f"{DESTROYED}: Pass@{k}: {name} then RL minus {plain} then RL", gain, 0))
        if name in results.after[KEPT]:
            gain = mean_interval(results.gain_after(KEPT, name, plain))
            judged.append(at_most(f"{KEPT}: Pass@1: {name} then RL minus {plain} then RL", gain, NO_HELP))
    seen = max((arm.pass_1[:, -1] - results.best[DESTROYED] for arm in starts.values()), key=np.mean)
    what = "Pass@1 after RL minus the best without telling classes apart, best start"
    return [*judged, at_most(f"{DESTROYED}: {what}", mean_interval(seen), SEEN)]


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    plain, k = results.plain, results.k
    written = []
    for set_up in (DESTROYED, KEPT):
        arm, epochs = results.arms[set_up][plain], results.epochs[set_up]
        data = "fresh prompts" if epochs is None else f"{epochs:g} epochs of a fixed set of each seed's own"
        curves = {"Pass@1": arm.pass_1, f"Pass@{k}": arm.pass_k, "KL (nats)": arm.kl}
        changes = ", ".join(
            f"{title} {values[:, 0].mean():.3f} -> {values[:, -1].mean():.3f}"
            for title, values in curves.items()
        )
        written.append(
            f"{set_up}: {data}. {plain}: {changes}; rho_{k} {arm.ratio:.3g} over all seeds, from the "
            f"{arm.undecided.mean():.0%} of the prompts that are undecided at the start."
        )
        for name in results.tails:
            one = paired_difference_interval(results.arms[set_up][name].pass_1[:, -1], arm.pass_1[:, -1])
            same = paired_difference_interval(
                results.last(set_up, name), results.stopped(set_up, name, "Pass@1")
            )
            written.append(
                f"{set_up}: {name} minus {plain}: Pass@1 at the end {interval_text(one, '+.3f')}; Pass@{k} "
                f"against {plain} stopped at equal Pass@1 {interval_text(same, '+.3f')}."
            )
    for set_up, starts in results.after.items():
        moves = "; ".join(
            f"{name}: Pass@1 {change_text(arm.pass_1)}, Pass@{k} {change_text(arm.pass_k)}"
            for name, arm in starts.items()
        )
        written.append(f"{set_up}, reinforcement learning from {moves}.")
    return (*written, _ranks(results))


def _ranks(results: Measurements) -> str:
    """Rank correlation, over the starts of a seed, of Pass@1 after reinforcement learning with what was
    known before it."""
    starts = results.after[DESTROYED].values()
    end = np.stack([arm.pass_1[:, -1] for arm in starts], axis=1)
    predictors = {
        "Pass@1": np.stack([arm.pass_1[:, 0] for arm in starts], axis=1),
        f"Pass@{results.k}": np.stack([arm.pass_k[:, 0] for arm in starts], axis=1),
        "KL": -np.stack([arm.kl[:, 0] for arm in starts], axis=1),
    }
    ranks = ", ".join(
        f"{name} {interval_text(mean_interval(spearman(values, end)), '+.2f')}"
        for name, values in predictors.items()
    )
    return f"{DESTROYED}: rank correlation over the starts with Pass@1 after reinforcement learning: {ranks}."
