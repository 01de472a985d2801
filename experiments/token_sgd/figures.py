"""Checks, notes, figures and tables of `experiments.token_sgd`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.claims.direct_claim import Drawing
from covlab.report import plotting as draw
from covlab.report.page import format_interval
from covlab.report.rates import Panel, Rate, exponent, rate_rows, rates_figure, size_intervals
from covlab.report.verdict import Check, check_interval, check_value
from metrics import Interval
from theory.sgd.rare_prompts import generator

if TYPE_CHECKING:
    from experiments.token_sgd import Measurements

NAMES = {
    "TTT": "a step a token, test-time training, the theorem's step",
    "TTT, best": "a step a token, test-time training, best step",
    "fixed, best": "a step a token, fixed parameters, best step",
    "sequence, best": "a step a sequence, best step",
    "sequence": "a step a sequence, step 1/(2 H B^2)",
}
SHORT = {
    "TTT": "TTT, theorem's step",
    "TTT, best": "TTT",
    "fixed, best": "token, fixed",
    "sequence, best": "sequence",
}
"""Names in figures; without a word on it, the best step."""
FAMILY = {
    "TTT": "a step a token, test-time training",
    "fixed": "a step a token, fixed parameters",
    "sequence": "a step a sequence",
}


def resampler(found: Measurements) -> np.random.Generator:
    """Of the bootstrap: the same at every call, so that figures and checks agree."""
    return generator(found.settings.seed, "token_sgd", "bootstrap")


def scaled(intervals: list[Interval], by: np.ndarray) -> Interval:
    """Of the interval over `by`, the one with the largest upper end."""
    each = [
        Interval(i.estimate / b, i.low / b, i.high / b) for i, b in zip(intervals, by.tolist(), strict=True)
    ]
    return max(each, key=lambda interval: interval.high)


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks, and why their targets are what they are.

    - The bound is explicit: mean KL <= 4/(eta T) + 2 eta sigma*^2 at the theorem's step, so the ratio is at
      most 1, interval and all. Over ln N - 1 + 1/N it bounds Cov_N, and must be below 1 to say anything.
    - H: the bound is flat in H. Twofold over a factor of 16 would be an exponent of .25; the whole interval
      stays within +-.25.
    - H, fixed parameters: before the prompt has come up, KL is that of theta = 0 or worse (averaged over the
      sign of theta*), which is proportional to H while mu(1) T is large; added to it is noise that is flat.
      So the exponent is between 0 and 1 and grows with H; above 1/2 is asked.
    - Below every proper method: at the longest H test-time training's mean KL is below that floor.
    - A step a sequence has its own bound, 4/(eta T) + 2 eta sigma*^2 at eta <= 1/(2 H B^2).
    - T: with the theorem's step both terms of the bound are proportional to T^-1/2; KL falls at least so
      fast, up to .15.
    - Family: bounds without H for a step a token; the lower bound, of order H, for a step a sequence.
    - Other prompts, other steps: one sequence of the theorem's proof bounds KL(pi_D(.|x) || pi_TTT(.|x)) for
      any start and any eta <= 1/(2 B^2) by |theta - theta*|^2/eta + 2 eta sum_h Var_h.
    """
    chosen, rng = found.settings, resampler(found)
    sizes, flat = chosen.horizons, 0.25
    by_h, by_t = found.bounds((chosen.sequences,) * len(sizes)), found.bounds(chosen.sequence_counts)
    to_coverage = math.log(chosen.n) - 1 + 1 / chosen.n
    best = found.over_horizons("TTT, best")
    whole = np.array(
        [4 * 2 * h / chosen.sequences + 2 * chosen.variance / (2 * h) for h in chosen.horizons], np.float64
    )
    ttt = size_intervals(found.over_horizons("TTT"), rng)
    made: list[Check] = [
        check_interval("TTT: KL over its bound, largest over H", scaled(ttt, by_h), "<=", 1, "high"),
        check_interval(
            "TTT: KL over its bound, largest over T",
            scaled(size_intervals(found.over_counts, rng), by_t),
            "<=",
            1,
            "high",
        ),
        check_value("TTT: the bound on Cov_N, largest", max(*by_h, *by_t) / to_coverage, "<", 1),
        check_interval(
            "a step a sequence: KL over its bound, largest over H",
            scaled(size_intervals(found.over_horizons("sequence"), rng), whole),
            "<=",
            1,
            "high",
        ),
    ]
    for label, values in (("the theorem's step", found.over_horizons("TTT")), ("best step", best)):
        slope = exponent(sizes, values, rng)
        name = f"TTT, {label}: exponent of H in KL"
        made.append(check_interval(f"{name}, from above", slope, "<", flat, "high"))
        made.append(check_interval(f"{name}, from below", slope, ">", -flat, "low"))
    for name in ("fixed, best", "sequence, best"):
        slope = exponent(sizes, found.over_horizons(name), rng)
        made.append(check_interval(f"{NAMES[name]}: exponent of H in KL", slope, ">", 0.5, "low"))
    floor = float(found.floor[:, -1].mean())
    made.append(
        check_interval(
            "TTT: KL over the least of any proper method, longest H",
            scaled(ttt[-1:], np.array([floor])),
            "<",
            1,
            "high",
        )
    )
    made.append(
        check_interval(
            "TTT: exponent of T in KL",
            exponent(chosen.sequence_counts, found.over_counts, rng),
            "<",
            -0.35,
            "high",
        )
    )
    for name in FAMILY:
        slope = exponent(chosen.family_horizons, found.family.needed[name], rng)
        high = name == "sequence"
        made.append(
            check_interval(
                f"family, {FAMILY[name]}: exponent of H in the sequences needed",
                slope,
                ">" if high else "<",
                0.75 if high else flat,
                "low" if high else "high",
            )
        )
    ratios = []
    for kind, bound in found.robust.bound.items():
        ratio = (found.robust.kl[kind] / bound)[np.isfinite(bound).all(axis=1)]
        ratios.append(scaled(size_intervals(ratio.T, rng), np.ones(len(ratio))))
    worst = max(ratios, key=lambda interval: interval.high)
    made.append(
        check_interval("TTT, other steps and prompts: KL over its bound, largest", worst, "<=", 1, "high")
    )
    return tuple(made)


def notes(found: Measurements) -> tuple[str, ...]:
    """What the numbers mean."""
    chosen, last = found.settings, found.by_horizon[-1]
    factors = list(chosen.factors)
    zero, one = factors.index(0.0), factors.index(1.0)
    robust = found.robust
    return (
        f"At H = {chosen.horizons[-1]} and T = {chosen.sequences}, mean KL in nats: test-time training "
        f"{last.kl['TTT, best'].mean():.4f}, fixed parameters {last.kl['fixed, best'].mean():.4f}, a step a "
        f"sequence {last.kl['sequence, best'].mean():.4f}, each with its best step; no proper method is "
        f"below {last.floor.mean():.4f}.",
        f"Coverage tells them apart much less: Cov_{chosen.n:g} is "
        f"{last.coverage['TTT, best'].mean():.2g}, {last.coverage['fixed, best'].mean():.2g} and "
        f"{last.coverage['sequence, best'].mean():.2g}, because the prompt that fixed parameters do not know "
        f"is rare.",
        "A response of the last iterate at the training step, KL in nats with fixed parameters and with "
        "test-time training: "
        + "; ".join(
            f"{kind} prompts {robust.kl[kind][zero].mean():.3g} and {robust.kl[kind][one].mean():.3g}"
            for kind in robust.kl
        )
        + ".",
        "A step of 16 times the training step at test time is "
        f"{robust.kl['trained'][-1].mean() / robust.kl['trained'][one].mean():.3g} times as bad on trained "
        f"prompts.",
        "Theta is [-1, 1] on the rare prompt; that mu(1) falls as 1/H, |theta*| in [1/2, 1] and the target "
        "of 1/16 for the family are this project's choice.",
    )


def drawings(found: Measurements) -> list[Drawing]:
    """The report's figures."""
    chosen = found.settings
    names = ("TTT, best", "fixed, best", "sequence, best", "TTT")
    bound = found.bounds((chosen.sequences,) * len(chosen.horizons))
    theory = {"TTT, best": 0.0, "TTT": 0.0, "fixed, best": None, "sequence, best": 1.0}
    horizon = [
        Rate(SHORT[name], found.over_horizons(name), theory[name], bound if name == "TTT" else None)
        for name in names
    ]
    horizon.append(Rate("any proper method", found.floor, 1.0))
    counts = [Rate(SHORT["TTT"], found.over_counts, -0.5, found.bounds(chosen.sequence_counts))]
    family_names = {"TTT": "TTT", "fixed": "token, fixed", "sequence": "sequence"}
    family = [
        Rate(family_names[name], found.family.needed[name], 1.0 if name == "sequence" else 0.0)
        for name in FAMILY
    ]
    panels = [
        Panel(f"Rare prompt, T = {chosen.sequences}", "H", "mean KL (nats)", chosen.horizons, horizon),
        Panel(
            f"Rare prompt, H = {chosen.horizon}",
            "sequences T",
            "mean KL (nats)",
            chosen.sequence_counts,
            counts,
        ),
        Panel("SGD's lower-bound family", "H", "sequences needed", chosen.family_horizons, family),
    ]
    return [
        Drawing(
            "rates",
            "Left: mean KL over the iterates on the rare prompt against H at the same inherent variance. "
            "Middle: against the number of sequences. Right: sequences until Cov_N is at its target on the "
            "worst instance of the family. Token: a step a token; sequence: a step a sequence; TTT: a step a "
            "token in decoding too; each with its best step. Any proper method: not below this. Dots: means "
            "over instance draws with 95 % intervals; thin: fitted power law; dotted: the theory's slope; "
            "dashed: the theorem's right-hand side.",
            rates_figure(panels, resampler(found)),
        ),
        Drawing(
            "robustness",
            "KL of one response of the last iterate against the step at test time over the step in training "
            "(0: fixed parameters), for prompts of training, prompts with features of their own, and prompts "
            "that are now answered with the opposite theta*. Dashed: what the theorem's proof gives for any "
            "start.",
            robustness(found),
        ),
    ]


@mpl.rc_context(draw.STYLE)
def robustness(found: Measurements) -> Figure:
    """KL against the step at test time, one colour a kind of prompt."""
    chosen, robust = found.settings, found.robust
    fig, axes = draw.new_figure(1, 2, (12.4, 4.6))
    place = np.arange(len(chosen.factors))
    panels = (("KL of a response (nats)", robust.kl), (f"Cov_{chosen.n:g}", robust.coverage))
    for axis, (label, values) in zip(axes[0], panels, strict=True):
        for colour, (kind, numbers) in zip((draw.BLUE, draw.GREEN, draw.RED), values.items(), strict=True):
            ends = size_intervals(numbers.T, resampler(found))
            centre = np.array([each.estimate for each in ends])
            error = np.array([[max(e.estimate - e.low, 0), max(e.high - e.estimate, 0)] for e in ends]).T
            axis.errorbar(place, centre, error, color=colour, marker="o", capsize=3, label=f"{kind} prompts")
            if label.startswith("KL"):
                limit = robust.bound[kind].mean(axis=1)
                axis.plot(place, limit, color=colour, linestyle=draw.DASHED, linewidth=1.2)
        axis.set(xlabel="step at test time over step in training", ylabel=label)
        axis.set_xticks(place, [f"{factor:g}" for factor in chosen.factors])
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend(fontsize=9)
    return fig


def tables(found: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    chosen, rng = found.settings, resampler(found)
    bound = found.bounds((chosen.sequences,) * len(chosen.horizons))
    columns = ["method", "H", "KL", "interval", "bound"]
    horizon = [
        Rate(label, found.over_horizons(name), None, bound if name == "TTT" else None)
        for name, label in NAMES.items()
    ]
    rows = rate_rows(chosen.horizons, [*horizon, Rate("least of any proper method", found.floor)], rng)
    coverage = [Rate(label, found.over_horizons(name, "coverage")) for name, label in NAMES.items()]
    counts = [Rate(NAMES["TTT"], found.over_counts, None, found.bounds(chosen.sequence_counts))]
    family = [Rate(label, found.family.needed[name]) for name, label in FAMILY.items()]
    steps: list[list[Any]] = [
        [NAMES[name], h, f"{point.steps[name]:.4g}"]
        for h, point in zip(chosen.horizons, found.by_horizon, strict=True)
        for name in point.steps
    ]
    steps += [
        [f"family, {FAMILY[name]}", h, f"{step:.4g}"]
        for name, each in found.family.steps.items()
        for h, step in zip(chosen.family_horizons, each, strict=True)
    ]
    robust: list[list[Any]] = []
    for kind, numbers in found.robust.kl.items():
        for row, each in enumerate(size_intervals(numbers.T, rng)):
            limit = float(found.robust.bound[kind][row].mean())
            robust.append(
                [
                    *(kind, chosen.factors[row], each.estimate, format_interval((each.low, each.high))),
                    *(limit if math.isfinite(limit) else "", found.robust.coverage[kind][row].mean()),
                ]
            )
    return [
        ("Rare prompt: mean KL over the iterates (nats) against H.", columns, rows),
        (
            f"Rare prompt: mean Cov_{chosen.n:g} over the iterates against H.",
            ["method", "H", "Cov", "interval", "bound"],
            rate_rows(chosen.horizons, coverage, rng),
        ),
        (
            f"Rare prompt: mean KL against the number of sequences, H = {chosen.horizon}.",
            ["method", "T", "KL", "interval", "bound"],
            rate_rows(chosen.sequence_counts, counts, rng),
        ),
        (
            "Lower-bound family: sequences needed on the worst instance.",
            ["method", "H", "sequences", "interval", "bound"],
            rate_rows(chosen.family_horizons, family, rng),
        ),
        ("Step sizes, chosen on the tuning seed or the theorem's.", ["method", "H", "step"], steps),
        (
            f"A response of the last iterate, H = {chosen.robust_horizon}, at other steps than in training.",
            ["prompts", "step over training step", "KL", "interval", "bound", f"Cov_{chosen.n:g}"],
            robust,
        ),
    ]
