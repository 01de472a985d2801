"""Checks of experiments.tournament, with the reason for each target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from covlab.report.rates import exponent
from covlab.report.verdict import Check, above, at_least, at_most, below
from experiments.tournament.attempts import MIN_KL, OFFSET, OFFSET_EXACT, SIMPLE, simple_name
from experiments.tournament.families import JUDGED_AT
from experiments.tournament.measure import GUARANTEE_A, Measurements, pair_regret, worst_pairs
from metrics import Interval, mean_interval, paired_difference_interval, proportion_interval

_LEAST_POSITIVE = 6
"""Of 32 seeds: all of them are missing from a resample with probability .001."""


def resampling(results: Measurements) -> np.random.Generator:
    """Of all bootstrap intervals."""
    return np.random.default_rng([results.settings.seed, 17])


def slope(
    results: Measurements, values: Float[np.ndarray, "seeds sizes"], sizes: Sequence[float]
) -> Interval:
    """Exponent of the mean regret in the number of held-out examples, 95 % over seeds; NaN, which passes no
    check, where so few seeds have a regret at all that resampled means could be 0."""
    if (values > 0).sum(axis=0).min() < _LEAST_POSITIVE:
        return Interval(math.nan, math.nan, math.nan)
    fitted = exponent(sizes, values, resampling(results))
    # A regret that is the same at every size has slope 0 up to rounding, which would look like a number.
    return Interval(*(round(end, 9) + 0.0 for end in (fitted.estimate, fitted.low, fitted.high)))


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks; what has an interval is asked of the whole interval.

    The reasons for the targets:

    - Pair: Proposition E.1, MLE = pi_2 with probability >= 1/4 for every n and alpha. At alpha = 1 its regret
      stays (exponent 0). The tournament's largest expected regret over alpha is max_q q (1 - q)^n, close to
      1/(e n): exponent -1, and its measured mean must agree with that exact value (4 standard errors).
    - Rare prompts: a tournament cannot see what fewer than about one held-out example tells, so its regret
      is of order 1/n: exponent at most -3/4 at every |Pi|, and at least -5/4 at the reference, whose models'
      masses are dense enough for an exponent (of a few models the regret ends exponentially); min-KL's is 0,
      within a quarter, and at the largest n its regret is at least ten times the tournament's.
    - Aligned: where min-KL is right the tournament may lose what one held-out example tells: at most 1/n.
    - Checkpoints: on the ideal class-blind curve at N = 4 the cross-entropy breaks the tie at .85 on the
      majority's path, min-KL takes .9: Pass@4 of .947 against .934.
    - Rogue: model 2 stays .6/N worse for every n, and the simple tournament takes it: its regret times N
      stays above .3. The offset tournament's decays at least like n^(-3/4), and n times it is at most 3
      ln(3|Pi|/delta) (half of the derived constant of its guarantee); a few samples do for its second term.
    - Guarantees: violated by at most a share delta of the held-out sets in every cell, with the constants
      that are derived here and with those of the paper's proof. Not vacuous: right-hand side below 1.
    """
    return (
        *_pair_checks(results),
        *_rare_checks(results),
        *_rogue_checks(results),
        *_guarantee_checks(results),
    )


def _pair_checks(results: Measurements) -> list[Check]:
    settings = results.settings
    places, members, expected = worst_pairs(results)
    sizes = tuple(settings.pair_examples[place] for place in places)
    trials = settings.seeds * settings.design.sets
    picked = results.pair.wrong[MIN_KL].mean(axis=1).min()
    mle = proportion_interval(round(picked * trials), trials)
    tournament = pair_regret(results, SIMPLE, members)
    measured = [mean_interval(column) for column in tournament.T]
    errors = tournament.std(axis=0, ddof=1) / math.sqrt(len(tournament))
    off = (np.abs(np.array([interval.estimate for interval in measured]) - expected) / errors).max()
    worst = slope(results, tournament, sizes)
    stays = slope(results, pair_regret(results, MIN_KL, [0] * len(places)), sizes)
    return [
        at_least("pair: share of held-out sets at which the MLE is pi_2, least over n and alpha", mle, 0.25),
        at_least("pair: exponent of min-KL's regret in n, alpha = 1, from below", stays, -0.05),
        at_most("pair: exponent of the tournament's regret in n, worst alpha, from above", worst, -0.85),
        at_least("pair: exponent of the tournament's regret in n, worst alpha, from below", worst, -1.15),
        at_most("pair: tournament's regret less its exact value, standard errors, largest over n", off, 4),
    ]


def _rare_checks(results: Measurements) -> list[Check]:
    settings = results.settings
    n, sizes = JUDGED_AT["rare_prompts"], settings.design.examples
    result = []
    for size in settings.sizes:
        cell = results.at("rare_prompts", n, size)
        rate = slope(results, cell.loss(SIMPLE), sizes)
        name = f"rare prompts, |Pi| = {size}: exponent of the tournament's regret in n"
        result.append(at_most(f"{name}, from above", rate, -0.75))
        if size == settings.reference:
            result.append(at_least(f"{name}, from below", rate, -1.25))
    cell = results.at("rare_prompts", n)
    curve = results.at("checkpoints", JUDGED_AT["checkpoints"])
    stays = slope(results, cell.loss(MIN_KL), sizes)
    aligned = results.at("aligned", JUDGED_AT["aligned"])
    lost = [
        paired_difference_interval(aligned.loss(SIMPLE)[:, i], aligned.loss(MIN_KL)[:, i])
        for i in range(len(sizes))
    ]
    most = _highest(Interval(m * e.estimate, m * e.low, m * e.high) for m, e in zip(sizes, lost, strict=True))
    more = paired_difference_interval(cell.loss(MIN_KL)[:, -1], 10 * cell.loss(SIMPLE)[:, -1])
    min_kl, tournament = (curve.loss(rule, "pass_regret")[:, -1] for rule in (MIN_KL, SIMPLE))
    passes = paired_difference_interval(min_kl, tournament)
    return [
        *result,
        at_least("rare prompts: exponent of min-KL's regret in n, from below", stays, -0.25),
        above("rare prompts: min-KL's regret less 10 times the tournament's, largest n", more, 0),
        above("checkpoints: Pass@N of the tournament's choice less min-KL's, largest n", passes, 0),
        at_most("aligned: n times what the tournament loses to min-KL, largest over n", most, 1),
    ]


def _rogue_checks(results: Measurements) -> list[Check]:
    settings = results.settings
    n, sizes = JUDGED_AT["rogue"], settings.design.examples
    cell = results.at("rogue", n)
    simple, offset = mean_interval(n * cell.loss(SIMPLE)[:, -1]), cell.loss(OFFSET_EXACT)
    rate, cost = slope(results, offset, sizes), cell.loss(OFFSET) - offset
    scaled = _highest(mean_interval(m * offset[:, i]) for i, m in enumerate(sizes))
    sampled = _highest(mean_interval(m * cost[:, i]) for i, m in enumerate(sizes))
    limit = round(3 * math.log(3 * settings.reference / settings.design.delta), 2)
    return [
        at_least("rogue: share of instances at which the offset tournament's premise holds", cell.premise, 1),
        at_least("rogue: N times the simple tournament's regret, largest n", simple, 0.3),
        at_most("rogue: exponent of the offset tournament's regret in n, from above", rate, -0.75),
        at_most("rogue: n times the offset tournament's regret, largest over n", scaled, limit),
        at_most("rogue: n times what sampling the offset term costs, largest over n", sampled, 1),
    ]


def _highest(intervals: Iterable[Interval]) -> Interval:
    return max(intervals, key=lambda each: each.high)


def _guarantee_checks(results: Measurements) -> list[Check]:
    settings = results.settings
    cells = list(results.cells.values())
    simple, paper = (
        max(cell.guarantee(a, what).mean(axis=0).max() for cell in cells for a in settings.design.a)
        for what in ("violated", "paper_violated")
    )
    offset = max((c.offset("violated").mean(axis=0).max() for c in cells if c.premise == 1), default=math.nan)
    rare = results.at("rare_prompts", JUDGED_AT["rare_prompts"]).guarantee(GUARANTEE_A, "bound")
    rogue = results.at("rogue", JUDGED_AT["rogue"]).offset("bound")
    delta = settings.design.delta
    return [
        at_most("guarantee: share of sets beyond it, largest over cells", simple, delta),
        at_most(
            "guarantee, the paper's constants: share of sets beyond it, largest over cells", paper, delta
        ),
        at_most(
            "guarantee of the offset tournament: share of sets beyond it, largest over cells", offset, delta
        ),
        below("guarantee: right-hand side, rare prompts, a = 1/4, largest n", rare[:, -1].mean(), 1),
        below(
            "guarantee of the offset tournament: right-hand side, rogue, largest n", rogue[:, -1].mean(), 1
        ),
    ]


def least_constants(results: Measurements) -> tuple[float, float]:
    """The least constants in front of the guarantees' right-hand sides, as the theorems print them, that no
    held-out set exceeded: of the simple tournament, and of the offset tournament where its premise holds."""
    cells = list(results.cells.values())
    simple = max(cell.guarantee(a, "constant").max() for cell in cells for a in results.settings.design.a)
    kept = [cell.offset("constant").max() for cell in cells if cell.premise == 1]
    return float(simple), float(max(kept, default=math.nan))


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    simple, offset = least_constants(results)
    without = [
        cell.offset("violated").mean(axis=0).max() for cell in results.cells.values() if cell.premise == 0
    ]
    curve = results.at("checkpoints", JUDGED_AT["checkpoints"])
    last = {rule: curve.loss(rule)[:, -1].mean() for rule in (SIMPLE, simple_name("middle"), MIN_KL)}
    rare = results.at("rare_prompts", min(settings.ns))
    lost = {rule: rare.loss(rule, "pass_regret")[:, -1].mean() for rule in (SIMPLE, MIN_KL)}
    regrets = [
        results.at("rare_prompts", JUDGED_AT["rare_prompts"], size).loss(SIMPLE) for size in settings.sizes
    ]
    scaled = ", ".join(f"{(regret.mean(axis=0) * settings.design.examples).mean():.2f}" for regret in regrets)
    return (
        f"Without constants the simple tournament's right-hand side times {simple:.2f} was never exceeded, "
        f"the offset tournament's times {offset:.2f} where its premise holds; where it does not, up to "
        f"{max(without, default=0.0):.0%} of the held-out sets of a cell are beyond the bound with its "
        f"derived constants.",
        f"Checkpoints, N = {JUDGED_AT['checkpoints']}, {settings.design.examples[-1]} examples: Cov_N regret "
        f"of the simple tournament {last[SIMPLE]:.3f} with ties broken by the cross-entropy, "
        f"{last[simple_name('middle')]:.3f} by the middle one, and {last[MIN_KL]:.3f} of min-KL: on a curve "
        f"without pi_D the tie-break decides.",
        f"Pass@N at the same N is another matter: rare prompts, N = {min(settings.ns)}: the tournament loses "
        f"{lost[SIMPLE]:.3f} of it and min-KL {lost[MIN_KL]:.3f}, since ratios below N cost Pass@N as well.",
        f"Rare prompts, N = {JUDGED_AT['rare_prompts']}: n times the tournament's regret, mean over n, is "
        f"{scaled} for |Pi| = {', '.join(map(str, settings.sizes))}; the guarantee's last term would have "
        f"it grow like ln|Pi|.",
        "The last line of the proof of Theorem 6.3 prints N^-(1-a) with the constant 1; its own chain of "
        "inequalities gives 4, which is what is used.",
    )
