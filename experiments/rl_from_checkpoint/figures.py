"""Figures and tables of the claim on starts of reinforcement learning. Arrays are (seeds, starts, ...)."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.rl_from_checkpoint.measure import FOUND, Measurements
from metrics import mean_interval


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    last = results.rollouts[-1]
    return [
        Drawing(
            "starts",
            f"Along fine-tuning: cross-entropy on its own prompts, and Cov_N of the start on the prompts of "
            f"reinforcement learning, median and range over {len(results.seeds)} seeds. Points: share of the "
            f"seeds in which reinforcement learning finds the answer within N rollouts.",
            starts(results),
        ),
        Drawing(
            "outcomes",
            "Every start of every seed as a point: Pass@1 after each number R of rollouts against the "
            "start's mass on the answer times R. Line: probability that R rollouts of a model with this "
            "mass contain a right answer, 1 - e^-x. Vertical: mass 1/R, where Cov_R has its step.",
            outcomes(results),
        ),
        Drawing(
            "curves",
            f"Pass@1 along reinforcement learning up to {last} rollouts and beyond, every run; dark: early "
            f"starts. Dotted: the threshold of an answer found.",
            curves(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def starts(results: Measurements) -> Figure:
    """Cross-entropy, coverage and found shares against the start."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.2))
    steps = np.asarray(results.starts)
    draw.line_over_seeds(axes[0, 0], steps, results.cross_entropy, draw.ORANGE, "cross-entropy (nats)")
    axes[0, 0].set(title="prompts of fine-tuning", xlabel="fine-tuning step of the start", yscale="log")
    colours = draw.ordered_colours(len(results.rollouts) + 1)
    for i, (rollouts, colour) in enumerate(zip(results.rollouts, colours, strict=False)):
        draw.line_over_seeds(axes[0, 1], steps, results.matched[..., i], colour, f"Cov$_{{{rollouts}}}$")
        share = results.found[..., i].mean(axis=0)
        axes[0, 1].plot(steps, share, "o", color=colour, label=f"found within {rollouts}")
    axes[0, 1].set(title="prompts of reinforcement learning", xlabel="fine-tuning step of the start")
    draw.legend_below(fig, axes[0])
    return fig


@mpl.rc_context(draw.STYLE)
def outcomes(results: Measurements) -> Figure:
    """Pass@1 reached against the start's mass times the rollouts."""
    count = len(results.rollouts)
    fig, axes = draw.new_figure(1, count, (5.2 * count, 4.2), sharey="row")
    for i, (axis, rollouts) in enumerate(zip(axes[0], results.rollouts, strict=True)):
        x = rollouts * results.start
        grid = np.geomspace(x.min(), x.max(), 200)
        axis.plot(grid, -np.expm1(-grid), color=draw.INK, linewidth=1.0, label="1 - e$^{-x}$")
        colours = draw.ordered_colours(len(results.seeds))
        for own, after, colour in zip(x, results.reached[..., i], colours, strict=True):
            axis.scatter(own, after, color=colour, s=22)
        axis.axvline(1, color=draw.INK, linestyle=":", linewidth=1.0)
        axis.set(xscale="log", title=f"R = {rollouts}", xlabel="R x mass of the start on the answer")
    axes[0, 0].set_ylabel("Pass@1 after R rollouts")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements) -> Figure:
    """Pass@1 along the runs."""
    fig, axes = draw.new_figure(1, 1, (7.5, 4.2))
    axis = axes[0, 0]
    colours = draw.ordered_colours(len(results.starts))
    for i, colour in enumerate(colours):
        for j, line in enumerate(results.curves[:, i]):
            label = f"step {results.starts[i]}" if j == 0 else None
            axis.plot(results.steps, line, color=colour, linewidth=0.8, label=label)
    axis.axhline(FOUND, color=draw.INK, linestyle=":", linewidth=1.0)
    axis.set(xlabel="batches of rollouts", ylabel="Pass@1")
    draw.legend_below(fig, [axis])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    entropy, mass = results.cross_entropy.mean(axis=0), np.exp(np.log(results.start).mean(axis=0))
    shares = [
        [each[..., i].mean(axis=0) for i in range(len(results.rollouts))]
        for each in (results.matched, results.expected(), results.found)
    ]
    rows = [
        [step, *(float(each[i]) for each in (entropy, mass, *(own for kind in shares for own in kind)))]
        for i, step in enumerate(results.starts)
    ]
    heads = [f"{kind}{n}" for kind in ("Cov_", "right answer drawn, ", "found, ") for n in results.rollouts]
    bounds = []
    for i, rollouts in enumerate(results.rollouts):
        tens = mean_interval(results.boundaries[:, i] / math.log(10))
        bounds.append(
            [rollouts, 10**tens.estimate, 10**tens.low, 10**tens.high, 10**tens.estimate / rollouts]
        )
    ranks: list[list[object]] = []
    for name, values in results.predictors().items():
        found = results.concordance(values)
        known = found[np.isfinite(found)]
        ends = estimate_and_ends(mean_interval(known)) if known.size > 1 else (None, None)
        ranks.append([name, *ends, len(known)])
    return [
        (
            "Every start, means over the seeds (of the mass, geometric): cross-entropy as fine-tuned "
            "(nats), mass on the answer, Cov_N, probability that N rollouts contain a right answer, and "
            "share of seeds found within N rollouts.",
            ["start", "cross-entropy", "mass", *heads],
            rows,
        ),
        (
            "N*, the N at which as many starts are covered as are found, geometric mean over the seeds.",
            ["rollouts R", "N*", "from", "to", "N*/R"],
            bounds,
        ),
        (
            "Concordance: probability that a run that found the answer has a lower predictor than one "
            "that is stuck, over starts and budgets of a seed; mean over the seeds with runs of both "
            "kinds.",
            ["predictor", "concordance", "95 % interval", "seeds"],
            ranks,
        ),
    ]
