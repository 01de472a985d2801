"""Figures and tables of experiments.tail_sft. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.tail_sft.measure import DESTROYED, KEPT, Arm, Measurements, When
from metrics import Interval, mean_interval, paired_difference_interval

_MARKERS = "osD^vPX*<>"
_TIMES: dict[When, str] = {"before": "before", "short": "short", "batches": "over the batches", "end": "end"}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    k, plain, count = results.k, results.plain, len(results.seeds)
    return [
        Drawing(
            "arms",
            f"Pass@{k} against Pass@1 in both set-ups: the line is {plain} from before fine-tuning (open "
            f"circle) to its end, mean over {count} seeds; marks are the arms after the last step, with 95 % "
            f"intervals. Up and to the right is better.",
            arms(results),
        ),
        Drawing(
            "differences",
            f"Pass@{k} after the last step minus that of {plain}: at equal steps, and with {plain} stopped "
            f"at the arm's KL or Pass@1. Mean over {count} seeds, paired, with 95 % intervals.",
            differences(results),
        ),
        Drawing(
            "reinforcement",
            f"Reinforcement learning from the starts: exact Pass@1 and Pass@{k} against the number of "
            f"batches, mean over {count} seeds. Dashed: the likelier rule's share of the "
            f"prompts, which a model that cannot tell the rules apart does not exceed at k = 1.",
            reinforcement(results),
        ),
        Drawing(
            "gains",
            f"Coverage destroyed: reinforcement learning from each start minus that from {plain}, and for "
            f"the arms of TailSFT minus that from {plain} of equal KL, on the line between its starts. Mean "
            f"over the batches, and after the last; over {count} seeds, paired, with 95 % intervals.",
            gains(results),
        ),
    ]


def _colours(results: Measurements) -> dict[str, Any]:
    names = list(results.arms[DESTROYED])
    return dict(zip(names, draw.ordered_colours(len(names)), strict=True))


@mpl.rc_context(draw.STYLE)
def arms(results: Measurements) -> Figure:
    """Every arm at Pass@1 and Pass@k."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.6))
    for axis, set_up in zip(axes[0], (DESTROYED, KEPT), strict=True):
        base = results.arms[set_up][results.plain]
        x, y = base.pass_1.mean(axis=0), base.pass_k.mean(axis=0)
        axis.plot(x, y, color="#999999", linewidth=1.0, zorder=1)
        axis.plot(x[0], y[0], "o", color=draw.INK, fillstyle="none")
        for index, (name, colour) in enumerate(_colours(results).items()):
            arm = results.arms[set_up][name]
            one, many = mean_interval(arm.pass_1[:, -1]), mean_interval(arm.pass_k[:, -1])
            axis.errorbar(
                one.estimate,
                many.estimate,
                xerr=draw.error_bars(one),
                yerr=draw.error_bars(many),
                color=colour,
                marker=_MARKERS[index % len(_MARKERS)],
                linestyle="none",
                linewidth=1.0,
                label=name,
            )
        axis.set(title=f"coverage {set_up}", xlabel="Pass@1", ylabel=f"Pass@{results.k}")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def differences(results: Measurements) -> Figure:
    """Every arm minus plain fine-tuning."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.2), sharey="row")
    names = list(results.arms[DESTROYED])[1:]
    kinds = {"equal steps": draw.BLUE, "equal KL": draw.ORANGE, "equal Pass@1": draw.GREEN}
    for axis, set_up in zip(axes[0], (DESTROYED, KEPT), strict=True):
        axis.axvline(0, color=draw.INK, linewidth=0.8)
        for shift, (kind, colour) in zip((-0.2, 0.0, 0.2), kinds.items(), strict=True):
            for row, name in enumerate(names):
                gap = _gap(results, set_up, name, kind)
                _horizontal(axis, gap, row + shift, colour, kind if row == 0 else None)
        axis.set(title=f"coverage {set_up}", xlabel=f"Pass@{results.k} minus that of {results.plain}")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def reinforcement(results: Measurements) -> Figure:
    """Pass@1 and Pass@k along reinforcement learning from every start, a row for each set-up."""
    fig, axes = draw.new_figure(2, 2, (10.5, 7.6), sharex=True)
    names = list(dict.fromkeys(name for starts in results.after.values() for name in starts))
    colours = dict(zip(names, draw.ordered_colours(len(names)), strict=True))
    for row, set_up in zip(axes, (DESTROYED, KEPT), strict=True):
        for name, arm in results.after[set_up].items():
            named = set_up == DESTROYED or name not in results.after[DESTROYED]
            for axis, values in zip(row, (arm.pass_1, arm.pass_k), strict=True):
                # The bands of so many starts would hide each other; the tables have intervals.
                axis.plot(
                    arm.steps,
                    values.mean(axis=0),
                    color=colours[name],
                    marker=_MARKERS[names.index(name) % len(_MARKERS)],
                    label=name if named else None,
                )
        row[0].axhline(results.best[set_up], color=draw.INK, linestyle=draw.DASHED, linewidth=1.0)
        row[0].set(title=f"coverage {set_up}: Pass@1")
        row[1].set(title=f"coverage {set_up}: Pass@{results.k}")
    for axis in axes[1]:
        axis.set_xlabel("batches of rollouts")
    draw.legend_below(fig, [axes[0, 0], axes[1, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def gains(results: Measurements) -> Figure:
    """Reinforcement learning from every start minus that from plain fine-tuning, where coverage is
    destroyed."""
    plain, names = results.plain, [name for name in results.after[DESTROYED] if name != results.plain]
    panels: list[tuple[str, int, When]] = [
        ("Pass@1 over the batches", 1, "batches"),
        (f"Pass@{results.k} over the batches", results.k, "batches"),
        ("Pass@1 at the end", 1, "end"),
    ]
    fig, axes = draw.new_figure(1, len(panels), (10.5, 4.2), sharey="row")
    for axis, (title, k, when) in zip(axes[0], panels, strict=True):
        axis.axvline(0, color=draw.INK, linewidth=0.8)
        for row, name in enumerate(names):
            gap = mean_interval(results.gain_after(DESTROYED, name, plain, k, when))
            _horizontal(axis, gap, row - 0.12, draw.BLUE, f"minus {plain}" if row == 0 else None)
        for place, name in enumerate(results.compared(DESTROYED)):
            gap = mean_interval(results.gain_at_equal_kl(name, k, when))
            label = f"minus {plain} of equal KL" if place == 0 else None
            _horizontal(axis, gap, names.index(name) + 0.12, draw.ORANGE, label)
        axis.set_title(title)
        axis.locator_params(axis="x", nbins=5)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _horizontal(axis: Axes, gap: Interval, row: float, colour: str, label: str | None) -> None:
    axis.errorbar(
        gap.estimate,
        row,
        xerr=draw.error_bars(gap),
        color=colour,
        marker="o",
        linewidth=1.2,
        label=label,
    )


def _gap(results: Measurements, set_up: str, name: str, kind: str) -> Interval:
    own = results.last(set_up, name)
    if kind == "equal steps":
        return paired_difference_interval(own, results.last(set_up, results.plain))
    return paired_difference_interval(own, results.stopped(set_up, name, kind.removeprefix("equal ")))


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    made = (_ends, _gaps, _after, _gained)
    return [table(results, set_up) for set_up in (DESTROYED, KEPT) for table in made]


def _ends(results: Measurements, set_up: str) -> Table:
    k, arms_of = results.k, results.arms[set_up]
    plain = arms_of[results.plain]
    rows: list[list[Any]] = [["start", *_numbers(plain, np.zeros(len(results.seeds), int)), None]]
    for name, arm in arms_of.items():
        end = np.full(len(results.seeds), -1)
        rows.append([name, *_numbers(arm, end), arm.ratio if arm.gained.any() else None])
    stops = {"least KL": plain.kl.argmin(axis=1), "tournament": results.tournament[set_up]}
    for rule, index in stops.items():
        rows.append([f"{results.plain}, {rule}", *_numbers(plain, index), None])
    return (
        f"Coverage {set_up}: after the last step, mean over seeds; rho_{k} from all seeds' losses and gains. "
        f"Below, checkpoints of {results.plain} that a rule chooses.",
        ["arm", "Pass@1", f"Pass@{k}", "KL (nats)", f"rho_{k}"],
        rows,
    )


def _numbers(arm: Arm, index: np.ndarray) -> list[float]:
    seeds = np.arange(len(index))
    return [float(values[seeds, index].mean()) for values in (arm.pass_1, arm.pass_k, arm.kl)]


def _gaps(results: Measurements, set_up: str) -> Table:
    kinds = ("equal steps", "equal KL", "equal Pass@1")
    rows = [
        [name, *(cell for kind in kinds for cell in estimate_and_ends(_gap(results, set_up, name, kind)))]
        for name in list(results.arms[set_up])[1:]
    ]
    return (
        f"Coverage {set_up}: Pass@{results.k} after the last step minus that of {results.plain}, paired by "
        f"seed, with 95 % intervals. At equal KL: on the line between the last checkpoint of {results.plain} "
        f"whose KL is at most the arm's and the next, or at that of least KL. At equal Pass@1: at the "
        f"checkpoint of nearest Pass@1.",
        ["arm", *(text for kind in kinds for text in (kind, ""))],
        rows,
    )


def _after(results: Measurements, set_up: str) -> Table:
    starts, columns = results.after[set_up], [(of, when) for of in (1, results.k) for when in _TIMES]
    rows = [
        [name, *(float(results.read(set_up, name, of, when).mean()) for of, when in columns)]
        for name in starts
    ]
    batches = starts[results.plain].steps
    return (
        f"Coverage {set_up}: reinforcement learning from each start, mean over seeds: before it, after "
        f"{batches[1]} batches, over the batches (mean), and after all {batches[-1]}.",
        [
            "start",
            *(f"Pass@{of} before" if when == "before" else _TIMES[when] for of, when in columns),
        ],
        rows,
    )


def _gained(results: Measurements, set_up: str) -> Table:
    k, plain, rows = results.k, results.plain, []
    kinds: list[tuple[int, When]] = [(1, "short"), (1, "batches"), (1, "end"), (k, "batches"), (k, "end")]
    for name in results.after[set_up]:
        if name != plain:
            own = [results.gain_after(set_up, name, plain, of, when) for of, when in kinds]
            rows.append([name, plain, *_intervals(own)])
        if set_up == DESTROYED and name in results.compared(set_up):
            own = [results.gain_at_equal_kl(name, of, when) for of, when in kinds]
            rows.append([name, f"{plain} of equal KL", *_intervals(own)])
    line = (
        f" Of equal KL: on the line between the starts of {plain} with KL before reinforcement learning on "
        f"both sides, or at the nearer start."
    )
    return (
        f"Coverage {set_up}: reinforcement learning from each start minus that from another, paired by seed, "
        f"with 95 % intervals; columns as above.{line if set_up == DESTROYED else ''}",
        ["start", "minus", *(text for of, when in kinds for text in (f"Pass@{of} {_TIMES[when]}", ""))],
        rows,
    )


def _intervals(gains_of: Iterable[np.ndarray]) -> list[Any]:
    return [cell for gain in gains_of for cell in estimate_and_ends(mean_interval(gain))]
