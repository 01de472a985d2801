"""Figures and tables of experiments.state_tracking. Arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table, Tables
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.state_tracking.checks import described, share
from experiments.state_tracking.measure import CELLS, ORDERS, SOLVES, Measurements
from metrics import coverage_profile, name_of_n

COLOURS = {
    "positive_1": draw.ORANGE,
    "positive_2": draw.RED,
    "negative_1": draw.GREEN,
    "negative_2": draw.BLUE,
    "lstm": draw.PURPLE,
    "transformer": draw.INK,
}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    band = f"Lines are medians over {len(results.seeds)} seeds, bands their range."
    return [
        Drawing(
            "lengths",
            "Accuracy per token against the number of elements read. Dotted: the largest length of training. "
            f"Dashed: chance. Lines at 1 lie on one another. {band}",
            lengths(results),
        ),
        Drawing(
            "seeds",
            "Accuracy per token of every seed in the range of largest lengths. Filled: predicted to solve. "
            f"Dotted: the accuracy {results.solved:g}, from which on a seed has solved. Dashed: chance.",
            seeds(results),
        ),
        Drawing(
            "coverage",
            "Coverage profile of whole responses on strings of the range of largest lengths: the share of "
            f"strings whose response has a probability of at most 1/N. Dotted: a uniform guess. {band}",
            coverage(results),
        ),
    ]


def _panels(results: Measurements, width: float) -> tuple[Figure, list[tuple[str, Axes]]]:
    fig, axes = draw.new_figure(1, len(results.runs), (width * len(results.runs), 4.3), sharey="row")
    panels = list(zip(results.runs, axes[0], strict=True))
    for problem, axis in panels:
        axis.set(title=problem, ylim=(-0.02, 1.04))
    return fig, panels


def _chance(axis: Axes, problem: str) -> None:
    axis.axhline(1 / ORDERS[problem], color="#888888", linestyle=draw.DASHED, linewidth=1.2, label="chance")


@mpl.rc_context(draw.STYLE)
def lengths(results: Measurements) -> Figure:
    """Accuracy per token against the number of elements read, a line for each model."""
    fig, panels = _panels(results, 6.2)
    for problem, axis in panels:
        for model, run in results.runs[problem].items():
            read = np.arange(1, run.lengths.max() + 1)
            values = np.stack([run.accuracy((t, t)) for t in read.tolist()], axis=1)
            draw.line_over_seeds(axis, read, values, COLOURS[model], described(model))
        axis.axvline(results.ranges[problem][0][1] + 0.5, color="#888888", linestyle=":", linewidth=1.2)
        _chance(axis, problem)
        axis.set(xlabel="elements read")
    panels[0][1].set_ylabel("accuracy per token")
    draw.legend_below(fig, [panels[0][1]])
    return fig


@mpl.rc_context(draw.STYLE)
def seeds(results: Measurements) -> Figure:
    """A mark for each seed's accuracy on the longest strings, a column for each model."""
    fig, panels = _panels(results, 6.2)
    for problem, axis in panels:
        models = results.runs[problem]
        for place, (model, run) in enumerate(models.items()):
            values = run.accuracy(results.ranges[problem][-1])
            across = place + np.linspace(-0.22, 0.22, len(values))
            filled = model in SOLVES[problem]
            face = COLOURS[model] if filled else "white"
            axis.scatter(
                across, values, s=34, facecolors=face, edgecolors=COLOURS[model], linewidths=1.4, zorder=3
            )
        axis.axhline(results.solved, color="#888888", linestyle=":", linewidth=1.2)
        _chance(axis, problem)
        axis.set_xticks(range(len(models)), [_short(model) for model in models])
    panels[0][1].set_ylabel("accuracy per token")
    return fig


def _short(model: str) -> str:
    if model not in CELLS:
        return model
    negative, steps = CELLS[model]
    return f"[{-1 if negative else 0}, 1]\nn_h = {steps}"


@mpl.rc_context(draw.STYLE)
def coverage(results: Measurements) -> Figure:
    """Cov_N against ln N on the longest strings."""
    fig, panels = _panels(results, 5.6)
    for problem, axis in panels:
        longest = results.ranges[problem][-1]
        # A uniform guess among m elements gives n tokens a probability of m^-n.
        nats = np.linspace(0, 1.1 * longest[1] * np.log(ORDERS[problem]), 150)
        ns = np.exp(nats).tolist()
        for model, run in results.runs[problem].items():
            draw.line_over_seeds(axis, nats, run.coverage(longest, ns), COLOURS[model], described(model))
        guess: Any = {"color": "#888888", "linestyle": ":", "linewidth": 1.4, "label": "uniform guess"}
        axis.plot(nats, uniform_coverage(results, problem, longest, ns), **guess)
        axis.set(xlabel="ln N (nats)")
    panels[0][1].set_ylabel("Cov$_N$")
    draw.legend_below(fig, [panels[0][1]])
    return fig


def uniform_coverage(
    results: Measurements, problem: str, within: tuple[int, int], ns: Sequence[float]
) -> Float[np.ndarray, " n"]:
    """Cov_N of a uniform guess among m elements on the strings of these lengths: X = n ln m for n tokens."""
    run = next(iter(results.runs[problem].values()))
    return coverage_profile(run.lengths[run.strings(within)] * np.log(ORDERS[problem]), ns)


def tables(results: Measurements) -> Tables:
    """(caption, columns, rows) in the report's order."""
    coverages = [
        _coverage(results, problem, within) for problem in results.runs for within in results.ranges[problem]
    ]
    return [*(_outcomes(results, problem) for problem in results.runs), *coverages]


def _text(within: tuple[int, int]) -> str:
    return f"{within[0]}-{within[1]}"


def _outcomes(results: Measurements, problem: str) -> Table:
    rows: list[list[Any]] = []
    ranges = results.ranges[problem]
    for model, run in results.runs[problem].items():
        predicted = ("solves" if model in SOLVES[problem] else "does not") if model in CELLS else "none"
        row: list[Any] = [described(model), predicted, *estimate_and_ends(share(results, problem, model))]
        for within in ranges:
            accuracy = run.accuracy(within)
            row += [accuracy.mean(), f"{accuracy.min():.3f}-{accuracy.max():.3f}", run.whole(within).mean()]
        rows.append(row)
    words = ("per token", "over seeds", "whole")
    accuracies = [f"{_text(within)}: {word}" for within in ranges for word in words]
    return (
        f"{problem}: share of seeds that solve, with its exact 95 % interval, and accuracy by range of "
        f"lengths: per token (mean, least and largest over seeds) and of whole responses (mean). The range "
        f"{_text(ranges[0])} is trained on.",
        ["model", "predicted", "seeds that solve", "", *accuracies],
        rows,
    )


def _coverage(results: Measurements, problem: str, within: tuple[int, int]) -> Table:
    rows: list[list[Any]] = [
        [described(model), *run.coverage(within, results.coverage_ns).mean(axis=0).tolist()]
        for model, run in results.runs[problem].items()
    ]
    rows.append(["uniform guess", *uniform_coverage(results, problem, within, results.coverage_ns).tolist()])
    return (
        f"{problem}: coverage profile of whole responses to {_text(within)} elements, mean over seeds.",
        ["model", *(f"Cov_{name_of_n(n)}" for n in results.coverage_ns)],
        rows,
    )
