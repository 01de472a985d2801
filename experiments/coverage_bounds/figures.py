"""Figures and tables of experiments.coverage_bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, draw_rates, rate_rows, rates_figure
from experiments.coverage_bounds.measure import IN_LENGTH, Measurements, bernoulli_constants
from tasks import numpy_stream

SHOWN = (
    *("KL", "Hellinger", "stopped KL", "stopped KL, sharper"),
    *("Hellinger along", "converse", "transitivity", "answers"),
)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


def growth_rates(results: Measurements, family: str) -> list[Rate]:
    """Cov_N and its bounds against H, with the theory's exponents where there are any."""
    theory: dict[str, float | None] = {"bound by KL": 1.0, "bound by stopped KL": 0.0, "Cov": 0.0}
    if family == "every token":
        theory |= {"bound by stopped KL": None, "Cov": None}
    else:
        theory["lower bound"] = None
    n = results.settings.fitted_n
    return [
        Rate(f"Cov_{n}" if name == "Cov" else name, results.growth[family, name], exponent)
        for name, exponent in theory.items()
    ]


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    rng = numpy_stream(settings.seed, "coverage_bounds", "bootstrap", "figures")
    at = f"at N = {settings.fitted_n}"
    panels = [
        Panel(family, "tokens H", at, settings.sizes[family], growth_rates(results, family))
        for family in IN_LENGTH
    ]
    return [
        Drawing(
            "horizon",
            f"Cov_{settings.fitted_n} and its bounds against the length of the response: means over "
            f"{settings.draws} instances a size with 95 % intervals, fitted power laws (thin) and the "
            f"theory's slopes (dotted). A bound above 1 (grey line) says nothing.",
            _with_one(rates_figure(panels, rng)),
        ),
        Drawing(
            "slack",
            "Right side over left side of every inequality, by family of instances: range (thin), quartiles "
            "(thick) and median over all draws, sizes and N with a positive left side. 1 is attained. The "
            "share of right sides below 1 is at the right; of the converse, below ln W; of the bound of "
            "coverage from below (Hellinger along), of left sides above 0.",
            slack(results),
        ),
        Drawing(
            "tight",
            "Instances that attain the bounds. Left: Bernoulli(p) against Bernoulli(p/N), p from 1e-4 to "
            "1/2, and the largest ratio that theory allows (dashed). Right: 1 - KL/(its bound) for tails C/t "
            "cut into steps, slope -1 by theory.",
            tight(results, rng),
        ),
    ]


def _with_one(fig: Figure) -> Figure:
    for axis in fig.axes:
        axis.axhline(1.0, color="#aaaaaa", linewidth=1.0, zorder=0)
    return fig


@mpl.rc_context(draw.STYLE)
def slack(results: Measurements) -> Figure:
    """Ranges of right/left by inequality and family."""
    fig, axes = draw.new_figure(2, 4, (18.5, 7.4))
    for axis, name in zip(axes.ravel(), SHOWN, strict=True):
        families = results.of(name)
        for row, (family, sides) in enumerate(families.items()):
            if sides.ratios.size:
                low, first, median, third, high = np.quantile(np.minimum(sides.ratios, 1e6), LEVELS)
                axis.plot((low, high), (row, row), color=draw.BLUE, linewidth=1.0)
                axis.plot((first, third), (row, row), color=draw.BLUE, linewidth=5.0, alpha=0.5)
                axis.plot(median, row, color=draw.INK, marker="o", markersize=4)
            share, where = f"{informative(results, name, family):.0%}", ("axes fraction", "data")
            axis.annotate(share, (1.01, row), xycoords=where, va="center", fontsize=9, color=draw.INK)
        axis.axvline(1.0, color=draw.RED, linewidth=1.0)
        axis.set(xscale="log", title=name, xlim=(0.8, 1e6 if name != "converse" else 1e3))
        axis.set_yticks(range(len(families)), list(families))
        axis.set_ylim(len(families) - 0.5, -0.5)
    for axis in axes[1]:
        axis.set_xlabel("right side over left side")
    return fig


def informative(results: Measurements, inequality: str, family: str) -> float:
    """Share of comparisons whose right side is below the trivial bound: 1, or ln W for the KL; for the bound
    of coverage from below, with a left side above 0."""
    sides = results.sides[inequality, family]
    if inequality == "Hellinger along":
        return float(np.mean(sides.left > 0))
    trivial = 1.0 if inequality != "converse" else results.sides["converse below ln W", family].right
    return float(np.mean(sides.right < trivial))


@mpl.rc_context(draw.STYLE)
def tight(results: Measurements, rng: np.random.Generator) -> Figure:
    """The tight pairs of the bounds by KL and Hellinger, and of the converse."""
    sizes = results.settings.sizes
    n = np.array(sizes["bernoulli"], float)
    fig, axes = draw.new_figure(1, 2, (12.4, 4.8))
    axis, right = axes[0]
    for colour, (name, largest) in zip((draw.BLUE, draw.ORANGE), bernoulli_constants(n).items(), strict=True):
        sides = results.sides[name, "bernoulli"]
        ratios = (sides.right / sides.left)[:, :, 0]
        draw.line_over_seeds(axis, n, ratios, colour, f"by {name}: median and range")
        axis.plot(n, largest, color=colour, linestyle=draw.DASHED, linewidth=1.2)
    axis.set(xlabel="N", ylabel="bound over Cov_N", title="Bernoulli pair", ylim=(0.97, None))
    draw.log_ticks(axis, n)
    gap = Rate("heavy tail", results.growth["heavy tail", "gap"], -1.0)
    draw_rates(right, sizes["heavy tail"], [gap], rng)
    right.set(xlabel="steps of the tail", ylabel="1 - KL / bound", title="converse")
    for panel in (axis, right):
        panel.legend(fontsize=8.5, loc="best")
    return fig


def tables(results: Measurements) -> list[tuple[str, list[str], Sequence[list[Any]]]]:
    """The report's tables."""
    settings = results.settings
    rng = numpy_stream(settings.seed, "coverage_bounds", "bootstrap", "tables")
    slack_rows: list[list[Any]] = []
    for (name, family), sides in results.sides.items():
        if name not in SHOWN:
            continue
        sizes = settings.sizes[family]
        low, _, median, _, high = np.quantile(sides.ratios, LEVELS) if sides.ratios.size else [np.nan] * 5
        slack_rows.append(
            [
                *(name, family, f"{sizes[0]} to {sizes[-1]}", sides.left.size),
                *(float(np.mean(sides.left > 0)), float(low), float(median), float(high)),
                *(informative(results, name, family), sides.excess),
            ]
        )
    growth: list[list[Any]] = []
    for family in IN_LENGTH:
        for row in rate_rows(settings.sizes[family], growth_rates(results, family), rng):
            values = results.growth[family, "Cov" if row[0].startswith("Cov") else row[0]]
            column = list(settings.sizes[family]).index(row[1])
            growth.append([family, *row[:4], float(np.mean(values[:, column] >= 1))])
    return [
        (
            "Every inequality on every family: share of comparisons with a positive left side, right side "
            "over left side, share that says more than the trivial bound (1; ln W for the converse; 0 for "
            "Hellinger along, which bounds coverage from below), largest left side minus right side.",
            [
                *("inequality", "family", "sizes", "comparisons", "left > 0", "least ratio", "median ratio"),
                *("largest ratio", "informative", "excess"),
            ],
            sorted(slack_rows, key=lambda row: SHOWN.index(row[0])),
        ),
        (
            f"Against the length H at N = {settings.fitted_n}: mean over the instances, its 95 % interval, "
            f"and the share of instances at which it is 1 or more.",
            ["family", "quantity", "H", "mean", "interval", "share >= 1"],
            growth,
        ),
    ]
