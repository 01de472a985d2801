"""Checks of experiments.coverage_bounds, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.rates import exponent
from covlab.report.verdict import Check, above, at_least, at_most, below, between
from experiments.coverage_bounds.measure import Measurements, bernoulli_constants
from metrics import answer_level_log_ratio, coverage_profile
from tasks import numpy_stream
from theory.coverage_laws import Sides

ROUNDING = 1e-7
"""Of sums over up to 65,536 atoms in float64, and of the slack of 1e-9 nats at the thresholds."""
MARGIN = 0.1
"""About an exponent of the theory."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Inequalities: theorems, on exact laws, so the left side exceeds the right one by rounding at most.
    - Bernoulli(p) against Bernoulli(p/N): Cov_N >= KL/(ln N - 1/2 + 1/(2N)) for p <= 1/2 (Proposition D.2),
      so bound over Cov_N is at most (ln N - 1/2 + 1/(2N))/(ln N - 1 + 1/N). By Hellinger (derived): at most
      1 + (1 + 1/sqrt N)^2/4 for p <= 1/2.
    - Heavy tail: KL = C (1 + K(1 - r^(-1/K))) for K even steps, r = ln W/C, so 1 - KL/bound falls as 1/K.
    - Growth: KL is a share of the prompts times H times a constant, exponent 1. Cov_N is at most that share,
      and at least 9/10 of it from the shortest H on, exponent 0 up to ln(10/9)/ln 16 = .04. Stopped KL is at
      most the share times ln N, up to the others' KL of at most .01: exponent 0.
    - Not vacuous: at the longest H the bound by stopped KL is at most 2 (.04 ln N + .01)/(ln N - 1) < 1,
      while that by KL, of order H times the share, is above 1 on average.
    - From below: along a hard response at the longest H the sum of squared Hellinger distances, .1 or more a
      token, is far above ln(sqrt N/delta) = 8.3 at delta = .001, for all but the last 1/16 of the switches.
      So the lower bound is at least 15/16 of the share minus .001, and the share is at least .02.
    - Transitivity and answers: the derived pairs attain them, up to the 2e-5 by which M is off the boundary.
    - Answers, as printed: the counterexample has Cov_2 = .6 and 1 by answers.
    """
    sides = {name: results.of(name) for name, _ in results.sides}
    theorems = {
        "KL": "Cov_N - KL/(ln N - 1 + 1/N)",
        "Hellinger": "Cov_N - 2N/(sqrt N - 1)^2 D_H^2",
        "converse": "KL - C (1 + ln(ln W/C))",
        "stopped KL": "Cov_N - 2/(ln N - 1) D_seq,N",
        "stopped KL, sharper": "Cov_N - (1/ln N + 1/(ln N - 1 + 1/N)) D_seq,N",
        "Hellinger along": "P[sum_h D_H,h^2 >= ln(sqrt N/delta)] - delta - Cov_N",
        "transitivity": "Cov_N(T||hat) - M Cov_N/M(D||hat) - Cov_M(T||D)",
        "answers": "Cov^ans_cN - c/(c - 1) Cov_N",
    }
    excess = [
        at_most(f"{text}, largest", max(side.excess for side in sides[name].values()), ROUNDING)
        for name, text in theorems.items()
    ]
    return (
        *excess,
        *_of_tight_pairs(results),
        *_of_growth(results),
        *(
            at_least(f"{name}: share of comparisons with a bound < 1", _informative(sides[name]), 0.25)
            for name in ("KL", "Hellinger", "stopped KL", "transitivity", "answers")
        ),
        above("answers, as printed: Cov^ans_2 - Cov_2 of the counterexample", counterexample(), 0.39),
    )


def _of_tight_pairs(results: Measurements) -> list[Check]:
    n = np.array(results.settings.sizes["bernoulli"], float)
    made: list[Check] = []
    for name, most in bernoulli_constants(n).items():
        sides = results.sides[name, "bernoulli"]
        ratio = (sides.right[:, :, 0] / sides.left[:, :, 0] / most).max()
        text = f"Bernoulli: bound by {name} over Cov_N, over its constant, largest"
        made.append(at_most(text, ratio, 1 + ROUNDING))
    steps, falls = results.settings.sizes["heavy tail"], results.growth["heavy tail", "gap"]
    gap = exponent(steps, falls, _rng(results, "heavy tail"))
    transitivity, answers = results.tight["transitivity"].max(), results.tight["answers"].max()
    return [
        *made,
        at_least("heavy tail: exponent of 1 - KL/(its bound) in steps", gap, -1 - MARGIN),
        at_most("heavy tail: the same, from above", gap, -1 + MARGIN),
        at_most("transitivity: bound over Cov_N of its tight pairs, largest", transitivity, 1.0001),
        at_most("answers: bound over coverage of their tight pairs, largest", answers, 1.0001),
    ]


def _of_growth(results: Measurements) -> list[Check]:
    made: list[Check] = []
    for family in ("rare prompts", "switch"):
        grown = {name: values for (of_family, name), values in results.growth.items() if of_family == family}
        for quantity, theory in (("bound by KL", 1.0), ("Cov", 0.0), ("bound by stopped KL", 0.0)):
            rng = _rng(results, f"{family}, {quantity}")
            slope = exponent(results.settings.sizes[family], grown[quantity], rng)
            name = f"{family}: exponent of {'Cov_N' if quantity == 'Cov' else quantity} in H"
            made += between(name, slope, theory - MARGIN, theory + MARGIN)
        last = {name: values[:, -1] for name, values in grown.items()}
        stopped, least = last["bound by stopped KL"].max(), (last["lower bound"] / last["Cov"]).min()
        text = f"{family}: lower bound (Hellinger along) over Cov_N at the longest H, least"
        made += [
            below(f"{family}: bound by stopped KL at the longest H, largest", stopped, 1),
            at_least(text, least, 0.85),
            above(f"{family}: bound by KL at the longest H, mean", last["bound by KL"].mean(), 1),
        ]
    return made


def _rng(results: Measurements, name: str) -> np.random.Generator:
    return numpy_stream(results.settings.seed, "coverage_bounds", "bootstrap", name)


def _informative(sides: dict[str, Sides]) -> float:
    return float(np.mean(np.concatenate([side.right.ravel() < 1 for side in sides.values()])))


def counterexample() -> float:
    """One answer, two chains of thought, pi_D = (.6, .4), pi_hat = (.001, .4): by answers minus Cov_2."""
    data, model = np.log([0.6, 0.4]), np.log([0.001, 0.4])
    by_answer = answer_level_log_ratio(data, model, np.zeros(2, int))
    covered = [coverage_profile(log_ratio, (2,), np.exp(data))[0] for log_ratio in (by_answer, data - model)]
    return float(covered[0] - covered[1])


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings = results.settings
    at = settings.ns.index(settings.fitted_n)
    printed = results.sides["answers, as printed", "chains"]
    violated = (printed.left > printed.right + ROUNDING).any(axis=2).mean(axis=0)
    horizons = settings.sizes["rare prompts"]
    loose = np.median(
        results.growth["rare prompts", "bound by KL"] / results.growth["rare prompts", "Cov"], axis=0
    )
    cost = 2 * math.log(settings.fitted_n) / (math.log(settings.fitted_n) - 1)
    every = results.growth["every token", "Cov"].mean(axis=0)
    return (
        f"Rare prompts, N = {settings.fitted_n}: the bound by KL is {loose[0]:.0f} times Cov_N at H = "
        f"{horizons[0]} and {loose[-1]:.0f} times at H = {horizons[-1]} (medians).",
        f"Where every token is a little off, Cov_N itself grows, from {every[0]:.3f} to {every[-1]:.3f} at "
        f"N = {settings.ns[at]}: KL does not always mislead.",
        f"Coverage of answers is not at most Cov_N: of random chains of thought, {violated.min():.0%} to "
        f"{violated.max():.0%} of the draws (by size) violate the printed statement at one of the N.",
        "The bound by stopped KL costs a constant, up to 2 ln N/(ln N - 1) times the share of responses "
        f"whose KL is above ln N ({cost:.2f} at N = {settings.fitted_n}), and survives long responses.",
        "The proof of the bound by stopped KL gives 1/ln N + 1/(ln N - 1 + 1/N) in place of 2/(ln N - 1) "
        "(derived).",
        "Proposition D.11 is checked with ln(sqrt(N)/delta) in place of the printed ln(N/delta): its proof "
        "gives this, and it is the larger lower bound. It says something where the KL along a response is "
        "well above ln N: on the two families of long responses, not on the trees.",
        "The squared Hellinger distance is at most 1 on any prompt, so the bound by it does not grow with H "
        "either on rare prompts; unlike the other two it does not fall to 0 with N.",
        "The converse is never above ln W, the trivial bound of KL (derived: x (1 + ln(1/x)) <= 1).",
    )
