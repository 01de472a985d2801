"""Figures and tables of experiments.forks. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.forks.laws import blind_pass, proportion
from experiments.forks.measure import FIRST, FORKS, Cell, Measurements
from metrics import mean_interval, name_of_n

# Of a class: label, colour, marker, and the distance to the right at an equal number of branching layers.
_KINDS = {
    FORKS: ("all branching layers decide", draw.BLUE, "o", 0.0),
    FIRST: ("only the first decides", draw.ORANGE, "s", 0.06),
}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    k, count = results.k, len(results.seeds)
    return [
        Drawing(
            "losses",
            f"Left: Pass@{k} lost by fine-tuning against the share of a response's tokens that are decision "
            f"points. Solid is the line through the origin, dashed the loss of a calibrated model that "
            f"cannot see the decisions. Middle: the same against the number of branching layers. Right: "
            f"Pass@1 gained. Mean over {count} seeds with 95 % intervals.",
            losses(results),
        ),
        Drawing(
            "curves",
            f"Pass@1, Pass@{k} and Cov_{k} along fine-tuning by the number of decision points, where all "
            f"branching layers decide; mean over {count} seeds.",
            curves(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def losses(results: Measurements) -> Figure:
    """Pass@k lost by decision points and by branching layers, and Pass@1 gained."""
    k = results.k
    fig, axes = draw.new_figure(1, 3, (12.6, 4.3))
    share, layers, gain = axes[0]
    cells = results.of(FORKS)
    shares = np.array([results.share(cell) for cell in cells])
    slope = float(proportion(shares, results.lost(cells))[0].mean())
    share.plot(
        [0, shares[-1]], [0, slope * shares[-1]], color=draw.BLUE, linewidth=1.2, label="in proportion"
    )
    calibrated = [
        blind_pass(cell.branching, 0.5, results.minority, k)
        - blind_pass(cell.decisions, 1 - results.minority, results.minority, k)
        for cell in cells
    ]
    share.plot(
        shares, calibrated, color=draw.INK, linewidth=1.2, linestyle=draw.DASHED, label="calibrated model"
    )
    for group, (label, colour, marker, beside) in _KINDS.items():
        own = results.of(group)
        lost = [results.arms[cell].lost for cell in own]
        gained = [results.arms[cell].gained for cell in own]
        counts = np.array([cell.branching + beside for cell in own])
        # Of the arms with one decision, each stands a little to the right of the one before.
        places = [results.share(cell) + 0.01 * max(0, cell.branching - cell.decisions) for cell in own]
        _points(share, np.array(places), lost, colour, marker, label)
        _points(layers, counts, lost, colour, marker)
        _points(gain, counts, gained, colour, marker)
    for axis in axes[0]:
        axis.axhline(0, color=draw.INK, linewidth=0.8)
    layers.set_xticks([cell.branching for cell in cells])
    gain.set_xticks([cell.branching for cell in cells])
    share.set(xlabel="share of decision points", ylabel=f"Pass@{k} lost")
    layers.set(xlabel="branching layers", ylabel=f"Pass@{k} lost")
    gain.set(xlabel="branching layers", ylabel="Pass@1 gained")
    draw.legend_below(fig, [share])
    return fig


def _points(
    axis: Axes,
    places: Float[np.ndarray, " arms"],
    values: list[Float[np.ndarray, " seeds"]],
    colour: Any,
    marker: str,
    label: str | None = None,
) -> None:
    """Means over the seeds with their intervals."""
    intervals = [mean_interval(own) for own in values]
    axis.errorbar(
        places,
        [interval.estimate for interval in intervals],
        yerr=draw.error_bars(*intervals),
        color=colour,
        marker=marker,
        linestyle="none",
        linewidth=1.2,
        label=label,
    )


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements) -> Figure:
    """Pass@1, Pass@k and Cov_k along fine-tuning."""
    k, cells = results.k, results.of(FORKS)
    fig, axes = draw.new_figure(1, 3, (12.6, 4.1))
    for cell, colour in zip(cells, draw.ordered_colours(len(cells)), strict=True):
        arm = results.arms[cell]
        shown = (arm.pass_1, arm.pass_k, arm.coverage[float(k)])
        for axis, values in zip(axes[0], shown, strict=True):
            axis.plot(
                arm.steps, values.mean(axis=0), color=colour, marker="o", markersize=3, label=_decisions(cell)
            )
    for axis, title in zip(axes[0], ("Pass@1", f"Pass@{k}", f"Cov_{k}"), strict=True):
        axis.set(xlabel="step of fine-tuning", ylabel=title, ylim=(-0.03, 1.03))
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _decisions(cell: Cell) -> str:
    return f"{cell.decisions} decision{'' if cell.decisions == 1 else 's'}"


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    k = results.k
    ends, profile = [], []
    ns = list(next(iter(results.arms.values())).coverage)
    for cell, arm in results.arms.items():
        ends.append(
            [
                cell.run,
                results.share(cell),
                results.entropy(cell),
                *(float(values[:, at].mean()) for values in (arm.pass_1, arm.pass_k) for at in (0, -1)),
                *estimate_and_ends(mean_interval(arm.lost)),
                float(arm.lost_from_best.mean()),
                *(float(arm.kl[:, at].mean()) for at in (0, -1)),
            ]
        )
        for moment, at in (("start", 0), ("end", -1)):
            profile.append([cell.run, moment, *(float(arm.coverage[n][:, at].mean()) for n in ns)])
    return [
        (
            f"Every arm: share of decision points, their entropy (nats), Pass@1 and Pass@{k} before and "
            f"after fine-tuning, Pass@{k} lost with its 95 % interval and from the best evaluation, KL "
            f"(nats) before and after. Means over {len(results.seeds)} seeds.",
            [
                *("arm", "share", "entropy", "Pass@1", "after", f"Pass@{k}", "after"),
                *("lost", "", "from best", "KL", "after"),
            ],
            ends,
        ),
        (
            "Coverage profile before and after fine-tuning, means over the seeds.",
            ["arm", "moment", *(f"Cov_{name_of_n(n)}" for n in ns)],
            profile,
        ),
    ]
