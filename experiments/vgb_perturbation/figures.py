"""Figures and tables of experiments.vgb_perturbation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covlab.claims import decoders
from covlab.report.page import format_interval
from covlab.report.plotting import Drawing
from experiments.vgb_perturbation.measure import Measurements
from theory.vgb.laws import over_seeds


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    steps = settings.chain.steps
    columns = {
        f"eps = {eps:g}": [results.laws[h, eps] for h in settings.horizons] for eps in settings.epsilons
    }
    rows = {f"H = {h}": [results.laws[h, eps] for eps in settings.epsilons] for h in settings.horizons}
    largest = settings.epsilons[-1]
    return [
        Drawing(
            "horizon",
            f"Total variation to pi* against the horizon, one colour an eps. Left: exact. Middle: exact. "
            f"Right: after {steps} H^2 steps, 95 % intervals over {len(settings.chain.seeds)} seeds. Dashed: "
            f"min(eps sqrt H, 1)/4.",
            decoders.errors(
                columns,
                settings.horizons,
                "horizon H",
                [np.minimum(eps * np.sqrt(settings.horizons), 1) / 4 for eps in settings.epsilons],
            ),
        ),
        Drawing(
            "epsilon",
            "The same against the error eps of the value function, one colour a horizon.",
            decoders.errors(rows, settings.epsilons, "eps"),
        ),
        Drawing(
            "mixing",
            f"How VGB mixes, eps = {largest:g}: total variation to pi* given a leaf, against steps over H^2, "
            f"and the steps after which it stays below delta = {settings.chain.delta:g}, over what is "
            f"guaranteed.",
            decoders.mixing(
                {f"H = {h}": results.laws[h, largest] for h in settings.horizons}, columns, settings.chain
            ),
        ),
    ]


def tables(results: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    rows = []
    for (h, eps), law in results.laws.items():
        chain, mixing = over_seeds(law.chain), over_seeds(law.mixing_steps)
        rows.append(
            [
                *(h, eps, law.action_level, law.first_leaf, chain.estimate),
                *(format_interval((chain.low, chain.high)), mixing.estimate),
                *(law.guarantee * math.log(1 / results.settings.chain.delta), law.leaf_mass),
                *(law.guaranteed_leaf_mass, law.first_leaf_steps, law.steps_per_response),
            ]
        )
    return [
        (
            "Total variation to pi*; steps to mix and leaf mass beside what is guaranteed; mean number of "
            "steps a response.",
            [
                *("H", "eps", "action level", "first leaf", "VGB", "interval", "steps to mix", "guaranteed"),
                *("leaf mass", "guaranteed", "steps, first leaf", "steps, VGB"),
            ],
            rows,
        ),
        decoders.sampled_table(results.goodness, results.sampled, results.settings.sampled_horizon),
    ]
