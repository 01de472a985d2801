"""Figures and tables of experiments.tail_sft. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.tail_sft.measure import DESTROYED, KEPT, Arm, Measurements
from metrics import mean_interval, paired_difference_interval

_MARKERS = "osD^vPX*<>"


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
            f"batches, median and range over {count} seeds. Dashed: the likelier rule's share of the "
            f"prompts, which a model that cannot tell the rules apart does not exceed at k = 1.",
            reinforcement(results),
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
                xerr=[[one.estimate - one.low], [one.high - one.estimate]],
                yerr=[[many.estimate - many.low], [many.high - many.estimate]],
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
                axis.errorbar(
                    gap.estimate,
                    row + shift,
                    xerr=[[gap.estimate - gap.low], [gap.high - gap.estimate]],
                    color=colour,
                    marker="o",
                    linewidth=1.2,
                    label=kind if row == 0 else None,
                )
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
            for axis, values in zip(row, (arm.pass_1, arm.pass_k), strict=True):
                draw.line_over_seeds(axis, arm.steps, values, colours[name], name)
        row[0].axhline(results.best[set_up], color=draw.INK, linestyle=draw.DASHED, linewidth=1.0)
        row[0].set(title=f"coverage {set_up}: Pass@1")
        row[1].set(title=f"coverage {set_up}: Pass@{results.k}")
    for axis in axes[1]:
        axis.set_xlabel("batches of rollouts")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _gap(results: Measurements, set_up: str, name: str, kind: str) -> Any:
    own = results.last(set_up, name)
    if kind == "equal steps":
        return paired_difference_interval(own, results.last(set_up, results.plain))
    return paired_difference_interval(own, results.stopped(set_up, name, kind.removeprefix("equal ")))


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    made = (_ends, _gaps, _after)
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
    k, rows = results.k, []
    for name, arm in results.after[set_up].items():
        ends = [float(values[:, end].mean()) for values in (arm.pass_1, arm.pass_k) for end in (0, -1)]
        cells: list[Any] = [None] * 4
        if name != results.plain:
            gains = (results.gain_after(set_up, name, results.plain, each) for each in (1, k))
            cells = [cell for gain in gains for cell in estimate_and_ends(mean_interval(gain))]
        rows.append([name, *ends, *cells])
    return (
        f"Coverage {set_up}: before and after reinforcement learning from each start, mean over seeds, and "
        f"the end minus that from {results.plain}, paired by seed, with 95 % intervals.",
        [
            "start",
            "Pass@1 before",
            "after",
            f"Pass@{k} before",
            "after",
            "Pass@1 gained",
            "",
            f"Pass@{k} gained",
            "",
        ],
        rows,
    )
