"""Checks of experiments.figure2, with the reason for each target, and notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from covlab.claims.trained import check_bound, left_out_notes
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, above, at_least, at_most, between
from experiments.figure2.branching import XOR
from experiments.figure2.measure import Horizon, Measurements
from metrics import (
    Interval,
    chord_deviation,
    interval_over_shared_prompts,
    line_fit,
    line_misfit,
    mean_interval,
    name_of_n,
    power_law_exponent,
)

GUESSES, READS = "independent guesses", "reads the path"
OTHER_LAWS: Mapping[str, Callable[[Float[np.ndarray, " horizons"]], Float[np.ndarray, " horizons"]]] = {
    "sqrt(H)": np.sqrt,
    "log(H)": np.log,
    "H^2": np.square,
    "2^(H/2)": lambda h: 2.0 ** (h / 2),
}
"""Laws f that KL = a + b H is told apart from: KL = a + b f(H), with a >= 0 because no KL is negative."""
LINEAR = (0.75, 1.25)
"""Exponents of H that are nearer to 1 than to those of c sqrt(H) and c log(H), 1/2 and less, and c H^2."""
BEND = 0.08
"""Deviation of an inner horizon from the chord, per rise. At H = 4, 6, 8, 12, 16 the largest ones of the
other laws are .081 (sqrt(H)), .17 (log(H)), -.13 (H^2) and -.43 (2^(H/2))."""
HARDLY = 0.15
"""Exponent of H in Cov_N: 4^.15 = 1.23, a quarter more where H is four times as large."""
OFTEN = 5
"""So many times the exponent of Cov_N is still below that of KL."""
End = Literal["low", "high"]


def over_seeds(values: Float[np.ndarray, " seeds"]) -> Interval:
    """Student's interval over the seeds; NaN, which passes no check, where a value is not finite."""
    return mean_interval(values) if np.isfinite(values).all() else Interval(np.nan, np.nan, np.nan)


def slope_over_seeds(results: Measurements, values: Float[np.ndarray, "seeds horizons"]) -> Interval:
    """Least-squares slope in H of every seed's values, with Student's interval over the seeds.

    Seed s of one horizon and seed s of another are paired by their number alone, and paired or not they are
    independent of all other seeds: which is what the interval needs.
    """
    if not np.isfinite(values).all():
        return Interval(np.nan, np.nan, np.nan)
    return mean_interval(line_fit(results.depths, values)[0])


def exponents(
    results: Measurements, values: Float[np.ndarray, "seeds horizons"]
) -> Float[np.ndarray, " seeds"]:
    """Exponent p of a power law c H^p through every seed's values; NaN where a value is not positive."""
    if not (np.isfinite(values) & (values > 0)).all():
        return np.full(len(values), np.nan)
    return power_law_exponent(results.depths, values)


def misfits(results: Measurements, values: Float[np.ndarray, "seeds horizons"]) -> dict[str, Interval]:
    """Law f -> squared error of the least-squares a + b f(H), a >= 0, minus that of a + b H, through the same
    seed's values and per squared mean rise: above 0 where the values lie nearer to a straight line.

    Both laws have two free parameters, so that noise adds about the same to both.
    """
    depths = np.asarray(results.depths, np.float64)
    rise = float((values[:, -1] - values[:, 0]).mean())
    if not np.isfinite(values).all() or not rise:
        return dict.fromkeys(OTHER_LAWS, Interval(np.nan, np.nan, np.nan))
    linear = line_misfit(results.depths, values, from_zero=True)
    errors = {name: line_misfit(law(depths).tolist(), values, True) for name, law in OTHER_LAWS.items()}
    return {name: over_seeds((error - linear) / rise**2) for name, error in errors.items()}


def derived_slope(results: Measurements, model: str = GUESSES) -> float:
    """Least-squares slope in H of an ideal model's KL over the same horizons, nats a layer."""
    return float(
        line_fit(results.depths, np.array([horizon.closed[model].kl for horizon in results.horizons]))[0]
    )


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; a check on an interval asks it of the whole 95 % interval.

    The reasons for the targets, with P = .05 the mass of the hard class and K = H/2 its branching layers:

    - KL grows by P ln 2/2 = .01733 nats a layer if every branching layer is guessed on its own, and not at
      all in the layers after the first if the leak of class "xor" is read. Below .7 of the derived slope the
      leak is read, or the rule learned; above 2 the growth would be the local rule's, whose remaining cost
      grows with H too, and not the hard rule's.
    - Linear, as an equivalence test: the exponent of H lies in `LINEAR`, and no inner horizon deviates from
      the chord by more than `BEND` of the rise.
    - Every other law of `OTHER_LAWS`, with a factor and an intercept a >= 0 of its own, fits worse than a
      straight line. In the mean over the seeds this is so for no law that is true. Without layers there is
      nothing to guess: a law that is negative at H = 0 (log(H): at H = 1) is none of a KL.
    - Cov_N hardly grows, as an equivalence test: its exponent lies within +- `HARDLY`, and KL's is more than
      `OFTEN` times as large. An interval that merely contains 0 would reward noise.
    - Cov_N is the mass of the hard class, .05: [.035, .065] for each horizon. Fair guesses have a ratio of at
      least 4 at H = 4, twice the N of the scale `cpu`.
    - A class's converged coverage must differ from its value at initialisation, or it shows nothing. "chain"
      and "uniform" can be learned to the end, which would take Cov_N from 1 to 0; "uniform", the rarest, has
      to have left 1 clearly. On the hard class Cov_N stays near 1, and
      Cov at N = 16 * 2^K, which fair guesses among the valid paths do not reach, falls from 1 to 0. With
      log-odds of standard deviation s between prompts a path costs about K s^2/8 more than ln 2^K, with a
      deviation of s sqrt(K)/2: at s = 1 and K = 8 it reaches ln 16 = 2.8 in a tenth of the prompts.
    - The hard rule is unlearned: a branching layer costs ln 2 = .693, and the first one's log-odds do not
      tell b = 0 from b = 1: AUC within [.45, .55]. Below .65 a bit is partly known. Above .8 nats the guesses
      would be unfair: with normal log-odds .8 is s = 1. In class "xor" the first layer is judged,
      because the path may show the bit of the later ones. In class "parities" every layer is, each horizon's:
      no layer may be known better or guessed worse than the others.
    - Converged: the medians of the last eighth of the steps and of the eighth before it differ by a tenth.

    Raises:
        ValueError: with fewer than two seeds or three horizons.
    """
    n, change = name_of_n(results.n), "largest relative change of the median"
    kl_change = max(relative_change(horizon, horizon.kl) for horizon in results.horizons)
    cov_change = max(relative_change(horizon, horizon.cov[results.n]) for horizon in results.horizons)
    return (
        *_of_kl(results),
        *_of_coverage(results),
        *_of_classes(results),
        *_of_hard_rule(results),
        at_most(f"converged: {change} KL over the last quarter", kl_change, 0.1),
        at_most(f"converged: {change} Cov_{n} over the last quarter", cov_change, 0.1),
        check_bound(max(horizon.bound_excess for horizon in results.horizons)),
    )


def _of_kl(results: Measurements) -> tuple[Check, ...]:
    kl = results.converged_kl()
    slope, derived = slope_over_seeds(results, kl), derived_slope(results)
    share = Interval(slope.estimate / derived, slope.low / derived, slope.high / derived)
    bend = worst(inner_deviations(results, kl), "far")
    return (
        above("KL: slope of the converged value in H (nats a layer)", slope, 0.0),
        *between("KL: that slope over the derived one", share, 0.7, 2.0),
        *between("KL: exponent of H in the converged value", over_seeds(exponents(results, kl)), *LINEAR),
        *between("KL: inner horizons' deviation from the line, per rise", bend, -BEND, BEND),
        *(
            above(
                f"KL: a + b {law} fits worse than a + b H, squared errors' difference per rise^2", more, 0.0
            )
            for law, more in misfits(results, kl).items()
        ),
    )


def _of_coverage(results: Measurements) -> tuple[Check, ...]:
    n, cov = name_of_n(results.n), results.converged_cov()
    of_cov, of_kl = exponents(results, cov), exponents(results, results.converged_kl())
    by_horizon = [over_seeds(column) for column in cov.T]
    lowest, highest = worst(by_horizon, "low"), worst(by_horizon, "high")
    ratio = slope_over_seeds(results, results.converged_ratio())
    return (
        *between(f"Cov_{n}: exponent of H in the converged value", over_seeds(of_cov), -HARDLY, HARDLY),
        above(
            f"KL and Cov_{n}: exponent of KL minus {OFTEN} times that of Cov_{n}",
            over_seeds(of_kl - OFTEN * of_cov),
            0.0,
        ),
        at_least(f"Cov_{n}: converged, from below, lowest horizon", lowest, 0.035),
        at_most(f"Cov_{n}: converged, from above, highest horizon", highest, 0.065),
        above(f"KL / Cov_{n}: slope of the converged ratio in H (nats a layer)", ratio, 0.0),
    )


def _of_classes(results: Measurements) -> tuple[Check, ...]:
    n = name_of_n(results.n)

    def start(name: str, local: bool = False) -> Interval:
        values = [
            horizon.class_cov[name][horizon.local_n if local else results.n] for horizon in results.horizons
        ]
        return worst([over_seeds(value[:, 0]) for value in values], "low")

    def end(name: str, end: End, local: bool = False) -> Interval:
        values = [
            horizon.class_cov[name][horizon.local_n if local else results.n] for horizon in results.horizons
        ]
        pairs = zip(results.horizons, values, strict=True)
        return worst([over_seeds(pair.converged(value)) for pair, value in pairs], end)

    hard = results.hard
    wide = f"{hard}: Cov at N = 16 * 2^(H/2)"
    return (
        at_least(f"chain: Cov_{n} at initialisation", start("chain"), 0.9),
        at_most(f"chain: Cov_{n} converged", end("chain", "high"), 0.02),
        at_least(f"uniform: Cov_{n} at initialisation", start("uniform"), 0.9),
        at_most(f"uniform: Cov_{n} converged", end("uniform", "high"), 0.8),
        at_least(f"{hard}: Cov_{n} converged", end(hard, "low"), 0.8),
        at_least(f"{wide} at initialisation", start(hard, local=True), 0.9),
        at_most(f"{wide} converged", end(hard, "high", local=True), 0.2),
    )


def _of_hard_rule(results: Measurements) -> tuple[Check, ...]:
    leaks = results.hard == XOR
    losses = [
        over_seeds(layer)
        for horizon in results.horizons
        for layer in horizon.branching.choice_loss[:, -1, : 1 if leaks else None].T
    ]
    aucs = [interval_over_shared_prompts(horizon.branching.auc) for horizon in results.horizons]
    loss = f"hard rule: loss of {'the first' if leaks else 'every'} branching layer"
    auc = "hard rule: AUC of the first layer's log-odds"
    return (
        at_least(f"{loss}, from below (nats)", worst(losses, "low"), 0.65),
        at_most(f"{loss}, from above (nats)", worst(losses, "high"), 0.8),
        at_least(f"{auc}, from below", worst(aucs, "low"), 0.45),
        at_most(f"{auc}, from above", worst(aucs, "high"), 0.55),
    )


def inner_deviations(results: Measurements, values: Float[np.ndarray, "seeds horizons"]) -> list[Interval]:
    """For each inner horizon, how far the seeds' values lie above the chord between the outer horizons'
    values, per mean rise."""
    if not np.isfinite(values).all():
        return [Interval(np.nan, np.nan, np.nan)] * (len(results.horizons) - 2)
    rise = float((values[:, -1] - values[:, 0]).mean())
    share = chord_deviation(results.depths, values) / rise if rise else np.full_like(values[:, 1:-1], np.nan)
    return [over_seeds(column) for column in share.T]


def relative_change(each: Horizon, values: Float[np.ndarray, "seeds checkpoints"]) -> float:
    """|later/earlier - 1| of the medians over the seeds: the last eighth of the steps, the eighth before."""
    later, earlier = np.median(each.converged(values)), np.median(each.converged(values, back=1))
    return float(abs(later / earlier - 1)) if earlier else (0.0 if later == 0 else np.inf)


def worst(intervals: Sequence[Interval], end: Literal["low", "high", "far"]) -> Interval:
    """The interval that reaches lowest, highest, or farthest from 0; one with NaN before all others."""
    for interval in intervals:
        if not np.isfinite([interval.estimate, interval.low, interval.high]).all():
            return interval
    reach: Mapping[str, Callable[[Interval], float]] = {
        "low": lambda each: -each.low,
        "high": lambda each: each.high,
        "far": lambda each: max(abs(each.low), abs(each.high)),
    }
    return max(intervals, key=reach[end])


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences on the numbers: closed form, leak, boundary, seeds."""
    measured = slope_over_seeds(results, results.converged_kl())
    reader = "."
    if results.hard == XOR:
        reads = round(derived_slope(results, READS), 5) + 0.0  # no minus sign before a zero
        reader = f", {reads:.5f} for one that reads the global bit off the path after the first of them."
    written = [
        f"Slope of the converged KL in H: measured {interval_text(measured, '.5f')} nats a layer; "
        f"{derived_slope(results):.5f} for a model that guesses every branching layer of class "
        f"{results.hard} on its own{reader}",
        growth_note(results),
        *(leak_note(horizon) for horizon in results.horizons),
    ]
    written += [text for horizon in results.horizons if (text := boundary_note(horizon, results.n))]
    return (*written, *left_out_notes(results.seeds, results.left_out, "all horizons"))


def growth_note(results: Measurements) -> str:
    """Factors of growth and exponents of KL and Cov_N, and the exponents of the other laws."""
    depths, n = np.asarray(results.depths, np.float64), name_of_n(results.n)
    said = []
    for name, values in (("KL", results.converged_kl()), (f"Cov_{n}", results.converged_cov())):
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = interval_text(over_seeds(values[:, -1] / values[:, 0]))
        said.append(f"{name} by {factor} (exponent {interval_text(over_seeds(exponents(results, values)))})")
    others = ", ".join(
        f"{float(power_law_exponent(results.depths, law(depths))):.2f} for {name}"
        for name, law in OTHER_LAWS.items()
    )
    return (
        f"From H = {results.depths[0]} to {results.depths[-1]}, {depths[-1] / depths[0]:.3g} times as many "
        f"layers, the converged values grow: {'; '.join(said)}. At these horizons a power law through other "
        f"laws has the exponent {others}."
    )


def leak_note(each: Horizon) -> str:
    """Share of the path's leak that the last checkpoints exploit; in class "parities" the layers' loss."""
    if each.hard != XOR:
        loss = over_seeds(each.branching.choice_loss[:, -1].mean(axis=-1))
        return (
            f"H = {each.depth}: the choice in a branching layer costs {interval_text(loss)} nats in the mean "
            f"over the layers; a fair guess costs ln 2 = 0.693, and the path so far tells nothing."
        )
    saving = each.closed[GUESSES].kl - each.closed[READS].kl
    leaked = interval_text(over_seeds(each.branching.leaked[:, -1]))
    return (
        f"H = {each.depth}, the leak: reading the bit off the path would save {saving:.4f} of a KL of "
        f"{each.closed[GUESSES].kl:.4f} nats; the models save a share of {leaked} of that."
    )


def boundary_note(each: Horizon, n: float) -> str:
    """Says so where fair guesses on the hard class have no ratio of N or more: Cov_N must fall to 0."""
    if each.closed[GUESSES].cov[n] > 0:
        return ""
    return (
        f"At H = {each.depth} even independent fair guesses on class {each.hard} have no ratio of N = "
        f"{name_of_n(n)} or more, and their Cov_{name_of_n(n)} is 0: this horizon cannot show the claim at "
        f"this N. (Where class uniform branches as often, as in the paper at H = 8, the prompts of "
        f"{each.hard} and uniform have one law, and pi_D of the path by the hard rule is below 1.)"
    )
