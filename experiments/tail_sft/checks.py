"""Checks of experiments.tail_sft, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np

from covlab.claims.trained import check_bound
from covlab.report.tables import change_text, interval_text
from covlab.report.verdict import Check, above, at_most, between
from experiments.tail_sft.measure import BASE, DESTROYED, KEPT, STOPPED, Measurements, When
from metrics import Interval, mean_interval, paired_difference_interval
from metrics.rank_correlation import spearman

HELP = 0.01
"""Smallest difference of Pass@1 or Pass@k that counts as help. Less is none where plain fine-tuning destroys
no coverage, and does not tell TailSFT from training less. A seventeenth of the source's largest gain of
Pass@k (.17), a quarter of that of Pass@1 after reinforcement learning (.04)."""
PAYS = 0.02
"""Pass@1 after the last batch of reinforcement learning within which two starts count as equal: half of the
source's largest gain (.04)."""
SEEN = 0.03
"""Pass@1 above the likeliest class's probability from which on a model tells the classes apart, as in
`rl_pass_at_k`."""
_TIMES: dict[When, str] = {"batches": "over the batches", "end": "at the end"}


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
      would have the same Pass@k. TailSFT's is higher by more than `HELP`: the sign of a smaller difference is
      worth nothing, and an interval below `HELP` refutes.
    - The coverage bound by KL holds at every evaluation.

    Pass@1 right after fine-tuning may be lower (the source), so no check is on it.

    Reinforcement learning, with equal prompts and rollouts from every start. It goes on until Pass@1 hardly
    changes. TailSFT is the mean over those of its arms from which it starts, because the spread between runs
    of reinforcement learning is larger than that between the arms.

    - Coverage destroyed: Pass@1 and Pass@k are higher than from plain fine-tuning, in the mean over the
      batches. Thresholds 0: the source states the sign for Pass@1 after a fixed budget (GRPO, up to +.04),
      and that coverage is what is gained. The mean over the batches is that over all budgets up to the last.
    - If TailSFT were no more than training less, plain fine-tuning of its KL would do as well before
      reinforcement learning. From TailSFT Pass@1 is higher in the mean over the batches, by more than `HELP`.
    - Derived: a model that cannot tell the classes apart earns at most the likeliest class's probability,
      and reinforcement learning ends there from every start that it can leave. So after the last batch
      Pass@1 from TailSFT is within `PAYS` of that from plain fine-tuning, and at most `PAYS` above that from
      the base. What fine-tuning gave up or won is gone.
    - Fine-tuning is worth having while reinforcement learning is short: at the first evaluation after the
      start Pass@1 is higher than from the base (disputed, see docs/after_the_principle.md).
    - Coverage kept: Pass@1 is no more than `HELP` higher than from plain fine-tuning, in the mean over the
      batches.
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
            above(f"{DESTROYED}: Pass@{k}: {name} minus {plain} stopped at equal KL", over, HELP),
            at_most(f"{KEPT}: Pass@{k} at the end: {name} minus {plain}", other, HELP),
        ]
    return (*judged, *_rl_checks(results), check_bound(results.bound_excess))


def _rl_checks(results: Measurements) -> list[Check]:
    """Checks of reinforcement learning, see `checks`."""
    plain, k, starts = results.plain, results.k, results.after[DESTROYED]
    judged = []
    if results.compared(DESTROYED):

        def gain(other: str | None, when: When, of: int = 1) -> Interval:
            return mean_interval(results.mean_gain(DESTROYED, other, of, when))

        over, end = f"{DESTROYED}: Pass@{{}} over the batches of RL", f"{DESTROYED}: Pass@1 after RL"
        judged += [
            above(f"{over.format(1)}: TailSFT minus {plain}", gain(plain, "batches"), 0),
            above(f"{over.format(k)}: TailSFT minus {plain}", gain(plain, "batches", k), 0),
            *between(f"{end}: TailSFT minus {plain}", gain(plain, "end"), -PAYS, PAYS),
        ]
        if any(start.startswith(STOPPED) for start in starts):
            own = gain(None, "batches")
            judged.append(above(f"{over.format(1)}: TailSFT minus {plain} of equal KL", own, HELP))
        if BASE in starts:
            short = f"{DESTROYED}: Pass@1 after {starts[BASE].steps[1]} batches of RL"
            judged += [
                above(f"{short}: TailSFT minus {BASE}", gain(BASE, "short"), 0),
                at_most(f"{end}: TailSFT minus {BASE}", gain(BASE, "end"), PAYS),
            ]
    if results.compared(KEPT):
        kept = mean_interval(results.mean_gain(KEPT, plain, when="batches"))
        judged.append(at_most(f"{KEPT}: Pass@1 over the batches of RL: TailSFT minus {plain}", kept, HELP))
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
        least, chosen = arm.kl.argmin(axis=1), results.tournament[set_up]
        written.append(
            f"{set_up}: {plain} stopped at the least KL is the base in {np.count_nonzero(least == 0)} of "
            f"{least.size} seeds, stopped at the tournament's choice in {np.count_nonzero(chosen == 0)} of "
            f"{chosen.size}."
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
        written += [_gains(results, set_up, name) for name in starts if name != plain]
    return (*written, _ranks(results))


def _gains(results: Measurements, set_up: str, name: str) -> str:
    """Reinforcement learning from one start minus that from plain fine-tuning, over the batches and at the
    end."""
    plain, k = results.plain, results.k
    kinds = {
        plain: {
            when: [results.gain_after(set_up, name, plain, each, when) for each in (1, k)] for when in _TIMES
        }
    }
    if set_up == DESTROYED and name in results.compared(set_up):
        kinds[f"{plain} of equal KL"] = {
            when: [results.gain_at_equal_kl(name, each, when) for each in (1, k)] for when in _TIMES
        }
    texts = [
        f"minus {other}, {_TIMES[when]}, Pass@1 {interval_text(mean_interval(one), '+.3f')}, Pass@{k} "
        f"{interval_text(mean_interval(many), '+.3f')}"
        for other, by_time in kinds.items()
        for when, (one, many) in by_time.items()
    ]
    return f"{set_up}: {name} then RL {'; '.join(texts)}."


def _ranks(results: Measurements) -> str:
    """Rank correlation, over the starts of a seed, of Pass@1 over the batches of reinforcement learning with
    what was known before it."""
    starts = results.after[DESTROYED]
    over = np.stack([results.read(DESTROYED, name, 1, "batches") for name in starts], axis=1)
    predictors = {
        "Pass@1": np.stack([arm.pass_1[:, 0] for arm in starts.values()], axis=1),
        f"Pass@{results.k}": np.stack([arm.pass_k[:, 0] for arm in starts.values()], axis=1),
        "KL": -np.stack([arm.kl[:, 0] for arm in starts.values()], axis=1),
    }
    ranks = ", ".join(
        f"{name} {interval_text(mean_interval(spearman(values, over)), '+.2f')}"
        for name, values in predictors.items()
    )
    return (
        f"{DESTROYED}: rank correlation over the starts with Pass@1 over the batches of reinforcement "
        f"learning: {ranks}."
    )
