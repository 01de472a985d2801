"""Figures and tables of the claim on starts of reinforcement learning."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Measurements
from metrics import name_of_n


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    return [
        Drawing(
            "starts",
            "Expected reward before and after reinforcement learning against the fine-tuning step that it "
            "started from; median and range over the seeds, and the starts that each rule picks.",
            starts(results),
        ),
        Drawing(
            "predictors",
            "Every start of every seed as a point: the reward reached against the start's coverage and "
            "cross-entropy. Both are better the lower they are: a predictor that does its work falls from "
            "left to right, and its number, the rank correlation of a lower predictor with a higher reward, "
            "is near 1.",
            predictors(results),
        ),
        Drawing(
            "curves",
            "Expected reward along reinforcement learning from each start, median over the seeds.",
            curves(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def starts(results: Measurements) -> Figure:
    """Reward against the start."""
    fig, axes = draw.new_figure(1, len(results.outcomes), (5.2 * len(results.outcomes), 4.2))
    steps = np.asarray(results.starts)
    for axis, (prompts, outcome) in zip(axes[0], results.outcomes.items(), strict=True):
        draw.line_over_seeds(axis, steps, outcome.curves[1][..., 0], draw.BLUE, "reward at the start")
        draw.line_over_seeds(axis, steps, outcome.reward, draw.RED, "reward reached")
        draw.line_over_seeds(axis, steps, outcome.curves[8][..., -1], draw.GREEN, "Pass@8 reached")
        where = np.broadcast_to(steps, outcome.reward.shape).astype(float)
        picked = {f"{rule}'s start": results.chosen[rule] for rule in (TOURNAMENT, CROSS_ENTROPY)}
        draw.mark_chosen(axis, where, outcome.reward, picked)
        axis.set(title=prompts.replace("_", " "), xlabel="fine-tuning step of the start")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def predictors(results: Measurements) -> Figure:
    """Reward reached against the two predictors that compete."""
    rows = len(results.outcomes)
    fig, axes = draw.new_figure(rows, 2, (9.5, 3.7 * rows), sharex="col", sharey="row")
    names = {
        COVERAGE: f"Cov$_{{{name_of_n(results.coverage_n)}}}$ of the start",
        CROSS_ENTROPY: "cross-entropy of the start (nats)",
    }
    colours = draw.ordered_colours(len(results.starts))
    for row, (prompts, outcome) in zip(axes, results.outcomes.items(), strict=True):
        correlations, _ = results.correlations(prompts)
        for axis, (name, label) in zip(row, names.items(), strict=True):
            for i, (step, colour) in enumerate(zip(results.starts, colours, strict=True)):
                x, y = results.predictors[name][:, i], outcome.reward[:, i]
                axis.scatter(x, y, color=colour, s=28, label=f"step {step}")
            title = f"{prompts.replace('_', ' ')}: lower is better, {correlations[name].estimate:+.2f}"
            axis.set(xlabel=label, title=title)
        row[0].set_ylabel("reward reached")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements) -> Figure:
    """Reward along the runs."""
    fig, axes = draw.new_figure(1, len(results.outcomes), (5.2 * len(results.outcomes), 4.2))
    colours = draw.ordered_colours(len(results.starts))
    for axis, (prompts, outcome) in zip(axes[0], results.outcomes.items(), strict=True):
        for i, colour in enumerate(colours):
            median = np.median(outcome.curves[1][:, i], axis=0)
            axis.plot(outcome.steps, median, color=colour, label=f"step {results.starts[i]}")
        axis.set(title=prompts.replace("_", " "), xlabel="batches of rollouts")
    axes[0, 0].set_ylabel("expected reward")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    made: list[Table] = []
    ranks: list[list[Any]] = []
    for prompts, outcome in results.outcomes.items():
        before, reached, passed = outcome.curves[1][..., 0], outcome.reward, outcome.curves[8][..., -1]
        columns = (*results.predictors.values(), before, reached, passed)
        rows = [
            [step, *(float(values[:, i].mean()) for values in columns)]
            for i, step in enumerate(results.starts)
        ]
        caption = f"Prompts {prompts}: every start, mean over the seeds."
        heads = ["start", *results.predictors, "reward before", "reward reached", "Pass@8 reached"]
        made.append((caption, heads, rows))
        correlations, difference = results.correlations(prompts)
        ranks += [
            [prompts, name, *estimate_and_ends(correlation)] for name, correlation in correlations.items()
        ]
        ranks.append([prompts, "coverage minus cross-entropy", *estimate_and_ends(difference)])
    regrets = {(p, rule): results.regret(rule, p) for p in results.outcomes for rule in results.chosen}
    return [
        *made,
        (
            "Mean over the seeds of the rank correlation of a lower predictor with a higher reward reached, "
            "with the 95 % interval of a bootstrap over seeds and starts.",
            ["prompts", "predictor", "rank correlation", "95 % interval"],
            ranks,
        ),
        (
            "Reward lost by a rule's start against the best start.",
            ["prompts", "rule", "mean over seeds", "worst seed"],
            [[*names, float(lost.mean()), float(lost.max())] for names, lost in regrets.items()],
        ),
    ]
