"""Figures and tables of experiments.tournament."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, rates_figure
from experiments.tournament.attempts import (
    MIN_KL,
    OFFSET,
    OFFSET_EXACT,
    ORACLE,
    SIMPLE,
    exact,
    generator,
    offset_name,
    simple_name,
)
from experiments.tournament.checks import resampling, slope
from experiments.tournament.families import FAMILIES, JUDGED_AT
from experiments.tournament.measure import GUARANTEE_A, Cell, Measurements, pair_regret, worst_pairs
from metrics import TIE_BREAKS, cross_entropy, min_cross_entropy, simple_tournament

SUMMARIES = {family.name: family.summary for family in FAMILIES}


def drawings(results: Measurements) -> list[Drawing]:
    """The figures of the report, in its order."""
    reference = results.settings.reference
    return [
        Drawing(
            "rates",
            "Regret in Cov_N against the number of held-out examples: mean over instances with 95 % "
            "intervals, fitted power law (thin), theory's slope (dotted). Left: the misspecified pair, for "
            "each rule at its own worst alpha. Middle: forgetting rare prompts is what makes the KL small. "
            "Right: a model far from pi_D beats the good ones.",
            _rates(results),
        ),
        Drawing(
            "guarantee",
            f"Cov at level N^(1+a), a = {GUARANTEE_A:g}, of the model chosen by the simple tournament (mean "
            f"over held-out sets, and the largest in any set, worst tie-break), beside its guarantee with "
            f"the derived constants (dashed) and with those of the paper's proof (dotted); |Pi| = "
            f"{reference}. Grey: 1, beyond which a guarantee says nothing. Last panel: the offset "
            f"tournament at level 2 N^(1+a).",
            _guarantees(results),
        ),
        Drawing(
            "families",
            f"Cov_N regret (above) and Pass@N regret (below) of the rules, |Pi| = {reference}.",
            _families(results),
        ),
        Drawing(
            "curve",
            f"One curve of class-blind checkpoints (seed {results.settings.seed}) and what is chosen from "
            f"1024 held-out examples.",
            _curve(results),
        ),
    ]


def _rates(results: Measurements) -> Figure:
    settings = results.settings
    places, members, _ = worst_pairs(results)
    n_rare, n_rogue = JUDGED_AT["rare_prompts"], JUDGED_AT["rogue"]
    rare, rogue = results.at("rare_prompts", n_rare), results.at("rogue", n_rogue)
    of_pair = [
        Rate("simple tournament", pair_regret(results, SIMPLE, members), -1.0),
        Rate("min-KL", pair_regret(results, MIN_KL, [0] * len(places)), 0.0),
    ]
    of_rare = [Rate("simple tournament", rare.loss(SIMPLE), -1.0), Rate("min-KL", rare.loss(MIN_KL), 0.0)]
    of_rogue = [
        Rate("simple tournament", rogue.loss(SIMPLE), 0.0),
        Rate("min-KL", rogue.loss(MIN_KL)),
        Rate("offset tournament", rogue.loss(OFFSET), -1.0),
    ]
    examples = settings.design.examples
    panels = []
    for title, ylabel, sizes, rates in (
        (
            f"misspecified pair, N = M = {settings.pair_m}",
            "regret in Cov$_N$",
            tuple(settings.pair_examples[place] for place in places),
            of_pair,
        ),
        (f"rare prompts, N = {n_rare}", "", examples, of_rare),
        (f"rogue, N = {n_rogue}", "", examples, of_rogue),
    ):
        fitted = [rate for rate in rates if math.isfinite(slope(results, rate.values, sizes).low)]
        panels.append(Panel(title, "held-out examples", ylabel, sizes, fitted))
    return rates_figure(panels, resampling(results))


@mpl.rc_context(draw.STYLE)
def _guarantees(results: Measurements) -> Figure:
    fig, axes = draw.new_figure(2, 3, (14.5, 8.2), sharey=True)
    examples = results.settings.design.examples
    panels: list[tuple[str, Any]] = []
    for name, n in JUDGED_AT.items():
        cell = results.at(name, n)
        panels.append((f"{name}, N = {n}", functools.partial(cell.guarantee, GUARANTEE_A)))
    n = JUDGED_AT["rogue"]
    panels.append((f"offset: rogue, N = {n}", results.at("rogue", n).offset))
    for axis, (title, of) in zip(axes.ravel(), panels, strict=True):
        axis.axhline(1, color="#999999", linewidth=1)
        lines = (
            ("chosen, mean", of("reached").mean(axis=0), draw.BLUE, "-"),
            ("chosen, largest", of("worst").max(axis=0), draw.ORANGE, "-"),
            ("guarantee, derived constants", of("bound").mean(axis=0), draw.INK, draw.DASHED),
            ("guarantee, the paper's constants", of("paper").mean(axis=0), draw.INK, ":"),
        )
        for label, values, colour, style in lines:
            marker = "o" if style == "-" else None
            seen = np.where(values > 0, values, np.nan)
            axis.plot(examples, seen, color=colour, linestyle=style, marker=marker, markersize=4, label=label)
        axis.set(xscale="log", yscale="log", title=title, ylim=(1e-5, 30))
    for axis in axes[-1]:
        axis.set_xlabel("held-out examples")
    for axis in axes[:, 0]:
        axis.set_ylabel("coverage profile")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def _families(results: Measurements) -> Figure:
    fig, axes = draw.new_figure(2, len(JUDGED_AT), (4.1 * len(JUDGED_AT), 7.6))
    examples = results.settings.design.examples
    dots: dict[str, Any] = {"marker": "o", "markersize": 4}
    rules: dict[str, tuple[str, str, Any]] = {
        "simple, ties by cross-entropy": (SIMPLE, draw.BLUE, "-"),
        "simple, middle of the ties": (simple_name("middle"), draw.BLUE, ":"),
        "offset (sampled)": (OFFSET, draw.GREEN, draw.DASHED),
        "min-KL": (MIN_KL, draw.RED, "-"),
        "oracle": (ORACLE, draw.INK, "-"),
    }
    for column, (name, n) in enumerate(JUDGED_AT.items()):
        cell = results.at(name, n)
        for row, what in enumerate(("regret", "pass_regret")):
            axis = axes[row, column]
            for label, (rule, colour, style) in rules.items():
                if what == "regret" and rule == ORACLE:
                    continue
                mean = cell.loss(rule, what).mean(axis=0)
                seen = np.where(mean > 1e-7, mean, np.nan)
                axis.plot(examples, seen, color=colour, linestyle=style, label=label, **dots)
            axis.set(xscale="log", yscale="log")
        axes[0, column].set_title(f"{name}, N = {n}")
        axes[1, column].set_xlabel("held-out examples")
    axes[0, 0].set_ylabel("regret in Cov$_N$")
    axes[1, 0].set_ylabel("regret in Pass@N")
    draw.legend_below(fig, [axes[1, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def _curve(results: Measurements) -> Figure:
    settings = results.settings
    family = next(candidate for candidate in FAMILIES if candidate.name == "checkpoints")
    seed, size = settings.seed, max(settings.sizes)
    draw_of = generator(seed, "instance", "tournament", family.name, size, 0)
    laws = exact(family.draw(draw_of, size, float(settings.ns[0]), settings.design.offset_a))
    counts = generator(seed, "evaluation", "tournament", "curve").multinomial(1024, laws.probability)
    seen = counts > 0
    held_out, weights = laws.log_probs[:, seen], counts[seen]
    place = np.arange(size)
    fig, axes = draw.new_figure(1, 3, (14.2, 4.4))
    left, middle, right = axes[0]
    left.plot(place, cross_entropy(held_out, weights), color=draw.INK, label="held-out cross-entropy (nats)")
    left.plot(place, laws.kl, color=draw.RED, label="KL, exact (nats)")
    left.set(title="what min-KL sees", xlabel="checkpoint")
    for colour, n in zip(draw.ordered_colours(len(settings.ns)), settings.ns, strict=True):
        middle.plot(place, laws.coverage(n), color=colour, label=f"Cov, N = {n}")
        right.plot(place, laws.pass_at(n), color=colour, label=f"Pass@{n}")
        picked = simple_tournament(held_out, n, weights)
        first, final = picked.tied[0], picked.tied[-1]
        level = -0.004 * (1 + list(settings.ns).index(n))
        middle.plot([first, final], [level, level], color=colour, linewidth=3)
        right.plot(picked.index, laws.pass_at(n)[picked.index], marker="D", color=colour, markersize=8)
    least = min_cross_entropy(held_out, weights).index
    for axis in (left, middle, right):
        axis.axvline(least, color=draw.RED, linestyle=draw.DASHED, linewidth=1.2, label="min-KL's choice")
        axis.legend(fontsize=8.5)
    middle.set(title="coverage; bars: the tournament's ties", xlabel="checkpoint")
    right.set(title="Pass@N; diamonds: the tournament's choice", xlabel="checkpoint")
    return fig


def tables(results: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    examples = results.settings.design.examples
    few, many = examples[0], examples[-1]
    return [
        (
            f"Losses of every rule: mean over instances at {few} and at {many} held-out examples, exponent "
            f"of the Cov_N regret in their number, share of sets with a wrong choice at {many}.",
            ["family", "|Pi|", "N", "rule", f"Cov_N regret, {few}", f"{many}", "interval", "exponent",
             "interval", f"Pass@N regret, {many}", f"wrong, {many}"],
            list(_losses(results)),
        ),
        (
            "Guarantees at the largest number of examples: the left-hand side's mean and largest value over "
            "sets and instances, right-hand sides; over all numbers of examples: largest share of sets "
            "beyond them, and the least constant in front of the right-hand side as the theorem prints it "
            "for which no set is beyond. The offset tournament's holds where its premise does.",
            ["tournament", "family", "|Pi|", "N", "a", "premise", "mean", "largest", "derived", "the paper's",
             "beyond derived", "beyond the paper's", "least constant"],
            list(_guarantee_rows(results)),
        ),
        (
            f"Tie-breaks: Cov_N regret at {many} held-out examples.",
            ["family", "|Pi|", "N", "tournament", *TIE_BREAKS],
            list(_tie_breaks(results)),
        ),
        (
            "The families.",
            ["family", "what it is", "N of the verdict"],
            [[name, SUMMARIES[name], n] for name, n in JUDGED_AT.items()],
        ),
    ]  # fmt: skip


def _losses(results: Measurements) -> Iterator[list[Any]]:
    settings = results.settings
    examples = settings.design.examples
    for (family, size, n), cell in results.cells.items():
        for rule in (SIMPLE, simple_name("middle"), OFFSET, OFFSET_EXACT, MIN_KL, ORACLE):
            if rule not in cell.rules:
                continue
            regret = cell.loss(rule)
            end = _mean_row(results, regret[:, -1])
            fitted = slope(results, regret, examples)
            rate = [fitted.estimate, format_interval((fitted.low, fitted.high))]
            passed, wrong = (cell.loss(rule, what)[:, -1].mean() for what in ("pass_regret", "wrong"))
            yield [family, size, n, rule, regret[:, 0].mean(), *end, *rate, passed, wrong]


def _mean_row(results: Measurements, values: np.ndarray) -> list[Any]:
    drawn = values[resampling(results).integers(len(values), size=(1000, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [values.mean(), format_interval((float(low), float(high)))]


def _guarantee_rows(results: Measurements) -> Iterator[list[Any]]:
    for (family, size, n), cell in results.cells.items():
        for a in results.settings.design.a:
            yield ["simple", family, size, n, a, "none", *_row(functools.partial(cell.guarantee, a))]
        premise = f"{cell.premise:.0%}"
        yield ["offset", family, size, n, results.settings.design.offset_a, premise, *_row(cell.offset)]


def _row(of: Any) -> list[Any]:
    return [
        *(of("reached")[:, -1].mean(), of("worst")[:, -1].max()),
        *(of("bound")[:, -1].mean(), of("paper")[:, -1].mean()),
        *(of("violated").mean(axis=0).max(), of("paper_violated").mean(axis=0).max(), of("constant").max()),
    ]


def _tie_breaks(results: Measurements) -> Iterator[list[Any]]:
    for (family, size, n), cell in results.cells.items():
        yield [family, size, n, "simple", *(_end(cell, simple_name(tie_break)) for tie_break in TIE_BREAKS)]
        sampled = OFFSET in cell.rules
        name = "offset" if sampled else "offset (exact term)"
        yield [
            family,
            size,
            n,
            name,
            *(_end(cell, offset_name(tie_break, sampled)) for tie_break in TIE_BREAKS),
        ]


def _end(cell: Cell, rule: str) -> float:
    return float(cell.loss(rule)[:, -1].mean())
