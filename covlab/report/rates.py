"""Exponents of measured rates: fits on logarithmic axes, intervals over instance draws, figures, tables.

A rate is an array (draws, sizes) of something positive on average, such as Cov_N, at each size. Draws at
different sizes are independent; draws of several methods at one size share their instances, so that ratios of
methods are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from metrics import Interval, line_fit

RESAMPLES = 2000
_LEGEND_ROW = 0.075
"""Height of a legend's row as a fraction of the axes' height."""
Centre = Literal["mean", "median"]


class Rate(NamedTuple):
    """Measured values of one quantity.

    Attributes:
        name: the method or quantity.
        values: one row per draw, one column per size.
        theory: the theorem's exponent; None if there is none.
        bound: the theorem's right-hand side at each size; None to draw no bound.
        centre: the fitted statistic: the mean, or the median where single draws may be 0 or infinite.
    """

    name: str
    values: Float[np.ndarray, "draws sizes"]
    theory: float | None = None
    bound: Float[np.ndarray, " sizes"] | None = None
    centre: Centre = "mean"


def at_sizes(
    values: Float[np.ndarray, "draws sizes"], centre: Centre = "mean"
) -> Float[np.ndarray, " sizes"]:
    """The mean or the median over the draws."""
    array = np.asarray(values, np.float64)
    return array.mean(axis=0) if centre == "mean" else np.median(array, axis=0)


def resampled(
    values: Float[np.ndarray, "draws sizes"], rng: np.random.Generator, centre: Centre = "mean"
) -> Float[np.ndarray, "resamples sizes"]:
    """`at_sizes` of bootstrap draws, taken with replacement independently at each size."""
    array = np.asarray(values, np.float64)
    draws, sizes = array.shape
    out = np.empty((RESAMPLES, sizes))
    for size in range(sizes):
        picked = array[rng.integers(draws, size=(RESAMPLES, draws)), size]
        out[:, size] = picked.mean(axis=1) if centre == "mean" else np.median(picked, axis=1)
    return out


def size_intervals(
    values: Float[np.ndarray, "draws sizes"], rng: np.random.Generator, centre: Centre = "mean"
) -> list[Interval]:
    """Percentile bootstrap, 95 %, of the centre at each size."""
    low, high = np.quantile(resampled(values, rng, centre), (0.025, 0.975), axis=0)
    return [
        Interval(float(m), float(a), float(b))
        for m, a, b in zip(at_sizes(values, centre), low, high, strict=True)
    ]


def exponent(
    sizes: Sequence[float],
    values: Float[np.ndarray, "draws sizes"],
    rng: np.random.Generator,
    centre: Centre = "mean",
    of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Interval:
    """The least-squares slope of ln(centre over the draws) in ln(size), with a percentile bootstrap of 95 %.

    The whole fit is repeated on resampled draws, so the interval says how chance in the draws moves the
    slope. It does not say that the points lie on a line. `of` transforms the centres (..., sizes) before the
    fit, for example to an excess over a known constant.

    Raises:
        ValueError: fewer than two sizes, or a centre that is not positive and so has no logarithm. Choose
            sizes and draws at which the quantity is seen, or the mean in place of the median.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != len(sizes) or len(sizes) < 2:
        raise ValueError(f"values: shape {array.shape}; valid: (draws, {len(sizes)}), at least 2 sizes")
    point = at_sizes(array, centre)
    many = resampled(array, rng, centre)
    if of is not None:
        point, many = of(point), of(many)
    if not (np.isfinite(point).all() and (point > 0).all()):
        raise ValueError(f"values: {centre}s {point.tolist()}; valid: finite and positive at every size")
    usable = many[(np.isfinite(many) & (many > 0)).all(axis=1)]
    if len(usable) < 0.95 * len(many):
        raise ValueError(
            f"values: {len(many) - len(usable)} of {len(many)} resamples have a {centre} that is not "
            f"positive; valid: more draws"
        )
    place = np.log(np.asarray(sizes, np.float64))
    slopes = line_fit(tuple(place), np.log(usable))[0]
    low, high = np.quantile(slopes, (0.025, 0.975))
    return Interval(float(line_fit(tuple(place), np.log(point))[0]), float(low), float(high))


def draw_rates(
    axis: Axes,
    sizes: Sequence[float],
    rates: Sequence[Rate],
    rng: np.random.Generator,
    colours: Sequence[Any] = (draw.BLUE, draw.RED, draw.GREEN, draw.ORANGE, draw.PURPLE, draw.INK),
) -> None:
    """One line per rate on logarithmic axes: centres with 95 % intervals, the fitted power law (thin), the
    theory's slope through the geometric middle of the points (dotted), and the bound (dashed)."""
    place = np.asarray(sizes, np.float64)
    for colour, rate in zip(colours, rates, strict=False):
        ends = size_intervals(rate.values, rng, rate.centre)
        centre = np.array([end.estimate for end in ends])
        seen = centre > 0
        label = rate.name
        if seen.all():
            fitted = exponent(sizes, rate.values, rng, rate.centre)
            label += f": slope {fitted.estimate:.2f} [{fitted.low:.2f}, {fitted.high:.2f}]"
            slope, intercept = line_fit(tuple(np.log(place)), np.log(centre))
            axis.plot(place, np.exp(intercept) * place**slope, color=colour, linewidth=0.9, alpha=0.8)
            if rate.theory is not None:
                label += f", theory {rate.theory:g}"
                middle = math.exp(float(np.mean(np.log(centre) - rate.theory * np.log(place))))
                axis.plot(place, middle * place**rate.theory, color=colour, linestyle=":", linewidth=1.4)
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none", "capsize": 3}
        axis.errorbar(
            place[seen], centre[seen], draw.error_bars(*ends)[:, seen], color=colour, label=label, **style
        )
        if rate.bound is not None:
            axis.plot(place, rate.bound, color=colour, linestyle=draw.DASHED, linewidth=1.2)
    axis.set_yscale("log")
    draw.log_ticks(axis, place)


class Panel(NamedTuple):
    """One pair of axes of `rates_figure`."""

    title: str
    xlabel: str
    ylabel: str
    sizes: Sequence[float]
    rates: Sequence[Rate]


@mpl.rc_context(draw.STYLE)
def rates_figure(panels: Sequence[Panel], rng: np.random.Generator) -> Figure:
    """Log-log panels side by side, each with a legend and room for it above the points."""
    fig, axes = draw.new_figure(1, len(panels), (6.2 * len(panels), 4.8))
    for axis, panel in zip(axes[0], panels, strict=True):
        draw_rates(axis, panel.sizes, panel.rates, rng)
        axis.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** (_LEGEND_ROW * len(panel.rates)))
        axis.legend(fontsize=8.5, loc="best")
    return fig


def rate_rows(sizes: Sequence[float], rates: Sequence[Rate], rng: np.random.Generator) -> list[list[Any]]:
    """Rows (name, size, centre, interval, bound) for a report's table."""
    rows: list[list[Any]] = []
    for rate in rates:
        ends = size_intervals(rate.values, rng, rate.centre)
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            bound = "" if rate.bound is None else float(rate.bound[index])
            rows.append([rate.name, size, end.estimate, format_interval((end.low, end.high)), bound])
    return rows


def largest_ratio(intervals: Sequence[Interval], by: Float[np.ndarray, " sizes"]) -> Interval:
    """The interval with the largest upper end after division by `by`."""
    ratios = (
        Interval(i.estimate / b, i.low / b, i.high / b) for i, b in zip(intervals, by.tolist(), strict=True)
    )
    return max(ratios, key=lambda interval: interval.high)
