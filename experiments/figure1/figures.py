"""Figures and tables of experiments.figure1."""

from __future__ import annotations

import numpy as np

from covlab.claims.selection import median_table
from covlab.claims.shortcut import CLASS_BLIND_MIN_KL, COVERAGE_NS, PAIRS, PASS_NS, FineTuning
from covlab.report.curves import learning_curves, log_ratio_histogram, scatter_pass_at_n
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from experiments.figure1.class_blind import class_blind_comparison, class_blind_theory, log_odds_by_class
from metrics import name_of_n


def drawings(results: FineTuning) -> list[Drawing]:
    """The report's figures."""
    steps = np.asarray(results.matrices.steps)
    marked = {"tournament": results.chosen, "min KL": results.lowest}
    log_ratio = results.matrices.log_pi - results.matrices.log_probs[0]
    moments = {"start": 0, "tournament's choice": int(results.chosen[0]), "end": len(steps) - 1}
    first = results.matrices.seeds[0]
    auc = results.blindness[first]
    return [
        Drawing(
            "curves",
            "Figure 1, left: KL (nats) and the coverage profile against the fine-tuning step; median and "
            "range over the seeds. KL and Cov_2 (left panel) keep falling. At N = 4 and 4.6 (right "
            "panel, with an axis of its own) the profile first falls and then rises: coverage improves, then "
            "degrades. At N = 3 it comes down to the minority's share, at 5.7 it rises to it. "
            "Dashed: the best class-blind KL, 0.325.",
            learning_curves(steps, results.kl, results.cov, {"best class-blind KL": CLASS_BLIND_MIN_KL}),
        ),
        Drawing(
            "scatter",
            "Figure 1, right: every checkpoint as a point, Pass@N against coverage (top) and against KL "
            "(bottom), with the checkpoints that the tournament and the least KL pick for every seed.",
            scatter_pass_at_n(
                steps,
                {n: results.passes[n] for n in PAIRS},
                {m: results.cov[m] for m in PAIRS.values()},
                results.kl,
                marked,
            ),
        ),
        Drawing(
            "class_blind",
            "Measured (KL, Pass@8) of every seed beside the closed form of a class-blind model with mass p "
            "on the majority's path.",
            class_blind_comparison(results.kl, results.passes[8], 8, chosen=marked),
        ),
        Drawing(
            "log_odds",
            f"Seed {first}, end of fine-tuning: log-odds between the two rules' paths on fresh prompts of "
            "each class. If the model could tell the classes apart, the histograms would differ and the AUC "
            "would leave 0.5.",
            log_odds_by_class(results.log_odds, 1 - auc.estimate, (1 - auc.high, 1 - auc.low)),
        ),
        Drawing(
            "log_ratio",
            f"Seed {first}: distribution of ln(pi_D/pi_hat) at three checkpoints; Cov_N is the mass right "
            f"of ln N.",
            log_ratio_histogram(
                {name: log_ratio[index] for name, index in moments.items()},
                (2, 4, 5.7),
                results.matrices.weights,
            ),
        ),
    ]


def tables(results: FineTuning) -> list[Table]:
    """The report's tables: selection rules, the curve, and the class-blind closed form."""
    keys = ["rule", "n", "tie_break", "step", "num_tied", "kl", "cov/2", "cov/4"]
    keys += [f"pass/{k}" for k in PASS_NS]
    selection = [[row[key] for key in keys] for row in median_table(list(results.tables.values()))]
    passes = [f"Pass@{k}" for k in PASS_NS]
    shown = np.unique(np.linspace(0, len(results.matrices.steps) - 1, 13).astype(int))
    curve = [
        [results.matrices.steps[i], np.median(results.kl[:, i])]
        + [np.median(results.cov[m][:, i]) for m in COVERAGE_NS]
        + [np.median(results.passes[k][:, i]) for k in PASS_NS]
        for i in shown
    ]
    picks = np.arange(len(results.kl))
    blind = []
    for name, index, p in (
        ("min KL", results.lowest, 0.9),
        ("best Pass@8", results.passes[8].argmax(axis=1), 0.5),
    ):
        theory = [class_blind_theory(np.array([p]), k) for k in PASS_NS]
        blind.append([name, f"p = {p}", np.mean(results.kl[picks, index]), float(theory[0][0][0])])
        for k, (_, value) in zip(PASS_NS, theory, strict=True):
            blind[-1] += [float(np.mean(results.passes[k][picks, index])), float(value[0])]
    return [
        (
            f"Every selection rule at every N and tie-break, median over the seeds. The verdict uses the "
            f"simple tournament with N = {name_of_n(results.tournament.n)} and tie-break "
            f"{results.tournament.tie_break}, fixed beforehand.",
            [*("rule", "N", "tie-break", "step", "tied", "KL", "Cov_2", "Cov_4"), *passes],
            selection,
        ),
        (
            "The fine-tuning run, median over the seeds.",
            ["step", "KL", *(f"Cov_{name_of_n(m)}" for m in COVERAGE_NS), *passes],
            curve,
        ),
        (
            "Measured (mean over the seeds) beside the class-blind closed form, which puts no mass off the "
            "two rules' paths.",
            ["checkpoint", "closed form", "KL", "theory"]
            + [x for k in PASS_NS for x in (f"Pass@{k}", "theory")],
            blind,
        ),
    ]
