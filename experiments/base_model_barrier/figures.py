"""Figures and tables of experiments.base_model_barrier."""

from __future__ import annotations

from covlab.report.page import Tables
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rate_rows, rates_figure
from experiments.base_model_barrier.measure import Measurements
from tasks import numpy_stream


def panels(results: Measurements) -> list[Panel]:
    """Queries against the likelihoods, and unsolved prompts against the budget."""
    s = results.settings
    return [
        Panel(
            f"H = {s.length}",
            "base likelihood of the response",
            "queries",
            s.likelihoods,
            [Rate("outcome", results.outcome, -1.0), Rate("process", results.process, 0.0)],
        ),
        Panel(
            f"H = {s.short}",
            "base likelihood of a token",
            "queries",
            s.tokens,
            [Rate("process", results.tokens, -1.0)],
        ),
        Panel(
            f"tail beta = {s.tail:g}",
            "queries per prompt",
            "share of prompts unsolved",
            s.budgets,
            [Rate("outcome", results.unsolved, -s.tail)],
        ),
    ]


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figure."""
    rng = numpy_stream(results.settings.seed, "base_model_barrier", "bootstrap", "figures")
    return [
        Drawing(
            "queries",
            f"Queries until the right response has probability {1 - results.settings.error:g}, and prompts "
            f"left unsolved: means over {results.settings.draws} draws with 95 % intervals, fitted power "
            f"laws (thin), slopes of theory (dotted).",
            rates_figure(panels(results), rng),
        )
    ]


def tables(results: Measurements) -> Tables:
    """The report's table."""
    rng = numpy_stream(results.settings.seed, "base_model_barrier", "bootstrap", "tables")
    rows = [
        [panel.title, *row[:4]]
        for panel in panels(results)
        for row in rate_rows(panel.sizes, panel.rates, rng)
    ]
    return [
        ("Means over the draws with 95 % intervals.", ["setting", "reward", "x", "mean", "interval"], rows)
    ]
