"""Checks of experiments.sgd_horizon, with the reason for each target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from covlab.report.rates import Centre, exponent
from covlab.report.verdict import Check, at_least, at_most, between
from metrics import Interval
from theory.sgd.family import letters_token_law, letters_variance
from theory.sgd.horizon_sweep import CENTRES, Compared, Measurements, proof_updates

GROWS = (0.75, 1.25)
"""Range for the exponent 1: over a factor of 16 in H, from 8 to 32 times as much."""
FLAT = 0.25
"""Bound for the exponent 0: over a factor of 16 in H, at most twice as much."""
MEAN = "exponent of H in the updates, mean over iterates"


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; an exponent's whole interval is asked for.

    The reasons for the targets:

    - sigma*^2 <= 1 is a premise of the lower bound.
    - Lemma I.6: an SGD step eta >= 8/(HB) never covers the number-prompt eta: Cov >= 1 - 1/(2T).
    - Lemma I.7: with eta <= 8/(HB), `+` is not covered for the first HB/(512 e mu(+) B'^2 ln N) updates.
    - Proposition 5.1: Cov >= c min{H/(T ln N), 1} for all t <= T, whatever the step size, while its upper
      bound is linear in H too: exponent 1, of the mean over iterates and of single ones, and also for
      mini-batches, which the authors say are not enough.
    - Theorem 5.1: no dependence on H: exponent 0. It is a bound for the mean over iterates; that single
      iterates settle is asked of the two small batches, with probability 1/2.
    - The best step size must not be an end of the grid.
    - Proposition 5.1's explicit bound: mean KL <= 4/(eta T) + 2 eta sigma*^2 for eta = 1/(2HB^2), at every T.
    """
    family, rng = results.family, np.random.default_rng(results.seed)
    every = {name: worst_exponent(results, name, "mean", rng) for name in results.chosen}
    single = {name: worst_exponent(results, name, "good", rng) for name in results.chosen}
    plain = [name for name, choice in results.chosen.items() if choice.method.rule == "sgd"]
    normalised = [name for name, choice in results.chosen.items() if choice.method.rule == "normalised"]
    ratio = max((kl / results.bound.bound).max() for kl in (results.bound.letters, results.bound.numbers))
    variance = max(letters_variance(family.member(horizon)) for horizon in family.horizons)
    trapped, waited = _lemmas(results)
    mean, good = MEAN, "exponent of H in the updates, for good"
    return (
        at_most("small-step instance: sigma*^2, largest", variance, 1),
        at_least(
            "SGD, steps >= 8/(HB): mean Cov on the number-prompt that is the step, least",
            trapped,
            1 - 1 / (2 * family.updates),
        ),
        at_least("SGD, steps <= 8/(HB): updates on the letters over the lemma's, least", waited, 1),
        *(
            check
            for name in plain
            for check in (
                *between(f"{name}: {mean}", every[name], *GROWS),
                at_least(f"{name}: {good}, from below", single[name], GROWS[0]),
            )
        ),
        *(at_most(f"{name}: {mean}", every[name], FLAT) for name in normalised),
        *(at_most(f"{name}: {good}", single[name], FLAT) for name in normalised[:2]),
        at_most("chosen step sizes at an end of the grid", at_end(results, (*plain, *normalised)), 0),
        at_most("SGD, eta = 1/(2HB^2): mean KL over its bound, largest", ratio, 1),
    )


def at_end(results: Compared, names: Sequence[str]) -> int:
    """Number of chosen step sizes of these methods that are an end of the grid."""
    ends = (0, len(results.step_sizes) - 1)
    return sum(index in ends for name in names for index in results.chosen[name].steps["mean"])


def worst_exponent(results: Compared, name: str, criterion: str, rng: np.random.Generator) -> Interval:
    """Of H in the updates of the worst instance; NaN, which passes no check, where some were never enough."""
    values, centre = results.chosen[name].worst[criterion], CENTRES[criterion]
    if not np.isfinite(values if centre == "mean" else np.median(values, axis=0)).all():
        return Interval(math.nan, math.nan, math.nan)
    return _exponent_of(results, values, centre, rng)


def _exponent_of(results: Compared, values: np.ndarray, centre: Centre, rng: np.random.Generator) -> Interval:
    return exponent(results.family.horizons, np.minimum(values, results.family.updates), rng, centre)


def _lemmas(results: Measurements) -> tuple[float, float]:
    """Least mean Cov of SGD on its own number-prompt over steps >= 8/(HB); least updates on the letters over
    HB/(512 e mu(+) B'^2 ln N), steps <= 8/(HB)."""
    family, sgd = results.family, results.chosen["SGD"]
    trapped, waited = [], []
    for index, horizon in enumerate(family.horizons):
        least = family.member(horizon).least_number
        lemma = horizon * family.bound / (512 * math.e * family.plus * family.letters**2 * family.log_n)
        trapped.append(results.numbers["sgd"].average[index, results.step_sizes >= least, 0].min())
        waited.append(sgd.tuning.mean[index, results.step_sizes <= least].min() / lemma)
    return float(min(trapped)), float(min(waited))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    family = results.family
    last = family.horizons[-1]
    sgd, normalised = results.chosen["SGD"], results.chosen["normalised SGD"]
    theorem = [choice for choice in results.chosen.values() if choice.method.rule == "normalised"][-1]
    first, longest = (
        [
            choice.method.batch * float(choice.worst["mean"][:, index].mean())
            for choice in (sgd, normalised, theorem)
        ]
        for index in (0, -1)
    )
    other = family.updates * last * float(letters_token_law(family.member(last))[:2].sum())
    steps = results.step_sizes[sgd.steps["mean"]] * np.array(family.horizons) * family.bound
    return (
        f"Samples at H = {family.horizons[0]} and {last}: {first[0]:.4g} and {longest[0]:.4g} for SGD, "
        f"{first[1]:.3g} and {longest[1]:.3g} for normalised SGD one sequence at a time, {first[2]:.4g} and "
        f"{longest[2]:.4g} with the theorem's batch of {theorem.method.batch}, which makes B/(K ln N) = eps.",
        f"SGD's best step is {steps.min():.3g} to {steps.max():.3g} over HB: the trap closes well below "
        f"8/(HB), because the prompt 8/(HB) also traps smaller steps.",
        f"With the proof's constants (eta = 1/(128B), lambda = 8B ln N) normalised SGD needs about "
        f"{proof_updates(family):.2g} updates on the letters alone, at every H (derived); what is measured "
        f"has steps far longer than the theorem allows, lambda = ln N/(16 eta), and the theorem's right-hand "
        f"side is above 1 here: B^2/T = {family.bound**2 / family.updates:.3g}.",
        f"SGD's bound is far from saying anything on Cov_N at T = {family.updates}: 4/(eta T) is "
        f"{results.bound.bound[0, -1]:.3g} nats at H = {family.horizons[0]}; it is checked as a bound on KL.",
        f"Scaled down from the lemma: mu(+) is {family.plus:g} and does not fall with T; B' >= c ln(TH) is "
        f"met in sigma*^2 <= 1, but not in that half of the runs see no token but the likeliest: a run of T "
        f"updates at H = {last} sees {other:.2g} others on average.",
    )
