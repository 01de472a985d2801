"""Checks of experiments.tail_sft, with the reason for each target, and notes."""

from __future__ import annotations

from covlab.claims.trained import check_bound
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_most
from experiments.tail_sft.measure import DESTROYED, KEPT, Measurements
from metrics import mean_interval, paired_difference_interval

NO_HELP = 0.01
"""Pass@k by which TailSFT may be better where plain fine-tuning destroys no coverage."""


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
    return (*judged, check_bound(results.bound_excess))


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
    return tuple(written)
