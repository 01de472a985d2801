"""Checks of experiments.llm_judge, with the reason for each target."""

from __future__ import annotations

import numpy as np

from covlab.report.verdict import Check, above, at_least, at_most, below, between
from experiments.llm_judge.measure import SIMULATED, Measurements
from metrics import line_fit, mean_interval
from theory.judged_regression import best_temperature, predictive, teacher_exponent

ROUNDING = 1e-9
"""Of quadratures, relative to the error."""


def checks(results: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets:

    - Teacher as judge, T = 0: the paper's 1/k^2, so the exponent is -2, and k^2 error tends to the closed
      form pi s^2/sqrt(1 - 2 doubt/s^2). At k >= 1024 the corrections are below a hundredth.
    - Derived: this needs doubt < sigma^2. With fewer examples the teacher lies so far from some predictive
      laws that the mean error falls as k^(-s^2/doubt) up to logarithms, -1.31 at the default: slower than
      k^-1.6.
    - Near judge: the error falls from each k to the next. Far judge: both ends of the range of k are a tenth
      above the least error.
    - Temperature at fixed k: with the far judge both 0 and the largest T are a fiftieth above the least
      error. Derived: for many predictions the best T is 0 unless the judge's mean square offset exceeds
      s^2/2, and the closed form is reached by 512 predictions to a 20th. With the teacher as judge T = 0 is
      best.
    - Harder tasks: with fewer examples the gain, error of one prediction over error of several, is smaller.
    - Simulation: at a finite dimension d corrections are of order 1/d.
    """
    settings, judge = results.settings, results.at_k
    near, far = judge["near"], judge["far"]
    slopes = {
        name: float(line_fit(np.log(np.array(settings.many, float)), np.log(errors))[0])
        for name, errors in results.at_many.items()
    }
    by_temperature = results.at_temperature
    least = by_temperature["far"].min()
    teacher = by_temperature["teacher"]
    simulated = [
        check
        for name in SIMULATED
        for check in between(
            f"simulation, {name}: error over the closed form",
            mean_interval(results.simulated[name].errors / results.simulated[name].expected),
            0.85,
            1.15,
        )
    ]
    return (
        *between("teacher: exponent of the error in k", slopes["alpha"], -2.02, -1.98),
        *between("teacher: k^2 error over its limit at the largest k", results.coefficient, 0.99, 1.01),
        above("teacher, few examples: exponent of the error in k (derived)", slopes["few"], -1.6),
        at_most("near judge: largest relative change from one k to the next", _largest_rise(near), ROUNDING),
        at_least("far judge: error at k = 1 over the least", near_end(far, 0), 1.1),
        at_least("far judge: error at the largest k over the least", near_end(far, -1), 1.1),
        at_least("far judge: error at T = 0 over that at the best T", by_temperature["far"][0] / least, 1.02),
        at_least(
            "far judge: error at the largest T over that at the best T",
            near_end(by_temperature["far"], -1),
            1.02,
        ),
        at_most(
            "teacher: error at T = 0 over that at the best T (derived)",
            teacher[0] / teacher.min(),
            1 + ROUNDING,
        ),
        *between(
            "far judge: error of 512 predictions at the best T over its closed form",
            results.far_limit[0] / results.far_limit[1],
            0.95,
            1.05,
        ),
        below(
            "gain of a task over that of the next easier one, largest",
            (results.gains[:-1] / results.gains[1:]).max(),
            1,
        ),
        *simulated,
    )


def _largest_rise(errors: np.ndarray) -> float:
    """The largest of error(next k)/error(k) - 1."""
    return float((errors[1:] / errors[:-1]).max() - 1)


def near_end(errors: np.ndarray, place: int) -> float:
    """The error at one end over the least one."""
    return float(errors[place] / errors.min())


def notes(results: Measurements) -> tuple[str, ...]:
    """Sentences for the verdict."""
    settings, law = results.settings, results.law
    few = predictive(settings.few, settings.noise, settings.prior)
    best_k = settings.ks[int(results.at_k["far"].argmin())]
    grid = (0.0, *settings.temperatures)
    best_t = grid[int(results.at_temperature["far"].argmin())]
    limit = best_temperature(law, settings.far * law.spread) / law.spread
    gains = ", ".join(f"{gain:.3g}" for gain in results.gains)
    noises = ", ".join(f"{gain:.3g}" for gain in results.noise_gains)
    return (
        f"Doubt {law.doubt:.3g}, predictive variance s^2 {law.spread:.3g}. Far judge: the best k is "
        f"{best_k}; "
        f"with {settings.fixed} predictions the best T of the grid is {best_t:g} s^2, with many "
        f"{limit:.3g} s^2.",
        f"Few examples: doubt {few.doubt:.3g} > sigma^2, theory's exponent {teacher_exponent(few):.3g}.",
        f"Gain of {settings.fixed} predictions with {', '.join(f'{a:g}' for a in settings.difficulties)} "
        f"examples per dimension: {gains}. With the noise halved, as it is, and doubled: {noises}. "
        f"So harder by "
        "noise is not harder in this sense.",
        "How far a judge is from the teacher, and what makes a task harder, are this project's choices.",
    )
