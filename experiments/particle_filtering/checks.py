"""Checks of experiments.particle_filtering, with the reason for each target."""

from __future__ import annotations

import numpy as np

from covlab.report.verdict import Check, at_least, at_most, between
from experiments.particle_filtering.measure import Measurements
from metrics import line_fit, mean_interval

MARGIN = 0.1
"""About an exponent."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Perfect values: the paper's sqrt(H). Derived: each bit has the law of self-normalised resampling among N
      draws, off by c/N, and H independent bits that are each off by c/N have a total variation of order
      c sqrt(H)/N. So the particles for a fixed error grow with the exponent 1/2, the error of sqrt(H)
      particles is flat (within a fifth of itself), and a fixed number fails.
    - Late values: the same two exponents are asked of values that are off by a bounded factor, for which the
      paper gives polynomial bounds only: 1/2 in H and -1 in N, where errors are small.
    - Error and accuracy: the sampling error grows with H at a fixed N, by at least half, while the share of
      ones lost does not (a fifth at most). So the error criterion does not predict the accuracy.
    - Control: p/pi* has mean 1.
    - Decoder: samples agree with the exact laws and are told from pi*.
    """
    settings = results.settings
    h, late_h = np.array(settings.horizons, float), np.array(settings.late_horizons, float)
    n = np.array(settings.particles, float)
    late, losses = results.late_errors(), results.late_losses()
    needed = float(line_fit(np.log(h), np.log(results.needed.astype(float)))[0])
    in_h = mean_interval(line_fit(np.log(late_h), np.log(late[:, :, -1]))[0])
    in_n = mean_interval(line_fit(np.log(n), np.log(late[:, 0]))[0])
    grown = mean_interval(late[:, -1, 0] / late[:, 0, 0])
    lost = mean_interval(losses[:, -1, -1] / losses[:, 0, -1].mean())
    mass = max((mean_interval(each.mass - 1) for each in results.late.values()), key=lambda i: i.low)
    least = min((mean_interval(each.mass - 1) for each in results.late.values()), key=lambda i: i.high)
    return (
        *between("perfect: exponent of H in the particles needed", needed, 0.5 - MARGIN, 0.5 + MARGIN),
        at_most(
            "perfect: error of sqrt(H) particles, largest over least",
            results.at_root.max() / results.at_root.min(),
            1.2,
        ),
        at_least("perfect: error at the longest H, fewest particles", results.perfect[-1, 0], 0.9),
        *between("late: exponent of the error in H, most particles", in_h, 0.5 - MARGIN, 0.5 + MARGIN),
        *between("late: exponent of the error in N, shortest H", in_n, -1 - MARGIN, -1 + MARGIN),
        at_least("late: error at the longest over the shortest H, fewest particles", grown, 1.5),
        *between(
            "late: share of ones lost at the longest over the shortest H, most particles", lost, 0.8, 1.2
        ),
        at_most("late: mean of p/pi* minus 1, lower end, largest", mass.low, 0.02),
        at_least("late: mean of p/pi* minus 1, upper end, least", least.high, -0.02),
        *(
            at_least(f"decoder, {name}: p-value against its law", p[0], 1e-3)
            for name, p in results.goodness.items()
        ),
        *(
            at_most(f"decoder, {name}: p-value against pi* (the test's power)", p[1], 1e-6)
            for name, p in results.goodness.items()
        ),
    )


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences for the verdict."""
    settings = results.settings
    needed = ", ".join(f"{n} at H = {h}" for n, h in zip(results.needed, settings.horizons, strict=True))
    longest, most = settings.late_horizons[-1], settings.particles[-1]
    rival = results.rivals[longest, most]
    own = mean_interval(results.late[longest, most].error)
    small, large = results.losses[0], results.losses[-1]
    return (
        f"Particles for a total variation of {settings.error:g} with perfect values: {needed}. Action-level "
        "rejection sampling has no error with perfect values, at 2 queries a bit.",
        f"With perfect values the share of ones lost is {small:.3g} at N = {settings.particles[0]} and "
        f"{large:.3g} at N = {most}, at every H exactly.",
        f"H = {longest}, late values, N = {most}: error {own.estimate:.3g}. At the same {most * longest} "
        f"queries rejection of whole responses errs by {rival.rejection:.3g} and a uniform race by "
        f"{rival.race:.3g}, without values. VGB's first leaf with late values errs by {rival.vgb:.3g} after "
        f"{rival.vgb_steps:.4g} steps, of at most 2 queries each.",
        "The task, the measure of accuracy and multinomial resampling at every step are this project's "
        "choices.",
    )
