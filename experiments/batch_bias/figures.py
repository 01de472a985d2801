"""Figures and tables of experiments.batch_bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.plotting import Drawing
from experiments.batch_bias.measure import Measurements


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figure."""
    return [
        Drawing(
            "batch",
            "Least batch K with which normalised SGD with a small lambda rests where the rare response is "
            "covered (dots), against 1/p*; lines: ln 2/p*, and the theorem's B/(p* ln N).",
            batch(results),
        )
    ]


@mpl.rc_context(draw.STYLE)
def batch(results: Measurements) -> Figure:
    """Least batch against 1/p*."""
    settings = results.settings
    inverses = np.array(settings.inverses, float)
    fig, axes = draw.new_figure(1, 1, (7.4, 5.0))
    axis = axes[0, 0]
    wanted = [settings.theorem_batch_of(1 / inverse) for inverse in settings.inverses]
    axis.plot(inverses, wanted, color=draw.RED, linestyle=draw.DASHED, label="B/(p* ln N)")
    axis.plot(inverses, np.log(2) * inverses, color=draw.INK, label="ln 2/p*")
    axis.plot(inverses, results.least, "o", color=draw.BLUE, label="least K")
    axis.set(xscale="log", yscale="log", xlabel="1/p*", ylabel="sequences K of a batch")
    draw.log_ticks(axis, settings.inverses)
    draw.legend_below(fig, [axis])
    return fig


def tables(results: Measurements) -> list[tuple[str, list[str], Sequence[list[Any]]]]:
    """The report's tables."""
    settings = results.settings
    rows = [
        [
            *(inverse, float(results.factor[i]), float(results.single[i]), float(results.least[i])),
            *(settings.theorem_batch_of(1 / inverse), float(results.theorem[i])),
        ]
        for i, inverse in enumerate(settings.inverses)
    ]
    runs: list[list[Any]] = [
        [name, float(values.mean()), float(values.min()), float(values.max())]
        for name, values in results.runs.items()
    ]
    return [
        (
            "Resting points: p*/p at the proof's lambda and K = 1; at the small lambda, Cov_N over p* with K "
            "= 1, the least K with Cov_N = 0, the theorem's K and Cov_N over p* with it.",
            ["1/p*", "p*/p", "Cov_N over p*, K = 1", "least K", "theorem's K", "Cov_N over p*"],
            rows,
        ),
        (
            f"Runs from theta* at p* = 1/{round(1 / settings.run_bits.rare)}: mean of Cov_N over p* in the "
            f"second half of {settings.updates} updates.",
            ["rule and batch", "mean", "least", "largest"],
            runs,
        ),
    ]
