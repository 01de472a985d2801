"""Figures and tables of experiments.uniform_race."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Tables
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rates_figure
from experiments.uniform_race.measure import FAMILIES, METHODS, Measurements
from tasks import numpy_stream

COLOURS = (draw.BLUE, draw.ORANGE, draw.GREEN, draw.RED, draw.PURPLE, "#888888", draw.INK)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    rng = numpy_stream(settings.seed, "uniform_race", "bootstrap", "figures")
    panels = [
        Panel(f"tail alpha = {alpha:g}", "candidates N", "total variation to pi*", settings.budgets, rates)
        for alpha, rates in (
            (alpha, [
                Rate("race", results.tails[alpha, "race"], -alpha),
                Rate("resampling", results.tails[alpha, "resampling"], -min(alpha, 1.0)),
                Rate("Cov_N", results.tails[alpha, "Cov"], -alpha),
            ])
            for alpha in settings.tails
        )
    ]  # fmt: skip
    return [
        Drawing(
            "pairs",
            f"Total variation to pi* against N, medians over {settings.draws} random pairs of "
            f"{settings.alphabets[-1]} responses. Thresholds are the best for each pair and N, or 4 times "
            f"too large or small. Dashed: (1 - Z/w_max)^N.",
            medians(results),
        ),
        Drawing(
            "tails",
            f"Density ratios with a tail of exponent alpha: means over {settings.draws} pairs, fitted power "
            f"laws (thin) and slopes of theory (dotted).",
            rates_figure(panels, rng),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def medians(results: Measurements) -> Figure:
    """One panel a family, one line a method."""
    fig, axes = draw.new_figure(1, len(FAMILIES), (13.2, 4.4))
    for index, (axis, family) in enumerate(zip(axes[0], FAMILIES, strict=True)):
        for name, colour in zip(METHODS, COLOURS, strict=True):
            values = np.maximum(np.median(results.errors[name][index, -1], axis=0), 1e-12)
            style = "--" if name == "bound" else "-"
            axis.plot(results.settings.ns, values, style, color=colour, label=name, marker="o", markersize=3)
        axis.set(yscale="log", title=family, xlabel="candidates N", ylim=(1e-6, 1.2))
        draw.log_ticks(axis, results.settings.ns)
    axes[0, 0].set_ylabel("total variation to pi*")
    axes[0, 0].legend(fontsize=8.0)
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    settings = results.settings
    rows: list[list[Any]] = [
        [family, size, n, *(float(np.median(results.errors[name][i, j, :, k])) for name in METHODS)]
        for i, family in enumerate(FAMILIES)
        for j, size in enumerate(settings.alphabets)
        for k, n in enumerate(settings.ns)
    ]
    tails: list[list[Any]] = [
        [
            alpha,
            n,
            *(float(results.tails[alpha, name][:, k].mean()) for name in ("race", "resampling", "Cov")),
        ]
        for alpha in settings.tails
        for k, n in enumerate(settings.budgets)
    ]
    return [
        ("Random pairs: total variation to pi*, medians.", ["family", "responses", "N", *METHODS], rows),
        ("Tails: means over the pairs.", ["alpha", "N", "race", "resampling", "Cov_N"], tails),
    ]
