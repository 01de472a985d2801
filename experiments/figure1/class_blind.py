"""Models that cannot see a prompt's class: the closed form, and drawings of what tells one.

KL and log-odds are in nats. Arrays over a run are (seeds, checkpoints).
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from covlab.report import plotting as draw


def class_blind_theory(
    p: Float[np.ndarray, "points"], n: float, majority: float = 0.9
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """(KL in nats, Pass@N) of a model that cannot see the class and puts mass p on the majority's path.

    KL = -q ln p - (1-q) ln(1-p) and Pass@N = q (1 - (1-p)^N) + (1-q) (1 - p^N) with q = `majority`.
    Derived from the task of Coverage Principle, arXiv 2510.15020, Figure 1.

    Raises:
        ValueError: a p outside (0, 1).
    """
    p = np.asarray(p, dtype=float)
    if not np.all((p > 0) & (p < 1)):
        raise ValueError(f"p: from {np.min(p):g} to {np.max(p):g}; valid: strictly between 0 and 1")
    kl = -majority * np.log(p) - (1 - majority) * np.log1p(-p)
    return kl, majority * (1 - (1 - p) ** n) + (1 - majority) * (1 - p**n)


@mpl.rc_context(draw.STYLE)
def class_blind_comparison(
    kl: Float[np.ndarray, "seeds checkpoints"],
    pass_at_n: Float[np.ndarray, "seeds checkpoints"],
    n: int = 8,
    majority: float = 0.9,
    start: float = 5 / 12,
    chosen: Mapping[str, Int[np.ndarray, "seeds"] | int] | None = None,
    title: str = "",
) -> Figure:
    """Measured (KL, Pass@N) paths of the seeds against the class-blind curve, p from `start` past `majority`.

    The KL axis runs from high to low, so that training moves to the right. The open circle is the ideal
    pre-trained start, with `start` on each of the two paths: KL = -ln(start), Pass@N = 1 - (1-start)^N.

    Raises:
        ValueError: arrays whose shapes differ, or that are not (seeds, checkpoints).
    """
    kl = draw.seeds_by_checkpoints("kl", kl)
    pass_at_n = draw.seeds_by_checkpoints("pass_at_n", pass_at_n, kl.shape)
    fig, axes = draw.new_figure(1, 1, (8.2, 5.2))
    axis = axes[0, 0]
    for index, (x, y) in enumerate(zip(kl, pass_at_n, strict=True)):
        label = f"measured, {len(kl)} seed(s)" if index == 0 else None
        axis.plot(x, y, color=draw.GREEN, alpha=0.55, linewidth=1.2, marker="o", markersize=2.5, label=label)
    top = majority + 0.3 * (1 - majority)
    theory = class_blind_theory(np.linspace(start, top, 400), n, majority)
    axis.plot(*theory, color=draw.INK, linewidth=2.2, label="class-blind theory")
    for p in (0.5, 0.6, 0.7, 0.8, majority):
        point = [float(value[0]) for value in class_blind_theory(np.array([p]), n, majority)]
        axis.plot(*point, marker="o", color=draw.INK, markersize=5)
        # The curve still climbs at p = 0.5: the label stands to its left there, to its right elsewhere.
        place = {"xytext": (-6, 6), "ha": "right"} if p <= 0.5 else {"xytext": (8, 6)}
        axis.annotate(f"p = {p:g}", point, textcoords="offset points", color=draw.INK, size=9, **place)
    axis.plot(
        -np.log(start), 1 - (1 - start) ** n, "o", mfc="none", mec=draw.PURPLE, mew=1.8, label="ideal start"
    )
    draw.mark_chosen(axis, kl, pass_at_n, chosen or {})
    axis.invert_xaxis()
    axis.set(xlabel="KL (nats), falling to the right", ylabel=f"Pass@{n:g}", title=title)
    draw.legend_below(fig, [axis])
    return fig


@mpl.rc_context(draw.STYLE)
def log_odds_by_class(
    log_odds: Mapping[str, Float[np.ndarray, "examples"]],
    auc: float,
    auc_interval: tuple[float, float] | None = None,
    bins: int = 40,
    title: str = "",
) -> Figure:
    """Two classes' log-odds (nats): histograms on the left, the ROC curve with its AUC on the right.

    The curve's axes are the shares of the first and of the second class at or above a threshold; `auc` is the
    chance that the second class's log-odds exceed the first's, ties counted half, and comes from `metrics`.

    Raises:
        ValueError: other than two classes, or nothing finite to draw.
    """
    if len(log_odds) != 2:
        raise ValueError(f"log_odds: {len(log_odds)} classes; valid: exactly 2")
    values = {name: np.asarray(column, dtype=float) for name, column in log_odds.items()}
    (first, a), (second, b) = values.items()
    thresholds = np.append(np.unique(np.concatenate([a, b])), np.inf)[::-1]
    fig, axes = draw.new_figure(1, 2, (10.4, 4.8))
    left, right = axes[0]
    draw.outlines(left, "log_odds", values, None, bins)
    left.set(xlabel="log-odds (nats)", ylabel="share of the class", title=title)
    curve = [[np.mean(column >= threshold) for threshold in thresholds] for column in (a, b)]
    right.plot(*curve, color=draw.INK, label="ROC")
    right.plot([0, 1], [0, 1], color="#888888", linewidth=1.2, linestyle=draw.DASHED, label="chance")
    text = f"AUC = {auc:.3f}" + (" [{:.3f}, {:.3f}]".format(*auc_interval) if auc_interval else "")
    right.text(0.97, 0.05, text, transform=right.transAxes, ha="right", size=11)
    right.set(xlabel=f"share of {first} above", ylabel=f"share of {second} above", aspect="equal")
    draw.legend_below(fig, [left, right])
    return fig
