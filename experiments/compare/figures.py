"""Figures of a comparison: a few groups in colour, all other groups as one grey band."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from covlab.report import plotting as draw
from covlab.report.labels import shortened
from experiments.compare.groups import Group, Member, Summary, curve
from tracking.metric_names import natural, titled

COLOURS = (draw.BLUE, draw.RED, draw.GREEN, draw.ORANGE, draw.PURPLE, draw.INK, "#56B4E9", "#8c6d31")
"""Okabe and Ito's colours, with a brown in place of yellow, which is too light on white."""
MOST_LINES = len(COLOURS)
_GREY = "#9a9a9a"
_MOST_DOTS = 4000
_MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")


@mpl.rc_context(draw.STYLE)
def curves(
    shown: Mapping[str, Group], others: Sequence[Group], metrics: Sequence[str], x: str, band: draw.Band
) -> Figure:
    """Every metric against `step` or `global_step`, one panel per metric: medians and bands over the seeds.

    `shown` maps labels to the groups drawn in colour. Grey shows the median and the middle 80 % of the
    medians of `others`.
    """
    fig, axes = _panels(len(metrics))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        _others(axis, others, x, metric)
        for (label, group), colour in zip(shown.items(), COLOURS, strict=False):
            points, table = curve(group.members, x, metric)
            if points.size:
                draw.line_over_seeds(axis, points, table, colour, label, band)
        axis.set(title=titled(metric), xlabel=x.replace("_", " "))
    _finish(fig, axes, len(metrics), shown, others)
    return fig


@mpl.rc_context(draw.STYLE)
def families(
    panels: Sequence[tuple[str, Sequence[Member], Mapping[str, str]]], x: str, band: draw.Band
) -> Figure:
    """Panels with one line per metric: median over the seeds with a band, colours from small to large N.

    A panel is (title, members, metric -> label).
    """
    labels = dict.fromkeys(label for _, _, lines in panels for label in lines.values())
    ordered = sorted(labels, key=natural)
    colours = dict(zip(ordered, draw.ordered_colours(len(ordered)), strict=True))
    fig, axes = _panels(len(panels), sharey=True)
    for axis, (title, members, lines) in zip(axes.flat, panels, strict=False):
        for metric, label in lines.items():
            points, table = curve(members, x, metric)
            if points.size:
                draw.line_over_seeds(axis, points, table, colours[label], label, band)
        axis.set(title=textwrap.fill(title, 44), xlabel=x.replace("_", " "))
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    _legend(fig, [Line2D([], [], color=colours[label]) for label in ordered], ordered)
    return fig


@mpl.rc_context(draw.STYLE)
def paths(shown: Mapping[str, Group], others: Sequence[Group], metrics: Sequence[str], x: str) -> Figure:
    """Every metric against another metric `x`, checkpoint by checkpoint.

    A dot is a checkpoint of one seed, a line the group's path (medians over seeds at each step), a large dot
    the end of the path. Grey dots are checkpoints of `others`.
    """
    fig, axes = _panels(len(metrics))
    for axis, metric in zip(axes.flat, metrics, strict=False):
        rest = _dots([member for group in others for member in group.members], x, metric)
        axis.scatter(*rest, s=6, color=_GREY, alpha=0.25, linewidths=0, rasterized=True)
        for group, colour in zip(shown.values(), COLOURS, strict=False):
            axis.scatter(*_dots(group.members, x, metric), s=9, color=colour, alpha=0.3, linewidths=0)
            (steps, across), (also, up) = (curve(group.members, "step", key) for key in (x, metric))
            both, first, second = np.intersect1d(steps, also, return_indices=True)
            if both.size:
                path = np.nanmedian(across, axis=0)[first], np.nanmedian(up, axis=0)[second]
                axis.plot(*path, color=colour)
                axis.plot(path[0][-1:], path[1][-1:], "o", color=colour, markersize=8, mec="white")
        axis.set(title=f"{metric} against {x}", xlabel=x, ylabel=metric)
    _finish(fig, axes, len(metrics), shown, others)
    return fig


@mpl.rc_context(draw.STYLE)
def settings(
    groups: Sequence[Group], values: Sequence[float], keys: Mapping[str, str], name: str
) -> Figure | None:
    """One number of every group against each setting that differs, a panel each; at most 9 settings.

    A dot is a group, the line joins the medians of each value of the setting (of eighths of the groups, if
    there are more than 12 values). The settings that explain most of the number's ranks come first. None if
    there is nothing to draw.
    """
    y = np.asarray(values, np.float64)
    kept = np.flatnonzero(np.isfinite(y))
    texts = {key: [groups[int(i)].settings[key] for i in kept] for key in keys}
    # A text that differs nearly everywhere, such as a name, explains nothing.
    texts = {
        k: column for k, column in texts.items() if 1 < len(_places(column)[1]) <= 12 or _numeric(column)
    }
    if kept.size < 3 or not texts:
        return None
    y = y[kept]
    ordered = sorted(texts, key=lambda key: -_explained(texts[key], y))[:9]
    fig, axes = _panels(len(ordered))
    random = np.random.default_rng(0)
    for axis, key in zip(axes.flat, ordered, strict=False):
        place, ticks = _places(texts[key])
        numbers = np.unique(place)
        few = numbers.size <= 12
        width = 0.18 if ticks else 0.0
        dots = place + random.uniform(-width, width, place.size)
        some = random.permutation(place.size)[:_MOST_DOTS]
        axis.scatter(dots[some], y[some], s=10, color=draw.BLUE, alpha=0.3, linewidths=0, rasterized=True)
        parts = [place == number for number in numbers] if few else _eighths(place)
        line = [np.median(place[part]) for part in parts], [np.median(y[part]) for part in parts]
        axis.plot(*line, color=draw.INK, marker="o", markersize=4)
        if ticks:
            axis.set_xticks(range(len(ticks)), ticks, rotation=0 if sum(map(len, ticks)) < 30 else 25)
        elif numbers[0] > 0 and numbers[-1] >= 50 * numbers[0]:
            axis.set_xscale("log")
        axis.set(title=keys[key], ylabel=name)
    _finish(fig, axes, len(ordered), {}, ())
    return fig


@mpl.rc_context(draw.STYLE)
def rules(chosen: Mapping[str, Mapping[str, Summary]], metric: str) -> Figure:
    """A metric at each rule's checkpoint; `chosen` is label -> rule -> summary over the seeds."""
    names = list(dict.fromkeys(rule for by_rule in chosen.values() for rule in by_rule))
    fig, axes = draw.new_figure(1, 1, (8.2, 1.6 + 0.5 * len(chosen)))
    axis = axes[0, 0]
    for index, rule in enumerate(names):
        points = [(row, by_rule[rule]) for row, by_rule in enumerate(chosen.values()) if rule in by_rule]
        row = np.array([row for row, _ in points]) + 0.6 * ((index + 0.5) / len(names) - 0.5)
        middle, low, high = np.array([value for _, value in points]).T
        colour = COLOURS[index % len(COLOURS)]
        axis.hlines(row, low, high, color=colour, linewidth=1.2, alpha=0.6)
        axis.plot(middle, row, _MARKS[index % len(_MARKS)], color=colour, markersize=6, label=rule)
    axis.set_yticks(range(len(chosen)), list(chosen), fontsize=8.5)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set(xlabel=f"{metric} at the chosen checkpoint")
    handles, labels = axis.get_legend_handles_labels()
    _legend(fig, handles, labels)
    return fig


def _panels(count: int, sharey: bool = False) -> tuple[Figure, np.ndarray]:
    width = 2 if count == 4 else min(3, count)
    height = -(-count // width)
    size = (8.2, 4.6) if count == 1 else (4.2 * width, 3.3 * height + 0.4)
    return draw.new_figure(height, width, size, sharey=sharey)


def _others(axis: Axes, others: Sequence[Group], x: str, metric: str) -> None:
    """One grey band for all groups without a line."""
    medians = []
    for group in others:
        points, table = curve(group.members, x, metric)
        if points.size:
            medians.append((points, np.nanmedian(table, axis=0)))
    if not medians:
        return
    grid = medians[0][0]
    if not all(np.array_equal(points, grid) for points, _ in medians):
        every = np.unique(np.concatenate([points for points, _ in medians]))
        grid = every[np.unique(np.linspace(0, every.size - 1, 200).round().astype(int))]
    table = np.stack([np.interp(grid, points, value, np.nan, np.nan) for points, value in medians])
    there = ~np.isnan(table).all(axis=0)
    draw.line_over_seeds(axis, grid[there], table[:, there], _GREY, "", (0.1, 0.9))


def _dots(members: Sequence[Member], x: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Both metrics at every checkpoint that has both; a fixed random sample if there are too many."""
    pairs = [np.stack([member.column(x), member.column(metric)]) for member in members]
    table = np.concatenate([np.zeros((2, 0)), *pairs], axis=1)
    table = table[:, np.isfinite(table).all(axis=0)]
    some = np.random.default_rng(0).permutation(table.shape[1])[:_MOST_DOTS]
    return table[0, some], table[1, some]


def _finish(
    fig: Figure, axes: np.ndarray, count: int, shown: Mapping[str, Group], others: Sequence[Group]
) -> None:
    for axis in axes.flat[count:]:
        axis.remove()
    handles: list[Any] = [Line2D([], [], color=colour) for colour in COLOURS[: len(shown)]]
    labels = list(shown)
    if others:
        handles.append(Line2D([], [], color=_GREY))
        labels.append(f"the other {len(others)} groups" if shown else f"{len(others)} groups")
    if handles:
        _legend(fig, handles, labels)


def _legend(fig: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under the figure, in as many columns as the longest label allows at 13 letters per inch."""
    width = float(fig.get_figwidth())
    columns = max(1, min(len(labels), int(width * 13 / (max(map(len, labels)) + 6))))
    fig.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, handlelength=1.6)


def _places(texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Positions on an axis: the numbers; else positions of categories, with tick labels."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        numbers = np.array([math.nan])
    if np.isfinite(numbers).all() and np.unique(numbers).size > 2:
        return numbers, []
    names = sorted(set(texts), key=lambda text: (_number(text), text))
    return np.array([names.index(text) for text in texts], np.float64), shortened(names, 18)


def _numeric(texts: Sequence[str]) -> bool:
    return not _places(texts)[1]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _eighths(place: np.ndarray) -> list[np.ndarray]:
    edges = np.quantile(place, np.linspace(0, 1, 9))
    index = np.clip(np.searchsorted(edges, place, "right") - 1, 0, 7)
    return [index == part for part in range(8) if (index == part).any()]


def _explained(texts: Sequence[str], y: np.ndarray) -> float:
    """Share of the variance of the ranks of y that lies between the values, minus the share by chance."""
    rank = np.argsort(np.argsort(y)).astype(np.float64)
    place, _ = _places(texts)
    parts = [place == value for value in np.unique(place)]
    parts = parts if len(parts) <= 12 else _eighths(place)
    between = sum(part.sum() * (rank[part].mean() - rank.mean()) ** 2 for part in parts)
    total = ((rank - rank.mean()) ** 2).sum()
    return float(between / total - (len(parts) - 1) / max(len(rank) - 1, 1))
