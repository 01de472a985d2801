"""Figures and tables of experiments.particle_filtering."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Tables, format_interval
from covlab.report.plotting import Drawing
from experiments.particle_filtering.measure import Measurements
from metrics import mean_interval

COLOURS = (draw.BLUE, draw.ORANGE, draw.GREEN, draw.RED, draw.PURPLE)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    return [
        Drawing(
            "particles",
            f"Perfect values, exact. Left: total variation to pi* against H. Right: particles for a total "
            f"variation of {settings.error:g}; dotted: sqrt(H).",
            perfect(results),
        ),
        Drawing(
            "accuracy",
            f"Values one step late, means over {settings.groups} groups of leaves. Left: total variation to "
            f"pi*. Right: share of ones lost; dashed: with perfect values, exact. The error grows with H, "
            f"the loss does not.",
            accuracy(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def perfect(results: Measurements) -> Figure:
    """Errors and needed particles with perfect values."""
    fig, axes = draw.new_figure(1, 2, (11.6, 4.4))
    left, right = axes[0]
    settings = results.settings
    for index, n in enumerate(settings.particles):
        left.plot(
            settings.horizons,
            results.perfect[:, index],
            color=COLOURS[index % 5],
            marker="o",
            label=f"N = {n}",
        )
    left.plot(settings.horizons, results.at_root, "--", color=draw.INK, label="N = sqrt(H)")
    right.plot(settings.horizons, results.needed, color=draw.BLUE, marker="o")
    right.plot(settings.horizons, np.sqrt(settings.horizons), ":", color=draw.INK)
    for axis, label in ((left, "total variation to pi*"), (right, "particles needed")):
        axis.set(yscale="log", xlabel="horizon H", ylabel=label)
        draw.log_ticks(axis, settings.horizons)
    left.legend(fontsize=9)
    return fig


@mpl.rc_context(draw.STYLE)
def accuracy(results: Measurements) -> Figure:
    """Errors and losses with late values."""
    fig, axes = draw.new_figure(1, 2, (11.6, 4.4))
    settings = results.settings
    for axis, table, label in (
        (axes[0, 0], results.late_errors(), "total variation to pi*"),
        (axes[0, 1], results.late_losses(), "share of ones lost"),
    ):
        for index, n in enumerate(settings.particles):
            means = table[:, :, index].mean(axis=0)
            axis.plot(settings.late_horizons, means, color=COLOURS[index % 5], marker="o", label=f"N = {n}")
        axis.set(yscale="log", xlabel="horizon H", ylabel=label)
        draw.log_ticks(axis, settings.late_horizons)
    for index, loss in enumerate(results.losses):
        axes[0, 1].axhline(loss, linestyle="--", linewidth=1.0, color=COLOURS[index % 5])
    axes[0, 0].legend(fontsize=9)
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    settings = results.settings
    exact: list[list[Any]] = [
        [h, int(needed), root, *row]
        for h, needed, root, row in zip(
            settings.horizons, results.needed, results.at_root.tolist(), results.perfect.tolist(), strict=True
        )
    ]
    late: list[list[Any]] = []
    for (h, n), law in results.late.items():
        error, loss, rival = mean_interval(law.error), mean_interval(law.loss), results.rivals[h, n]
        late.append(
            [
                *(h, n, error.estimate, format_interval((error.low, error.high)), loss.estimate),
                *(
                    format_interval((loss.low, loss.high)),
                    rival.rejection,
                    rival.race,
                    rival.vgb,
                    rival.vgb_steps,
                ),
            ]
        )
    return [
        (
            "Perfect values: particles needed, and total variation with sqrt(H) and with N particles.",
            ["H", "needed", "sqrt(H)", *(f"N = {n}" for n in settings.particles)],
            exact,
        ),
        (
            "Late values: total variation and share of ones lost; at N H queries without values rejection "
            "and the uniform race; VGB's first leaf with late values and its steps.",
            ["H", "N", "error", "interval", "loss", "interval", "rejection", "race", "VGB", "VGB steps"],
            late,
        ),
    ]
