"""The path-star claim's plots and tables. Log-probabilities in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from experiments.path_star.checks import interval, short, token_loss
from experiments.path_star.measure import FORWARD, REVERSED, TEACHERLESS, Measurements, clever_hans
from metrics import Interval, coverage_profile

Table = tuple[str, list[str], list[list[Any]]]
COLOURS = {FORWARD: draw.RED, REVERSED: draw.BLUE, TEACHERLESS: draw.GREEN}


def draw_all(path: Path, found: Measurements) -> list[tuple[str, Path]]:
    """Draw the figures into `path`/figures; (caption, file) in the report's order."""
    band = f"Lines are medians over {len(found.seeds)} seeds, bands their range."
    made = (
        (
            "curves",
            "Accuracy (the greedy response is the arm to the goal), KL (nats, pi_D is deterministic, so that "
            "it is the cross-entropy too) and total probability of whole arms against the training step. "
            f"Dashed: a model that takes one of the {found.arms} arms at random. {band}",
            curves(found),
        ),
        (
            "coverage",
            "Coverage profile and Pass@N of the last checkpoint on fresh prompts. Dashed: the closed form of "
            f"a random arm, a step at N = {found.arms} and 1 - (1 - 1/{found.arms})^N. {band}",
            coverage(found),
        ),
        (
            "tokens",
            "Loss of every token of the right arm given the tokens before (teacherless: given none of them), "
            "on fresh prompts. Top: at the last checkpoint, by position. Bottom: against the step. Dashed: "
            f"ln {found.arms}, a random arm. {band}",
            tokens(found),
        ),
    )
    return draw.save_all(path / "figures", made)


@mpl.rc_context(draw.STYLE)
def curves(found: Measurements) -> Figure:
    """Accuracy, KL and validity against the step, one colour a run."""
    closed = clever_hans(found.arms, (1,), (1,))
    panels = (
        ("accuracy", "accuracy", closed.passes[1]),
        ("kl", "KL (nats)", closed.cross_entropy),
        ("validity", "probability of whole arms", None),
    )
    fig, axes = draw.new_figure(1, 3, (13.2, 4.3))
    for axis, (key, label, level) in zip(axes[0], panels, strict=True):
        for name, run in found.runs.items():
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
def coverage(found: Measurements) -> Figure:
    """Cov_N and Pass@N against N, beside the closed form."""
    ns = np.geomspace(1, 4 * found.arms, 200)
    whole = np.unique(np.geomspace(1, max(found.pass_ns), 40).round()).astype(int)
    closed = clever_hans(found.arms, ns.tolist(), whole.tolist())
    fig, axes = draw.new_figure(1, 2, (10.4, 4.3))
    left, right = axes[0]
    for name, run in found.runs.items():
        profile = np.array([coverage_profile(own.log_ratio, ns.tolist()) for own in run.last])
        passes = np.array([own.passes(whole.tolist()).mean(axis=0) for own in run.last])
        draw.line_over_seeds(left, ns, profile, COLOURS[name], name)
        draw.line_over_seeds(right, whole, passes, COLOURS[name], name)
    dashes: dict[str, Any] = {"color": draw.INK, "linestyle": draw.DASHED, "linewidth": 1.3}
    left.plot([1, found.arms, found.arms, ns[-1]], [1, 1, 0, 0], label="closed form", **dashes)
    right.plot(whole, [closed.passes[int(n)] for n in whole], label="closed form", **dashes)
    left.set(xlabel="N", title="Cov$_N$", xscale="log", ylim=(-0.02, 1.04))
    right.set(xlabel="N", title="Pass@N", xscale="log", ylim=(-0.02, 1.04))
    for axis, ticks in (
        (left, sorted({1, found.arms, 2 * found.arms, 4 * found.arms})),
        (right, found.pass_ns),
    ):
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
    draw.legend_below(fig, [left])
    return fig


@mpl.rc_context(draw.STYLE)
def tokens(found: Measurements) -> Figure:
    """Loss by position at the last checkpoint (top), and against the step (bottom)."""
    level = clever_hans(found.arms, (1,), (1,)).cross_entropy
    fig, axes = draw.new_figure(2, len(found.runs), (4.4 * len(found.runs), 6.8), sharey="row")
    for column, (name, run) in enumerate(found.runs.items()):
        top, bottom = axes[:, column]
        positions = np.arange(1, run.loss.shape[-1] + 1)
        draw.line_over_seeds(top, positions, run.loss[:, -1], COLOURS[name], name)
        top.lines[-1].set(marker="o", markersize=5)
        top.set(title=name, xlabel="token of the response", xticks=positions)
        colours = draw.ordered_colours(len(positions))
        for position, colour in zip(positions, colours, strict=True):
            draw.line_over_seeds(
                bottom,
                np.asarray(run.checkpoints),
                run.loss[..., position - 1],
                colour,
                f"token {position}",
            )
        bottom.set(xlabel="training step", ylim=(0, 3 * level))
        bottom.xaxis.set_major_locator(MaxNLocator(4))
        for axis in (top, bottom):
            axis.axhline(
                level, color="#888888", linestyle=draw.DASHED, linewidth=1.2, label=f"ln {found.arms}"
            )
    for row in range(2):
        axes[row, 0].set_ylabel("loss (nats)")
    highest = max(float(run.loss[:, -1].max()) for run in found.runs.values())
    axes[0, 0].set_ylim(0, 1.1 * max(level, highest))
    draw.legend_below(fig, [axes[1, 0]])
    return fig


def tables(found: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_final(found), _coverage(found), _passes(found), _tokens(found)]


def _final(found: Measurements) -> Table:
    rows: list[list[Any]] = []
    for name in found.runs:
        row: list[Any] = [name]
        for own in (
            interval(found, name, lambda s: s.correct),
            interval(found, name, lambda s: s.log_ratio),
            interval(found, name, lambda s: s.follows),
            interval(found, name, lambda s: s.valid),
        ):
            row += [own.estimate, _ends(own)]
        rows.append(row)
    closed = clever_hans(found.arms, (1,), (1,))
    rows.append(["random arm", closed.passes[1], None, closed.cross_entropy, None, 1.0, None, 1.0, None])
    return (
        "Last checkpoint on fresh prompts, mean over seeds and prompts with its 95 % interval over both.",
        ["run", "accuracy", "", "KL", "", "along an arm", "", "whole arms", ""],
        rows,
    )


def _coverage(found: Measurements) -> Table:
    ns = sorted({1.0, found.inside, float(found.arms), found.outside, 2.0 * found.arms, 4.0 * found.arms})
    rows: list[list[Any]] = [
        [name, *(interval(found, name, lambda s, n=n: s.coverage(n)).estimate for n in ns)]  # type: ignore[misc]
        for name in found.runs
    ]
    closed = clever_hans(found.arms, ns, (1,)).cov
    rows.append(["random arm", *(closed[n] for n in ns)])
    return (
        f"Coverage profile. At N = d = {found.arms} itself Clever Hans stands on its step, where any noise "
        f"decides.",
        ["run", *(f"Cov_{short(n)}" for n in ns)],
        rows,
    )


def _passes(found: Measurements) -> Table:
    rows: list[list[Any]] = [
        [name, *np.mean([own.passes(found.pass_ns).mean(axis=0) for own in run.last], axis=0).tolist()]
        for name, run in found.runs.items()
    ]
    closed = clever_hans(found.arms, (1,), found.pass_ns).passes
    rows.append(["random arm", *closed.values()])
    return ("Exact Pass@N.", ["run", *(f"Pass@{n}" for n in found.pass_ns)], rows)


def _tokens(found: Measurements) -> Table:
    most = max(run.loss.shape[-1] for run in found.runs.values())
    rows: list[list[Any]] = [
        [name, *(interval(found, name, token_loss(t)).estimate for t in range(run.loss.shape[-1]))]
        for name, run in found.runs.items()
    ]
    return (
        "Loss of every token of the right arm in nats, mean over seeds and prompts. Forward and teacherless "
        "write from the start, so that token 2 is the choice; reversed writes from the goal.",
        ["run", *(f"token {t}" for t in range(1, most + 1))],
        rows,
    )


def _ends(own: Interval) -> str:
    return format_interval((own.low, own.high))
