"""Figures and tables of experiments.pessimism."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Tables, format_interval
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.pessimism.checks import on_strings
from experiments.pessimism.finite_sets import (
    BEST,
    OWN_SAMPLE,
    SAMPLE_MAXIMUM,
    THEORY,
    Tabular,
    multiple_name,
)
from experiments.pessimism.measure import Measurements
from metrics import mean_interval


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    many = f"{results.tabular.settings.instances} instances"
    return [
        Drawing(
            "finite_sets",
            "Finite sets: true reward against N, by coverage C (columns) and error eps (rows); means over "
            f"{many} with 95 % intervals. The best is 1; beta is in units of eps/sqrt(C).",
            _finite_sets(results.tabular),
        ),
        Drawing(
            "coverage",
            "Finite sets: regret against eps sqrt(C), each point a pair of eps and C, means with 95 % "
            "intervals. Pessimism at the largest N; Best-of-N there and at its best N, which is known in "
            "hindsight only. Dotted: the promise 2 eps sqrt(C).",
            _coverage(results.tabular),
        ),
        Drawing(
            "brackets",
            "Bracket strings, reward networks trained on few labels: share of balanced responses against N, "
            "means over seeds with 95 % intervals, Best-of-N also seed by seed (thin).",
            _brackets(results),
        ),
    ]


def _styles(multiples: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    colours = draw.ordered_colours(len(multiples))
    styles: dict[str, dict[str, Any]] = {BEST: {"color": draw.RED}}
    for colour, multiple in zip(colours, multiples, strict=True):
        style = {"color": colour} if multiple == 1 else {"color": colour, "linestyle": draw.DASHED}
        styles[multiple_name(multiple)] = style | {"linewidth": 2.2 if multiple == 1 else 1.3}
    return styles | {
        SAMPLE_MAXIMUM: {"color": draw.ORANGE, "linewidth": 1.3},
        OWN_SAMPLE: {"color": draw.PURPLE, "linewidth": 1.3},
    }


def _line(
    axis: Axes, ns: tuple[int, ...], curves: Float[np.ndarray, "rows n"], label: str, style: dict[str, Any]
) -> None:
    intervals = [mean_interval(column) for column in curves.T]
    axis.plot(ns, curves.mean(axis=0), label=label, **style)
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    axis.fill_between(ns, low, high, color=style["color"], alpha=0.12, linewidth=0)


@mpl.rc_context(draw.STYLE)
def _finite_sets(tabular: Tabular) -> Figure:
    settings = tabular.settings
    styles = _styles(settings.multiples)
    rows, columns = len(settings.errors), len(settings.coverages)
    size = (1.0 + 4.1 * columns, 0.9 + 2.8 * rows)
    fig, axes = draw.new_figure(rows, columns, size, sharex=True, sharey=True)
    for error, row in zip(settings.errors, axes, strict=True):
        for coverage, axis in zip(settings.coverages, row, strict=True):
            for name, style in styles.items():
                _line(axis, settings.ns, tabular.reward[error, coverage][name], name, style)
            axis.set(title=f"eps = {error:g}, C = {coverage:g}", xscale="log")
            axis.set_ylim(0, 1.03)
        row[0].set_ylabel("true reward")
    for axis in axes[-1]:
        axis.set_xlabel("responses N")
    draw.legend_below(fig, [axes[0][0]])
    return fig


@mpl.rc_context(draw.STYLE)
def _coverage(tabular: Tabular) -> Figure:
    fig, axes = draw.new_figure(1, 1, (7.4, 5.2))
    axis = axes[0][0]
    kinds = (
        (BEST, "Best-of-N, largest N", draw.RED, "o", False),
        (BEST, "Best-of-N, best N in hindsight", draw.ORANGE, "s", True),
        (THEORY, "pessimism, largest N", draw.BLUE, "D", False),
    )
    for rule, label, colour, marker, hindsight in kinds:
        points = []
        for (error, coverage), rules in tabular.reward.items():
            curves = rules[rule]
            place = int(np.argmax(curves.mean(axis=0))) if hindsight else -1
            regret = mean_interval(1 - curves[:, place])
            points.append((error * coverage**0.5, regret.estimate, regret.low, regret.high))
        x, y, low, high = np.array(sorted(points)).T
        error_bars = np.maximum([y - low, high - y], 0)
        axis.errorbar(x, y, error_bars, fmt=marker, color=colour, label=label, linewidth=1.2, markersize=5)
    line = np.geomspace(x.min(), x.max(), 2)
    axis.plot(line, 2 * line, color=draw.INK, linestyle=":", linewidth=1.2, label="2 eps sqrt(C)")
    axis.set(xscale="log", yscale="log", xlabel="eps sqrt(C)", ylabel="regret")
    axis.legend(fontsize=9)
    return fig


@mpl.rc_context(draw.STYLE)
def _brackets(results: Measurements) -> Figure:
    ns, arms = results.settings.pools.ns, results.arms
    fig, axes = draw.new_figure(1, len(arms), (1.0 + 5.4 * len(arms), 4.9))
    for axis, (name, arm) in zip(axes[0], arms.items(), strict=True):
        axis.plot(ns, arm.reward[BEST].T, color=draw.RED, linewidth=0.5, alpha=0.5)
        for rule, style in _styles(results.settings.tabular.multiples).items():
            _line(axis, ns, arm.reward[rule], rule, style)
        title = f"{name}: C = {arm.coverage.mean():.3g}, eps = {arm.error.mean():.2g}"
        axis.set(title=title, xscale="log", xlabel="responses N", ylabel="share of balanced responses")
        axis.set_ylim(0, None)
    draw.legend_below(fig, [axes[0][0]])
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    tabular, pools = results.tabular, results.settings.pools
    settings = tabular.settings
    finite = [
        [error, coverage, rule, *(_interval(column) for column in curves.T[_shown(settings.ns)])]
        for (error, coverage), rules in tabular.reward.items()
        for rule, curves in rules.items()
    ]
    strings = [
        [name, rule, *(_interval(column) for column in curves.T[_shown(pools.ns)])]
        for name, arm in results.arms.items()
        for rule, curves in arm.reward.items()
    ]
    limits = [
        [
            *cell,
            multiple,
            *(float(values[cell][:, place].mean()) for values in (tabular.limit, tabular.bound)),
        ]
        for cell in tabular.reward
        for place, multiple in enumerate(settings.multiples)
    ]
    heads = [[f"N = {ns[place]}" for place in _shown(ns)] for ns in (settings.ns, pools.ns)]
    return [
        ("Finite sets: true reward, means over the instances.", ["eps", "C", "rule", *heads[0]], finite),
        (
            "Finite sets: regret of pessimism for N to infinity, and its bound eps sqrt(C) + beta C/2 + "
            "eps^2/(2 beta), means over the instances; beta in units of eps/sqrt(C).",
            ["eps", "C", "beta", "regret", "bound"],
            limits,
        ),
        (
            "Bracket strings: share of balanced responses, means over seeds.",
            ["arm", "rule", *heads[1]],
            strings,
        ),
        (
            "Bracket strings, measured and not judged, because theory promises nothing there: means over "
            "seeds with 95 % intervals.",
            ["quantity", "mean", "interval"],
            [[text, *estimate_and_ends(each)] for text, each in on_strings(results.arms).items()],
        ),
    ]


def _interval(values: Float[np.ndarray, " rows"]) -> str:
    mean = mean_interval(values)
    return f"{mean.estimate:.3f} {format_interval((mean.low, mean.high))}"


def _shown(ns: tuple[int, ...]) -> list[int]:
    """Places of at most six N, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, len(ns) - 1, min(6, len(ns)))})
