"""Figures and tables of experiments.mle_horizon."""

from __future__ import annotations

from typing import Any

import numpy as np

from covlab.claims import sweeps
from covlab.report.page import Tables
from covlab.report.plotting import Drawing
from experiments.mle_horizon.measure import PER_TOKEN, THETAS, Measurements, swept
from theory.maximum_likelihood.bit_laws import bit_kl


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figure."""
    settings = results.settings
    return [
        sweeps.drawing(
            "horizon",
            f"Left: KL of the maximum-likelihood model; dashed, .1639 H/n times the probability that the "
            f"rare prompt is missing. Right: Cov_N at N = {settings.n:g}, dashed 1/(2n), and "
            f"the bound on it that KL gives, KL/(ln N - 1 + 1/N). Means over "
            f"{len(THETAS) * settings.draws} data sets of n = {settings.samples} with 95 % intervals, thin: "
            f"fitted slope, dotted: the theory's.",
            swept(results),
            settings.seed,
        )
    ]


def tables(results: Measurements) -> Tables:
    """The report's tables."""
    every, seed = swept(results), results.settings.seed
    return [
        sweeps.exponent_table(every, seed),
        *sweeps.value_tables(every, seed),
        reached_table(results),
        tie_table(),
    ]


def reached_table(results: Measurements) -> tuple[str, list[str], list[list[Any]]]:
    """The share of data sets whose KL reaches .1639 H/n and H/(4n)."""
    settings = results.settings
    rows = []
    for t, theta in enumerate(THETAS):
        for column, horizon in enumerate(settings.horizons):
            kl = results.kl[t, :, column] * settings.samples / horizon
            shares = [float((kl >= threshold * (1 - 1e-9)).mean()) for threshold in (PER_TOKEN, 0.25)]
            rows.append([theta, horizon, *shares, float(kl.max())])
    return (
        "Share of the data sets with KL >= .1639 H/n, and with the paper's KL >= H/(4n); largest KL n/H.",
        ["theta*", "H", ">= .1639 H/n", ">= H/(4n)", "largest KL n/H"],
        rows,
    )


def tie_table() -> tuple[str, list[str], list[list[Any]]]:
    """KL n/H where the tie is broken elsewhere, exactly."""
    rows: list[list[Any]] = []
    for tie in (-1.0, -0.5, 0.0, 0.5, 1.0):
        divergences = [float(bit_kl(np.asarray(2 * theta), np.asarray(2 * tie))) / 2 for theta in THETAS]
        rows.append([tie, *divergences, max(divergences)])
    return (
        "KL n/H on data without the rare prompt, when the tie is broken at another theta; exact.",
        ["tie at theta", "theta* = -1", "theta* = +1", "worse"],
        rows,
    )
