"""Quantities along one axis, with their exponents, tables and figures: the claims on maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from covlab.report.page import Tables, format_interval
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, exponent, largest_ratio, rate_rows, rates_figure, size_intervals
from covlab.report.verdict import Check, between
from metrics import Interval, line_fit, proportion_interval
from tasks import numpy_stream

UNKNOWN = Interval(math.nan, math.nan, math.nan)


class Sweep(NamedTuple):
    """Rates along one axis.

    Attributes:
        name: name of the instance.
        axis: the varied quantity, `n` or `ln N`.
        fixed: the fixed quantities, for the figure's title.
        sizes: values on the axis.
        rates: measured quantities with their theoretical exponents.
    """

    name: str
    axis: str
    fixed: str
    sizes: Sequence[float]
    rates: Sequence[Rate]

    @property
    def panel(self) -> Panel:
        """The sweep as axes of a figure."""
        return Panel(f"{self.name}: {self.fixed}", self.axis, "mean over data sets", self.sizes, self.rates)


def bootstrap(seed: int, *path: str | int) -> np.random.Generator:
    """The random stream of a bootstrap."""
    return numpy_stream(seed, "mle", "bootstrap", *path)


def slope(sweep: Sweep, index: int, seed: int) -> Interval:
    """The exponent of `sweep.rates[index]` in the axis; NaN, which passes no check, if some mean is 0."""
    rate = sweep.rates[index]
    try:
        return exponent(sweep.sizes, rate.values, bootstrap(seed, sweep.name, sweep.axis, index), rate.centre)
    except ValueError:
        return UNKNOWN


def slope_of_bound(sizes: Sequence[float], bound: Float[np.ndarray, " sizes"]) -> float:
    """The exponent of a bound, fitted at `sizes`."""
    return float(line_fit(tuple(np.log(np.asarray(sizes, float))), np.log(bound))[0])


def share_of_bound(sweep: Sweep, index: int, seed: int) -> Interval:
    """The mean divided by the bound, at the size where the upper end is largest.

    Raises:
        ValueError: the rate has no bound.
    """
    rate = sweep.rates[index]
    if rate.bound is None:
        raise ValueError(f"rates: {rate.name} has no bound")
    ends = size_intervals(rate.values, bootstrap(seed, sweep.name, sweep.axis, index, "bound"), rate.centre)
    return largest_ratio(ends, np.asarray(rate.bound, float))


def least_share(hits: Sequence[np.ndarray]) -> Interval:
    """The share of true entries, at the size where its lower Clopper-Pearson end is least."""
    ends = [proportion_interval(int(np.sum(hit)), int(np.size(hit))) for hit in hits]
    return min(ends, key=lambda each: each.low)


def near(name: str, interval: Interval, theory: float, within: float) -> tuple[Check, Check]:
    """Checks that the whole interval of an exponent lies within `within` of theory."""
    return between(name, interval, round(theory - within, 3), round(theory + within, 3))


def exponent_table(sweeps: Sequence[Sweep], seed: int) -> tuple[str, list[str], list[list[Any]]]:
    """Exponents as measured, of the theory and of the drawn bound."""
    rows: list[list[Any]] = []
    for sweep in sweeps:
        for index, rate in enumerate(sweep.rates):
            fitted = slope(sweep, index, seed)
            of_bound = None if rate.bound is None else slope_of_bound(sweep.sizes, rate.bound)
            sizes = f"{sweep.sizes[0]:.4g} to {sweep.sizes[-1]:.4g}"
            ends = format_interval((fitted.low, fitted.high)) if math.isfinite(fitted.low) else ""
            rows.append(
                [rate.name, sweep.axis, sizes, sweep.fixed, fitted.estimate, ends, rate.theory, of_bound]
            )
    return (
        "Exponents: slope of ln(mean over data sets) in ln(size), with 95 % bootstrap intervals over the "
        "data sets, beside the theory's and the slope of the drawn bound at the same sizes.",
        ["quantity", "in", "sizes", "fixed", "exponent", "interval", "theory", "bound's own"],
        rows,
    )


def value_tables(sweeps: Sequence[Sweep], seed: int) -> Tables:
    """One table per sweep: means, intervals and bounds at every size."""
    return [
        (
            f"{sweep.name}, against {sweep.axis}: {sweep.fixed}. Mean over data sets.",
            ["quantity", sweep.axis, "mean", "interval", "bound"],
            rate_rows(sweep.sizes, sweep.rates, bootstrap(seed, sweep.name, sweep.axis, "table")),
        )
        for sweep in sweeps
    ]


def drawing(name: str, caption: str, sweeps: Sequence[Sweep], seed: int) -> Drawing:
    """Log-log panels side by side."""
    figure = rates_figure([sweep.panel for sweep in sweeps], bootstrap(seed, name, "figure"))
    return Drawing(name, caption, figure)


def as_row(values: Sequence[float]) -> Float[np.ndarray, "one sizes"]:
    """Exact numbers as the single draw of a `Rate`, whose interval has width 0."""
    return np.asarray([list(values)], np.float64)


def columns(
    values: Sequence[Float[np.ndarray, " draws"]] | Sequence[Int[np.ndarray, " draws"]],
) -> np.ndarray:
    """Draws of each size as the columns of `Rate.values`."""
    return np.stack([np.asarray(draws, np.float64) for draws in values], axis=1)


def shown(sizes: Sequence[float] | Float[np.ndarray, " sizes"]) -> tuple[float, ...]:
    """Sizes to four digits, as an axis shows them."""
    return tuple(float(f"{float(size):.4g}") for size in sizes)
