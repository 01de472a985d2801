"""Figures and tables of experiments.llm_judge."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Tables, format_interval
from covlab.report.plotting import Drawing
from experiments.llm_judge.measure import Measurements
from metrics import mean_interval

COLOURS = {"teacher": draw.BLUE, "near": draw.GREEN, "far": draw.RED, "alpha": draw.BLUE, "few": draw.ORANGE}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    return [
        Drawing(
            "predictions",
            f"Left: error against k at temperature 0, for the teacher as judge and for judges with a mean "
            f"square offset of {settings.near:g} and {settings.far:g} s^2; dots: simulation in dimension "
            f"{settings.dimension}, 95 % intervals. Right: the teacher as judge with {settings.alpha:g} and "
            f"{settings.few:g} examples per dimension; dotted: 1/k^2.",
            predictions(results),
        ),
        Drawing(
            "temperature",
            f"Error of {settings.fixed} predictions against the judge's temperature; the first point is "
            f"temperature 0.",
            temperature(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def predictions(results: Measurements) -> Figure:
    """Error against the number of predictions."""
    fig, axes = draw.new_figure(1, 2, (11.6, 4.6))
    left, right = axes[0]
    settings = results.settings
    for name, errors in results.at_k.items():
        left.plot(settings.ks, errors, color=COLOURS[name], label=f"judge: {name}")
    for k in (1, 4, 16):
        each = mean_interval(results.simulated[f"teacher, k = {k}"].errors)
        left.errorbar([k], [each.estimate], draw.error_bars(each), fmt="o", color=draw.INK, markersize=4)
    many = np.array(settings.many, float)
    for name, text in (("alpha", settings.alpha), ("few", settings.few)):
        errors = results.at_many[name]
        right.plot(many, errors, color=COLOURS[name], marker="o", label=f"{text:g} examples per dimension")
        right.plot(many, errors[0] * (many[0] / many) ** 2, ":", color=COLOURS[name])
    for axis, title in ((left, "judges"), (right, "exponents")):
        axis.set(xscale="log", yscale="log", title=title, xlabel="predictions k", ylabel="mean square error")
        axis.legend(fontsize=9)
    return fig


@mpl.rc_context(draw.STYLE)
def temperature(results: Measurements) -> Figure:
    """Error against the temperature."""
    fig, axes = draw.new_figure(1, 1, (6.4, 4.4))
    axis = axes[0, 0]
    grid = np.array([results.settings.temperatures[0] / 3, *results.settings.temperatures])
    for name, errors in results.at_temperature.items():
        axis.plot(grid, errors, color=COLOURS[name], marker="o", markersize=3, label=f"judge: {name}")
    axis.set(xscale="log", yscale="log", xlabel="temperature T / s^2", ylabel="mean square error")
    axis.legend(fontsize=9)
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    settings = results.settings
    rows: list[list[Any]] = [
        [k, *(float(errors[index]) for errors in results.at_k.values())]
        for index, k in enumerate(settings.ks)
    ]
    simulated: list[list[Any]] = []
    for name, each in results.simulated.items():
        found = mean_interval(each.errors)
        simulated.append([name, found.estimate, format_interval((found.low, found.high)), each.expected])
    return [
        ("Error at temperature 0, by judge.", ["k", *results.at_k], rows),
        (
            f"Simulation of {settings.datasets} data sets in dimension {settings.dimension}.",
            ["case", "error", "interval", "closed form"],
            simulated,
        ),
    ]
