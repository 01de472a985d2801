"""Figures and tables of experiments.interventions. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.interventions.measure import (
    DECODED,
    LARGE,
    SEQUENCE,
    TITLES,
    Curves,
    Measurements,
)
from metrics import mean_interval

COLOURS = dict(
    zip(
        TITLES,
        (draw.INK, draw.PURPLE, draw.RED, draw.BLUE, draw.ORANGE, draw.GREEN, draw.INK, draw.RED),
        strict=True,
    )
)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    count = len(results.seeds)
    return [
        Drawing(
            "lengths",
            f"KL and Cov_{results.n:g}, means over the iterates, against H: mean over {count} seeds with "
            f"95 % intervals. Lower is better.",
            against_length(results),
        ),
        Drawing(
            "training",
            f"KL and Cov_{results.n:g} along training at H = {results.longest}: each point is the mean over "
            f"the sequences since the last one, over {count} seeds.",
            along_training(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def against_length(results: Measurements) -> Figure:
    """Means over the iterates of every run."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.4))
    quantities: tuple[tuple[str, Callable[[Curves], np.ndarray]], ...] = (
        ("KL (nats)", lambda curves: curves.mean_kl),
        (f"Cov_{results.n:g}", lambda curves: curves.mean_cov),
    )
    for axis, (label, of) in zip(axes[0], quantities, strict=True):
        for index, (arm, title) in enumerate(TITLES.items()):
            ends = [mean_interval(of(runs[arm])) for runs in results.lengths.values()]
            axis.errorbar(
                [length * (1 + 0.02 * (index - 3.5)) for length in results.lengths],
                [end.estimate for end in ends],
                draw.error_bars(*ends),
                color=COLOURS[arm],
                linestyle=draw.DASHED if arm in LARGE else "-",
                marker="o",
                markersize=4,
                linewidth=1.2,
                capsize=2.5,
                label=title,
            )
        axis.set(xscale="log", xlabel="response length H (tokens)", ylabel=f"{label}, mean over iterates")
        draw.log_ticks(axis, results.lengths)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def along_training(results: Measurements) -> Figure:
    """Training records of every run at the longest H."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.4))
    for arm, curves in results.lengths[results.longest].items():
        at = np.cumsum(curves.spans) - curves.spans / 2
        for axis, values in zip(axes[0], (curves.kl, curves.cov), strict=True):
            axis.plot(
                at,
                values.mean(axis=0),
                color=COLOURS[arm],
                linestyle=draw.DASHED if arm in LARGE else "-",
                marker=".",
                label=TITLES[arm],
            )
    axes[0, 0].set(xlabel="sequences", ylabel="KL (nats)", yscale="log")
    axes[0, 1].set(xlabel="sequences", ylabel=f"Cov_{results.n:g}")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_trained(results), _decoded(results)]


def _trained(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for length, runs in results.lengths.items():
        for arm, curves in runs.items():
            last = (curves.kl[:, -1], curves.cov[:, -1])
            numbers = [estimate_and_ends(mean_interval(v)) for v in (curves.mean_kl, curves.mean_cov, *last)]
            cells = [cell for pair in numbers for cell in pair]
            rows.append([length, TITLES[arm], results.rates[length][arm], *cells])
    cov = f"Cov_{results.n:g}"
    return (
        "Means over the iterates, and over the last record's: mean over seeds with its 95 % interval.",
        ["H", "trained by", "rate", "KL (nats)", "", cov, "", "KL, last", "", f"{cov}, last", ""],
        rows,
    )


def _decoded(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for length, runs in results.lengths.items():
        for arm in DECODED:
            row: list[Any] = [length, TITLES[SEQUENCE] if arm == SEQUENCE else "a step per token"]
            for kind in ("kl", "cov"):
                row += [float(getattr(runs[arm], f"{law}_{kind}")[:, -1].mean()) for law in ("fixed", "ttt")]
                row += estimate_and_ends(getattr(runs[arm], f"{kind}_gain"))
            rows.append(row)
    heads = [
        *("KL, last, fixed", "with steps", "KL fixed - with, mean over iterates", ""),
        *("Cov, last, fixed", "with steps", "Cov fixed - with, mean over iterates", ""),
    ]
    return (
        f"Held-out pairs under the parameters, and under test-time training from them with the learning rate "
        f"of the step per token; N = {results.n:g}.",
        ["H", "trained by", *heads],
        rows,
    )
