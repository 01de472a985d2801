"""Figures and tables of experiments.dco. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.dco.measure import PASS_NS, Arm, Measurements
from metrics import mean_interval, paired_difference_interval

_COLOURS = (draw.ORANGE, draw.GREEN, draw.RED, draw.PURPLE, draw.BLUE)
_MARKERS = "osD^vPX*<>"


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    trained = ", ".join(str(n) for n in results.trained_for.values())
    return [
        Drawing(
            "training",
            f"Along training on a fixed set ({results.epochs:g} epochs): cross-entropy (N' = 1) and DCO with "
            f"N' = {trained}; median and range over {len(results.seeds)} seeds. Over-confidence is the "
            f"likeliest valid response's share of probability minus how often it is right. Dotted: the early "
            f"evaluation that the last one is compared with.",
            training(results),
        ),
        Drawing(
            "pass_at_n",
            "After the last step: exact Pass@N (left) and its difference to cross-entropy's (right) against "
            "N; a ring marks each run at N = N'. The best run at N is one whose N' is near N where the lines "
            "cross in the order of N'.",
            against_n(results),
        ),
        Drawing(
            "interventions",
            f"After the last step: Pass@{results.large} against Pass@1 for every arm, mean over seeds with "
            f"95 % intervals. Up and to the right is better; the line joins cross-entropy and DCO in the "
            f"order of N'. The open star is cross-entropy at the early evaluation.",
            interventions(results),
        ),
    ]


def _colours(results: Measurements) -> dict[str, Any]:
    return dict(zip(results.trained_for, draw.ordered_colours(len(results.trained_for)), strict=True))


def _label(results: Measurements, name: str) -> str:
    return f"{name}, N' = {results.trained_for[name]}" if name in results.trained_for else name


@mpl.rc_context(draw.STYLE)
def training(results: Measurements) -> Figure:
    """Four quantities against the step."""
    n = results.large
    panels: tuple[tuple[str, Callable[[Arm], np.ndarray]], ...] = (
        ("Pass@1", lambda arm: arm.passes[1]),
        (f"Pass@{n}", lambda arm: arm.passes[n]),
        (f"Cov$_{{{n}}}$", lambda arm: arm.coverage[n]),
        ("over-confidence", lambda arm: arm.overconfidence),
    )
    fig, axes = draw.new_figure(2, 2, (10.5, 7), sharex=True)
    for axis, (title, of) in zip(axes.flat, panels, strict=True):
        axis.axvline(results.baseline.steps[results.early], color=draw.INK, linestyle=":", linewidth=1)
        for name, colour in _colours(results).items():
            arm = results.arms[name]
            draw.line_over_seeds(axis, arm.steps, of(arm), colour, _label(results, name))
        axis.set_title(title)
    for axis in axes[1]:
        axis.set_xlabel("step")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def against_n(results: Measurements) -> Figure:
    """Pass@N after the last step."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.4))
    base = results.baseline
    for name, colour in _colours(results).items():
        arm, trained = results.arms[name], results.trained_for[name]
        for axis, of in (
            (axes[0, 0], lambda n, arm=arm: arm.passes[n][:, -1]),
            (axes[0, 1], lambda n, arm=arm: arm.passes[n][:, -1] - base.passes[n][:, -1]),
        ):
            curve = np.stack([of(n) for n in PASS_NS], axis=1)
            draw.line_over_seeds(axis, np.asarray(PASS_NS), curve, colour, _label(results, name))
            matched = float(np.median(of(trained)))
            axis.plot(
                trained, matched, "o", markersize=9, color=colour, fillstyle="none", markeredgewidth=1.6
            )
    for axis, title in zip(axes[0], ("Pass@N", "Pass@N minus cross-entropy's"), strict=True):
        axis.set(xscale="log", xlabel="N", title=title)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def interventions(results: Measurements) -> Figure:
    """Every arm at two N."""
    fig, axes = draw.new_figure(1, 1, (8.6, 5.6))
    axis, ordered = axes[0, 0], _colours(results)
    others = [name for name in results.arms if name not in ordered]
    middles = {
        name: [mean_interval(results.last(name, n)) for n in (1, results.large)] for name in results.arms
    }
    joined = [[middles[name][place].estimate for name in ordered] for place in (0, 1)]
    axis.plot(*joined, color="#999999", linewidth=1.0, zorder=1)
    for index, name in enumerate((*ordered, *others)):
        one, large = middles[name]
        axis.errorbar(
            one.estimate,
            large.estimate,
            xerr=draw.error_bars(one),
            yerr=draw.error_bars(large),
            color=ordered[name] if name in ordered else _COLOURS[index % len(_COLOURS)],
            marker="o" if name in ordered else _MARKERS[1 + index % (len(_MARKERS) - 1)],
            markersize=7,
            linewidth=1.0,
            linestyle="none",
            label=_label(results, name),
        )
    start = [results.baseline.passes[n][:, results.early].mean() for n in (1, results.large)]
    star: dict[str, Any] = {"markersize": 14, "color": draw.INK, "fillstyle": "none", "linestyle": "none"}
    axis.plot(*start, "*", label="cross-entropy, early", **star)
    axis.set(xlabel="Pass@1", ylabel=f"Pass@{results.large}")
    draw.legend_below(fig, [axis])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    ns = list(results.trained_for.values())
    return [_final(results, ns), _against_baseline(results, ns), _along(results)]


def _final(results: Measurements, ns: Sequence[int]) -> Table:
    rows: list[list[Any]] = []
    for name, arm in results.arms.items():
        row: list[Any] = [name, results.trained_for.get(name)]
        row += [float(arm.passes[n][:, -1].mean()) for n in ns]
        row += [float(arm.coverage[results.large][:, -1].mean()), float(arm.kl[:, -1].mean())]
        rows.append([*row, float(arm.overconfidence[:, -1].mean())])
    return (
        "After the last step, mean over seeds. Higher Pass@N, lower Cov_N and KL are better.",
        ["arm", "N'", *(f"Pass@{n}" for n in ns), f"Cov_{results.large}", "KL (nats)", "over-confidence"],
        rows,
    )


def _against_baseline(results: Measurements, ns: Sequence[int]) -> Table:
    first = next(iter(results.arms))
    rows: list[list[Any]] = []
    for name in list(results.arms)[1:]:
        gaps = [paired_difference_interval(results.last(name, n), results.last(first, n)) for n in ns]
        rows.append([name, *(cell for gap in gaps for cell in estimate_and_ends(gap))])
    return (
        f"After the last step, Pass@N minus that of {first}, paired by seed, with 95 % intervals.",
        ["arm", *(text for n in ns for text in (f"Pass@{n}", ""))],
        rows,
    )


def _along(results: Measurements) -> Table:
    titles, columns = zip(*results.baseline.quantities(results.large), strict=True)
    rows = [
        [int(step), *(float(values[:, i].mean()) for values in columns)]
        for i, step in enumerate(results.baseline.steps.tolist())
    ]
    heads = ["KL (nats)" if title == "KL" else title for title in titles]
    return f"Along training by {next(iter(results.arms))}, mean over seeds.", ["step", *heads], rows
