"""Checks of experiments.pessimism, with the reason for each target, and notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float

from covlab.report.rates import exponent
from covlab.report.tables import interval_text
from covlab.report.verdict import Check, at_least, at_most
from experiments.pessimism.brackets import Arm
from experiments.pessimism.finite_sets import (
    BEST,
    OWN_SAMPLE,
    SAMPLE_MAXIMUM,
    THEORY,
    Tabular,
    falls_after_peak,
    largest_fall,
    rises_to_peak,
)
from experiments.pessimism.measure import Measurements
from metrics import Interval, mean_interval, paired_difference_interval
from tasks import numpy_stream

FLAT = 0.02
"""A fall of the reward, between 0 and 1, that still counts as none."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets, finite sets (rewards between 0 and 1, each over all errors and coverages):

    - Best-of-N rises and falls: overrated responses earn .1, good ones 1, the reference between: in both
      directions there is room for more than .1 wherever they can be told apart.
    - Pessimism does not fall: once its sample says what lambda is, more of it changes nothing. `FLAT` of the
      range is what sampling lambda may cost.
    - It is worth its trouble: at the largest N better than Best-of-N and than the reference, by .1.
    - The guarantee of the limit N -> infinity holds for every instance and every beta: a theorem.
    - At the largest N the algorithm itself is within 2 eps sqrt(C).
    - Coverage: derived for these instances, good and overrated responses have weights near eps/beta and
      .25/beta more, so the overrated are given q (.25 + beta C)/beta with q prop. to eps^2, a sum of
      (C eps^2)^(1/2) and C eps^2: the exponent of the regret in C lies between 1/2 and 1 (.1 off allowed
      for what ordinary responses are given). Best-of-N, at its best N in hindsight, loses q C up to a
      logarithm or more: an exponent above 0.

    Bracket strings, with intervals over seeds of training: pessimism does not fall, for the reason above, on
    whatever it is run. Nothing else is promised there, because 2 eps sqrt(C) is above 1, the largest regret
    that there is. How far Best-of-N rises and falls, what pessimism gains over the reference and what
    coverage adds is measured (`on_strings`) and not judged.
    """
    return (*_of_tabular(results.tabular), *_of_arms(results.arms))


def _of_tabular(tabular: Tabular) -> list[Check]:
    best = {cell: rules[BEST] for cell, rules in tabular.reward.items()}
    by_theory = {cell: rules[THEORY] for cell, rules in tabular.reward.items()}
    most = f"N = {tabular.settings.ns[-1]}"
    rise = _least(mean_interval(rises_to_peak(curve)) for curve in best.values())
    fall = _least(mean_interval(falls_after_peak(curve)) for curve in best.values())
    flat = _largest(mean_interval(falls_after_peak(reward)) for reward in by_theory.values())
    dip = max(float(largest_fall(reward.mean(axis=0))) for reward in by_theory.values())
    excess = max(float((tabular.limit[cell] - tabular.bound[cell]).max()) for cell in by_theory)
    made = [
        at_least("finite sets: Best-of-N, best N over N = 1, least", rise, 0.1),
        at_least(f"finite sets: Best-of-N, best N over {most}, least", fall, 0.1),
        at_most(f"finite sets: pessimism, best N over {most}, largest", flat, FLAT),
        at_most("finite sets: pessimism, largest fall of a mean from one N to a larger", dip, FLAT),
    ]
    for name, at in (("Best-of-N", -1), ("the reference", 0)):
        gain = _least(
            paired_difference_interval(by_theory[cell][:, -1], best[cell][:, at]) for cell in by_theory
        )
        made.append(at_least(f"finite sets: pessimism at {most} over {name}, least", gain, 0.1))
    share = _largest(
        mean_interval((1 - reward[:, -1]) / (2 * tabular.error[cell] * np.sqrt(cell[1])))
        for cell, reward in by_theory.items()
    )
    made += [
        at_most("finite sets: regret of the limit less its bound, largest of all", excess, 1e-9),
        at_most(f"finite sets: regret at {most} over 2 eps sqrt(C), largest", share, 1),
    ]
    settings = tabular.settings
    for error in settings.errors:
        for name, low, high in ((THEORY, 0.4, 1.1), (BEST, 0.0, None)):
            rng = numpy_stream(settings.seed, "pessimism", "bootstrap", name, round(1e6 * error))
            slope = exponent(settings.coverages, regrets(tabular, error, name), rng)
            text = f"finite sets, eps {error:g}: exponent in C of the regret of {_at(name, most)}"
            made.append(at_least(f"{text}, from below", slope, low))
            if high is not None:
                made.append(at_most(f"{text}, from above", slope, high))
    return made


def _at(name: str, most: str) -> str:
    return f"{name} at {most}" if name == THEORY else f"{name} at its best N"


def regrets(tabular: Tabular, error: float, rule: str) -> Float[np.ndarray, "instances coverages"]:
    """Regret by coverage: of Best-of-N at the N that is best on average, of pessimism at the largest N."""
    columns = []
    for coverage in tabular.settings.coverages:
        curves = tabular.reward[error, coverage][rule]
        place = int(np.argmax(curves.mean(axis=0))) if rule == BEST else -1
        columns.append(1 - curves[:, place])
    return np.stack(columns, axis=1)


def _least(intervals: Iterable[Interval]) -> Interval:
    return min(intervals, key=lambda each: each.estimate)


def _largest(intervals: Iterable[Interval]) -> Interval:
    return max(intervals, key=lambda each: each.estimate)


def _of_arms(arms: Mapping[str, Arm]) -> list[Check]:
    return [
        at_most(
            f"brackets, {name}: pessimism, best N over the largest",
            mean_interval(falls_after_peak(arm.reward[THEORY])),
            FLAT,
        )
        for name, arm in arms.items()
    ]


def on_strings(arms: Mapping[str, Arm]) -> dict[str, Interval]:
    """Text -> what is measured on bracket strings without a check, over seeds, paired where it is a
    difference. Best-of-N's N is the best on average but for the largest fall, which is each network's own."""
    made: dict[str, Interval] = {}
    (first, covered), (last, uncovered) = (list(arms.items())[place] for place in (0, -1))
    for name, arm in arms.items():
        best, by_theory = arm.reward[BEST], arm.reward[THEORY]
        fall = paired_difference_interval(largest_fall(best), largest_fall(by_theory))
        made |= {
            f"{name}: Best-of-N, best N over N = 1": mean_interval(rises_to_peak(best)),
            f"{name}: Best-of-N, best N over the largest": mean_interval(falls_after_peak(best)),
            f"{name}: largest fall with N, Best-of-N less pessimism": fall,
            f"{name}: pessimism at the largest N over the reference": paired_difference_interval(
                by_theory[:, -1], best[:, 0]
            ),
        }
    for rule, value in ((BEST, _highest), (THEORY, _last)):
        gain = paired_difference_interval(value(covered.reward[rule]), value(uncovered.reward[rule]))
        made[f"{first} over {last}: {_at(rule, 'the largest N')}"] = gain
    return made


def _highest(curves: Float[np.ndarray, "seeds n"]) -> Float[np.ndarray, " seeds"]:
    return curves[:, int(np.argmax(curves.mean(axis=0)))]


def _last(curves: Float[np.ndarray, "seeds n"]) -> Float[np.ndarray, " seeds"]:
    return curves[:, -1]


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    tabular, ns = results.tabular, results.settings.tabular.ns
    made = [
        "Finite sets: "
        + "; ".join(
            f"eps {error:g}, C {coverage:g}: Best-of-N at its best N (N = "
            f"{ns[int(np.argmax(rules[BEST].mean(axis=0)))]}) {rules[BEST].mean(axis=0).max():.3g}, "
            f"pessimism at the largest N {rules[THEORY][:, -1].mean():.3g}"
            for (error, coverage), rules in tabular.reward.items()
        )
        + ". The best N is known in hindsight only; beta needs eps and C.",
        _about_small_betas(tabular),
    ]
    for name, arm in results.arms.items():
        made.append(
            f"Brackets, {name}: C = {arm.coverage.mean():.3g}, {arm.labels} labels a network, eps = "
            f"{arm.error.mean():.3g} (a constant estimate: {arm.constant_error.mean():.3g}), so the promise "
            f"2 eps sqrt(C) is {2 * (arm.error * np.sqrt(arm.coverage)).mean():.3g}. At the largest N: "
            + ", ".join(
                f"{rule} {arm.reward[rule][:, -1].mean():.3g}"
                for rule in (BEST, THEORY, SAMPLE_MAXIMUM, OWN_SAMPLE)
            )
            + f"; Best-of-N falls below the reference on "
            f"{int(np.sum(arm.reward[BEST][:, -1] < arm.reward[BEST][:, 0]))} of {len(arm.seeds)} seeds."
        )
    listed = "; ".join(
        f"{text} {interval_text(each, '.3g')}" for text, each in on_strings(results.arms).items()
    )
    made.append(f"Brackets, measured where theory promises nothing: {listed}.")
    made.append(
        "With fresh responses and R_max the sample's maximum, beta -> 0 is not Best-of-N: without ties none "
        "of the N fresh ones is as good as the best of the sample half of the time, and the reference's draw "
        "is returned (derived, tested). Choosing response i of the sample with probability w_i/N has "
        "Best-of-N as its limit, and costs half as many responses."
    )
    return tuple(made)


def _about_small_betas(tabular: Tabular) -> str:
    falls = {
        rule: max(float(largest_fall(rules[rule].mean(axis=0))) for rules in tabular.reward.values())
        for rule in next(iter(tabular.reward.values()))
    }
    listed = ", ".join(f"{rule} {fall:.2g}" for rule, fall in falls.items())
    return f"Largest fall of a mean true reward from one N to a larger, over errors and coverages: {listed}."
