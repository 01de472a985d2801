"""Checks of experiments.scaling_law, with the reason for each target."""

from __future__ import annotations

import math

import numpy as np

from covlab.report.verdict import Check, above, at_least, at_most, between
from experiments.scaling_law.measure import Measurements
from metrics import line_fit

ROUNDING = 1e-8
"""Of sums in float64."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Bound: a theorem (derived), on exact laws: exceeded by rounding at most.
    - Not vacuous: some random pair of bits comes within 10 % of the bound.
    - Samples needed: Ber(t) against Ber(t e^-r) needs ceil(N) at most, N = (e^r - 1)/r, because its loss is
      at most KL/r there; and a relative O(t) fewer as t falls, so at t <= .01 at least .99 N.
    - Growth: N r = e^r - 1, so the slope of ln(N r) in r is 1, up to e^-4/20 and the rounding up of N = 13 at
      r = 4: within .01. That of ln N falls short by the mean of 1/r, so it lies between 1 - 1/4 and 1.
    - Decades: the law is seen over at least 4.
    - Coverage: Cov_N is t at N = e^r, and t (r - 1 + e^-r) - KL is of order t^2: within .1 % at t = 1e-4, and
      never above 1 by Proposition D.1. So D.1's constant is attained, where D.2 shows it up to a constant.
    - Propositions D.1 and D.6: sufficient, so their N is at least the least sufficient one.
    - The KL does not tell: with all ratios e^KL, (1 - e^-KL)^N = eps needs about e^(r eps) ln(1/eps) samples;
      at eps = .05 and r = 24 that is 9 of 1e9. Fewer than a thousandth at the largest r.
    """
    settings, law = results.settings, results.law
    small = results.needed[0]
    ratios = np.array(settings.ratios)
    bits = [values for name, values in results.shares.items() if name.startswith("bits")]
    growth = float(line_fit(tuple(ratios), np.log(small * ratios))[0])
    plain = float(line_fit(tuple(ratios), np.log(small))[0])
    t = settings.masses[0]
    return (
        *(
            at_most(f"{name}: worst loss over KL/r(N), largest", values.max(), 1 + ROUNDING)
            for name, values in results.shares.items()
        ),
        at_least("bits: worst loss over KL/r(N), largest", max(v.max() for v in bits), 0.9),
        at_most("samples needed over ceil((e^r - 1)/r), largest", (results.needed / np.ceil(law)).max(), 1),
        at_least(f"t = {t:g}: samples needed over (e^r - 1)/r, least", (small / law).min(), 0.99),
        *between(f"t = {t:g}: slope of ln(N r) in r = KL/eps", growth, 0.99, 1.01),
        *between(f"t = {t:g}: slope of ln N in r = KL/eps", plain, 0.75, 1),
        at_least(
            f"t = {t:g}: decades of samples needed, at the largest r over the least",
            math.log10(small[-1] / small[0]),
            4,
        ),
        at_most("Cov_N (ln N - 1 + 1/N)/KL at N = e^r, largest", results.tight.max(), 1 + ROUNDING),
        at_least(f"t = {t:g}: the same, least", results.tight[0].min(), 0.999),
        above(
            "ln N of Propositions D.1 and D.6 minus ln((e^r - 1)/r), least",
            (results.printed - np.log(law)).min(),
            0,
        ),
        at_most(
            "all ratios equal: samples needed over (e^r - 1)/r, largest r", results.even[-1] / law[-1], 1e-3
        ),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences that explain the numbers."""
    settings, law = results.settings, results.law
    first, last = settings.ratios[0], settings.ratios[-1]
    over = results.printed - np.log(law)
    softmax = [values for name, values in results.shares.items() if name.startswith("softmax")]
    median = float(np.median(np.concatenate([values.ravel() for values in softmax])))
    return (
        f"N = (e^r - 1)/r, r = KL/eps, is {law[0]:.3g} at r = {first:g} and {law[-1]:.3g} at r = {last:g}; "
        f"exp(KL/eps) is r times as large.",
        f"The route by Propositions D.1 and D.6 asks for {math.exp(over.min()):.3g} to "
        f"{math.exp(over.max()):.3g} times as many samples as the law at eps = {settings.epsilon:g}.",
        f"At the same KL and eps, a pair whose ratios are all equal needs {results.even[0]:.0f} to "
        f"{results.even[-1]:.0f} samples: the law is the worst case, and the KL does not tell the case. "
        f"Coverage does.",
        f"Random softmax pairs lose {median:.2g} times KL/r(N) (median over pairs and N).",
    )
