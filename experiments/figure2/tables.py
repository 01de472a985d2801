"""The tables of Figure 2's report."""

from __future__ import annotations

from typing import Any

import numpy as np

from covlab.claims.old_claim import interval_over_shared_prompts
from covlab.report.page import format_interval
from experiments.figure2.branching import XOR
from experiments.figure2.checks import GUESSES, READS, over_seeds
from experiments.figure2.measure import Measurements
from metrics import name_of_n

Table = tuple[str, list[str], list[list[Any]]]


def tables(found: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [
        _converged(found),
        _coverage(found),
        _classes(found),
        _layers(found),
        _leak(found),
    ]


def _converged(found: Measurements) -> Table:
    n = name_of_n(found.n)
    columns = zip(
        found.horizons,
        found.converged_kl().T,
        found.converged_cov().T,
        found.converged_ratio().T,
        strict=True,
    )
    rows = []
    for each, kl, cov, ratio in columns:
        row: list[Any] = [each.depth]
        for values in (kl, cov, ratio):
            interval = over_seeds(values)
            row += [float(np.median(values)), format_interval((interval.low, interval.high))]
        guesses, reads = each.closed[GUESSES], each.closed[READS]
        rows.append([*row, guesses.kl, guesses.cov[found.n], reads.kl, reads.cov[found.n]])
    return (
        f"Converged values: median over the seeds and 95 % interval of the mean, beside the closed forms of "
        f"a model that makes {GUESSES} and of one that {READS} after the first branching layer.",
        [
            *("H", "KL", "interval", f"Cov_{n}", "interval", f"KL / Cov_{n}", "interval"),
            *("KL, guesses", f"Cov_{n}, guesses", "KL, path", f"Cov_{n}, path"),
        ],
        rows,
    )


def _coverage(found: Measurements) -> Table:
    shared = sorted(set.intersection(*(set(each.cov) for each in found.horizons)))
    rows = []
    for each in found.horizons:
        rows.append(
            [each.depth, "measured", *(float(np.median(each.converged(each.cov[n]))) for n in shared)]
        )
        rows.append([each.depth, GUESSES, *(each.closed[GUESSES].cov[n] for n in shared)])
    return (
        "Converged coverage profile of the mixture at other N, median over the seeds, and the closed form.",
        ["H", "", *(f"Cov_{name_of_n(n)}" for n in shared)],
        rows,
    )


def _classes(found: Measurements) -> Table:
    n = name_of_n(found.n)
    rows = []
    for each in found.horizons:
        for name, profile in each.class_cov.items():
            start, end = profile[found.n][:, 0], each.converged(profile[found.n])
            wide = profile[each.local_n]
            rows.append(
                [
                    each.depth,
                    name,
                    *(
                        float(np.median(each.class_kl[name][:, 0])),
                        _median(each.converged(each.class_kl[name])),
                    ),
                    *(_median(start), _median(end)),
                    *(each.local_n, _median(wide[:, 0]), _median(each.converged(wide))),
                ]
            )
    return (
        "Classes at initialisation and converged, median over the seeds. M = 16 * 2^(H/2) is above what fair "
        "guesses among the valid paths of class xor reach.",
        ["H", "class", "KL, start", "KL", f"Cov_{n}, start", f"Cov_{n}", "M", "Cov_M, start", "Cov_M"],
        rows,
    )


def _layers(found: Measurements) -> Table:
    most = max(each.branching.loss.shape[-1] for each in found.horizons)
    rows = []
    for each in found.horizons:
        for label, values in (
            ("-ln pi_hat(right node)", each.branching.loss),
            ("given one of the two passable nodes", each.branching.choice_loss),
        ):
            by_layer = np.median(values[:, -1], axis=0).tolist()
            rows.append([each.depth, label, *by_layer, *[None] * (most - len(by_layer))])
    return (
        f"Class {XOR} on fresh prompts, last checkpoint, median over the seeds: nats in the k-th branching "
        f"layer given the right path so far. ln 2 = 0.6931 is a fair guess; 0 from k = 2 on reads the bit "
        f"off the path.",
        ["H", "", *(f"k = {k}" for k in range(1, most + 1))],
        rows,
    )


def _leak(found: Measurements) -> Table:
    rows = []
    for each in found.horizons:
        share = over_seeds(each.branching.leaked[:, -1])
        auc = interval_over_shared_prompts(each.branching.auc)
        guesses, reads = each.closed[GUESSES].kl, each.closed[READS].kl
        rows.append(
            [
                each.depth,
                *(guesses, reads, guesses - reads),
                *(share.estimate, format_interval((share.low, share.high))),
                share.estimate * (guesses - reads),
                *(auc.estimate, format_interval((auc.low, auc.high))),
            ]
        )
    return (
        "The leak: KL of the two closed forms, what reading the bit off the path could save, the share of it "
        "that the last checkpoints save (95 % interval over the seeds), and the AUC of the first branching "
        "layer's log-odds between b = 0 and b = 1 (0.5: the hard rule is unlearned).",
        ["H", "KL, guesses", "KL, path", "could save", "share", "interval", "saved", "AUC", "interval"],
        rows,
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values))
