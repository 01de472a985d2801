"""Figures and tables of experiments.vgb_dyck."""

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
from covlab.report.tables import interval_text
from experiments.vgb_dyck.checks import RIVALS, ahead, fronts
from experiments.vgb_dyck.measure import Measurements
from experiments.vgb_dyck.sweep import (
    ACTION_LEVEL,
    BASE,
    BLOCK_BEST,
    BLOCK_REJECTION,
    OUTCOME,
    VALUE_GUIDED,
    WITHOUT_BACKTRACKING,
)
from experiments.vgb_dyck.trees import ACTION, FIRST, FIXED
from metrics import hypervolume, mean_interval, seeds_and_prompts_interval

COLOURS = {
    VALUE_GUIDED: draw.RED,
    BLOCK_BEST: draw.BLUE,
    BLOCK_REJECTION: draw.GREEN,
    ACTION_LEVEL: draw.PURPLE,
    OUTCOME: draw.ORANGE,
    BASE: draw.INK,
}
MARKS = {VALUE_GUIDED: "*", BASE: "x", OUTCOME: "D", ACTION_LEVEL: "s"}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    return [
        Drawing(
            "frontier",
            "Out-of-distribution prompts: diversity against accuracy at each budget of queries, means over "
            "seeds and prompts. A point is a setting of a decoder; the lines bound what VGB dominates, and "
            "what the decoders that use values and never go back do.",
            frontier(results),
        ),
        Drawing(
            "queries",
            "Out-of-distribution prompts: accuracy against the mean number of queries of a response, means "
            "over seeds and prompts; a line joins a setting's budgets.",
            accuracy_by_queries(results),
        ),
        Drawing(
            "values",
            f"Exact total variation to pi* on trees of {results.trees.settings.horizon} tokens, median and "
            "range over the seeds: exact values with a multiplicative error, and values learned for so many "
            "steps.",
            error_by_quality(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def frontier(results: Measurements) -> Figure:
    """Diversity against accuracy, a panel for each budget."""
    sweep, budgets = results.sweep, results.sweep.grid.budgets
    fig, axes = draw.new_figure(1, len(budgets), (3.9 * len(budgets) + 0.6, 4.4), sharex=True, sharey=True)
    for axis, budget in zip(axes[0], budgets, strict=True):
        for family in COLOURS:
            points = sweep.points(sweep.methods(family, budget), budget).mean(axis=(0, 1))
            guided = family == VALUE_GUIDED
            axis.scatter(
                *points.T, color=COLOURS[family], marker=MARKS.get(family, "o"), s=130 if guided else 26,
                alpha=1.0 if guided else 0.75, linewidths=1 if family == BASE else 0,
                zorder=3 if guided else 2, label=family if axis is axes[0, 0] else None,
            )  # fmt: skip
        for families, colour in (((VALUE_GUIDED,), draw.RED), (WITHOUT_BACKTRACKING, draw.BLUE)):
            methods = [method for family in families for method in sweep.methods(family, budget)]
            _front(axis, sweep.points(methods, budget).mean(axis=(0, 1)), colour)
        axis.set(title=f"at most {budget} queries", xlabel="accuracy")
    axes[0, 0].set_ylabel(f"different correct responses of {sweep.grid.samples}, share")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _front(axis: Axes, points: Float[np.ndarray, "points 2"], colour: str) -> None:
    """The edge of the area that the points dominate, from the one axis to the other: alone, the best point's
    rectangle."""
    best = 0.0
    kept = [(float(points[:, 0].max()), best)]
    for x, y in sorted(points.tolist(), reverse=True):
        if y > best:
            kept.append((x, y))
            best = y
    x, y = np.array([*kept, (0.0, best)]).T
    axis.step(x, y, where="post", color=colour, linewidth=1.2, alpha=0.8)


@mpl.rc_context(draw.STYLE)
def accuracy_by_queries(results: Measurements) -> Figure:
    """A line for each setting over the budgets; the base model, which asks nothing, is dashed."""
    fig, axes = draw.new_figure(1, 1, (6.6, 4.6))
    axis, shown = axes[0, 0], set()
    for method, curve in results.sweep.curves.items():
        queries, accuracy = (array.mean(axis=(0, 1)) for array in (curve.queries, curve.accuracy))
        if method.family == BASE:
            axis.axhline(accuracy[-1], color=draw.INK, linestyle=draw.DASHED, linewidth=1.2, label=BASE)
            continue
        axis.plot(
            queries, accuracy, color=COLOURS[method.family], marker=MARKS.get(method.family, "o"),
            markersize=8 if method.family == VALUE_GUIDED else 4, linewidth=1.2, alpha=0.85,
            label=method.family if method.family not in shown else None,
        )  # fmt: skip
        shown.add(method.family)
    axis.set(xlabel="queries a response", ylabel="accuracy", xscale="log")
    draw.legend_below(fig, [axis])
    return fig


@mpl.rc_context(draw.STYLE)
def error_by_quality(results: Measurements) -> Figure:
    """Total variation against the size of the values' error, and against the training of the values."""
    trees = results.trees
    fig, axes = draw.new_figure(1, 2, (11.0, 4.2))
    styles = {ACTION: draw.PURPLE, FIRST: draw.ORANGE, FIXED: draw.RED}
    for axis, x, curves in (
        (axes[0, 0], np.asarray(trees.settings.errors), trees.corrupted),
        (axes[0, 1], np.asarray(trees.steps), trees.learned),
    ):
        for law, colour in styles.items():
            label = law if law != FIXED else f"VGB, {trees.settings.steps} steps"
            draw.line_over_seeds(axis, x, curves[law], colour, label)
        axis.set_ylabel("total variation to pi*")
        axis.set_ylim(bottom=0)
    axes[0, 0].set(title="exact values with errors", xlabel="multiplicative error eps")
    axes[0, 1].set(title="learned values", xlabel="training step of the value function")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_fronts(results), _methods(results), _values(results)]


def _fronts(results: Measurements) -> Table:
    rows = []
    for rival in RIVALS:
        for budget in results.sweep.grid.budgets:
            pair = fronts(results, rival, budget)
            volumes = [float(hypervolume(points.mean(axis=(0, 1)))) for points in pair]
            difference = interval_text(ahead(results, rival, budget), ".3g")
            rows.append([rival, budget, pair[0].shape[2], *(f"{each:.3g}" for each in volumes), difference])
    return (
        "Hypervolume of accuracy and diversity out of distribution, of so many settings of VGB and as many "
        "of the rival; difference [95 % over seeds and prompts].",
        ["rival", "queries, at most", "settings", "VGB", "rival's", "VGB minus rival"],
        rows,
    )


def _methods(results: Measurements) -> Table:
    last = results.sweep.grid.budgets[-1]
    rows = []
    for method, curve in results.sweep.curves.items():
        shares = [
            interval_text(seeds_and_prompts_interval(array[..., -1]), ".3g")
            for array in (curve.accuracy, curve.diversity)
        ]
        rows.append([method.family, method.label, *shares, round(float(curve.queries[..., -1].mean()), 1)])
    return (
        f"Every setting with at most {last} queries, out of distribution: mean [95 %, seeds and prompts].",
        ["decoder", "setting", "accuracy", "diversity", "queries"],
        rows,
    )


def _values(results: Measurements) -> Table:
    trees = results.trees
    rows: list[list[Any]] = []
    for column, error in enumerate(trees.settings.errors):
        laws = [_mean(trees.corrupted[law][:, column]) for law in (ACTION, FIRST, FIXED)]
        rows.append(["exact, with an error", f"eps = {error:g}", "", *laws])
    for column, step in enumerate(trees.steps):
        laws = [_mean(trees.learned[law][:, column]) for law in (ACTION, FIRST, FIXED)]
        rows.append(["learned", f"step {step}", _mean(trees.rmse[:, column]), *laws])
    return (
        "Exact total variation to pi* on enumerated trees, mean over prompts and seeds [95 % over seeds].",
        ["values", "quality", "RMSE to V", ACTION, FIRST, f"VGB, {trees.settings.steps} steps"],
        rows,
    )


def _mean(values: Float[np.ndarray, " seeds"]) -> str:
    return interval_text(mean_interval(values), ".3g")
