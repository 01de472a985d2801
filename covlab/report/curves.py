"""Figures from arrays: pure functions on matplotlib's object interface. Only `save` touches a file.

KL and log-ratios are in nats. Arrays over a run are (seeds, checkpoints).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covlab.report import plotting as draw
from tracking.metric_names import families

save = draw.save


@mpl.rc_context(draw.STYLE)
def learning_curves(
    steps: Num[np.ndarray, "checkpoints"],
    kl: Float[np.ndarray, "seeds checkpoints"],
    cov: Mapping[float, Float[np.ndarray, "seeds checkpoints"]],
    theory: Mapping[str, Any] | None = None,
    band: draw.Band = "range",
    per_seed: bool = False,
    title: str = "",
    apart: float = 3,
) -> Figure:
    """KL (nats) and Cov_N for each N against the fine-tuning step, in two panels.

    Coverage Principle, arXiv 2510.15020, Figure 1 (left). The left panel has KL, and Cov_N of N < `apart` on
    its right axis. The right panel has Cov_N of N >= `apart`, which stays far below Cov_2, on an axis of its
    own; without such N there is only the left panel. Lines are medians over the seeds. The band is the whole
    range, or the two quantiles given as `band=(low, high)`. `per_seed` adds one thin line per seed. `theory`
    maps names to levels or curves in nats for the KL axis.

    Raises:
        ValueError: an array whose shape is not (seeds, checkpoints), or an invalid band.
    """
    shape = (None, len(steps))
    lines = {
        n: (draw.seeds_by_checkpoints(f"cov[{n:g}]", values, shape), colour)
        for (n, values), colour in zip(sorted(cov.items()), draw.ordered_colours(len(cov)), strict=True)
    }
    near = {n: line for n, line in lines.items() if n < apart}
    far = {n: line for n, line in lines.items() if n >= apart}
    panels, width = (2, 11.0) if far else (1, 8.2)
    # The labels of two axes meet between the panels.
    fig, axes = draw.new_figure(1, panels, (width, 4.6), gridspec_kw={"wspace": 0.06})
    left = axes[0, 0]
    kl = draw.seeds_by_checkpoints("kl", kl, shape)
    draw.line_over_seeds(left, steps, kl, draw.INK, "KL", band, per_seed)
    for name, level in (theory or {}).items():
        curve = np.broadcast_to(np.asarray(level, dtype=float), np.shape(steps))
        left.plot(steps, curve, color=draw.INK, linestyle=draw.DASHED, linewidth=1.2, label=name)
    left.set(ylabel="KL (nats)", title=title)
    shown = [left]
    if near:
        shown.append(left.twinx())
        shown[-1].grid(visible=False)
        shown[-1].spines["right"].set_visible(True)
    if far:
        shown.append(axes[0, 1])
    for axis, group in zip(shown[1:], (group for group in (near, far) if group), strict=True):
        for n, (values, colour) in group.items():
            draw.line_over_seeds(axis, steps, values, colour, f"Cov$_{{{n:g}}}$", band, per_seed)
        axis.set_ylabel(f"coverage profile Cov$_N$, N = {', '.join(f'{n:g}' for n in group)}")
    for axis in shown:
        axis.set_ylim(bottom=0)
    for axis in axes[0]:
        axis.set_xlabel("fine-tuning step")
    draw.legend_below(fig, shown)
    return fig


@mpl.rc_context(draw.STYLE)
def scatter_pass_at_n(
    steps: Num[np.ndarray, "checkpoints"],
    pass_at_n: Mapping[int, Float[np.ndarray, "seeds checkpoints"]],
    cov: Mapping[float, Float[np.ndarray, "seeds checkpoints"]],
    kl: Float[np.ndarray, "seeds checkpoints"],
    chosen: Mapping[str, Int[np.ndarray, "seeds"] | int],
    title: str = "",
) -> Figure:
    """Every checkpoint as a point: Pass@N against a coverage (top row) and against KL (bottom row).

    Coverage Principle, arXiv 2510.15020, Figure 1 (right), which pairs Pass@4, Pass@8, Pass@12 with Cov_2,
    Cov_4, Cov_5.7: the k-th entry of `pass_at_n` is drawn against the k-th of `cov`. `chosen` maps a rule's
    name to the chosen checkpoint per seed, which gets a large marker. Colour is the step.

    Raises:
        ValueError: `pass_at_n` and `cov` of different lengths, or mismatched shapes.
    """
    if not cov or len(pass_at_n) != len(cov):
        raise ValueError(f"cov: {len(cov)} entries; valid: at least 1, and as many as pass_at_n")
    kl = draw.seeds_by_checkpoints("kl", kl, (None, len(steps)))
    colour = np.broadcast_to(np.asarray(steps, dtype=float), kl.shape)
    fig, axes = draw.new_figure(2, len(cov), (3.9 * len(cov) + 0.6, 7.0), sharex="col")
    for column, ((n, passed), (m, covered)) in enumerate(zip(pass_at_n.items(), cov.items(), strict=True)):
        x = draw.seeds_by_checkpoints(f"pass_at_n[{n}]", passed, kl.shape)
        for row, (y, label) in enumerate(((covered, f"Cov$_{{{m:g}}}$"), (kl, "KL (nats)"))):
            y = draw.seeds_by_checkpoints(f"cov[{m:g}]", y, kl.shape)
            axis = axes[row, column]
            points = axis.scatter(
                x.ravel(), y.ravel(), c=colour.ravel(), cmap=draw.viridis(), s=20, alpha=0.75, linewidths=0
            )
            draw.mark_chosen(axis, x, y, chosen)
            axis.set_ylabel(label)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        axes[0, column].set_title(f"Pass@{n:g} against Cov$_{{{m:g}}}$")
        axes[1, column].set(title=f"Pass@{n:g} against KL", xlabel=f"Pass@{n:g}")
    fig.colorbar(points, ax=axes, label="training step", shrink=0.6, pad=0.015)
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def log_ratio_histogram(
    log_ratio: Mapping[str, Float[np.ndarray, "examples"]],
    ns: Sequence[float] = (2, 4, 5.7),
    weights: Float[np.ndarray, "examples"] | None = None,
    bins: int = 60,
    title: str = "",
) -> Figure:
    """Distribution of X = ln pi_D(y|x) - ln pi_hat(y|x) in nats, with ln N marked for each N.

    Cov_N is the mass at and to the right of ln N, KL the mean of X. Each entry of `log_ratio` is one outline
    (a checkpoint, or a class). The legend states the share of values that are not finite.

    Raises:
        ValueError: nothing finite to draw.
    """
    values = {name: np.asarray(column, dtype=float) for name, column in log_ratio.items()}
    fig, axes = draw.new_figure(1, 1, (8.2, 4.8))
    axis = axes[0, 0]
    draw.outlines(axis, "log_ratio", values, weights, bins)
    for n in ns:
        axis.axvline(np.log(n), color=draw.INK, linewidth=1.0, linestyle=draw.DASHED)
        where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "xytext": (0, 3)}
        axis.annotate(f"ln {n:g}", (np.log(n), 1.0), ha="center", size=9, **where)
    axis.set(xlabel=r"log-ratio $\ln\,\pi_D(y|x) - \ln\,\hat{\pi}(y|x)$ (nats)", ylabel="share of examples")
    axis.set_title(title, pad=20)
    draw.legend_below(fig, [axis])
    return fig


@mpl.rc_context(draw.STYLE)
def curves(
    frame: Mapping[str, Any],
    names: Sequence[str] | None = None,
    x: str = "global_step",
    group: str = "seed",
    title: str = "",
    marks: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Small multiples of any logged metrics: median over the seeds, range as band.

    `frame` is a data frame or mapping of equally long columns, one row per logged step and seed. Metrics
    whose names differ only in a last numeric part (`eval/cov/2`, `eval/cov/4`) share a panel, small N first.
    Titles say which direction is better. Rows without a value are left out. `marks` puts vertical lines,
    "early warning", into the panel of the metrics with that head (`eval/cov`).

    Raises:
        ValueError: a requested column that is absent, or no numeric metric to draw.
    """
    if missing := [name for name in (x, group, *(names or ())) if name not in frame]:
        raise ValueError(f"frame: no column {missing[0]!r}; valid: one of {', '.join(map(str, frame))}")
    position, seed = np.asarray(frame[x], dtype=float), np.asarray(frame[group])
    drawn = {
        name: column
        for name in names or [name for name in frame if "/" in name]
        if (column := _numeric(frame[name])) is not None and np.isfinite(column).any()
    }
    panels = families(drawn)
    if not panels:
        raise ValueError("names: no metric with a finite number; valid: columns such as eval/kl")
    width = min(3, len(panels))
    height = -(-len(panels) // width)
    fig, axes = draw.new_figure(height, width, (4.2 * width, 3.1 * height + 0.3))
    for axis, family in zip(axes.flat, panels, strict=False):
        for (name, line), colour in zip(
            family.lines.items(), draw.ordered_colours(len(family.lines)), strict=True
        ):
            draw.line_over_seeds(axis, *_by_step(position, seed, drawn[name]), colour, line)
        axis.set(title=family.title, xlabel=x.replace("_", " "))
        for index, place in enumerate((marks or {}).get(family.head, ())):
            label = "early warning" if index == 0 else None
            axis.axvline(place, color=draw.RED, linestyle=draw.DASHED, linewidth=1.2, label=label)
        # A line alone has its number too: without it nobody knows which tau `cover` has.
        if family.head not in family.lines:
            axis.legend(fontsize=8, ncols=2)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    return fig


def _numeric(column: Any) -> np.ndarray | None:
    try:
        return np.asarray(column, dtype=float)
    except (TypeError, ValueError):
        return None


def _by_step(position: np.ndarray, seed: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of (step, seed, value) as (steps,) and (seeds, steps), NaN where a seed has no value at a step."""
    kept = ~np.isnan(column)
    steps, at_step = np.unique(position[kept], return_inverse=True)
    seeds, of_seed = np.unique(seed[kept], return_inverse=True)
    table = np.full((len(seeds), len(steps)), np.nan)
    table[of_seed, at_step] = column[kept]
    return steps, table
