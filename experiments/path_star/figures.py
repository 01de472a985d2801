"""The path-star claim's plots and tables. Log-probabilities in nats; arrays are (seeds, ...)."""

from __future__ import annotations

import operator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.path_star.checks import interval, short, token_loss
from experiments.path_star.measure import (
    FORWARD,
    MULTI_TOKEN,
    RECURRENT,
    REVERSED,
    TEACHERLESS,
    Measurements,
    clever_hans,
)
from metrics import coverage_profile

COLOURS = {
    FORWARD: draw.RED,
    REVERSED: draw.BLUE,
    TEACHERLESS: draw.GREEN,
    MULTI_TOKEN: draw.ORANGE,
    RECURRENT: draw.PURPLE,
}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    band = f"Lines are medians over {len(results.seeds)} seeds, bands their range."
    return [
        Drawing(
            "curves",
            "Accuracy (the greedy response is the arm to the goal), KL (nats, pi_D is deterministic, so that "
            "it is the cross-entropy too) and total probability of whole arms against the training step. "
            f"Dashed: a model that takes one of the {results.arms} arms at random. {band}",
            curves(results),
        ),
        Drawing(
            "coverage",
            "Coverage profile and Pass@N of the last checkpoint on fresh prompts. Dashed: the closed form of "
            f"a random arm, a step at N = {results.arms} and 1 - (1 - 1/{results.arms})^N. {band}",
            coverage(results),
        ),
        Drawing(
            "tokens",
            "Loss of every token of the right arm given the tokens before (teacherless: given none of them), "
            "on fresh prompts. Top: at the last checkpoint, by position. Bottom: against the step. Dashed: "
            f"ln {results.arms}, a random arm. {band}",
            tokens(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements) -> Figure:
    """Accuracy, KL and validity against the step, one colour a run."""
    closed = clever_hans(results.arms, (1,), (1,))
    panels = (
        ("accuracy", "accuracy", closed.passes[1]),
        ("kl", "KL (nats)", closed.cross_entropy),
        ("validity", "probability of whole arms", None),
    )
    fig, axes = draw.new_figure(1, 3, (13.2, 4.3))
    for axis, (key, label, level) in zip(axes[0], panels, strict=True):
        for name, run in results.runs.items():
            draw.line_over_seeds(axis, run.steps, run.curves[key], COLOURS[name], name)
        if level is not None:
            axis.axhline(level, color=draw.INK, linestyle=draw.DASHED, linewidth=1.2, label="random arm")
        axis.set(xlabel="training step", title=label)
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axes[0, 0].set_ylim(-0.02, 1.02)
    axes[0, 1].set_ylim(0, 6 * closed.cross_entropy)
    axes[0, 2].set_ylim(-0.02, 1.02)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def coverage(results: Measurements) -> Figure:
    """Cov_N and Pass@N against N, beside the closed form."""
    ns = np.geomspace(1, 4 * results.arms, 200)
    whole = np.unique(np.geomspace(1, max(results.pass_ns), 40).round()).astype(int)
    closed = clever_hans(results.arms, ns.tolist(), whole.tolist())
    fig, axes = draw.new_figure(1, 2, (10.4, 4.3))
    left, right = axes[0]
    for name, run in results.runs.items():
        profile = np.array([coverage_profile(scores.log_ratio, ns.tolist()) for scores in run.last])
        passes = np.array([scores.passes(whole.tolist()).mean(axis=0) for scores in run.last])
        draw.line_over_seeds(left, ns, profile, COLOURS[name], name)
        draw.line_over_seeds(right, whole, passes, COLOURS[name], name)
    dashes: dict[str, Any] = {"color": draw.INK, "linestyle": draw.DASHED, "linewidth": 1.3}
    left.plot([1, results.arms, results.arms, ns[-1]], [1, 1, 0, 0], label="closed form", **dashes)
    right.plot(whole, [closed.passes[int(n)] for n in whole], label="closed form", **dashes)
    left.set(xlabel="N", title="Cov$_N$", xscale="log", ylim=(-0.02, 1.04))
    right.set(xlabel="N", title="Pass@N", xscale="log", ylim=(-0.02, 1.04))
    multiples = sorted({1, results.arms, 2 * results.arms, 4 * results.arms})
    for axis, ticks in ((left, multiples), (right, results.pass_ns)):
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
    draw.legend_below(fig, [left])
    return fig


@mpl.rc_context(draw.STYLE)
def tokens(results: Measurements) -> Figure:
    """Loss by position at the last checkpoint (top), and against the step (bottom)."""
    level = clever_hans(results.arms, (1,), (1,)).cross_entropy
    fig, axes = draw.new_figure(2, len(results.runs), (4.4 * len(results.runs), 6.8), sharey="row")
    for column, (name, run) in enumerate(results.runs.items()):
        top, bottom = axes[:, column]
        positions = np.arange(1, run.loss.shape[-1] + 1)
        draw.line_over_seeds(top, positions, run.loss[:, -1], COLOURS[name], name)
        top.lines[-1].set(marker="o", markersize=5)
        top.set(title=name, xlabel="token of the response", xticks=positions)
        colours = draw.ordered_colours(len(positions))
        steps = np.asarray(run.checkpoints)
        for position, colour in zip(positions, colours, strict=True):
            loss = run.loss[..., position - 1]
            draw.line_over_seeds(bottom, steps, loss, colour, f"token {position}")
        bottom.set(xlabel="training step", ylim=(0, 3 * level))
        bottom.xaxis.set_major_locator(MaxNLocator(4))
        chance = {"color": "#888888", "linestyle": draw.DASHED, "linewidth": 1.2}
        for axis in (top, bottom):
            axis.axhline(level, label=f"ln {results.arms}", **chance)
    for row in range(2):
        axes[row, 0].set_ylabel("loss (nats)")
    highest = max(float(run.loss[:, -1].max()) for run in results.runs.values())
    axes[0, 0].set_ylim(0, 1.1 * max(level, highest))
    draw.legend_below(fig, [axes[1, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_final(results), _coverage(results), _passes(results), _tokens(results)]


def _final(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for name in results.runs:
        row: list[Any] = [name]
        for quantity in ("correct", "log_ratio", "follows", "valid"):
            row += estimate_and_ends(interval(results, name, operator.attrgetter(quantity)))
        rows.append(row)
    closed = clever_hans(results.arms, (1,), (1,))
    rows.append(["random arm", closed.passes[1], None, closed.cross_entropy, None, 1.0, None, 1.0, None])
    return (
        "Last checkpoint on fresh prompts, mean over seeds and prompts with its 95 % interval over both.",
        ["run", "accuracy", "", "KL", "", "along an arm", "", "whole arms", ""],
        rows,
    )


def _coverage(results: Measurements) -> Table:
    ns = sorted(
        {1.0, results.inside, float(results.arms), results.outside, 2.0 * results.arms, 4.0 * results.arms}
    )
    rows: list[list[Any]] = [
        [name, *(interval(results, name, lambda s, n=n: s.coverage(n)).estimate for n in ns)]  # type: ignore[misc]
        for name in results.runs
    ]
    closed = clever_hans(results.arms, ns, (1,)).cov
    rows.append(["random arm", *(closed[n] for n in ns)])
    return (
        f"Coverage profile. At N = d = {results.arms} itself Clever Hans stands on its step, where any noise "
        f"decides.",
        ["run", *(f"Cov_{short(n)}" for n in ns)],
        rows,
    )


def _passes(results: Measurements) -> Table:
    rows: list[list[Any]] = [
        [
            name,
            *np.mean([scores.passes(results.pass_ns).mean(axis=0) for scores in run.last], axis=0).tolist(),
        ]
        for name, run in results.runs.items()
    ]
    closed = clever_hans(results.arms, (1,), results.pass_ns).passes
    rows.append(["random arm", *closed.values()])
    return ("Exact Pass@N.", ["run", *(f"Pass@{n}" for n in results.pass_ns)], rows)


def _tokens(results: Measurements) -> Table:
    most = max(run.loss.shape[-1] for run in results.runs.values())
    rows: list[list[Any]] = [
        [name, *(interval(results, name, token_loss(t)).estimate for t in range(run.loss.shape[-1]))]
        for name, run in results.runs.items()
    ]
    return (
        "Loss of every token of the right arm in nats, mean over seeds and prompts. All but reversed "
        "write from the start, so that token 2 is the choice; reversed writes from the goal.",
        ["run", *(f"token {t}" for t in range(1, most + 1))],
        rows,
    )
