"""Checks of experiments.forks, with the reason for each target, and notes."""

from __future__ import annotations

import numpy as np

from covlab.claims.trained import check_bound
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, between
from experiments.forks.laws import blind_pass, proportion
from experiments.forks.measure import FIRST, FORKS, Cell, Measurements
from metrics import mean_interval, paired_difference_interval
from metrics.rank_correlation import spearman

MARGIN = 0.01
"""Change of Pass@k and of Pass@1 that counts as none, a tenth of what one decision costs a model that is sure
of the majority's side: it never answers the minority's tenth of the prompts."""
ORDERED = 0.8
"""Rank correlation of four numbers of which two neighbours have changed places."""
PROPORTIONAL = 0.9
"""R^2 of a line through the origin. It is .997 if every decision loses a tenth of what is left, and .43 if
one decision loses as much as three."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; each is asked of the whole 95 % interval over seeds.

    "Lost" is before fine-tuning minus after the last step, because the source compares with the base model.
    The reasons for the targets:

    - Without decision points fine-tuning neither costs nor makes Pass@k or Pass@1, within `MARGIN`.
    - With them Pass@k is lost and Pass@1 is gained, at each number: the source's coverage shrinkage, with
      threshold 0 because it states signs.
    - Each further decision point costs more: the source's tight correlation with their prevalence. The mean
      rank correlation is at least `ORDERED`, and the line through the origin explains `PROPORTIONAL` of the
      spread.
    - Branching is not what costs. With as many branching layers, of which only the first is a decision, less
      is lost. Over all arms the loss is ordered by the decisions' entropy better than by the number of
      branching layers.
    - Coverage principle: Pass@k is lost where Cov_k rises, in the same order over all arms.
    - The coverage bound by KL holds at every evaluation.

    Raises:
        ValueError: with fewer than two seeds.
    """
    k, arms, cells = results.k, results.arms, tuple(results.arms)
    control, *forked = results.of(FORKS)
    made = [
        *between(_of(control, f"Pass@{k} lost"), mean_interval(arms[control].lost), -MARGIN, MARGIN),
        *between(_of(control, "Pass@1 gained"), mean_interval(arms[control].gained), -MARGIN, MARGIN),
    ]
    for before, cell in zip((control, *forked), forked, strict=False):
        more = paired_difference_interval(arms[cell].lost, arms[before].lost)
        made += [
            above(_of(cell, f"Pass@{k} lost"), mean_interval(arms[cell].lost), 0),
            above(_of(cell, "Pass@1 gained"), mean_interval(arms[cell].gained), 0),
            above(_of(cell, f"Pass@{k} lost, minus with {before.decisions}"), more, 0),
        ]
    share = np.array([results.share(cell) for cell in (control, *forked)])
    lost = results.lost((control, *forked))
    ordered = mean_interval(spearman(lost, np.broadcast_to(share, lost.shape)))
    explained = mean_interval(proportion(share, lost)[1])
    made += [
        at_least(f"rank correlation of Pass@{k} lost with the share of decision points", ordered, ORDERED),
        at_least(f"R^2 of Pass@{k} lost in proportion to that share", explained, PROPORTIONAL),
    ]
    for cell in results.of(FIRST):
        less = paired_difference_interval(arms[Cell(FORKS, cell.branching)].lost, arms[cell].lost)
        made.append(
            above(f"{cell.branching} branching layers: Pass@{k} lost, all minus first deciding", less, 0)
        )
    everywhere = results.lost(cells)
    by_entropy, by_layers = (
        spearman(everywhere, np.broadcast_to(np.array(values, float), everywhere.shape))
        for values in ([results.entropy(cell) for cell in cells], [cell.branching for cell in cells])
    )
    by_coverage = mean_interval(spearman(everywhere, results.uncovered(cells)))
    return (
        *made,
        above(
            f"rank correlation of Pass@{k} lost with the decisions' entropy minus with branching layers",
            paired_difference_interval(by_entropy, by_layers),
            0,
        ),
        at_least(f"rank correlation of Pass@{k} lost with the rise of Cov_{k}", by_coverage, ORDERED),
        check_bound(results.bound_excess),
    )


def _of(cell: Cell, what: str) -> str:
    return f"{cell.decisions} decision{'' if cell.decisions == 1 else 's'}: {what}"


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    k, data = results.k, "fresh examples"
    if results.epochs is not None:
        data = f"{results.epochs:g} epochs of a fixed set of each seed's own"
    cells = results.of(FORKS)
    slope = proportion(np.array([results.share(cell) for cell in cells]), results.lost(cells))[0]
    written = [
        f"Fine-tuning: {data}. A response has {results.response_length} tokens.",
        f"Pass@{k} lost per share of decision points: {interval_text(mean_interval(slope), '.3f')}, the "
        f"slope of the line through the origin.",
    ]
    for cell, arm in results.arms.items():
        before = blind_pass(cell.branching, 0.5, results.minority, k)
        after = blind_pass(cell.decisions, 1 - results.minority, results.minority, k)
        excess = mean_interval(arm.kl[:, -1] - results.entropy(cell))
        written.append(
            f"{cell.run}: Pass@1 {arm.pass_1[:, 0].mean():.3f} -> {arm.pass_1[:, -1].mean():.3f}, Pass@{k} "
            f"{arm.pass_k[:, 0].mean():.3f} -> {arm.pass_k[:, -1].mean():.3f} (closed form of uniform paths "
            f"{before:.3f}, of a calibrated model {after:.3f}), from its best evaluation "
            f"{arm.lost_from_best.mean():.3f} lost; KL at the end above the decisions' entropy by "
            f"{interval_text(excess, '.3f')} nats."
        )
    return tuple(written)
