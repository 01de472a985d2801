"""Figures and tables of experiments.rl_from_base. KL in nats; arrays are (seeds, starts, ...)."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.rl_from_base.checks import APART
from experiments.rl_from_base.measure import RL, ROUTES, TUNED_RL, Measurements, ratio_ranks
from metrics import mean_interval

_COLOURS = dict(zip(ROUTES, (draw.BLUE, draw.ORANGE, draw.GREEN), strict=True))
_MARKERS = dict(zip(ROUTES, "osD", strict=True))
JUDGED = ((RL, TUNED_RL), (RL,), (TUNED_RL,))


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    k = results.k
    return [
        Drawing(
            "starts",
            f"Pass@1 and Pass@{k} before (dashed) and after (solid) the last run of each route, against the "
            f"share of pre-training at which the route begins; median and range over {len(results.seeds)} "
            f"seeds. Dotted: the likeliest class's share of the prompts, the most that a model can pass "
            f"without telling the classes apart.",
            starts(results),
        ),
        Drawing(
            "expansion",
            f"Change of Pass@{k} by the last run of each route against Pass@{k} before it, every seed and "
            f"start. Above 0 it expands, below 0 it sharpens. The slanted line ends at the likeliest class's "
            f"share (dotted). Hollow: Pass@1 rose by less than {APART:g}.",
            expansion(results),
        ),
        Drawing(
            "predictors",
            "Spearman's rank correlation of each predictor, measured before reinforcement learning, with "
            "Pass@1 after it, over the starts: mean over seeds, with 95 % intervals of a bootstrap over "
            "seeds and starts. Predictors are turned so that 1 is a perfect prediction.",
            predictors(results),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def starts(results: Measurements) -> Figure:
    """Pass@1 and Pass@k before and after, a panel for each route."""
    fig, axes = draw.new_figure(1, len(ROUTES), (12.5, 4.2), sharey="row")
    shares = 100 * np.asarray(results.shares)
    for axis, (name, title) in zip(axes[0], ROUTES.items(), strict=True):
        route = results.routes[name]
        for values, colour, label in (
            (route.pass_1, draw.BLUE, "Pass@1"),
            (route.pass_k, draw.RED, f"Pass@{results.k}"),
        ):
            axis.plot(
                shares,
                np.median(values[..., 0], axis=0),
                color=colour,
                linestyle=draw.DASHED,
                label=f"{label} before",
            )
            draw.line_over_seeds(axis, shares, values[..., -1], colour, f"{label} after")
        axis.axhline(results.best, color=draw.INK, linestyle=":", linewidth=1.0)
        axis.set(title=title, xlabel="share of pre-training (%)", xscale="log", ylim=(-0.03, 1.03))
        axis.set_xticks(shares, tick_labels(shares))
        axis.minorticks_off()
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tick_labels(shares: Float[np.ndarray, " starts"]) -> list[str]:
    """A label for each tick of a logarithmic axis; none where it would touch the label on its left."""
    made, last = [], 0.0
    for share in shares:
        clear = share >= 1.5 * last
        made.append(f"{share:.3g}" if clear else "")
        last = share if clear else last
    return made


@mpl.rc_context(draw.STYLE)
def expansion(results: Measurements) -> Figure:
    """Change of Pass@k against Pass@k before."""
    fig, axes = draw.new_figure(1, 1, (6.2, 4.8))
    axis = axes[0, 0]
    axis.axhline(0, color=draw.INK, linewidth=0.8)
    axis.axvline(results.best, color=draw.INK, linestyle=":", linewidth=1.0)
    axis.plot([0, 1], [results.best, results.best - 1], color="#999999", linewidth=1.0, zorder=1)
    # The last first and largest: distillation begins where reinforcement learning from the base does.
    for size, (name, title) in zip((90, 40, 18), reversed(ROUTES.items()), strict=True):
        route = results.routes[name]
        moved = route.rise_1 >= APART
        for some, fill in ((moved, _COLOURS[name]), (~moved, "none")):
            axis.scatter(
                route.pass_k[..., 0][some],
                route.rise_k[some],
                marker=_MARKERS[name],
                s=size,
                facecolor=fill,
                edgecolor=_COLOURS[name],
                linewidth=0.8,
                label=title if some is moved else None,
            )
    axis.set(xlabel=f"Pass@{results.k} before", ylabel=f"change of Pass@{results.k}")
    draw.legend_below(fig, [axis])
    return fig


@mpl.rc_context(draw.STYLE)
def predictors(results: Measurements) -> Figure:
    """Rank correlations, a panel for each set of starts."""
    fig, axes = draw.new_figure(1, len(JUDGED), (12.5, 3.4), sharex="row")
    for axis, names in zip(axes[0], JUDGED, strict=True):
        each, _ = results.correlations(*names)
        for row, own in enumerate(each.values()):
            axis.errorbar(
                own.estimate,
                row,
                xerr=draw.error_bars(own),
                color=draw.BLUE,
                marker="o",
                linewidth=1.4,
            )
        axis.axvline(0, color=draw.INK, linewidth=0.8)
        axis.set_yticks(range(len(each)), list(each))
        axis.set_ylim(len(each) - 0.5, -0.5)
        title = "both routes" if len(names) > 1 else ROUTES[names[0]]
        axis.set(title=title, xlabel="rank correlation", xlim=(-1.05, 1.05))
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    k, n = results.k, f"{results.n:g}"
    made: list[Table] = []
    heads = [
        *("pre-training (%)", "Pass@1 before", "Pass@1 after"),
        *(f"Pass@{k} before", f"Pass@{k} after", f"change of Pass@{k}", "95 % interval"),
        *(f"Cov_{n} before", f"Cov_{n} after", "KL after (nats)"),
    ]
    for name, title in ROUTES.items():
        route = results.routes[name]
        rows: list[list[Any]] = []
        for i, share in enumerate(results.shares):
            ends = [
                float(values[:, i, end].mean()) for values in (route.pass_1, route.pass_k) for end in (0, -1)
            ]
            covered = [float(route.coverage[:, i, end].mean()) for end in (0, -1)]
            change = estimate_and_ends(mean_interval(route.rise_k[:, i]))
            rows.append([100 * share, *ends, *change, *covered, float(route.kl[:, i, -1].mean())])
        made.append((f"{title}: before and after its last run, mean over the seeds.", heads, rows))
    ratios: list[list[Any]] = []
    for i, share in enumerate(results.shares):
        lost, gained = float(results.lost[:, i].sum()), float(results.gained[:, i].sum())
        ratio = lost / gained if gained > 0 else None
        scaled = float(ratio_ranks(results.lost[:, i], results.gained[:, i]).mean())
        ratios.append([100 * share, lost / len(results.seeds), gained / len(results.seeds), ratio, scaled])
    made.append(
        (
            f"Fine-tuning: Pass@{k} lost and gained over undecided prompts, mean over the seeds; rho_{k} of "
            f"all seeds together; mean of rho/(1 + rho), 1/2 where nothing changed.",
            ["pre-training (%)", "lost", "gained", f"rho_{k}", "rho/(1 + rho)"],
            ratios,
        )
    )
    ranks: list[list[Any]] = []
    for names in JUDGED:
        where = "both routes" if len(names) > 1 else ROUTES[names[0]]
        each, over = results.correlations(*names)
        for label, own in each.items():
            gap = estimate_and_ends(over[label]) if label in over else (None, None)
            ranks.append([where, label, *estimate_and_ends(own), *gap])
    made.append(
        (
            "Rank correlation of a predictor before reinforcement learning with Pass@1 after it, and that "
            "of coverage minus the predictor's, paired.",
            ["starts of", "predictor", "rank correlation", "", f"Cov_{n}'s minus it", ""],
            ranks,
        )
    )
    return made
