"""Figures and tables of experiments.architectures."""

from __future__ import annotations

from typing import Any

import numpy as np

from covlab.claims.shortcut import CLASS_BLIND_MIN_KL, COVERAGE_NS, PAIRS, PASS_NS, FineTuning
from covlab.report.curves import learning_curves, scatter_pass_at_n
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from experiments.architectures.measure import Measurements
from metrics import name_of_n


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures: both plots of Figure 1 for each model."""
    made = []
    for name, run in results.runs.items():
        steps = np.asarray(run.matrices.steps)
        made += [
            Drawing(
                f"curves_{name}",
                f"{name}: KL (nats) and the coverage profile against the fine-tuning step; median and range "
                f"over the seeds. Dashed: the best class-blind KL, 0.325.",
                learning_curves(steps, run.kl, run.cov, {"best class-blind KL": CLASS_BLIND_MIN_KL}),
            ),
            Drawing(
                f"scatter_{name}",
                f"{name}: every checkpoint as a point, Pass@N against coverage (top) and against KL "
                f"(bottom), with the checkpoints that the tournament and the least KL pick for every seed.",
                scatter_pass_at_n(
                    steps,
                    {n: run.passes[n] for n in PAIRS},
                    {m: run.cov[m] for m in PAIRS.values()},
                    run.kl,
                    {"tournament": run.chosen, "min KL": run.lowest},
                ),
            ),
        ]
    return made


def tables(results: Measurements) -> list[Table]:
    """The report's table: four checkpoints of each model."""
    rows = [row for name, run in results.runs.items() for row in _rows(name, run)]
    header = ["model", "checkpoint", "step", "KL", *(f"Cov_{name_of_n(m)}" for m in COVERAGE_NS)]
    return [
        (
            "Checkpoints of the fine-tuning runs, means over the seeds.",
            [*header, *(f"Pass@{n}" for n in PASS_NS)],
            rows,
        )
    ]


def _rows(name: str, run: FineTuning) -> list[list[Any]]:
    seeds, steps = np.arange(len(run.kl)), np.asarray(run.matrices.steps)
    places = {
        "start": np.zeros_like(seeds),
        "tournament's choice": run.chosen,
        "min KL": run.lowest,
        "end": np.full_like(seeds, len(steps) - 1),
    }
    return [
        [name, where, float(steps[place].mean())]
        + [float(values[seeds, place].mean()) for values in (run.kl, *run.cov.values(), *run.passes.values())]
        for where, place in places.items()
    ]
