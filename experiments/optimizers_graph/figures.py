"""Plots and tables of `optimizers_graph`. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

import dataclasses
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
from experiments.optimizers_graph.measure import Compared, Curves, Measurements, over_seeds
from experiments.optimizers_graph.rules import BASELINE, RULES

Quantity = Callable[[Curves], np.ndarray]

COLOURS = dict(zip(RULES, (draw.INK, draw.PURPLE, draw.BLUE, draw.GREEN, draw.RED, draw.ORANGE), strict=True))
NAMES = {"graph": "layered graphs", "dyck": "Dyck strings"}
_SPREAD = {rule: 1.0 + 0.03 * (index - 2.5) for index, rule in enumerate(RULES)}
"""Factors on the length that keep error bars apart."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    passes = f"Pass@{results.pass_n}"
    return [
        Drawing(
            "equal_loss",
            f"Cov_N against KL along training (from right to left), one colour a rule, one panel a response "
            f"length H: thin lines are {len(results.seeds)} seeds, points their means at the levels of "
            f"KL that are compared (dotted). Where lines lie on each other, the rule does not matter at "
            f"equal loss.",
            against_loss(results, lambda cell: (cell.cov, f"Cov$_{{{cell.n:g}}}$")),
        ),
        Drawing(
            "gaps",
            "Cov_N of SGD minus that of each rule against H, mean over seeds with 95 % intervals: after "
            "equal steps, mean over the iterates (top) and at equal cross-entropy (bottom). Above 0 the rule "
            "covers more than SGD.",
            gap_panels(results),
        ),
        Drawing(
            "equal_steps",
            f"Cov_N, mean over the iterates, and {passes} (where it was measured) and KL after the last "
            f"step, against H, mean over seeds with 95 % intervals.",
            equal_steps(results),
        ),
        Drawing(
            "equal_loss_pass",
            f"{passes} against KL, as in the first figure, of the tasks on which it was measured.",
            against_loss(_with_passes(results), lambda _: (results.passes, passes)),
        ),
    ]


def _with_passes(results: Measurements) -> Measurements:
    """The tasks with Pass@N; all where none has it."""
    kept = {
        task: cells
        for task, cells in results.tasks.items()
        if np.isfinite(results.passes(cells[0].curves[BASELINE])).all()
    }
    return dataclasses.replace(results, tasks=kept or results.tasks)


@mpl.rc_context(draw.STYLE)
def against_loss(results: Measurements, of: Callable[[Compared], tuple[Quantity, str]]) -> Figure:
    """A quantity (with its label) against KL: rows are tasks, columns lengths."""
    columns = max(len(cells) for cells in results.tasks.values())
    fig, axes = draw.new_figure(len(results.tasks), columns, (4.4 * columns, 3.8 * len(results.tasks)))
    for row, (task, cells) in enumerate(results.tasks.items()):
        for axis, cell in zip(axes[row], cells, strict=False):
            quantity, label = of(cell)
            low, high = cell.levels[0], cell.levels[-1]
            for level in cell.levels:
                axis.axvline(level, color=draw.INK, linestyle=":", linewidth=0.8)
            for rule, curves in cell.curves.items():
                axis.plot(curves.kl.T, quantity(curves).T, color=COLOURS[rule], linewidth=0.5, alpha=0.35)
                mean = [over_seeds(column).estimate for column in cell.at_levels(rule, quantity).T]
                style: dict[str, Any] = {"color": COLOURS[rule], "marker": "o", "markersize": 3.5}
                axis.plot(cell.levels, mean, label=RULES[rule].title, **style)
            axis.set(title=f"{NAMES[task]}, H = {cell.response}", xlabel="KL (nats)", ylabel=label)
            axis.set(xscale="log", xlim=(low / 3, 3 * high))
            shown = sorted({low / 2, low, high, 2 * high})
            axis.set_xticks(shown, [f"{level:.2g}" for level in shown])
            axis.minorticks_off()
        for axis in axes[row][len(cells) :]:
            axis.set_axis_off()
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def gap_panels(results: Measurements) -> Figure:
    """Gaps in Cov_N to SGD against H: after equal steps (top), at equal cross-entropy (bottom)."""
    fig, axes = draw.new_figure(2, len(results.tasks), (5.2 * len(results.tasks), 7.2))
    for column, (task, cells) in enumerate(results.tasks.items()):
        for axis, (place, (gap, _)) in zip(axes[:, column], places(results, task).items(), strict=True):
            axis.axhline(0, color=COLOURS[BASELINE], linestyle=draw.DASHED, linewidth=1.2, label="SGD")
            for rule in RULES:
                if rule != BASELINE:
                    _against_length(axis, cells, rule, [gap(cell, rule) for cell in cells])
            axis.set(title=f"{NAMES[task]}, {place}", ylabel="Cov$_N$: SGD minus rule")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def equal_steps(results: Measurements) -> Figure:
    """Cov_n over the iterates, Pass@n and KL after the last step against H."""
    fig, axes = draw.new_figure(len(results.tasks), 3, (12.6, 3.8 * len(results.tasks)))
    for row, (task, cells) in enumerate(results.tasks.items()):
        cov = results.cov(task)
        quantities: tuple[tuple[str, Callable[[Compared, str], np.ndarray]], ...] = (
            (
                f"Cov$_{{{results.n[task]:g}}}$, mean over iterates",
                lambda cell, rule, cov=cov: cell.over_steps(rule, cov),  # type: ignore[misc]
            ),
            (f"Pass@{results.pass_n}", lambda cell, rule: results.passes(cell.curves[rule])[:, -1]),
            ("KL (nats)", lambda cell, rule: cell.curves[rule].kl[:, -1]),
        )
        for axis, (label, of) in zip(axes[row], quantities, strict=True):
            if not np.isfinite(of(cells[0], BASELINE)).any():
                axis.set_axis_off()
                continue
            for rule in RULES:
                _against_length(axis, cells, rule, [of(cell, rule) for cell in cells])
            axis.set(title=f"{NAMES[task]}", ylabel=label)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _against_length(
    axis: Axes, cells: Sequence[Compared], rule: str, values: Sequence[Float[np.ndarray, " seeds"]]
) -> None:
    """Mean over seeds with its 95 % interval at each length."""
    ends = [over_seeds(value) for value in values]
    middle = np.array([end.estimate for end in ends])
    axis.errorbar(
        [cell.response * _SPREAD[rule] for cell in cells],
        middle,
        draw.error_bars(*ends),
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
    return [_equal_steps(results), _equal_loss(results), *_every_n(results)]


def _cells(results: Measurements) -> Iterator[tuple[list[Any], str, Compared, str]]:
    """The first cells of a row, and the task, length and rule it is about."""
    for task, cells in results.tasks.items():
        for cell in cells:
            for rule in cell.curves:
                yield [task, cell.response, RULES[rule].title], task, cell, rule


def _equal_steps(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for row, task, cell, rule in _cells(results):
        curves, of = cell.curves[rule], results.cov(task)
        row.append(results.n[task])
        for values in (
            cell.over_steps(rule, of),
            cell.gap_over_steps(rule, of),
            of(curves)[:, -1],
            curves.kl[:, -1],
            results.passes(curves)[:, -1],
        ):
            row += estimate_and_ends(over_seeds(values))
        rows.append(row)
    heads = ["Cov_N, mean over iterates", "", "SGD - rule", "", "Cov_N, last", "", "KL (nats), last", ""]
    return (
        "After equal steps: mean over seeds with its 95 % interval.",
        ["task", "H", "rule", "N", *heads, f"Pass@{results.pass_n}, last", ""],
        rows,
    )


def _equal_loss(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for row, _, cell, rule in _cells(results):
        row.append(cell.n)
        for of in (cell.cov, results.passes):
            mean = over_seeds(cell.at_levels(rule, of).mean(axis=1)).estimate
            row += [mean, *estimate_and_ends(over_seeds(cell.gap(rule, of)))]
        rows.append([*row, f"{cell.levels[0]:.3g} to {cell.levels[-1]:.3g}"])
    heads = ["Cov_N", "SGD - rule", "", f"Pass@{results.pass_n}", "SGD - rule", ""]
    return (
        "At equal cross-entropy: means over the levels of KL, and SGD's minus the rule's, paired by seed, "
        "with its 95 % interval. Lower Cov and higher Pass are better.",
        ["task", "H", "rule", "N", *heads, "levels of KL (nats)"],
        rows,
    )


def _every_n(results: Measurements) -> list[Table]:
    """The gaps at every N, because the N that is judged is a choice."""
    ns = sorted(next(iter(results.tasks.values()))[0].curves[BASELINE].cov)
    columns = ["task", "H", "rule", *(f"N = {n:g}" for n in ns)]
    what = "Cov_N of SGD minus that of the rule"
    steps: list[list[Any]] = []
    loss: list[list[Any]] = []
    for row, _, cell, rule in _cells(results):
        of = [lambda curves, n=n: curves.cov[n] for n in ns]
        steps.append([*row, *(over_seeds(cell.gap_over_steps(rule, one)).estimate for one in of)])
        loss.append([*row, *(over_seeds(cell.gap(rule, one)).estimate for one in of)])
    return [
        (
            f"After equal steps, {what}, mean over iterates and seeds.",
            columns,
            steps,
        ),
        (f"At equal cross-entropy, {what}, mean over levels and seeds.", columns, loss),
    ]
