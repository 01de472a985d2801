"""Figures and tables of experiments.scaling_law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.plotting import Drawing
from experiments.scaling_law.measure import Measurements


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    return [
        Drawing(
            "samples",
            "Samples that Best-of-N needs to lose at most eps under every reward, against r = KL/eps. Line: "
            "(e^r - 1)/r. Dots: Ber(t) against Ber(t e^-r). Dotted: exp(KL/eps). At eps = "
            f"{settings.epsilon:g}: Propositions D.1 and D.6 (dashed), and a pair of the same KL with all "
            "ratios equal (crosses).",
            samples(results),
        ),
        Drawing(
            "shares",
            "The worst loss of Best-of-N over its bound KL/r(N) on random pairs: range (thin), quartiles "
            "(thick) and median over the pairs, at each N. 1 is the bound.",
            shares(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def samples(results: Measurements) -> Figure:
    """Samples needed against KL/eps."""
    settings, law = results.settings, results.law
    fig, axes = draw.new_figure(1, 1, (8.4, 5.4))
    axis = axes[0, 0]
    axis.plot(settings.ratios, law, color=draw.INK, label="(e^r - 1)/r")
    axis.plot(settings.ratios, np.exp(settings.ratios), color=draw.INK, linestyle=":", label="exp(KL/eps)")
    label = "Propositions D.1, D.6"
    axis.plot(settings.ratios, np.exp(results.printed), color=draw.RED, linestyle=draw.DASHED, label=label)
    colours = draw.ordered_colours(len(settings.masses))
    for mass, counted, colour in zip(settings.masses, results.needed, colours, strict=True):
        axis.plot(settings.ratios, counted, "o", color=colour, markersize=5, label=f"t = {mass:g}")
    axis.plot(settings.ratios, results.even, "x", color=draw.GREEN, label="all ratios equal")
    axis.set(yscale="log", xlabel="r = KL/eps", ylabel="samples N")
    draw.legend_below(fig, [axis])
    return fig


@mpl.rc_context(draw.STYLE)
def shares(results: Measurements) -> Figure:
    """Loss over bound, by family and N."""
    settings = results.settings
    fig, axes = draw.new_figure(1, len(results.shares), (4.4 * len(results.shares), 4.2), sharey=True)
    for axis, (name, values) in zip(axes[0], results.shares.items(), strict=True):
        low, first, median, third, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0), axis=0)
        axis.vlines(settings.ns, low, high, color=draw.BLUE, linewidth=1.0)
        axis.vlines(settings.ns, first, third, color=draw.BLUE, linewidth=5.0, alpha=0.5)
        axis.plot(settings.ns, median, color=draw.INK, marker="o", markersize=4, linewidth=0)
        axis.axhline(1.0, color=draw.RED, linewidth=1.0)
        axis.set(xscale="log", title=name, xlabel="samples N")
    axes[0, 0].set_ylabel("worst loss over KL/r(N)")
    return fig


def tables(results: Measurements) -> list[tuple[str, list[str], Sequence[list[Any]]]]:
    """The report's tables."""
    settings, law = results.settings, results.law
    counted = [
        [
            *(r, law[i], float(np.exp(r))),
            *(float(n) for n in results.needed[:, i]),
            *(float(results.tight[0, i]), float(results.even[i]), float(np.exp(results.printed[i]))),
        ]
        for i, r in enumerate(settings.ratios)
    ]
    spread = [
        [name, n, *(float(q) for q in np.quantile(values[:, i], (0.0, 0.5, 1.0)))]
        for name, values in results.shares.items()
        for i, n in enumerate(settings.ns)
    ]
    return [
        (
            "Samples needed for a loss of KL/r: the law, exp(r), pairs of bits by t; Cov_N over KL/(ln N - "
            f"1 + 1/N) at N = e^r and the least t; at eps = {settings.epsilon:g} the pair with all ratios "
            f"equal, and what Propositions D.1 and D.6 ask for.",
            [
                *("r", "(e^r - 1)/r", "exp(r)", *(f"t = {mass:g}" for mass in settings.masses)),
                *("Cov_N over its bound", "all ratios equal", "D.1 and D.6"),
            ],
            counted,
        ),
        (
            "Random pairs: worst loss over KL/r(N).",
            ["family", "N", "least", "median", "largest"],
            spread,
        ),
    ]
