"""Figures and tables of experiments.vgb_average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Tables, format_interval
from covlab.report.plotting import Drawing
from experiments.vgb_average.measure import Measurements, Trained
from metrics import mean_interval

_COLOURS = (draw.BLUE, draw.ORANGE, draw.GREEN, draw.RED, draw.PURPLE)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    steps = max(results.settings.steps)
    return [
        Drawing(
            "horizon",
            f"Values trained on n rollouts, medians and ranges over the seeds. Left: KL(pi* || law) in nats "
            f"of the action level (solid) and of VGB after {steps} H^2 steps (dashed). Right: tokens of "
            f"outcome-level rejection for one response (dotted, exact), and steps of VGB to its first leaf.",
            horizon(results),
        ),
        Drawing(
            "guarantee",
            "Left: the shortfall E_pi*[(1 - N pi_hat/pi*)^+] of VGB against its steps over H^2, at the "
            "longest H, and what is guaranteed, M/T (dotted). Right: total variation of the walk with K "
            "children and exact values; dotted: 1/K.",
            guarantee(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def horizon(results: Measurements) -> Figure:
    """KL and cost against H."""
    fig, axes = draw.new_figure(1, 2, (11.6, 4.4))
    left, right = axes[0]
    h = np.asarray(results.settings.horizons)
    for index, n in enumerate(results.settings.rollouts):
        colour, name = _COLOURS[index % len(_COLOURS)], f"n = {n}"
        draw.line_over_seeds(left, h, results.table(n, lambda own: own.action.kl), colour, name)
        walked = results.table(n, lambda own: own.walks[-1].law.kl)
        draw.line_over_seeds(left, h, walked, colour, "", linestyle="--")
        draw.line_over_seeds(right, h, results.table(n, lambda own: own.first_steps), colour, name)
    right.plot(h, results.rejection(), ":", color=draw.INK, label="rejection")
    left.set(ylabel="KL (nats)", yscale="log", xlabel="horizon H")
    right.set(ylabel="tokens or steps", yscale="log", xlabel="horizon H")
    for axis in (left, right):
        axis.legend(fontsize=9)
    return fig


@mpl.rc_context(draw.STYLE)
def guarantee(results: Measurements) -> Figure:
    """The guarantee after a number of steps, and the error of few children."""
    fig, axes = draw.new_figure(1, 2, (11.6, 4.4))
    left, right = axes[0]
    settings = results.settings
    longest, factors = max(settings.horizons), np.sort(settings.steps)
    for index, n in enumerate(settings.rollouts):
        own = results.trained[longest, n]
        values = np.array([[walk.shortfall for walk in each.walks] for each in own])
        bound = np.array([[each.way_back / walk.steps for walk in each.walks] for each in own])
        colour = _COLOURS[index % len(_COLOURS)]
        draw.line_over_seeds(left, factors, values, colour, f"n = {n}")
        left.plot(factors, np.median(bound, axis=0), ":", color=colour)
    shades = draw.ordered_colours(len(settings.horizons))
    for index, h in enumerate(settings.horizons):
        right.plot(
            settings.children,
            results.few[index],
            marker="o",
            color=shades[index],
            label=f"H = {h}",
        )
    k = np.array(settings.children, float)
    right.plot(k, results.few.max() * k.min() / k, ":", color=draw.INK)
    left.set(xlabel="steps over $H^2$", ylabel="shortfall", yscale="log")
    right.set(xlabel="children K", ylabel=r"total variation to $\pi^*$", yscale="log")
    for axis, ticks in ((left, factors), (right, settings.children)):
        draw.log_ticks(axis, ticks)
        axis.legend(fontsize=9)
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    settings = results.settings
    columns: dict[str, Callable[[Trained], float]] = {
        "E V^/V": lambda own: own.over,
        "E V/V^": lambda own: own.under,
        "uniform": lambda own: own.uniform,
        "M/(2 H^2)": lambda own: own.way_back / (2 * own.depth**2),
        "KL, action level": lambda own: own.action.kl,
        "KL, first leaf": lambda own: own.first.kl,
        "KL, VGB": lambda own: own.walks[-1].law.kl,
        "TV, action level": lambda own: own.action.variation,
        "TV, first leaf": lambda own: own.first.variation,
        "TV, VGB": lambda own: own.walks[-1].law.variation,
        "steps, first leaf": lambda own: own.first_steps,
        "steps a response, VGB": lambda own: own.walks[-1].steps / own.walks[-1].leaf,
        "lost, action level": lambda own: own.action.lost,
        "lost, VGB": lambda own: own.walks[-1].law.lost,
    }
    rows: list[list[Any]] = [
        [h, n, *(float(np.mean([value(own) for own in every])) for value in columns.values())]
        for (h, n), every in results.trained.items()
    ]
    intervals: list[list[Any]] = []
    for (h, n), every in results.trained.items():
        kl = mean_interval(np.array([own.action.kl for own in every]))
        lost = mean_interval(np.array([own.action.lost for own in every]))
        intervals.append(
            [
                *(h, n, kl.estimate, format_interval((kl.low, kl.high))),
                *(lost.estimate, format_interval((lost.low, lost.high))),
            ]
        )
    few: list[list[Any]] = [
        [h, *row, tokens, steps]
        for h, row, tokens, steps in zip(
            settings.horizons,
            results.few.tolist(),
            results.rejection().tolist(),
            results.exact_steps.tolist(),
            strict=True,
        )
    ]
    return [
        (
            "Means over the seeds: average and uniform errors of the values, the mean way back M, KL and "
            "total variation to pi*, steps, and what the worst reward loses to Best-of-N.",
            ["H", "n", *columns],
            rows,
        ),
        (
            "KL of the action level, and what Best-of-N loses with it.",
            ["H", "n", "KL", "interval", "lost", "interval"],
            intervals,
        ),
        (
            "Exact values: total variation of the walk with K children; tokens of outcome-level rejection "
            "for one response; steps of VGB to its first leaf.",
            ["H", *(f"K = {k}" for k in settings.children), "rejection", "first leaf"],
            few,
        ),
    ]
