"""Figures and tables of experiments.vgb_delay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covlab.claims import decoders
from covlab.report.page import format_interval
from covlab.report.plotting import Drawing
from experiments.vgb_delay.measure import Measurements
from theory.vgb.laws import over_seeds


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    name = f"lambda = {settings.tilt:g}"
    return [
        Drawing(
            "horizon",
            f"Delay: total variation to pi* against the horizon. Left and middle: exact. Right: after "
            f"{settings.chain.steps} H^2 steps, 95 % interval over {len(settings.chain.seeds)} seeds.",
            decoders.errors({name: results.laws}, settings.horizons, "horizon H"),
        ),
        Drawing(
            "counts",
            f"Delay: law of mean(y) at H = {settings.horizons[-1]}, and its mean against the horizon; exact. "
            f"The action level's mean differs from 1/2 by the last bit alone.",
            decoders.counts(results.counts, results.mean, settings.horizons),
        ),
        Drawing(
            "mixing",
            f"Delay: how VGB mixes: total variation to pi* given a leaf, against steps over H^2, and the "
            f"steps after which it stays below delta = {settings.chain.delta:g}, over what is guaranteed.",
            decoders.mixing(
                {f"H = {law.depth}": law for law in results.laws}, {name: results.laws}, settings.chain
            ),
        ),
        Drawing(
            "parity",
            f"Parity, blocks of {settings.block}: queries (evaluations of the value function or verifier) "
            f"until the first response of reward 1; the action level exact, VGB's the mean of "
            f"{settings.parity_chains} chains with its 95 % interval.",
            decoders.costs(
                settings.horizons,
                np.array([result.action_level for result in results.parity]),
                [result.backtracking.queries for result in results.parity],
            ),
        ),
    ]


def tables(results: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    settings = results.settings
    rows = []
    for i, law in enumerate(results.laws):
        chain, mixing = over_seeds(law.chain), over_seeds(law.mixing_steps)
        beta = settings.tilt * law.depth
        rows.append(
            [
                *(law.depth, law.action_level, law.first_leaf, chain.estimate),
                *(format_interval((chain.low, chain.high)), results.divergence[i] / beta),
                *(over_seeds(law.divergence).estimate / beta, results.linear[i]),
                *(mixing.estimate, law.guarantee * math.log(1 / settings.chain.delta)),
                *(law.leaf_mass, law.guaranteed_leaf_mass),
                *(law.first_leaf_steps, law.steps_per_response),
            ]
        )
    parity = [
        [
            *(result.depth, result.success, result.action_level, result.backtracking.queries.estimate),
            format_interval((result.backtracking.queries.low, result.backtracking.queries.high)),
            *(float(result.backtracking.decoded.tokens.mean()), result.steps),
        ]
        for result in results.parity
    ]
    return [
        (
            "Delay: total variation to pi*; loss of regularised reward, beta KL; total variation of the "
            "action level where tau = mean(y); steps to mix and leaf mass beside what is guaranteed; mean "
            "number of steps a response.",
            [
                *("H", "action level", "first leaf", "VGB", "interval", "loss, action level", "loss, VGB"),
                *("action level, tau = mean", "steps to mix", "guaranteed", "leaf mass", "guaranteed"),
                *("steps, first leaf", "steps, VGB"),
            ],
            rows,
        ),
        (
            "Parity: probability that an attempt of the action level succeeds; queries until the first "
            "response of reward 1; model tokens and (exact) steps of VGB, lazy steps included.",
            [
                *("H", "success", "queries, action level", "queries, VGB", "interval", "tokens, VGB"),
                "steps, VGB",
            ],
            parity,
        ),
        decoders.sampled_table(results.goodness, results.sampled, settings.sampled_horizon),
    ]
