"""Figures and tables of experiments.sgd_horizon."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import format_interval
from covlab.report.plotting import Drawing
from covlab.report.rates import Panel, Rate, at_sizes, rates_figure, size_intervals
from theory.sgd.horizon_sweep import CENTRES, CRITERIA, Compared, Measurements, visits

THEORY = {"sgd": 1.0, "normalised": 0.0}
"""Exponents of H that theorems give, by rule."""


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    family = results.family
    last = family.horizons[-1]
    return [
        Drawing(
            "horizon",
            f"Updates and samples until the mean of Cov_N over the iterates is at most {family.target:g} on "
            f"the worst instance of the family, each method with its own best step size at every H. Means "
            f"over draws, 95 % intervals. Dashed: derived for SGD, visits to + times 1/eps.",
            horizon_figure(results),
        ),
        Drawing(
            "step_size",
            "The same against the step size, one colour a length: on the small-step instance (solid, means "
            "over the tuning draws) and on the worst number-prompt (dashed); a line ends where a run of "
            f"{family.updates} updates was not enough. Dots: the step size chosen for the worse of the two. "
            "For SGD the dashed lines end where steps get trapped, at a place that falls as 1/H.",
            step_size_figure(results),
        ),
        Drawing(
            "iterates",
            f"H = {last}. Left: B' theta_1, which decides on +, with the chosen step sizes, 4 draws each; "
            f"dotted: where + is covered. Middle: Cov_N of the same iterates. Right: SGD with eta = 8/(HB) "
            f"on the number-prompt 8/(HB), which is answered right within the shaded angle around v(e, 0).",
            iterates_figure(results),
        ),
        Drawing(
            "bound",
            "SGD with eta = 1/(2HB^2): mean KL over iterates 1..T on both instances, and 4/(eta T) + 2 eta "
            "sigma*^2 (dashed).",
            bound_figure(results),
        ),
    ]


def horizon_figure(results: Measurements) -> Figure:
    """Updates beside samples, against H."""
    family = results.family
    every = list(results.chosen.values())
    theorem = [setting for setting in every if setting.method.rule == "normalised"][-1]
    drawn = [setting for setting in every if setting.method.rule != "clipped" and setting.method.batch == 1]
    drawn[1:1] = [
        next(setting for setting in every if setting.method.rule == "sgd" and setting.method.batch > 1)
    ]
    drawn.insert(3, theorem)

    def rates(samples: bool) -> list[Rate]:
        rows = []
        for setting in drawn:
            times = setting.method.batch if samples else 1
            bound = None
            if setting.method.rule == "sgd":
                sizes = results.step_sizes[setting.steps["mean"]]
                bound = times * np.array([visits(family, eta) for eta in sizes]) / family.target
            values = times * np.minimum(setting.worst["mean"], family.updates)
            rows.append(Rate(setting.method.name, values, THEORY.get(setting.method.rule), bound))
        return rows

    panels = [
        Panel(
            f"{name} needed, worst instance", "H, tokens of a response", name, family.horizons, rates(samples)
        )
        for name, samples in (("updates", False), ("samples", True))
    ]
    return rates_figure(panels, np.random.default_rng(results.seed))


@mpl.rc_context(draw.STYLE)
def step_size_figure(results: Measurements) -> Figure:
    """Updates needed against the step size, on the two kinds of instances."""
    family = results.family
    names = ("SGD", "normalised SGD", "sign-SGD", "Adam")
    fig, axes = draw.new_figure(2, 2, (11.5, 8.2), sharex=True, sharey=True)
    colours = draw.ordered_colours(len(family.horizons))
    for axis, name in zip(axes.ravel(), names, strict=True):
        choice = results.chosen[name]
        letters = choice.tuning.mean.mean(axis=-1)
        numbers = results.numbers[choice.method.rule].mean.max(axis=-1)
        for index, (horizon, colour) in enumerate(zip(family.horizons, colours, strict=True)):
            for line, style in ((letters[index], "-"), (numbers[index], draw.DASHED)):
                label = f"H = {horizon}" if style == "-" else None
                seen = np.where(np.isfinite(line), line, np.nan)
                axis.plot(results.step_sizes, seen, color=colour, linestyle=style, linewidth=1.3, label=label)
            at = choice.steps["mean"][index]
            worst = max(letters[index, at], numbers[index, at])
            if np.isfinite(worst):
                axis.plot(results.step_sizes[at], worst, "o", color=colour, markersize=6, zorder=4)
        axis.set(xscale="log", yscale="log", title=name)
    for axis in axes[1]:
        axis.set_xlabel("step size eta")
    for axis in axes[:, 0]:
        axis.set_ylabel("updates needed")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def iterates_figure(results: Measurements) -> Figure:
    """The small-step instance by time at the longest H, and the trap."""
    family = results.family
    last = family.horizons[-1]
    fig, axes = draw.new_figure(1, 3, (16.0, 4.6), width_ratios=(1.2, 1.2, 0.9))
    along, covered, plane = axes[0]
    for (name, trace), colour in zip(results.shown.items(), (draw.BLUE, draw.RED, draw.GREEN), strict=True):
        time = np.arange(1, family.updates)
        style: dict[str, Any] = {"color": colour, "linewidth": 1, "alpha": 0.8}
        for row in range(4):
            label = name if row == 0 else None
            along.plot(time, family.letters * trace.theta[0][-1, row, 1:], label=label, **style)
            covered.plot(time, trace.coverage[-1, row, 1:], drawstyle="steps-post", **style)
    along.axhline(math.log(last / family.log_n), color=draw.INK, linestyle=":", linewidth=1.2)
    along.set(xscale="log", title="small-step instance", xlabel="update", ylabel="B' theta_1")
    covered.axhline(family.target, color=draw.INK, linestyle=":", linewidth=1.2)
    covered.set(xscale="log", title="small-step instance", xlabel="update", ylabel="Cov_N")
    angle = math.acos(4 / 7)
    arc = np.linspace(-angle / 2, angle / 2, 64)
    plane.fill([0, *np.cos(arc)], [0, *np.sin(arc)], color=draw.GREEN, alpha=0.15, linewidth=0)
    circle = np.linspace(-math.pi / 2, math.pi / 2, 128)
    plane.plot(np.cos(circle), np.sin(circle), color="#aaaaaa", linewidth=0.8)
    x, y = (coordinate[-1, 0, :40] for coordinate in results.trap.theta)
    plane.plot(x, y, color=draw.BLUE, linewidth=1, marker="o", markersize=6)
    for turn, text in ((angle, "v(e, 1)"), (0.0, "v(e, 0)"), (-angle, "v(e, -1)")):
        plane.annotate(text, (1.05 * math.cos(turn), 1.05 * math.sin(turn)), va="center")
    plane.set(aspect="equal", xlim=(0, 1.45), ylim=(-1.1, 1.1), title="SGD, eta = e = 8/(HB): 40 iterates")
    plane.set(xlabel="theta_1", ylabel="theta_2")
    draw.legend_below(fig, [along])
    return fig


@mpl.rc_context(draw.STYLE)
def bound_figure(results: Measurements) -> Figure:
    """Mean KL of SGD beside its bound, shortest and longest H."""
    family, bound = results.family, results.bound
    fig, axes = draw.new_figure(1, 2, (11.5, 4.4), sharey=True)
    time = np.arange(1, family.updates)
    for axis, index in zip(axes[0], (0, len(family.horizons) - 1), strict=True):
        for values, colour, label in (
            (bound.letters, draw.BLUE, "small-step instance"),
            (bound.numbers, draw.RED, "number-prompt 8/(HB)"),
        ):
            axis.plot(time, values[index], color=colour, label=label)
        axis.plot(time, bound.bound[index], color=draw.INK, linestyle=draw.DASHED, label="bound")
        axis.set(xscale="log", yscale="log", title=f"H = {family.horizons[index]}", xlabel="T")
    axes[0, 0].set_ylabel("mean KL (nats)")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Compared) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Every method at every length, for both criteria."""
    rng = np.random.default_rng(results.seed)
    return [
        (_caption(results, criterion), _COLUMNS, _rows(results, criterion, rng)) for criterion in CRITERIA
    ]


_COLUMNS = ["method", "H", "step size", "updates", "interval", "samples", "small-step instance", "numbers"]


def _caption(results: Compared, criterion: str) -> str:
    what = {
        "mean": "until the mean of Cov_N over the iterates is at most eps",
        "good": f"until Cov_N is at most eps for the rest of {results.family.updates} updates",
    }[criterion]
    return (
        f"Updates {what}: {CENTRES[criterion]} over draws on the worst instance, with the step size that was "
        f"best for it on the tuning draws; samples are updates times the batch; the last columns give the "
        f"two kinds of instances alone. inf: not reached."
    )


def _rows(results: Compared, criterion: str, rng: np.random.Generator) -> list[list[Any]]:
    rows: list[list[Any]] = []
    horizons, centre = results.family.horizons, CENTRES[criterion]
    for name, choice in results.chosen.items():
        ends = size_intervals(np.minimum(choice.worst[criterion], results.family.updates), rng, centre)
        middle, letters = (at_sizes(of[criterion], centre) for of in (choice.worst, choice.letters))
        chosen = choice.steps[criterion]
        of_numbers = getattr(results.numbers[choice.method.rule], criterion).max(axis=-1)
        for index, (horizon, end) in enumerate(zip(horizons, ends, strict=True)):
            step = f"2^{math.log2(results.step_sizes[chosen[index]]):g}"
            rows.append(
                [
                    *(name, horizon, step, middle[index], format_interval((end.low, end.high))),
                    *(choice.method.batch * middle[index], letters[index]),
                    float(of_numbers[index, chosen[index]]),
                ]
            )
    return rows
