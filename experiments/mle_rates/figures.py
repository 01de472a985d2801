"""Figures and tables of experiments.mle_rates."""

from __future__ import annotations

from collections.abc import Sequence

from covlab.claims import sweeps
from covlab.report.page import Tables
from covlab.report.plotting import Drawing
from experiments.mle_rates.measure import Measurements

_LINES = " 95 % intervals, thin: fitted slope, dotted: the theory's, dashed: bound."
FIGURES: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = (
    (
        "bernoulli",
        "Bernoulli models, worst p*. Bound: 8 ln(1/delta)/n." + _LINES,
        (("Bernoulli", "n"), ("Bernoulli", "ln 1/delta")),
    ),
    (
        "linear",
        "Overparameterised linear class. Bound: sqrt(sigma*^2/(n ln N)) + B^2/n, constants 1." + _LINES,
        (("linear", "n"), ("linear", "sigma*^2"), ("linear", "ln N")),
    ),
    (
        "finite",
        "Random finite classes, worst share of disturbed prefixes. Bound: 2N/(sqrt N - 1)^2 (ln |Pi| + 1)/n, "
        "from Hellinger's distance." + _LINES,
        (("finite class", "n"), ("finite class", "ln |Pi|"), ("finite class", "ln N")),
    ),
    (
        "convex",
        "A finite class and its convex hull, each where it is worst off. Bounds: d/(n ln N); d/(n N) + 1/n, "
        "constants 1." + _LINES,
        (("convex hull", "ln N"), ("convex hull", "N")),
    ),
)
"""Name, caption, and name and axis of each sweep."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    seed = results.settings.seed
    return [
        sweeps.drawing(name, caption, [results.sweeps[key] for key in keys], seed)
        for name, caption, keys in FIGURES
    ]


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    every, seed = list(results.sweeps.values()), results.settings.seed
    return [sweeps.exponent_table(every, seed), *sweeps.value_tables(every, seed)]
