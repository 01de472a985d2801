"""Figures and tables of the claim on exploration by representations."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import cell
from experiments.exploration.checks import ratio
from experiments.exploration.measure import Measurements
from experiments.exploration.pools import REPRESENTATION, WHITENED
from experiments.exploration.rules import (
    APPEARANCE,
    DISTINCT,
    FACTS,
    FEATURES_AUC,
    FIRST,
    LIKELIEST,
    LIKELY_AUC,
    RANDOM,
    calls_to_match,
    doubling,
)
from metrics import mean_interval, name_of_n, paired_difference_interval

_RULES = {
    RANDOM: draw.INK,
    DISTINCT: draw.BLUE,
    APPEARANCE: draw.GREEN,
    LIKELIEST: draw.ORANGE,
    REPRESENTATION: draw.RED,
    WHITENED: draw.PURPLE,
}
_ARMS = (draw.INK, draw.RED, draw.BLUE, draw.GREEN, draw.ORANGE)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    return [
        Drawing(
            "selection",
            "Pass@k of k responses chosen from one pool, by checkpoint from the weakest to the strongest; "
            "median and range over the seeds. The rules without representations are exact expectations.",
            selection(results),
        ),
        Drawing(
            "efficiency",
            "Verifier calls that random choice needs to a correct response over those of each rule, and why: "
            "the probability that of two different responses the correct one is picked before the wrong one; "
            "at .5 picking knows nothing of correctness.",
            efficiency(results),
        ),
        Drawing(
            "training",
            "Along reinforcement learning, with and without a bonus for unlike responses; median and range "
            "over the seeds.",
            training(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def selection(results: Measurements) -> Figure:
    """Pass@k by rule, a row a task and a column a checkpoint."""
    columns = max(len(curves.steps) for curves in results.test_time.values())
    rows = len(results.test_time)
    fig, axes = draw.new_figure(rows, columns, (3.7 * columns, 3.3 * rows), sharey="row")
    for line, (name, curves) in zip(axes, results.test_time.items(), strict=True):
        for column, axis in enumerate(line):
            if column >= len(curves.steps):
                axis.set_visible(False)
                continue
            ks = np.arange(1, curves.size // 2 + 1)
            for rule, colour in _RULES.items():
                draw.line_over_seeds(axis, ks, curves.curves[rule][:, column, : ks.size], colour, rule)
            axis.set(title=f"{name}, step {curves.steps[column]}", xlabel="verifier calls k")
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
        line[0].set_ylabel("Pass@k")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def efficiency(results: Measurements) -> Figure:
    """Gain of each rule and what picking knows of correctness, against the checkpoint."""
    fig, axes = draw.new_figure(2, len(results.test_time), (5.0 * len(results.test_time), 6.6))
    pairs = ((FEATURES_AUC, draw.RED, "by representations"), (LIKELY_AUC, draw.ORANGE, "by likelihood"))
    for (top, bottom), (name, curves) in zip(axes.T, results.test_time.items(), strict=True):
        places = np.arange(len(curves.steps))
        for rule, colour in _RULES.items():
            _line(top, places, np.exp(curves.efficiency(rule)), colour, rule)
        top.set(title=f"{name}: efficiency over random choice")
        if np.isfinite(curves.calls[RANDOM]).any():
            top.set_yscale("log")
            top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            top.yaxis.set_major_formatter("{x:g}")
            top.yaxis.set_minor_formatter(NullFormatter())
        for fact, colour, label in pairs:
            _line(bottom, places, curves.facts[fact], colour, label)
        bottom.axhline(0.5, color=draw.INK, linestyle=draw.DASHED, linewidth=1.2)
        bottom.set(title="a correct one is picked before a wrong one", ylim=(0, 1), xlabel="training step")
        for axis in (top, bottom):
            axis.set_xticks(places, [str(step) for step in curves.steps])
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _line(axis: Axes, x: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """Over the checkpoints that some seed has a number at."""
    kept = np.isfinite(values).any(axis=0)
    if kept.any():
        draw.line_over_seeds(axis, x[kept], values[:, kept], colour, label)


@mpl.rc_context(draw.STYLE)
def training(results: Measurements) -> Figure:
    """Pass@k, different correct responses and coverage along the arms."""
    fig, axes = draw.new_figure(len(results.arms), 4, (13.5, 3.2 * len(results.arms)))
    for line, (name, arms) in zip(axes, results.arms.items(), strict=True):
        n = name_of_n(results.test_time[name].coverage_n)
        for (arm, curve), colour in zip(arms.items(), _ARMS, strict=False):
            small, large = min(curve.passes), max(curve.passes)
            panels = (
                (f"Pass@{small}", curve.passes[small]),
                (f"Pass@{large}", curve.passes[large]),
                (f"different correct of {curve.draws}", curve.distinct),
                (f"Cov$_{{{n}}}$", curve.coverage),
            )
            for axis, (title, values) in zip(line, panels, strict=True):
                draw.line_over_seeds(axis, np.asarray(curve.steps), values, colour, arm)
                axis.set(title=f"{name}: {title}", xlabel="batches of rollouts")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    made: list[Table] = []
    for name, curves in results.test_time.items():
        ks = doubling(curves.size)
        rows: list[list[Any]] = []
        reach: list[list[Any]] = []
        for column, step in enumerate(curves.steps):
            levels = curves.curves[RANDOM][:, column]
            for rule in (FIRST, *_RULES):
                curve = curves.curves[rule][:, column].mean(axis=0)
                calls = float(curves.calls[rule][:, column].mean())
                rows.append([step, rule, *(float(curve[k - 1]) for k in ks), calls])
                needed = calls_to_match(curves.curves[rule][:, column], levels, ks.tolist())
                reach.append([step, rule, *needed.mean(axis=0).tolist()])
        header = ["step", "rule", *(f"k = {k}" for k in ks)]
        made += [
            (
                f"{name}: Pass@k by checkpoint and rule, mean over the seeds; last, mean verifier calls to a "
                f"correct response over pools that have one.",
                [*header, "calls"],
                rows,
            ),
            (
                f"{name}: verifier calls, interpolated, in which a rule reaches the Pass@k that random "
                f"choice has in k; mean over the seeds.",
                header,
                reach,
            ),
            _gains(name, results),
            (
                f"{name}: checkpoints, and why; mean over the seeds.",
                ["", *(f"step {step}" for step in curves.steps)],
                [
                    ["cross-entropy (nats)", *curves.cross_entropy.mean(axis=0).tolist()],
                    [f"Cov_{name_of_n(curves.coverage_n)}", *curves.coverage.mean(axis=0).tolist()],
                    ["share of pools with a correct response", *curves.solvable.mean(axis=0).tolist()],
                    *([fact, *curves.facts[fact].mean(axis=0).tolist()] for fact in FACTS),
                ],
            ),
        ]
    for name in results.arms:
        made += _arm_tables(name, results)
    return made


def _gains(name: str, results: Measurements) -> Table:
    """Paired gains in Pass@k with intervals, and efficiencies."""
    curves = results.test_time[name]
    ks = doubling(curves.size)
    rows: list[list[Any]] = []
    for column, step in enumerate(curves.steps):
        for over in (RANDOM, DISTINCT, APPEARANCE):
            one, two = curves.curves[REPRESENTATION][:, column], curves.curves[over][:, column]
            differences = [cell(paired_difference_interval(one[:, k - 1], two[:, k - 1])) for k in ks]
            rows.append(
                [step, over, *differences, cell(ratio(curves.efficiency(REPRESENTATION, over)[:, column]))]
            )
    return (
        f"{name}: Pass@k by representations less that of another rule, with paired 95 % intervals over "
        f"seeds; last, the efficiency.",
        ["step", "less", *(f"k = {k}" for k in ks), "efficiency"],
        rows,
    )


def _arm_tables(name: str, results: Measurements) -> list[Table]:
    arms = results.arms[name]
    first = next(iter(arms.values()))
    ks = tuple(first.passes)
    along, ends = [], []
    for arm, curve in arms.items():
        for point, step in enumerate(curve.steps):
            values = [curve.passes[k] for k in ks] + [curve.distinct, curve.coverage, curve.kl]
            along.append([arm, step, *(float(value[:, point].mean()) for value in values)])
        pairs = [(curve.passes[k], first.passes[k]) for k in ks]
        pairs += [(curve.distinct, first.distinct), (curve.coverage, first.coverage), (curve.kl, first.kl)]
        if curve is first:
            differences = [mean_interval(one[:, -1]) for one, _ in pairs]
        else:
            differences = [paired_difference_interval(one[:, -1], two[:, -1]) for one, two in pairs]
        ends.append([arm if curve is first else f"{arm} less {next(iter(arms))}", *map(cell, differences)])
    n = name_of_n(results.test_time[name].coverage_n)
    header = [*(f"Pass@{k}" for k in ks), f"different correct of {first.draws}", f"Cov_{n}", "KL"]
    paired = f"{name}: at the end, with 95 % intervals over seeds, paired for differences."
    return [
        (f"{name}: along reinforcement learning, mean over the seeds.", ["arm", "batches", *header], along),
        (paired, ["arm", *header], ends),
    ]
