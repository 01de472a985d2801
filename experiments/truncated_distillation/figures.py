"""Checks, notes, figures and tables of `experiments.truncated_distillation`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from covlab.claims.direct_claim import Drawing
from covlab.report.rates import Panel, Rate, exponent, rate_rows, rates_figure, size_intervals
from covlab.report.verdict import Check, check_interval, check_value
from metrics import Interval
from theory.sgd.rare_prompts import generator
from training.distillation import distillation_learning_rate, stopped_kl_rate

if TYPE_CHECKING:
    from experiments.truncated_distillation import Measurements

NAMES = {
    "truncated": "truncated, best step",
    "sampled": "not truncated, best step",
    "soft": "teacher's mean gradient, not truncated, best step",
    "theorem": "truncated, the theorem's step",
}
SHORT = {
    "truncated": "truncated",
    "sampled": "not truncated",
    "soft": "mean gradient, not truncated",
    "theorem": "truncated, theorem's step",
}
"""Names in figures; without a word on it, the best step."""
FAMILY = {"truncated": "truncated", "sequence": "not truncated"}


def resampler(found: Measurements) -> np.random.Generator:
    """Of the bootstrap: the same at every call, so that figures and checks agree."""
    return generator(found.settings.seed, "truncated_distillation", "bootstrap")


def ladder_bounds(found: Measurements) -> Float[np.ndarray, " counts"]:
    """4/(eta T) + 2 eta (32 ln N + 1) sigma*^2 of the ladder at the theorem's step, at every T."""
    chosen = found.settings
    bound = math.sqrt(len(chosen.lengths))
    return np.array(
        [
            stopped_kl_rate(
                distillation_learning_rate(bound, chosen.variance, t, chosen.n), chosen.variance, t, chosen.n
            )
            for t in chosen.step_counts
        ]
    )


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks, and why their targets are what they are.

    - The proof's bound on D_N is explicit: 4/(eta T) + 2 eta (32 ln N + 1) sigma*^2 at the theorem's step;
      with 2/(ln N - 1) it bounds Cov_N. The ladder's Cov_N starts small, so the same is asked where it starts
      near 1: one prompt that always comes up.
    - T: the rate is T^-1/2 as long as B^2/T is smaller; on the ladder it is attained, because at every step
      size some prompt is just not covered. Asked: falling so fast up to .15.
    - ln N: falling at least as (ln N)^-1/2, up to .15.
    - The rate's constant: Cov_N <= sqrt(sigma*^2/(T ln N)) + B^2/T at every T and N, constant 1. The theorem
      says "up to a constant".
    - Family: no H in the theorem, so an exponent within +-.25 (twofold over a factor of 16); of order H
      without truncation, by the lower bound.
    """
    chosen, rng = found.settings, resampler(found)
    bounds, factor = ladder_bounds(found), 2 / (math.log(chosen.n) - 1)
    dense = found.dense
    d_ratio = size_intervals(found.over_steps("theorem", "stopped"), rng)
    c_ratio = size_intervals(found.over_steps("theorem"), rng)
    square = len(chosen.lengths)
    rates = [(math.sqrt(chosen.variance / (t * math.log(chosen.n))) + square / t) for t in chosen.step_counts]
    rates += [math.sqrt(chosen.variance / (chosen.steps * a)) + square / chosen.steps for a in chosen.log_ns]
    covs = [
        *size_intervals(found.over_steps("truncated"), rng),
        *size_intervals(found.over_n("truncated"), rng),
    ]
    in_t = exponent(chosen.step_counts, found.over_steps("truncated"), rng)
    in_n = exponent(chosen.log_ns, found.over_n("truncated"), rng)
    needed = {name: exponent(chosen.family_horizons, found.family.needed[name], rng) for name in FAMILY}
    gain = found.family.needed["sequence"][:, -1] / found.family.needed["truncated"][:, -1]
    return (
        check_interval(
            "ladder, the theorem's step: D_N over its bound, largest over T",
            largest(d_ratio, bounds),
            "<=",
            1,
            "high",
        ),
        check_interval(
            "ladder, the theorem's step: Cov_N over its bound, largest over T",
            largest(c_ratio, factor * bounds),
            "<=",
            1,
            "high",
        ),
        check_value("ladder: the bound on Cov_N, largest", float(factor * bounds.max()), "<", 1),
        check_interval(
            "one prompt, the theorem's step: D_N over its bound",
            size_intervals((dense.stopped / dense.bound)[:, None], rng)[0],
            "<=",
            1,
            "high",
        ),
        check_value("one prompt: Cov_N at the start", float(dense.start.mean()), ">", 0.5),
        check_value("one prompt: the bound on Cov_N", float(factor * dense.bound.max()), "<", 1),
        check_interval("truncated, best step: exponent of T in Cov_N", in_t, "<", -0.35, "high"),
        check_interval("truncated, best step: exponent of ln N in Cov_N", in_n, "<", -0.35, "high"),
        check_interval(
            "truncated, best step: Cov_N over sqrt(sigma*^2/(T ln N)) + B^2/T, largest",
            largest(covs, np.array(rates)),
            "<=",
            1,
            "high",
        ),
        check_interval(
            "family, truncated: exponent of H in the steps needed, from above",
            needed["truncated"],
            "<",
            0.25,
            "high",
        ),
        check_interval(
            "family, truncated: exponent of H in the steps needed, from below",
            needed["truncated"],
            ">",
            -0.25,
            "low",
        ),
        check_interval(
            "family, not truncated: exponent of H in the steps needed", needed["sequence"], ">", 0.75, "low"
        ),
        check_interval(
            "family: steps needed without truncation over those with it, longest H",
            size_intervals(gain[:, None], rng)[0],
            ">",
            16,
            "low",
        ),
    )


def largest(intervals: list[Interval], by: np.ndarray) -> Interval:
    """Of the intervals over `by`, the one with the largest upper end."""
    each = [
        Interval(i.estimate / b, i.low / b, i.high / b) for i, b in zip(intervals, by.tolist(), strict=True)
    ]
    return max(each, key=lambda interval: interval.high)


def notes(found: Measurements) -> tuple[str, ...]:
    """What the numbers mean."""
    chosen = found.settings
    ratio = {
        name: found.over_steps(name).mean(axis=0) / found.over_steps("truncated").mean(axis=0)
        for name in ("sampled", "soft")
    }
    family = found.family
    return (
        "On the ladder truncation brings nothing: with its own best step the gradient without truncation "
        f"has {ratio['sampled'].min():.2f} to {ratio['sampled'].max():.2f} times the Cov_N of the truncated "
        f"one, the teacher's mean gradient {ratio['soft'].min():.2f} to {ratio['soft'].max():.2f} times: a "
        "prompt on which the step is too long is so rare that giving it up costs little.",
        f"On the lower bound's family it decides: at H = {chosen.family_horizons[-1]} "
        f"{family.needed['truncated'][:, -1].mean():.3g} sequences at eta = "
        f"{family.steps['truncated'][-1]:.3g} against {family.needed['sequence'][:, -1].mean():.4g} at eta = "
        f"{family.steps['sequence'][-1]:.3g}.",
        "The theorem's step is far below the best one (eta B^2 on the ladder "
        f"{found.by_steps[-1].steps['theorem']:.2g} against {found.by_steps[-1].steps['truncated']:.2g} at "
        f"T = {chosen.step_counts[-1]}): its constants are those of a proof.",
        "Theta is the box |theta_k| <= 1/sqrt(K), a part of the unit ball, on the ladder, and the ball on "
        "the family; the ladder, its lengths and the family's target of 1/16 are this project's choice.",
    )


def drawings(found: Measurements) -> list[Drawing]:
    """The report's figure."""
    chosen = found.settings
    factor = 2 / (math.log(chosen.n) - 1)
    names = ("truncated", "sampled", "soft")
    counts = [Rate(SHORT[name], found.over_steps(name), -0.5) for name in names]
    counts.append(Rate(SHORT["theorem"], found.over_steps("theorem"), None, factor * ladder_bounds(found)))
    levels = [Rate(SHORT[name], found.over_n(name), -0.5) for name in names[:2]]
    family = [
        Rate(label, found.family.needed[name], 0.0 if name == "truncated" else 1.0)
        for name, label in FAMILY.items()
    ]
    panels = [
        Panel("Ladder", "steps T", f"mean Cov_{chosen.n:g}", chosen.step_counts, counts),
        Panel(f"Ladder, T = {chosen.steps}", "ln N (nats)", "mean Cov_N", chosen.log_ns, levels),
        Panel("SGD's lower-bound family", "H", "sequences needed", chosen.family_horizons, family),
    ]
    return [
        Drawing(
            "rates",
            "Left: mean Cov_N over the iterates on the ladder against the number of steps. Middle: against "
            "ln N. Right: sequences until Cov_N is at its target on the worst instance of the family. Dots: "
            "means over instance draws with 95 % intervals; thin: fitted power law; dotted: the theory's "
            "slope; dashed: the theorem's right-hand side at its own step.",
            rates_figure(panels, resampler(found)),
        )
    ]


def tables(found: Measurements) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The report's tables."""
    chosen, rng = found.settings, resampler(found)
    factor = 2 / (math.log(chosen.n) - 1)
    bounds = factor * ladder_bounds(found)
    counts = [
        Rate(label, found.over_steps(name), None, bounds if name == "theorem" else None)
        for name, label in NAMES.items()
    ]
    levels = [Rate(NAMES[name], found.over_n(name)) for name in found.by_n[0].coverage]
    family = [Rate(label, found.family.needed[name]) for name, label in FAMILY.items()]
    steps: list[list[Any]] = []
    for label, sizes, points in (
        ("T", chosen.step_counts, found.by_steps),
        ("ln N", chosen.log_ns, found.by_n),
    ):
        steps += [
            [NAMES[name], f"{label} = {size:g}", f"{point.steps[name]:.4g}"]
            for size, point in zip(sizes, points, strict=True)
            for name in point.steps
        ]
    steps += [
        [f"family, {FAMILY[name]}", f"H = {h}", f"{step:.4g}"]
        for name, each in found.family.steps.items()
        for h, step in zip(chosen.family_horizons, each, strict=True)
    ]
    return [
        (
            f"Ladder: mean Cov_{chosen.n:g} over the iterates against the number of steps.",
            ["gradient", "T", "Cov", "interval", "bound"],
            rate_rows(chosen.step_counts, counts, rng),
        ),
        (
            f"Ladder: mean Cov_N against ln N, T = {chosen.steps}.",
            ["gradient", "ln N", "Cov", "interval", "bound"],
            rate_rows(chosen.log_ns, levels, rng),
        ),
        (
            "Lower-bound family: sequences needed on the worst instance.",
            ["gradient", "H", "sequences", "interval", "bound"],
            rate_rows(chosen.family_horizons, family, rng),
        ),
        (
            "Step sizes, eta B^2 on the ladder, eta on the family; on the tuning seed, or the theorem's.",
            ["gradient", "at", "step"],
            steps,
        ),
    ]
