"""Figures and tables of experiments.mle_lower_bounds."""

from __future__ import annotations

from covlab.claims import sweeps
from covlab.report.page import Tables
from covlab.report.plotting import Drawing
from experiments.mle_lower_bounds.measure import Measurements

_LINES = " Means over data sets with 95 % intervals, thin: fitted slope, dotted: the theory's, dashed: "
FIGURES = (
    ("coarse", "Coarse term." + _LINES + "the promised (d - 1)/(10 n).", "coarse"),
    ("fine", "Fine term." + _LINES + "c0^3 d/(n ln N), reached if pi_D is always missed.", "fine"),
    (
        "variance",
        "Inherent variance." + _LINES + "the upper bound sqrt(sigma*^2/(n ln N)) + B^2/n, constants 1.",
        "variance",
    ),
)
"""Name, caption, and name of the sweeps."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    every, seed = list(results.sweeps.values()), results.settings.seed
    return [
        sweeps.drawing(name, caption, [sweep for sweep in every if sweep.name == family], seed)
        for name, caption, family in FIGURES
    ]


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    every, seed = list(results.sweeps.values()), results.settings.seed
    return [sweeps.exponent_table(every, seed), *sweeps.value_tables(every, seed)]
