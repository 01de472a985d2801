"""Plots and tables of `optimizers_graph`. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.optimizers_graph.checks import places
from experiments.optimizers_graph.measure import Compared, Curves, Measurements
from experiments.optimizers_graph.rules import BASELINE, RULES
from metrics import mean_interval

COLOURS = dict(zip(RULES, (draw.INK, draw.PURPLE, draw.BLUE, draw.GREEN, draw.RED, draw.ORANGE), strict=True))
NAMES = {"graph": "layered graphs", "dyck": "Dyck strings"}
_SPREAD = {rule: 1.0 + 0.03 * (index - 2.5) for index, rule in enumerate(RULES)}
"""Factors on the length that keep error bars apart."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    cov, passes = f"Cov_{results.n:g}", f"Pass@{results.pass_n}"
    return [
        Drawing(
            "equal_loss",
            f"{cov} against KL along training (from right to left), one colour a rule, one panel a response "
            f"length H: thin lines are {len(results.seeds)} seeds, thick ones their means at the levels of "
            f"KL that are compared. Where lines lie on each other, the rule does not matter at equal loss.",
            against_loss(results, results.cov, cov),
        ),
        Drawing(
            "gaps",
            f"{cov} of SGD minus that of each rule against H, mean over seeds with 95 % intervals: at equal "
            f"cross-entropy (top) and after equal steps (bottom). Above 0 the rule covers more than SGD.",
            gaps(results),
        ),
        Drawing(
            "equal_steps",
            f"{cov}, {passes} and KL after equal steps against H, mean over seeds with 95 % intervals.",
            equal_steps(results),
        ),
        Drawing(
            "equal_loss_pass",
            f"{passes} against KL, as above.",
            against_loss(results, results.passes, passes),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def against_loss(results: Measurements, of: Callable[[Curves], np.ndarray], label: str) -> Figure:
    """A quantity against KL: rows are tasks, columns lengths."""
    columns = max(len(cells) for cells in results.tasks.values())
    fig, axes = draw.new_figure(len(results.tasks), columns, (4.4 * columns, 3.8 * len(results.tasks)))
    for row, (task, cells) in enumerate(results.tasks.items()):
        for axis, cell in zip(axes[row], cells, strict=False):
            for rule, curves in cell.curves.items():
                axis.plot(curves.kl.T, of(curves).T, color=COLOURS[rule], linewidth=0.5, alpha=0.35)
                mean = cell.at_levels(rule, of).mean(axis=0)
                style: dict[str, Any] = {"color": COLOURS[rule], "marker": "o", "markersize": 3.5}
                axis.plot(cell.levels, mean, label=RULES[rule].title, **style)
            axis.set(title=f"{NAMES[task]}, H = {cell.response}", xlabel="KL (nats)", ylabel=label)
            axis.set(xscale="log", xlim=(0.7 * cell.levels[0], 3 * cell.levels[-1]))
            shown = cell.levels[::2]
            axis.set_xticks(list(shown), [f"{level:.2g}" for level in shown])
            axis.minorticks_off()
        for axis in axes[row][len(cells) :]:
            axis.set_axis_off()
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def gaps(results: Measurements) -> Figure:
    """Gaps in Cov_n to SGD against H: at equal cross-entropy (top), after equal steps (bottom)."""
    fig, axes = draw.new_figure(2, len(results.tasks), (5.2 * len(results.tasks), 7.2))
    for column, (task, cells) in enumerate(results.tasks.items()):
        for axis, (place, gap) in zip(axes[:, column], places(results), strict=True):
            axis.axhline(0, color=COLOURS[BASELINE], linestyle=draw.DASHED, linewidth=1.2, label="SGD")
            for rule in RULES:
                if rule != BASELINE:
                    _against_length(axis, cells, rule, [gap(cell, rule) for cell in cells])
            axis.set(title=f"{NAMES[task]}, {place}", ylabel=f"Cov_{results.n:g}: SGD minus rule")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def equal_steps(results: Measurements) -> Figure:
    """Cov_n, Pass@n and KL after the last step against H."""
    quantities: tuple[tuple[str, Callable[[Curves], np.ndarray]], ...] = (
        (f"Cov_{results.n:g}", results.cov),
        (f"Pass@{results.pass_n}", results.passes),
        ("KL (nats)", lambda curves: curves.kl),
    )
    fig, axes = draw.new_figure(len(results.tasks), 3, (12.6, 3.8 * len(results.tasks)))
    for row, (task, cells) in enumerate(results.tasks.items()):
        for axis, (label, of) in zip(axes[row], quantities, strict=True):
            for rule in RULES:
                _against_length(axis, cells, rule, [of(cell.curves[rule])[:, -1] for cell in cells])
            axis.set(title=f"{NAMES[task]}", ylabel=label)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _against_length(
    axis: Axes, cells: Sequence[Compared], rule: str, values: Sequence[Float[np.ndarray, " seeds"]]
) -> None:
    """Mean over seeds with its 95 % interval at each length."""
    ends = [mean_interval(value) for value in values]
    middle = np.array([end.estimate for end in ends])
    axis.errorbar(
        [cell.response * _SPREAD[rule] for cell in cells],
        middle,
        np.array([[end.estimate - end.low, end.high - end.estimate] for end in ends]).T,
        color=COLOURS[rule],
        marker="o",
        markersize=4,
        linewidth=1.2,
        capsize=2.5,
        label=RULES[rule].title,
    )
    axis.set(xscale="log", xlabel="response length H (tokens)")
    axis.set_xticks([cell.response for cell in cells], [str(cell.response) for cell in cells])
    axis.minorticks_off()


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_final(results), _equal_loss(results), _every_n(results)]


def _cells(results: Measurements) -> Iterator[tuple[list[Any], Compared, str]]:
    """The first cells of a row, and what it is about, for each task, length and rule."""
    for task, cells in results.tasks.items():
        for cell in cells:
            for rule in cell.curves:
                yield [task, cell.response, RULES[rule].title], cell, rule


def _final(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for row, cell, rule in _cells(results):
        curves = cell.curves[rule]
        for values in (curves.kl, results.cov(curves), results.passes(curves)):
            row += estimate_and_ends(mean_interval(values[:, -1]))
        rows.append(row)
    return (
        "After equal steps: mean over seeds with its 95 % interval.",
        ["task", "H", "rule", "KL (nats)", "", f"Cov_{results.n:g}", "", f"Pass@{results.pass_n}", ""],
        rows,
    )


def _equal_loss(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for row, cell, rule in _cells(results):
        for of in (results.cov, results.passes):
            mean = mean_interval(cell.at_levels(rule, of).mean(axis=1)).estimate
            row += [mean, *estimate_and_ends(mean_interval(cell.gap(rule, of)))]
        rows.append([*row, f"{cell.levels[0]:.3g} to {cell.levels[-1]:.3g}"])
    heads = [f"Cov_{results.n:g}", "SGD - rule", "", f"Pass@{results.pass_n}", "SGD - rule", ""]
    return (
        "At equal cross-entropy: means over the levels of KL, and SGD's minus the rule's, paired by seed, "
        "with its 95 % interval. Lower Cov and higher Pass are better.",
        ["task", "H", "rule", *heads, "levels of KL (nats)"],
        rows,
    )


def _every_n(results: Measurements) -> Table:
    """The gap at equal cross-entropy at every N, because the N that is judged is a choice."""
    ns = sorted(next(iter(results.tasks.values()))[0].curves["sgd"].cov)
    rows: list[list[Any]] = []
    for row, cell, rule in _cells(results):
        gaps = [float(np.mean(cell.gap(rule, lambda curves, n=n: curves.cov[n]))) for n in ns]  # type: ignore[misc]
        rows.append([*row, *gaps])
    return (
        "At equal cross-entropy, Cov_N of SGD minus that of the rule at every N, mean over seeds and levels.",
        ["task", "H", "rule", *(f"N = {n:g}" for n in ns)],
        rows,
    )
