"""Figures and tables of experiments.truncated_distillation."""

from __future__ import annotations

import math
from typing import Any

from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rate_rows, rates_figure
from experiments.truncated_distillation.measure import FAMILY, NAMES, Measurements, ladder_bounds, resampler

SHORT = {
    "truncated": "truncated",
    "sampled": "not truncated",
    "soft": "mean gradient, not truncated",
    "theorem": "truncated, theorem's step",
}
"""Names in figures; without a word on it, the best step."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figure."""
    settings = results.settings
    factor = 2 / (math.log(settings.n) - 1)
    names = ("truncated", "sampled", "soft")
    counts = [Rate(SHORT[name], results.over_steps(name), -0.5) for name in names]
    counts.append(
        Rate(SHORT["theorem"], results.over_steps("theorem"), None, factor * ladder_bounds(results))
    )
    levels = [Rate(SHORT[name], results.over_n(name), -0.5) for name in names[:2]]
    family = [
        Rate(label, results.family.needed[name], 0.0 if name == "truncated" else 1.0)
        for name, label in FAMILY.items()
    ]
    panels = [
        Panel("Ladder", "steps T", f"mean Cov_{settings.n:g}", settings.step_counts, counts),
        Panel(f"Ladder, T = {settings.steps}", "ln N (nats)", "mean Cov_N", settings.log_ns, levels),
        Panel("SGD's lower-bound family", "H", "sequences needed", settings.family_horizons, family),
    ]
    return [
        Drawing(
            "rates",
            "Left: mean Cov_N over the iterates on the ladder against the number of steps. Middle: against "
            "ln N. Right: sequences until Cov_N is at its target on the worst instance of the family. Dots: "
            "means over instance draws with 95 % intervals; thin: fitted power law; dotted: the theory's "
            "slope; dashed: the theorem's right-hand side at its own step.",
            rates_figure(panels, resampler(results)),
        )
    ]


def tables(results: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    settings, rng = results.settings, resampler(results)
    factor = 2 / (math.log(settings.n) - 1)
    bounds = factor * ladder_bounds(results)
    counts = [
        Rate(label, results.over_steps(name), None, bounds if name == "theorem" else None)
        for name, label in NAMES.items()
    ]
    levels = [Rate(NAMES[name], results.over_n(name)) for name in results.by_n[0].coverage]
    family = [Rate(label, results.family.needed[name]) for name, label in FAMILY.items()]
    steps: list[list[Any]] = []
    for label, sizes, points in (
        ("T", settings.step_counts, results.by_steps),
        ("ln N", settings.log_ns, results.by_n),
    ):
        steps += [
            [NAMES[name], f"{label} = {size:g}", f"{point.steps[name]:.4g}"]
            for size, point in zip(sizes, points, strict=True)
            for name in point.steps
        ]
    steps += [
        [f"family, {FAMILY[name]}", f"H = {h}", f"{step:.4g}"]
        for name, numbers_of in results.family.steps.items()
        for h, step in zip(settings.family_horizons, numbers_of, strict=True)
    ]
    return [
        (
            f"Ladder: mean Cov_{settings.n:g} over the iterates against the number of steps.",
            ["gradient", "T", "Cov", "interval", "bound"],
            rate_rows(settings.step_counts, counts, rng),
        ),
        (
            f"Ladder: mean Cov_N against ln N, T = {settings.steps}.",
            ["gradient", "ln N", "Cov", "interval", "bound"],
            rate_rows(settings.log_ns, levels, rng),
        ),
        (
            "Lower-bound family: sequences needed on the worst instance.",
            ["gradient", "H", "sequences", "interval", "bound"],
            rate_rows(settings.family_horizons, family, rng),
        ),
        (
            "Step sizes, eta B^2 on the ladder, eta on the family; on the tuning seed, or the theorem's.",
            ["gradient", "at", "step"],
            steps,
        ),
    ]
