"""Checks of experiments.best_of_n, with the reason for each target."""

from __future__ import annotations

import numpy as np

from covlab.report.rates import exponent
from covlab.report.verdict import Check, at_least, at_most, between
from experiments.best_of_n.measure import Measurements
from tasks import numpy_stream

ROUNDING = 1e-8
"""Of sums in float64, and of the slack of 1e-9 nats at the thresholds."""
MARGIN = 0.1
"""About an exponent of the theory."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Sufficient, necessary: theorems, on exact laws: exceeded by rounding at most. The paper asks for
      Cov_M <= 1/2 and N >= 2M ln(1/eps). Derived: neither the condition nor the factor 2 is needed. With C_x
      the prompt's Cov_M, a set of pi_T-mass t > C_x has pi_hat-mass at least (t - C_x)/M, so its loss is at
      most t - 1 + e^(-N (t - C_x)/M), convex in t from C_x to 1, so at most max(C_x, eps^(1 - C_x)) at
      N = M ln(1/eps); and eps^(1 - C), convex in C, is at most eps + (1 - eps) C. So the mean over prompts
      is at most Cov_M + eps.
    - The witness of the necessary condition and E_N = sum max(pi_T - N pi_hat, 0) are at most the worst loss.
    - Attained: a share C that the model misses is lost, so Cov_M + eps is at most 1.1 times the loss for C >=
      .1 and eps = .01. With all ratios M the loss is (1 - 1/M)^N: M ln(1/eps) samples are needed up to
      1/(2M) and rounding up, at most 1.02 for M >= 64. Ber(p) against Ber(p/2N): the witness loses at most
      (p/2)(1 + p/4), 1.125 at p = 1/2.
    - Tails: Cov_N = s (N/a)^-alpha, and the worst loss lies between Cov_2N/2 and Cov_M + eps, so its exponent
      in N is -alpha, up to a logarithm; derived: it is Cov_N/(1 + alpha) for N large, because E_N is, and the
      two differ in the square of N pi_hat(R), a relative N^-alpha. The guarantee is Cov_M at M = N up to a
      logarithm.
    - Samples: M ln(1/eps) are enough, and of order M are needed: exponent 1 in M.
    """
    families = list(results.allowed)
    checked = []
    for name, mask, text in (
        ("sufficient", True, "worst loss - (Cov_M + eps) at N = 2M ln(1/eps), Cov_M <= 1/2"),
        ("sufficient", False, "the same where Cov_M > 1/2 (derived)"),
        (
            "sufficient, half as many",
            None,
            "worst loss - (Cov_M + eps) at N = M ln(1/eps), any Cov_M (derived)",
        ),
        ("necessary", None, "Cov_2N/2 - loss of the witness"),
        ("witness", None, "loss of the witness - worst loss"),
        ("hockey stick", None, "E_N - worst loss (derived)"),
    ):
        largest = max(_largest(results, name, family, mask) for family in families)
        checked.append(at_most(f"{text}, largest", largest, ROUNDING))
    attained = {"sufficient": 1.1 + ROUNDING, "sufficient, half as many": 1.02, "necessary": 1.125 + ROUNDING}
    for name, most in attained.items():
        ratio = results.attained[name].max()
        checked.append(at_most(f"{name}: right over left of pairs that attain it, largest", ratio, most))
    checked += _of_tails(results) + _of_samples(results)
    sides, allowed = results.sides, results.allowed
    right = np.concatenate([sides["sufficient", member].right[allowed[member]] for member in families])
    left = np.concatenate([sides["necessary", member].left.ravel() for member in families])
    return (
        *checked,
        at_least("sufficient: share of comparisons with Cov_M + eps <= 1/4", np.mean(right <= 0.25), 0.25),
        at_least("necessary: share of comparisons with Cov_2N/2 >= .01", np.mean(left >= 0.01), 0.25),
    )


def _largest(results: Measurements, name: str, family: str, allowed: bool | None) -> float:
    sides = results.sides[name, family]
    excess = sides.left - sides.right
    return float(
        excess.max() if allowed is None else excess[results.allowed[family] == allowed].max(initial=-1.0)
    )


def _of_tails(results: Measurements) -> list[Check]:
    budgets, made = results.settings.budgets, list[Check]()
    for alpha in results.settings.tails:
        worst, covered = results.tails[alpha, "worst"], results.tails[alpha, "Cov"]
        for name, values, theory in (
            ("worst loss", worst, -alpha),
            ("worst loss / Cov_N", worst / covered, 0.0),
        ):
            slope = exponent(budgets, values, _rng(results, f"{alpha:g} {name}"))
            text = f"tail {alpha:g}: exponent of {name} in N"
            made += between(text, slope, theory - MARGIN, theory + MARGIN)
        tail = f"tail {alpha:g}"
        limit = np.abs((1 + alpha) * worst[:, -1] / covered[:, -1] - 1).max()
        low = (worst / results.tails[alpha, "necessary"]).min()
        high = (worst / results.tails[alpha, "sufficient"]).max()
        made += [
            at_most(f"{tail}: |(1 + alpha) worst loss / Cov_N - 1| at the largest N", limit, 0.05),
            at_least(f"{tail}: worst loss over its lower bound, least", low, 1 - ROUNDING),
            at_most(f"{tail}: worst loss over its guarantee, largest", high, 1 + ROUNDING),
        ]
    return made


def _of_samples(results: Measurements) -> list[Check]:
    settings, made = results.settings, list[Check]()
    for epsilon in (settings.epsilons[0], settings.epsilons[-1]):
        slope = exponent(settings.ratios, results.needed[epsilon], _rng(results, f"needed {epsilon:g}"))
        text = f"samples for a loss of Cov_M + {epsilon:g}: exponent in M"
        made += between(text, slope, 1 - MARGIN, 1 + MARGIN)
    enough = np.ceil(np.multiply.outer(np.log(1 / np.array(settings.epsilons)), settings.ratios))
    most = max(float((results.needed[e] / enough[i]).max()) for i, e in enumerate(settings.epsilons))
    made.append(at_most("samples needed / M ln(1/eps), largest (derived; the paper's is 2)", most, 1))
    return made


def _rng(results: Measurements, name: str) -> np.random.Generator:
    return numpy_stream(results.settings.seed, "best_of_n", "bootstrap", name)


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    several = f"{results.settings.prompts} prompts"
    loose = np.median(results.sides["sufficient", several].ratios)
    half = np.median(results.sides["necessary", several].ratios)
    stick = np.median(results.sides["hockey stick", several].ratios)
    return (
        "The condition Cov_M <= 1/2 and the factor 2 of N >= 2M ln(1/eps) are not needed (derived): "
        "M ln(1/eps) samples lose at most Cov_M + eps, and with all ratios M fewer lose more.",
        f"Random pairs, {several}: the guarantee is {loose:.2g} times the worst loss, the witness loses "
        f"{half:.3g} times its lower bound Cov_2N/2, and the worst loss is {stick:.3g} times "
        "E_N = sum max(pi_T - N pi_hat, 0) (medians where positive).",
        "A reward in [0, 1] is a mixture of 0/1 rewards {r >= u}, so none does worse than the worst set.",
        "With several prompts the reward may treat each prompt on its own, and the worst loss is the mean of "
        "the prompts' worst losses.",
    )
