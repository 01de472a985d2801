"""Settings, figures, a table and checks of decoders, shared by the VGB claims."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from covlab.claims.settings import Given, Real, Seed, Whole
from covlab.report import plotting as draw
from covlab.report.page import format_interval
from covlab.report.verdict import Check, at_least, at_most
from metrics import Interval
from tasks import check_seeds
from tasks.checks import whole
from theory.vgb.laws import ChainSettings, Goodness, Laws, Sampled, over_seeds


@dataclasses.dataclass(frozen=True)
class WalkSettings:
    """Settings for measuring VGB's chain; the defaults are the scale `cpu`.

    `steps` was chosen on H = 6, 12, 24, 48 with leaves of seed 999.

    Attributes:
        steps: steps of a VGB run, over H^2.
        longest: steps up to which the error is followed, over H^2.
        delta: total variation at which the chain counts as mixed.
        seed: first of `seeds` seeds; every seed draws other leaves.
        seeds: number of seeds.
        leaves: leaves drawn from pi* for each seed.
    """

    steps: Annotated[int, Whole(1)] = 8
    longest: Annotated[int, Given()] = 16
    delta: Annotated[float, Real(above=0, below=1)] = 0.002
    seed: Annotated[int, Seed()] = 0
    seeds: Annotated[int, Whole(2)] = 8
    leaves: Annotated[int, Whole(8)] = 32

    def __post_init__(self) -> None:
        whole("longest", self.longest, self.steps)
        check_seeds(self.seed, self.seeds, 2)

    @property
    def chain(self) -> ChainSettings:
        """The settings of `theory.vgb.laws`."""
        seeds = check_seeds(self.seed, self.seeds, 2)
        return ChainSettings(self.steps, self.longest, self.delta, seeds, self.leaves)


@mpl.rc_context(draw.STYLE)
def errors(
    groups: Mapping[str, Sequence[Laws]],
    x: Sequence[float],
    xlabel: str,
    dashed: Sequence[Float[np.ndarray, " x"]] = (),
) -> Figure:
    """Total variation against `x`, one colour per group: action level, first leaf, fixed steps. `dashed` are
    lines of the first panel, in the groups' colours."""
    fig, axes = draw.new_figure(1, 3, (13.2, 4.4), sharey=True)
    colours = draw.ordered_colours(len(groups))
    for index, (colour, (name, laws)) in enumerate(zip(colours, groups.items(), strict=True)):
        chain = [over_seeds(law.chain) for law in laws]
        panels = (
            [law.action_level for law in laws],
            [law.first_leaf for law in laws],
            [interval.estimate for interval in chain],
        )
        for axis, values in zip(axes[0], panels, strict=True):
            axis.plot(x, values, color=colour, marker="o", markersize=4, label=name)
        low, high = [max(end.low, 1e-9) for end in chain], [end.high for end in chain]
        axes[0, 2].fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        if dashed:
            axes[0, 0].plot(x, dashed[index], color=colour, linestyle=draw.DASHED, linewidth=1.0)
    titles = ("action level, never back", "VGB, first leaf", "VGB, fixed steps")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set(xscale="log", yscale="log", xlabel=xlabel, title=title)
        draw.log_ticks(axis, x)
    axes[0, 0].set_ylabel("total variation to pi*")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def mixing(
    curves: Mapping[str, Laws], groups: Mapping[str, Sequence[Laws]], settings: ChainSettings
) -> Figure:
    """Total variation against steps over H^2, one colour per horizon. Steps to mix and leaf mass, each over
    its guarantee, against the horizon, one colour per group."""
    fig, axes = draw.new_figure(1, 3, (13.2, 4.4))
    left, middle, right = axes[0]
    for colour, (name, law) in zip(draw.ordered_colours(len(curves)), curves.items(), strict=True):
        shown = law.times >= 0.05 * law.depth**2
        time, curve = law.times[shown] / law.depth**2, np.maximum(law.curve[shown], 1e-9)
        left.plot(time, curve, color=colour, label=name)
    left.axhline(settings.delta, color="#888888", linestyle=draw.DASHED, linewidth=1.2)
    left.axvline(settings.steps, color="#888888", linestyle=draw.DASHED, linewidth=1.2)
    left.set(xscale="log", yscale="log", xlabel="steps / H$^2$", title="total variation to pi*, given a leaf")
    left.legend(fontsize=9)
    rainbow = draw.ordered_colours(len(groups))
    for colour, (name, laws) in zip(rainbow, groups.items(), strict=True):
        horizons = [law.depth for law in laws]
        guarantees = [law.guarantee * math.log(1 / settings.delta) for law in laws]
        steps = [np.mean(law.mixing_steps) / most for law, most in zip(laws, guarantees, strict=True)]
        mass = [law.leaf_mass / law.guaranteed_leaf_mass for law in laws]
        middle.plot(horizons, steps, color=colour, marker="o", markersize=4, label=name)
        right.plot(horizons, mass, color=colour, marker="o", markersize=4)
    middle.set(xscale="log", yscale="log", xlabel="horizon H", title="steps to mix / guaranteed")
    right.set(xscale="log", xlabel="horizon H", title="leaf mass / guaranteed")
    for axis in (middle, right):
        draw.log_ticks(axis, horizons)
        axis.axhline(1, color="#888888", linestyle=draw.DASHED, linewidth=1.2)
    draw.legend_below(fig, [middle])
    return fig


@mpl.rc_context(draw.STYLE)
def counts(
    laws: Mapping[str, Float[np.ndarray, " counts"]],
    means: Mapping[str, Float[np.ndarray, " horizons"]],
    horizons: Sequence[int],
) -> Figure:
    """Laws of mean(y) at the longest horizon, and E mean(y) against the horizon, one colour per method."""
    fig, axes = draw.new_figure(1, 2, (11.0, 4.4))
    colours, styles = (draw.INK, draw.RED, draw.ORANGE, draw.BLUE), ("-", "-", "-", draw.DASHED)
    for (name, law), colour, style in zip(laws.items(), colours, styles, strict=True):
        place = np.arange(len(law)) / (len(law) - 1)
        axes[0, 0].plot(place, law, color=colour, linestyle=style, label=name)
        axes[0, 1].plot(horizons, means[name], color=colour, linestyle=style, marker="o", markersize=4)
    axes[0, 0].set(xlabel="mean(y)", title=f"probability, H = {horizons[-1]}")
    axes[0, 1].set(xlabel="horizon H", title="E mean(y)")
    draw.log_ticks(axes[0, 1], horizons)
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def costs(
    horizons: Sequence[int], action_level: Float[np.ndarray, " horizons"], walking: Sequence[Interval]
) -> Figure:
    """Queries against the horizon, on logarithmic axes."""
    fig, axes = draw.new_figure(1, 1, (6.6, 4.4))
    axis = axes[0, 0]
    axis.plot(horizons, action_level, color=draw.RED, marker="o", markersize=4, label="action level")
    mean, ends = [each.estimate for each in walking], draw.error_bars(*walking)
    axis.errorbar(horizons, mean, ends, color=draw.BLUE, marker="o", markersize=4, capsize=3, label="VGB")
    axis.set(yscale="log", xlabel="horizon H", title="queries until reward 1")
    draw.log_ticks(axis, horizons)
    draw.legend_below(fig, [axis])
    return fig


def goodness_checks(goodness: dict[str, Goodness]) -> tuple[Check, ...]:
    """Checks that samples agree with the exact laws and that the test would notice another law."""
    return (
        *(
            at_least(f"decoder, {name}: p-value against its exact law", each.law, 1e-3)
            for name, each in goodness.items()
        ),
        at_most(
            "decoder, action level: p-value against pi* (the test's power)",
            goodness["action level"].target,
            1e-6,
        ),
    )


def sampled_table(
    goodness: dict[str, Goodness], sampled: dict[str, Sampled], horizon: int
) -> tuple[str, list[str], list[list[Any]]]:
    """Table of the decoders' samples at one small instance."""
    return (
        f"The decoders at H = {horizon}: p-values of their responses against their exact law and against "
        f"pi*, and queries (evaluations of the value function or verifier) a response, with 95 % intervals.",
        ["decoder", "responses", "finished", "p, exact law", "p, pi*", "queries", "interval"],
        [
            [
                name,
                int(sample.decoded.finished.size),
                int(sample.decoded.finished.sum()),
                goodness[name].law,
                goodness[name].target,
                sample.queries.estimate,
                format_interval((sample.queries.low, sample.queries.high)),
            ]
            for name, sample in sampled.items()
        ],
    )
