"""Figures and tables of the claim on starts of reinforcement learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Measurements
from metrics import name_of_n

Table = tuple[str, list[str], list[list[Any]]]


def draw_all(path: Path, found: Measurements) -> list[tuple[str, Path]]:
    """Draw the figures into `path`/figures; (caption, file) in the report's order."""
    made = (
        (
            "starts",
            "Expected reward before and after reinforcement learning against the fine-tuning step that it "
            "started from; median and range over the seeds, and the starts that each rule picks.",
            starts(found),
        ),
        (
            "predictors",
            "Every start of every seed as a point: the reward reached against the start's coverage and "
            "cross-entropy. Both are better the lower they are: a predictor that does its work falls from "
            "left to right, and its number, the rank correlation of a lower predictor with a higher reward, "
            "is near 1.",
            predictors(found),
        ),
        (
            "curves",
            "Expected reward along reinforcement learning from each start, median over the seeds.",
            curves(found),
        ),
    )
    return draw.save_all(path / "figures", made)


@mpl.rc_context(draw.STYLE)
def starts(found: Measurements) -> Figure:
    """Reward against the start."""
    fig, axes = draw.new_figure(1, len(found.outcomes), (5.2 * len(found.outcomes), 4.2))
    steps = np.asarray(found.starts)
    for axis, (prompts, outcome) in zip(axes[0], found.outcomes.items(), strict=True):
        draw.line_over_seeds(axis, steps, outcome.curves[1][..., 0], draw.BLUE, "reward at the start")
        draw.line_over_seeds(axis, steps, outcome.reward, draw.RED, "reward reached")
        draw.line_over_seeds(axis, steps, outcome.curves[8][..., -1], draw.GREEN, "Pass@8 reached")
        where = np.broadcast_to(steps, outcome.reward.shape).astype(float)
        picked = {f"{rule}'s start": found.chosen[rule] for rule in (TOURNAMENT, CROSS_ENTROPY)}
        draw.mark_chosen(axis, where, outcome.reward, picked)
        axis.set(title=prompts.replace("_", " "), xlabel="fine-tuning step of the start")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def predictors(found: Measurements) -> Figure:
    """Reward reached against the two predictors that compete."""
    fig, axes = draw.new_figure(
        len(found.outcomes), 2, (9.5, 3.7 * len(found.outcomes)), sharex="col", sharey="row"
    )
    names = {
        COVERAGE: f"Cov$_{{{name_of_n(found.coverage_n)}}}$ of the start",
        CROSS_ENTROPY: "cross-entropy of the start (nats)",
    }
    colours = draw.ordered_colours(len(found.starts))
    for row, (prompts, outcome) in zip(axes, found.outcomes.items(), strict=True):
        each, _ = found.correlations(prompts)
        for axis, (name, label) in zip(row, names.items(), strict=True):
            for i, colour in enumerate(colours):
                label_of = f"step {found.starts[i]}"
                axis.scatter(
                    found.predictors[name][:, i], outcome.reward[:, i], color=colour, s=28, label=label_of
                )
            axis.set(
                xlabel=label,
                title=f"{prompts.replace('_', ' ')}: lower is better, {each[name].estimate:+.2f}",
            )
        row[0].set_ylabel("reward reached")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def curves(found: Measurements) -> Figure:
    """Reward along the runs."""
    fig, axes = draw.new_figure(1, len(found.outcomes), (5.2 * len(found.outcomes), 4.2))
    colours = draw.ordered_colours(len(found.starts))
    for axis, (prompts, outcome) in zip(axes[0], found.outcomes.items(), strict=True):
        for i, colour in enumerate(colours):
            median = np.median(outcome.curves[1][:, i], axis=0)
            axis.plot(outcome.steps, median, color=colour, label=f"step {found.starts[i]}")
        axis.set(title=prompts.replace("_", " "), xlabel="batches of rollouts")
    axes[0, 0].set_ylabel("expected reward")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(found: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    made: list[Table] = []
    for prompts, outcome in found.outcomes.items():
        rows: list[list[Any]] = []
        for i, step in enumerate(found.starts):
            rows.append(
                [
                    step,
                    *(float(found.predictors[name][:, i].mean()) for name in found.predictors),
                    float(outcome.curves[1][:, i, 0].mean()),
                    float(outcome.reward[:, i].mean()),
                    float(outcome.curves[8][:, i, -1].mean()),
                ]
            )
        made.append(
            (
                f"Prompts {prompts}: every start, mean over the seeds.",
                ["start", *found.predictors, "reward before", "reward reached", "Pass@8 reached"],
                rows,
            )
        )
    ranks: list[list[Any]] = []
    for prompts in found.outcomes:
        each, difference = found.correlations(prompts)
        for name, own in each.items():
            ranks.append([prompts, name, own.estimate, format_interval((own.low, own.high))])
        apart = format_interval((difference.low, difference.high))
        ranks.append([prompts, "coverage minus cross-entropy", difference.estimate, apart])
    made.append(
        (
            "Mean over the seeds of the rank correlation of a lower predictor with a higher reward reached, "
            "with the 95 % interval of a bootstrap over seeds and starts.",
            ["prompts", "predictor", "rank correlation", "95 % interval"],
            ranks,
        )
    )
    regrets: list[list[Any]] = [
        [prompts, rule, float(found.regret(rule, prompts).mean()), float(found.regret(rule, prompts).max())]
        for prompts in found.outcomes
        for rule in found.chosen
    ]
    made.append(
        (
            "Reward lost by a rule's start against the best start.",
            ["prompts", "rule", "mean over seeds", "worst seed"],
            regrets,
        )
    )
    return made
