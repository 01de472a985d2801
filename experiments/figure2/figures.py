"""Figure 2's plots and tables. KL in nats; arrays are (seeds, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from covlab.report.tables import estimate_and_ends
from experiments.figure2.branching import XOR
from experiments.figure2.checks import GUESSES, READS, over_seeds
from experiments.figure2.measure import PAPER_N, Measurements
from metrics import interval_over_shared_prompts, line_fit, name_of_n

BAND = (1 / 16, 15 / 16)
"""The paper's band over its 16 seeds."""
_DOTTED = (0, (1, 2))
_SHORT = {GUESSES: "guesses", READS: "path"}


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    n, hard = name_of_n(results.n), results.hard
    band = f"Lines are medians over {len(results.seeds)} seeds, bands their 1/16 and 15/16 quantiles."
    return [
        Drawing(
            "curves",
            f"Figure 2: KL (nats), Cov_{n} and KL / Cov_{n} against the training step, one colour a horizon. "
            f"{band} Dashed: a model that guesses every branching layer of class {hard} on its own.",
            curves(results),
        ),
        *_given_class(results, band),
        Drawing(
            "converged",
            "Converged values against the horizon H, a dot a seed, with the least-squares line through the "
            "seeds' means. Dashed: independent guesses."
            + " Dotted: a model that reads the global bit off the path after the first branching layer, "
            "whose KL would not grow with H." * (hard == XOR),
            converged(results),
        ),
        Drawing(
            "branching",
            f"Class {hard} on fresh prompts: what each branching layer costs, given the right path so far "
            "and that one of the two passable nodes is taken. Top: layer by layer at the last checkpoint. "
            "Bottom: the first layer and the mean of the later ones against the step. ln 2 is a fair guess"
            f"{'; later layers below ln 2 read the bit off the path' * (hard == XOR)}. {band}",
            branching(results),
        ),
        Drawing(
            "classes",
            f"Cov_{n} of each class against the step, and dashed in the panel of class {hard} Cov at N = "
            f"16 * 2^(H/2), above what fair guesses among the valid paths reach. {band}",
            classes(results),
        ),
    ]


def _given_class(results: Measurements, band: str) -> list[Drawing]:
    """The paper's plot, if every horizon could be scored given the class."""
    if any(horizon.given_class is None for horizon in results.horizons):
        return []
    return [
        Drawing(
            "given_class",
            f"The paper's plot at N = {name_of_n(PAPER_N)}: pi_D given the class of the prompt in the place "
            f"of pi_D given the prompt alone. Fair guesses in class {results.hard} have the ratio 2^(H/2), "
            f"N at H = 8. {band} Dashed: a model that guesses each of their branching layers on its own.",
            curves(results, given_class=True),
        )
    ]


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements, given_class: bool = False) -> Figure:
    """KL, Cov_N and their ratio against the step; Coverage Principle, arXiv 2510.15020, Figure 2.

    With `given_class` by pi_D given the class, at the paper's N.
    """
    at = PAPER_N if given_class else results.n
    n = name_of_n(at)
    fig, axes = draw.new_figure(1, 3, (13.2, 4.3))
    for horizon, colour in zip(results.horizons, _colours(results), strict=True):
        scored = horizon.given_class if given_class else None
        kl, cov, guesses = scored or (horizon.kl, horizon.cov[at], horizon.closed[GUESSES])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(cov > 0, kl / cov, np.nan)
        ideal = guesses.kl / guesses.cov[at] if guesses.cov[at] else 0.0
        panels = ((kl, guesses.kl), (cov, guesses.cov[at]), (ratio, ideal))
        for axis, (values, level) in zip(axes[0], panels, strict=True):
            drawn = np.isfinite(values).any(axis=0)
            _line(axis, horizon.steps[drawn], values[:, drawn], colour, f"H = {horizon.depth}")
            if level > 0:
                axis.axhline(level, color=colour, linestyle=draw.DASHED, linewidth=1.0)
    labels = ("KL (nats)", f"Cov$_{{{n}}}$", f"KL / Cov$_{{{n}}}$ (nats)")
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set(xlabel="training step", title=label, yscale="log")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def converged(results: Measurements) -> Figure:
    """Converged KL, Cov_N and their ratio against H, with fitted lines and the closed forms."""
    n, depths = name_of_n(results.n), np.asarray(results.depths, float)
    fig, axes = draw.new_figure(1, 3, (13.2, 4.3))
    closed = {
        name: (
            np.array([horizon.closed[name].kl for horizon in results.horizons]),
            np.array([horizon.closed[name].cov[results.n] for horizon in results.horizons]),
        )
        for name in results.horizons[0].closed
    }
    measured = (results.converged_kl(), results.converged_cov(), results.converged_ratio())
    labels = ("KL (nats)", f"Cov$_{{{n}}}$", f"KL / Cov$_{{{n}}}$ (nats)")
    for index, (axis, values, label) in enumerate(zip(axes[0], measured, labels, strict=True)):
        finite = np.where(np.isfinite(values), values, np.nan)
        jitter = np.linspace(-0.12, 0.12, len(values))[:, None] if len(values) > 1 else 0.0
        place = np.broadcast_to(depths + jitter, values.shape)
        axis.scatter(place, finite, s=16, color=draw.BLUE, alpha=0.6, linewidths=0, label="seeds")
        if np.isfinite(values).all():
            slope, intercept = line_fit(results.depths, values.mean(axis=0))
            text = f"line: {slope:.4g} H {intercept:+.4g}"
            axis.plot(depths, slope * depths + intercept, color=draw.INK, linewidth=1.5)
            axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", size=9.5)
        for (name, (kl, cov)), style in zip(closed.items(), (draw.DASHED, _DOTTED), strict=False):
            ideal = (kl, cov, np.divide(kl, cov, out=np.full_like(kl, np.nan), where=cov > 0))[index]
            if np.isfinite(ideal).any():
                axis.plot(depths, ideal, color=draw.RED, linestyle=style, linewidth=1.4, label=name)
        axis.set(xlabel="horizon H", title=label, xticks=depths)
        axis.set_ylim(bottom=0, top=1.15 * axis.get_ylim()[1])
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def branching(results: Measurements) -> Figure:
    """The branching layers of the hard class: loss by layer (top), and over the training (bottom)."""
    count = len(results.horizons)
    fig, axes = draw.new_figure(2, count, (4.4 * count, 6.8), sharey="row")
    for column, (horizon, colour) in enumerate(zip(results.horizons, _colours(results), strict=True)):
        top, bottom = axes[:, column]
        loss = horizon.branching.choice_loss
        layers = np.arange(1, loss.shape[-1] + 1)
        _line(top, layers, loss[:, -1], colour, f"H = {horizon.depth}", marker="o")
        top.set(title=f"H = {horizon.depth}", xlabel="branching layer k", xticks=layers)
        steps = np.asarray(horizon.branching.steps)
        _line(bottom, steps, loss[..., 0], draw.INK, "first layer", marker="o")
        if loss.shape[-1] > 1:
            later = loss[..., 1:].mean(axis=-1)
            _line(bottom, steps, later, draw.ORANGE, "mean of the later ones", marker="o")
        bottom.set(xlabel="training step")
        bottom.xaxis.set_major_locator(MaxNLocator(4))
        for axis in (top, bottom):
            axis.axhline(np.log(2), color="#888888", linestyle=draw.DASHED, linewidth=1.2, label="ln 2")
    for row in range(2):
        axes[row, 0].set_ylabel("loss of the choice (nats)")
    highest = max(float(horizon.branching.choice_loss[:, -1].max()) for horizon in results.horizons)
    axes[0, 0].set_ylim(0, 1.1 * max(1.0, highest))
    axes[1, 0].set_ylim(bottom=0)
    draw.legend_below(fig, [axes[1, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def classes(results: Measurements) -> Figure:
    """Cov_N of every class against the step, one colour a horizon."""
    names = list(results.horizons[0].class_cov)
    fig, axes = draw.new_figure(1, len(names), (4.4 * len(names), 4.2), sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        for horizon, colour in zip(results.horizons, _colours(results), strict=True):
            _line(axis, horizon.steps, horizon.class_cov[name][results.n], colour, f"H = {horizon.depth}")
            if name == results.hard:
                median = np.median(horizon.class_cov[name][horizon.local_n], axis=0)
                axis.plot(horizon.steps, median, color=colour, linestyle=draw.DASHED, linewidth=1.3)
        axis.set(xlabel="training step", title=name)
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axes[0, 0].set(ylabel=f"Cov$_{{{name_of_n(results.n)}}}$ of the class", ylim=(-0.02, 1.02))
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def _colours(results: Measurements) -> Sequence[Any]:
    return draw.ordered_colours(len(results.horizons))


def _line(
    axis: Axes,
    x: np.ndarray,
    values: Float[np.ndarray, "seeds points"],
    colour: Any,
    label: str,
    marker: str | None = None,
) -> None:
    draw.line_over_seeds(axis, x, values, colour, label, BAND)
    if marker:
        axis.lines[-1].set(marker=marker, markersize=4)


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    return [_converged(results), _coverage(results), _classes(results), _layers(results), _rule(results)]


def _converged(results: Measurements) -> Table:
    n = name_of_n(results.n)
    measured = (results.converged_kl(), results.converged_cov(), results.converged_ratio())
    rows = []
    for column, horizon in enumerate(results.horizons):
        row: list[Any] = [horizon.depth]
        for values in measured:
            row += [_median(values[:, column]), estimate_and_ends(over_seeds(values[:, column]))[1]]
        for closed in horizon.closed.values():
            row += [closed.kl, closed.cov[results.n]]
        rows.append(row)
    reader = f" and of one that {READS} after the first branching layer" * (results.hard == XOR)
    return (
        f"Converged values: median over the seeds and 95 % interval of the mean, beside the closed forms of "
        f"a model that makes {GUESSES}{reader}.",
        [
            *("H", "KL", "interval", f"Cov_{n}", "interval", f"KL / Cov_{n}", "interval"),
            *(
                f"{value}, {_SHORT[name]}"
                for name in results.horizons[0].closed
                for value in ("KL", f"Cov_{n}")
            ),
        ],
        rows,
    )


def _coverage(results: Measurements) -> Table:
    shared = sorted(set.intersection(*(set(horizon.cov) for horizon in results.horizons)))
    rows = []
    for horizon in results.horizons:
        rows.append(
            [horizon.depth, "measured", *(_median(horizon.converged(horizon.cov[n])) for n in shared)]
        )
        rows.append([horizon.depth, GUESSES, *(horizon.closed[GUESSES].cov[n] for n in shared)])
    return (
        "Converged coverage profile of the mixture at other N, median over the seeds, and the closed form.",
        ["H", "", *(f"Cov_{name_of_n(n)}" for n in shared)],
        rows,
    )


def _classes(results: Measurements) -> Table:
    n = name_of_n(results.n)
    rows = []
    for horizon in results.horizons:
        for name, profile in horizon.class_cov.items():
            kl, claimed, local = (
                (_median(values[:, 0]), _median(horizon.converged(values)))
                for values in (horizon.class_kl[name], profile[results.n], profile[horizon.local_n])
            )
            rows.append([horizon.depth, name, *kl, *claimed, horizon.local_n, *local])
    return (
        "Classes at initialisation and converged, median over the seeds. M = 16 * 2^(H/2) is above what fair "
        f"guesses among the valid paths of class {results.hard} reach.",
        ["H", "class", "KL, start", "KL", f"Cov_{n}, start", f"Cov_{n}", "M", "Cov_M, start", "Cov_M"],
        rows,
    )


def _layers(results: Measurements) -> Table:
    most = max(horizon.branching.loss.shape[-1] for horizon in results.horizons)
    rows = []
    for horizon in results.horizons:
        for label, values in (
            ("-ln pi_hat(right node)", horizon.branching.loss),
            ("given one of the two passable nodes", horizon.branching.choice_loss),
        ):
            by_layer = np.median(values[:, -1], axis=0).tolist()
            rows.append([horizon.depth, label, *by_layer, *[None] * (most - len(by_layer))])
    return (
        f"Class {results.hard} on fresh prompts, last checkpoint, median over the seeds: nats in the k-th "
        f"branching layer given the right path so far. ln 2 = 0.6931 is a fair guess"
        f"{'; 0 from k = 2 on reads the bit off the path' * (results.hard == XOR)}.",
        ["H", "", *(f"k = {k}" for k in range(1, most + 1))],
        rows,
    )


def _rule(results: Measurements) -> Table:
    rows: list[list[Any]] = []
    for horizon in results.horizons:
        auc = interval_over_shared_prompts(horizon.branching.auc)
        row: list[Any] = [horizon.depth]
        if results.hard == XOR:
            share = over_seeds(horizon.branching.leaked[:, -1])
            guesses, reads = horizon.closed[GUESSES].kl, horizon.closed[READS].kl
            saved = share.estimate * (guesses - reads)
            row += [guesses, reads, guesses - reads, *estimate_and_ends(share), saved]
        rows.append([*row, *estimate_and_ends(auc)])
    auc_text = (
        "AUC of the first branching layer's log-odds between b = 0 and b = 1 (0.5: the hard rule is "
        "unlearned)."
    )
    if results.hard != XOR:
        return f"The hard rule: {auc_text}", ["H", "AUC", "interval"], rows
    return (
        "The leak: KL of the two closed forms, what reading the bit off the path could save, the share of it "
        f"that the last checkpoints save (95 % interval over the seeds), and the {auc_text}",
        ["H", "KL, guesses", "KL, path", "could save", "share", "interval", "saved", "AUC", "interval"],
        rows,
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values))
