"""Figures and tables of experiments.depth. Arrays are (seeds, ...)."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table, Tables
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.depth.measure import Measurements
from metrics import mean_interval, name_of_n


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    n, band = (
        name_of_n(results.settings.n),
        f"Lines are medians over {len(results.seeds)} seeds, bands their range.",
    )
    return [
        Drawing(
            "recursions",
            f"Cov_{n} and greedy accuracy against the number of recursions in evaluation. The colour is the "
            f"number in training, a circle marks the same number in evaluation. The training FLOP of all "
            f"lines of a problem are equal. {band}",
            against_recursions(results),
        ),
        Drawing(
            "training",
            f"Cov_{n} and greedy accuracy against the training FLOP per seed, by the number of recursions, "
            f"which is the same in evaluation. {band}",
            against_flops(results),
        ),
    ]


def _panels(results: Measurements) -> tuple[Figure, np.ndarray]:
    fig, axes = draw.new_figure(
        2, len(results.runs), (5.4 * len(results.runs), 6.8), sharex="col", sharey="row"
    )
    for axis, problem in zip(axes[0], results.runs, strict=True):
        axis.set_title(problem)
    axes[0, 0].set_ylabel(f"Cov$_{{{name_of_n(results.settings.n)}}}$")
    axes[1, 0].set_ylabel("greedy accuracy")
    for axis in axes.flat:
        axis.set_ylim(-0.03, 1.03)
    return fig, axes


def _lines(results: Measurements) -> list[tuple[int, Any, str]]:
    counts = results.settings.recursions
    colours = draw.ordered_colours(len(counts))
    return [(count, colour, f"trained with {count}") for count, colour in zip(counts, colours, strict=True)]


@mpl.rc_context(draw.STYLE)
def against_recursions(results: Measurements) -> Figure:
    """Coverage (top) and accuracy (bottom) against the number of recursions in evaluation."""
    fig, axes = _panels(results)
    tested = results.settings.tested
    for column, problem in enumerate(results.runs):
        for count, colour, label in _lines(results):
            for row, read in enumerate((results.coverage, results.accuracy)):
                values = np.stack([read(problem, count, other) for other in tested], axis=1)
                axis = axes[row, column]
                draw.line_over_seeds(axis, np.array(tested), values, colour, label)
                at = np.median(values[:, tested.index(count)])
                axis.plot([count], [at], "o", color=colour, markersize=8)
        draw.log_ticks(axes[1, column], tested)
        axes[1, column].set_xlabel("recursions in evaluation")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def against_flops(results: Measurements) -> Figure:
    """Coverage (top) and accuracy (bottom) along training."""
    fig, axes = _panels(results)
    for column, runs in enumerate(results.runs.values()):
        for count, colour, label in _lines(results):
            run = runs[count]
            flops = np.array(run.evaluated) * run.step_flops
            draw.line_over_seeds(axes[0, column], flops, run.curve_coverage, colour, label)
            draw.line_over_seeds(axes[1, column], flops, run.curve_accuracy, colour, label)
        axes[1, column].set_xlabel("training FLOP per seed")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> Tables:
    """The report's tables: one for each problem."""
    return [_table(results, problem) for problem in results.runs]


def _table(results: Measurements, problem: str) -> Table:
    rows: list[list[Any]] = []
    for trained, run in results.runs[problem].items():
        for tested, found in run.tested.items():
            row: list[Any] = [trained, run.steps, run.flops, tested]
            row += estimate_and_ends(mean_interval(found.accuracy))
            row.append(float(found.kl.mean()))
            rows.append(row + found.coverage(results.coverage_ns).mean(axis=0).tolist())
    return (
        f"{problem}: accuracy with its 95 % interval over seeds, KL (nats) and coverage profile, means over "
        f"seeds, by the number of recursions in training and in evaluation.",
        ["trained", "steps", "FLOP", "tested", "accuracy", "", "KL"]
        + [f"Cov_{name_of_n(n)}" for n in results.coverage_ns],
        rows,
    )
