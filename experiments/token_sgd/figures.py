"""Figures and tables of experiments.token_sgd."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rate_rows, rates_figure, size_intervals
from experiments.token_sgd.measure import FAMILY, NAMES, Measurements, resampler

SHORT = {
    "TTT": "TTT, theorem's step",
    "TTT, best": "TTT",
    "fixed, best": "token, fixed",
    "sequence, best": "sequence",
}
"""Names in figures; without a word on it, the best step."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    settings = results.settings
    names = ("TTT, best", "fixed, best", "sequence, best", "TTT")
    bound = results.bounds((settings.sequences,) * len(settings.horizons))
    theory = {"TTT, best": 0.0, "TTT": 0.0, "fixed, best": None, "sequence, best": 1.0}
    horizon = [
        Rate(SHORT[name], results.over_horizons(name), theory[name], bound if name == "TTT" else None)
        for name in names
    ]
    horizon.append(Rate("any proper method", results.floor, 1.0))
    counts = [Rate(SHORT["TTT"], results.over_counts, -0.5, results.bounds(settings.sequence_counts))]
    family_names = {"TTT": "TTT", "fixed": "token, fixed", "sequence": "sequence"}
    family = [
        Rate(family_names[name], results.family.needed[name], 1.0 if name == "sequence" else 0.0)
        for name in FAMILY
    ]
    fixed = f"Rare prompt, H = {settings.horizon}"
    panels = [
        Panel(f"Rare prompt, T = {settings.sequences}", "H", "mean KL (nats)", settings.horizons, horizon),
        Panel(fixed, "sequences T", "mean KL (nats)", settings.sequence_counts, counts),
        Panel("SGD's lower-bound family", "H", "sequences needed", settings.family_horizons, family),
    ]
    return [
        Drawing(
            "rates",
            "Left: mean KL over the iterates on the rare prompt against H at the same inherent variance. "
            "Middle: against the number of sequences. Right: sequences until Cov_N is at its target on the "
            "worst instance of the family. Token: a step a token; sequence: a step a sequence; TTT: a step a "
            "token in decoding too; each with its best step. Any proper method: not below this. Dots: means "
            "over instance draws with 95 % intervals; thin: fitted power law; dotted: the theory's slope; "
            "dashed: the theorem's right-hand side.",
            rates_figure(panels, resampler(results)),
        ),
        Drawing(
            "robustness",
            "KL of one response of the last iterate against the step at test time over the step in training "
            "(0: fixed parameters), for prompts of training, prompts with features of their own, and prompts "
            "that are now answered with the opposite theta*. Dashed: what the theorem's proof gives for any "
            "start.",
            robustness(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def robustness(results: Measurements) -> Figure:
    """KL against the step at test time, one colour a kind of prompt."""
    settings, robust = results.settings, results.robust
    fig, axes = draw.new_figure(1, 2, (12.4, 4.6))
    place = np.arange(len(settings.factors))
    panels = (("KL of a response (nats)", robust.kl), (f"Cov_{settings.n:g}", robust.coverage))
    for axis, (label, values) in zip(axes[0], panels, strict=True):
        for colour, (kind, numbers) in zip((draw.BLUE, draw.GREEN, draw.RED), values.items(), strict=True):
            ends = size_intervals(numbers.T, resampler(results))
            centre, bars, name = [end.estimate for end in ends], draw.error_bars(*ends), f"{kind} prompts"
            axis.errorbar(place, centre, bars, color=colour, marker="o", capsize=3, label=name)
            if label.startswith("KL"):
                limit = robust.bound[kind].mean(axis=1)
                axis.plot(place, limit, color=colour, linestyle=draw.DASHED, linewidth=1.2)
        axis.set(xlabel="step at test time over step in training", ylabel=label)
        axis.set_xticks(place, [f"{factor:g}" for factor in settings.factors])
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend(fontsize=9)
    return fig


def tables(results: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    settings, rng = results.settings, resampler(results)
    bound = results.bounds((settings.sequences,) * len(settings.horizons))
    columns = ["method", "H", "KL", "interval", "bound"]
    horizon = [
        Rate(label, results.over_horizons(name), None, bound if name == "TTT" else None)
        for name, label in NAMES.items()
    ]
    rows = rate_rows(settings.horizons, [*horizon, Rate("least of any proper method", results.floor)], rng)
    coverage = [Rate(label, results.over_horizons(name, "coverage")) for name, label in NAMES.items()]
    counts = [Rate(NAMES["TTT"], results.over_counts, None, results.bounds(settings.sequence_counts))]
    family = [Rate(label, results.family.needed[name]) for name, label in FAMILY.items()]
    steps: list[list[Any]] = [
        [NAMES[name], h, f"{point.steps[name]:.4g}"]
        for h, point in zip(settings.horizons, results.by_horizon, strict=True)
        for name in point.steps
    ]
    steps += [
        [f"family, {FAMILY[name]}", h, f"{step:.4g}"]
        for name, size in results.family.steps.items()
        for h, step in zip(settings.family_horizons, size, strict=True)
    ]
    robust: list[list[Any]] = []
    for kind, numbers in results.robust.kl.items():
        for row, size in enumerate(size_intervals(numbers.T, rng)):
            limit = float(results.robust.bound[kind][row].mean())
            robust.append(
                [
                    *(kind, settings.factors[row], size.estimate, format_interval((size.low, size.high))),
                    *(limit if math.isfinite(limit) else "", results.robust.coverage[kind][row].mean()),
                ]
            )
    return [
        ("Rare prompt: mean KL over the iterates (nats) against H.", columns, rows),
        (
            f"Rare prompt: mean Cov_{settings.n:g} over the iterates against H.",
            ["method", "H", "Cov", "interval", "bound"],
            rate_rows(settings.horizons, coverage, rng),
        ),
        (
            f"Rare prompt: mean KL against the number of sequences, H = {settings.horizon}.",
            ["method", "T", "KL", "interval", "bound"],
            rate_rows(settings.sequence_counts, counts, rng),
        ),
        (
            "Lower-bound family: sequences needed on the worst instance.",
            ["method", "H", "sequences", "interval", "bound"],
            rate_rows(settings.family_horizons, family, rng),
        ),
        ("Step sizes, chosen on the tuning seed or the theorem's.", ["method", "H", "step"], steps),
        (
            f"A response of the last iterate, H = {settings.robust_horizon}, at other steps than in "
            f"training.",
            ["prompts", "step over training step", "KL", "interval", "bound", f"Cov_{settings.n:g}"],
            robust,
        ),
    ]
