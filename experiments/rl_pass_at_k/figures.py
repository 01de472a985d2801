"""Figures and tables of the claim on Pass@k after reinforcement learning."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.report import plotting as draw
from covlab.report.page import Table
from covlab.report.plotting import Drawing
from experiments.rl_pass_at_k.measure import COVERAGE_NS, NS, OPEN, Arm, Measurements, blind_pass_at_k
from metrics import name_of_n

_COLOURS = (draw.RED, draw.ORANGE, draw.GREEN)
_OPEN_COLOUR = draw.PURPLE
_SHOWN = (1, 2, 4, 8, 16, 64, 256, 1024)


def drawings(results: Measurements) -> list[Drawing]:
    """The report's figures."""
    return [
        Drawing(
            "profiles",
            "Blind arms: exact Pass@k (left) and coverage profile (right) of the base model and after "
            "reinforcement learning; median and range over the seeds. Dashed: the closed forms of a "
            "calibrated model and of the best rule, neither of which can tell the classes apart.",
            profiles(results),
        ),
        Drawing(
            "open",
            "Open arm, in which every valid path is right: the same, without closed forms.",
            open_profiles(results),
        ),
        Drawing(
            "curves",
            "Along reinforcement learning: Pass@k at a small and at a large k, KL(pi_D || pi_hat) and "
            "coverage. The open arm has a base model of its own.",
            curves(results),
        ),
    ]


def _colours(results: Measurements) -> dict[str, Any]:
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(results.arms)}


def _profile(axes: Any, arm: Arm, end: int, colour: Any, label: str) -> None:
    """Pass@k on the left axes and the coverage profile on the right ones, at the first checkpoint (`end` 0)
    or the last (-1)."""
    draw.line_over_seeds(axes[0], np.asarray(NS), arm.passes[:, :, end].T, colour, label)
    covered = np.asarray(COVERAGE_NS)
    draw.line_over_seeds(axes[1], covered, arm.coverage[:-1, :, end].T, colour, label)


def _label_profiles(axes: Any) -> None:
    axes[0].set(xlabel="k", title="Pass@k", xscale="log")
    axes[1].set(xlabel="N", title="Cov$_N$", xscale="log", ylim=(-0.02, 1.02))


@mpl.rc_context(draw.STYLE)
def profiles(results: Measurements) -> Figure:
    """Pass@k and Cov_N at both ends."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.3))
    left, right = axes[0]
    best = max(results.probs)
    _profile(axes[0], results.judged, 0, draw.BLUE, "base model")
    for name, colour in _colours(results).items():
        _profile(axes[0], results.arms[name], -1, colour, name)
    dashes: dict[str, Any] = {"color": draw.INK, "linestyle": draw.DASHED, "linewidth": 1.2}
    calibrated = [blind_pass_at_k(results.probs, results.probs, int(n)) for n in NS]
    left.plot(NS, calibrated, label="closed forms", **dashes)
    left.axhline(best, **dashes)
    right.axhline(1 - best, **dashes)
    _label_profiles(axes[0])
    draw.legend_below(fig, [left])
    return fig


@mpl.rc_context(draw.STYLE)
def open_profiles(results: Measurements) -> Figure:
    """Pass@k and Cov_N of the open arm at both ends."""
    fig, axes = draw.new_figure(1, 2, (10.5, 4.3))
    _profile(axes[0], results.open, 0, draw.BLUE, "base model")
    _profile(axes[0], results.open, -1, _OPEN_COLOUR, OPEN)
    _label_profiles(axes[0])
    draw.legend_below(fig, [axes[0, 0]])
    return fig


@mpl.rc_context(draw.STYLE)
def curves(results: Measurements) -> Figure:
    """Four quantities against the step."""
    fig, axes = draw.new_figure(2, 2, (10.5, 7), sharex=True)
    panels = (
        (f"Pass@{results.small_k}", lambda arm: arm.at(results.small_k)),
        (f"Pass@{results.large_k}", lambda arm: arm.at(results.large_k)),
        ("KL (nats)", lambda arm: arm.kl),
        (f"Cov$_{{{results.large_k}}}$", lambda arm: arm.coverage[-1]),
    )
    for axis, (title, of) in zip(axes.flat, panels, strict=True):
        for name, colour in _colours(results).items():
            arm = results.arms[name]
            draw.line_over_seeds(axis, arm.steps, of(arm), colour, name)
        draw.line_over_seeds(axis, results.open.steps, of(results.open), _OPEN_COLOUR, OPEN)
        axis.set_title(title)
    for axis in axes[1]:
        axis.set_xlabel("batches of rollouts")
    draw.legend_below(fig, [axes[0, 0]])
    return fig


def tables(results: Measurements) -> list[Table]:
    """(caption, columns, rows) in the report's order."""
    best = max(results.probs)
    # The base model, which every arm starts from, then the ends of the arms.
    models = [
        ("base model", results.judged, 0),
        *((name, arm, -1) for name, arm in results.arms.items()),
        ("open, base model", results.open, 0),
        (OPEN, results.open, -1),
    ]
    places = [NS.index(n) for n in _SHOWN]
    passes: list[list[Any]] = [
        [name, *(float(arm.passes[i, :, end].mean()) for i in places)] for name, arm, end in models
    ]
    calibrated = (blind_pass_at_k(results.probs, results.probs, n) for n in _SHOWN)
    passes += [["calibrated, closed form", *calibrated], ["best rule, closed form", *(best for _ in _SHOWN)]]
    shown = [i for i, n in enumerate(COVERAGE_NS) if n in (2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)]
    names = [name_of_n(COVERAGE_NS[i]) for i in shown]
    coverage = [
        [name, *(float(arm.coverage[i, :, end].mean()) for i in shown), float(arm.kl[:, end].mean())]
        for name, arm, end in models
    ]
    ends = [(k, end) for k in (results.small_k, results.large_k) for end in (0, -1)]
    by_seed = [
        [name, seed, int(arm.crossing[i]) or None, *(float(arm.at(k)[i, end]) for k, end in ends)]
        for name, arm in results.every_arm.items()
        for i, seed in enumerate(arm.seeds)
    ]
    small, large = (f"Pass@{k}" for k in (results.small_k, results.large_k))
    return [
        ("Exact Pass@k, mean over the seeds.", ["model", *(f"Pass@{n}" for n in _SHOWN)], passes),
        (
            "Coverage profile and KL (nats), mean over the seeds.",
            ["model", *(f"Cov_{name}" for name in names), "KL"],
            coverage,
        ),
        (
            "By seed: the least k at which Pass@k is below the base model's, and Pass@k at both ends.",
            ["run", "seed", "least k", f"{small}, base", small, f"{large}, base", large],
            by_seed,
        ),
    ]
