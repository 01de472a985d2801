"""Figures and tables of experiments.sgd_coordinates; the tables are those of experiments.sgd_horizon."""

from __future__ import annotations

import numpy as np

from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rates_figure
from experiments.sgd_coordinates.measure import RULES, Measurements, named
from experiments.sgd_horizon.figures import tables

__all__ = ["drawings", "tables"]


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figure: one panel per rule, one line per batch, and SGD in every panel."""
    family = results.family
    sgd = named("SGD", results.batch)
    panels = [
        Panel(
            name,
            "H, tokens of a response",
            "updates needed, worst instance",
            family.horizons,
            [
                Rate(each, np.minimum(results.chosen[each].worst["mean"], family.updates), theory)
                for each, theory in (
                    *((named(name, batch), None) for batch in results.smaller_batches),
                    (named(name, results.batch), 0.0),
                    (sgd, 1.0),
                )
            ],
        )
        for name in RULES
    ]
    return [
        Drawing(
            "batches",
            f"Updates until the mean of Cov_N over the iterates is at most {family.target:g} on the worst "
            f"instance of the family, each method with its own best step size at every H. Means over draws, "
            f"95 % intervals. Dotted: the exponent that is expected (normalised rules) or proved (SGD).",
            rates_figure(panels, np.random.default_rng(results.seed)),
        )
    ]
