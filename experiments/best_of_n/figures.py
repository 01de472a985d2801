"""Figures and tables of experiments.best_of_n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rate_rows, rates_figure
from experiments.best_of_n.measure import Measurements
from tasks import numpy_stream

STATEMENTS = {
    "sufficient": ("Cov_M + eps", "worst loss at N = 2M ln(1/eps)"),
    "sufficient, half as many": ("Cov_M + eps", "worst loss at N = M ln(1/eps)"),
    "necessary": ("loss of the witness", "Cov_2N/2"),
    "witness": ("worst loss", "loss of the witness"),
    "hockey stick": ("worst loss", "E_N"),
}
"""Right and left side."""


def tail_rates(results: Measurements, alpha: float) -> list[Rate]:
    """The worst loss against N, what it lies between, and Cov_N."""
    return [
        Rate(label, results.tails[alpha, name], -alpha if name != "sufficient" else None)
        for name, label in (
            ("sufficient", "guarantee"),
            ("Cov", "Cov_N"),
            ("worst", "worst loss"),
            ("necessary", "lower bound Cov_2N/2"),
        )
    ]


def sample_rates(results: Measurements) -> list[Rate]:
    """Samples needed against M, for every epsilon, with the paper's 2M ln(1/eps)."""
    ratios = np.array(results.settings.ratios, float)
    return [
        Rate(f"eps = {epsilon:g}", results.needed[epsilon], 1.0, 2 * ratios * np.log(1 / epsilon))
        for epsilon in results.settings.epsilons
    ]


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    rng = numpy_stream(settings.seed, "best_of_n", "bootstrap", "figures")
    panels = [
        Panel(f"tail alpha = {alpha:g}", "samples N", "loss", settings.budgets, tail_rates(results, alpha))
        for alpha in settings.tails
    ]
    return [
        Drawing(
            "budget",
            f"The worst loss of Best-of-N against N, for tails P_T[pi_T/pi_hat >= u] = s (u/a)^-alpha: "
            f"means over {settings.draws} pairs with 95 % intervals, fitted power laws (thin) and slopes of "
            f"-alpha (dotted). The guarantee is the least Cov_M + e^(-N/2M) over M.",
            rates_figure(panels, rng),
        ),
        Drawing(
            "samples",
            "Samples that Best-of-N needs to lose at most Cov_M + eps under every reward, against the "
            "largest ratio M; dashed: 2M ln(1/eps), which is sufficient.",
            rates_figure(
                [Panel("samples needed", "ratio M", "samples N", settings.ratios, sample_rates(results))], rng
            ),
        ),
        Drawing(
            "slack",
            "Random pairs, all sizes. Left: worst loss against the guarantee Cov_M + eps, N = 2M ln(1/eps). "
            "Right: loss of the witness and of the worst reward against Cov_2N. Lines: equality; Cov_2N/2.",
            slack(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def slack(results: Measurements) -> Figure:
    """Both sides of the sufficient and of the necessary condition, a point a comparison."""
    fig, axes = draw.new_figure(1, 2, (12.4, 5.2))
    left, right = axes[0]
    dots: dict[str, Any] = {"s": 5, "alpha": 0.35, "linewidths": 0}
    crosses: dict[str, Any] = {"s": 9, "alpha": 0.5, "linewidths": 0.6, "marker": "x"}
    for colour, family in zip((draw.BLUE, draw.ORANGE), results.allowed, strict=True):
        sides, mask = results.sides["sufficient", family], results.allowed[family]
        shown = _some(sides.right[mask], sides.left[mask])
        left.scatter(*shown, color=colour, label=family, **dots)
        necessary, witness = results.sides["necessary", family], results.sides["witness", family]
        covered = 2 * necessary.left.ravel()
        worst, necessary_side = _some(covered, witness.right.ravel()), _some(covered, necessary.right.ravel())
        right.scatter(*worst, color=colour, label=f"{family}: worst reward", **dots)
        right.scatter(*necessary_side, color=colour, label=f"{family}: witness", **crosses)
    line = np.geomspace(1e-3, 1, 2)
    left.plot(line, line, color=draw.INK, linewidth=1.0)
    right.plot(line, line / 2, color=draw.INK, linewidth=1.0)
    left.set(title="sufficient", xlabel="Cov_M + eps", ylabel="worst loss")
    right.set(title="necessary", xlabel="Cov_2N", ylabel="loss")
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlim=(1e-3, 1.1), ylim=(1e-4, 1.1))
        axis.legend(fontsize=8.5, loc="best", markerscale=2)
    return fig


def _some(x: np.ndarray, y: np.ndarray, most: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Every k-th point, so that at most `most` are drawn."""
    step = max(1, -(-x.size // most))
    return x[::step], y[::step]


def tables(results: Measurements) -> list[tuple[str, list[str], Sequence[list[Any]]]]:
    """The report's tables."""
    settings = results.settings
    rng = numpy_stream(settings.seed, "best_of_n", "bootstrap", "tables")
    statements: list[list[Any]] = []
    for (name, family), sides in results.sides.items():
        above, below = STATEMENTS[name]
        quantiles = [float(q) for q in np.quantile(sides.ratios, (0.0, 0.05, 0.5, 0.95))]
        statements.append(
            [above, below, family, sides.left.size, float(np.mean(sides.left > 0)), *quantiles, sides.excess]
        )
    tails = [
        [alpha, *row[:4]]
        for alpha in settings.tails
        for row in rate_rows(settings.budgets, tail_rates(results, alpha), rng)
    ]
    return [
        (
            f"Random pairs of {settings.alphabets[0]} to {settings.alphabets[-1]} responses: right side over "
            f"left side where that is positive, and the largest left side minus right side.",
            [
                *("right side", "left side", "family", "comparisons", "left > 0"),
                *("least ratio", "5 %", "median", "95 %", "excess"),
            ],
            statements,
        ),
        (
            "Tails: losses against N, means over the pairs.",
            ["alpha", "quantity", "N", "mean", "interval"],
            tails,
        ),
        (
            "Samples needed to lose at most Cov_M + eps, means over the pairs; the bound is 2M ln(1/eps).",
            ["eps", "M", "mean", "interval", "bound"],
            rate_rows(settings.ratios, sample_rates(results), rng),
        ),
    ]
