"""Every check of `rl_from_checkpoint` on measurements made by hand: right, wrong and at its threshold.

Eight seeds, four starts, ten pairs, 100 and 1000 rollouts. All pairs of a start have one log ratio, so that
N* is the geometric mean of the ratios of the last start found and the first one stuck.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, known_answers
from scipy import optimize

from experiments.rl_from_checkpoint.checks import checks, notes
from experiments.rl_from_checkpoint.measure import Measurements

SEEDS, PAIRS = 8, 10
T = 2.364624251592785
"""The .975 quantile of Student's law with seven degrees of freedom."""
HALF = T * 0.1 / math.sqrt(7)
"""Student's half-width of four seeds at -.1 and four at .1: the standard deviation is .1 sqrt(8/7)."""
ALL, NONE = (0.025 ** (1 / 8), 1.0), (0.0, 1 - 0.025 ** (1 / 8))
"""Clopper and Pearson's limits of 8 and of 0 seeds of 8: p^8 = .025 and (1 - p)^8 = .025."""
SEVEN = (
    float(optimize.brentq(lambda p: 8 * p**7 - 7 * p**8 - 0.025, 0.1, 0.9)),
    0.975 ** (1 / 8),
)
"""Those of 7: P(7 or 8 seeds) = .025 and P(8 seeds) = .975."""


def made(**changes: Any) -> Measurements:
    """Log10 ratios of the starts .5, 1.5, 2.5 and 4.5: two starts are found within 100 rollouts, three within
    1000. The cross-entropy falls, so the last start has the least."""
    given: dict[str, Any] = {
        "x": (0.5, 1.5, 2.5, 4.5),
        "spread": 0.2,
        "found": (2, 3),
        "entropy": (0.7, 0.3, 0.1, 0.05),
        "first": 0,
        "last": PAIRS,
        "spoiled": 0,
        "other": 0,
        "other_found": (2, 3),
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    tens = np.tile(np.array(given["x"])[:, None], (SEEDS, 1, PAIRS))
    tens[: SEEDS // 2, 2] -= given["spread"]
    tens[SEEDS // 2 :, 2] += given["spread"]
    tens[:, 0, : given["first"]] = 2.0
    tens[:, -1, given["last"] :] = 2.9
    entropy = np.tile(given["entropy"], (SEEDS, 1))
    # Seeds in which the cross-entropy orders the runs and coverage is the same everywhere.
    tens[: given["spoiled"]], entropy[: given["spoiled"]] = 0.1, (0.1, 0.2, 0.3, 0.4)
    log_ratios = tens * math.log(10)
    mass = np.exp(-log_ratios).mean(axis=-1)
    curves = np.repeat(mass[..., None], 4, axis=-1)
    for seed in range(SEEDS):
        counts = given["other_found"] if seed < given["other"] else given["found"]
        for column, count in zip((1, 2), counts, strict=True):
            curves[seed, :count, column] = 0.9
    curves[..., 3] = curves[..., 2]
    weights = np.full(PAIRS, 1 / PAIRS)
    return Measurements(
        seeds=tuple(range(SEEDS)),
        starts=(0, 10, 20, 30),
        rollouts=(100, 1000),
        per_visit=10,
        cross_entropy=entropy,
        log_ratios=log_ratios,
        weights=weights,
        log_right=-log_ratios,
        prompt_weights=weights,
        curves=curves,
        steps=np.array([0, 10, 100, 120]),
        budgets=(10, 100),
        bound_excess=given["excess"],
    )


def at(value: float) -> dict[str, Any]:
    """Log10 N* of both budgets is 2.5 + `value`, that of three equal starts."""
    return {"x": (1.5 + value, 2.5 + value, 2.5 + value, 2.5 + value), "spread": 0.0}


BEYOND = "log10(N*/R), as many starts covered at N* as found with R rollouts, mean over budgets"
OFF = Case({}, 0.25, (0.25 - HALF, 0.25 + HALF), True)
"""N* is 10^2 and 10^3.5 in the mean, both with the spread of the third start."""
CHECKS = {
    "Cov_100 of the first start": Known(
        "upper end of the interval <= 0.1",
        Case({}, 0.0, 0, True),
        Case({"first": 2}, 0.2, 0, False),
        Case({"first": 1}, 0.1, 0, True),
    ),
    "Cov_1000 of the last start": Known(
        "lower end of the interval >= 0.9",
        Case({}, 1.0, 0, True),
        Case({"last": 8}, 0.8, 0, False),
        Case({"last": 9}, 0.9, 0, True),
    ),
    "cross-entropy: largest rise above an earlier start, any seed": Known(
        "<= 0.01",
        Case({}, 0.0, None, True),
        # The least before is .1, two starts earlier.
        Case({"entropy": (0.7, 0.1, 0.2, 0.15)}, 0.1, None, False),
        Case({"entropy": (0.0, 0.01, -0.1, -0.1)}, 0.01, None, True),
    ),
    f"{BEYOND}, from below": Known(
        "lower end of the interval >= -1",
        OFF,
        Case(at(-1.5), -1.5, 0, False),
        Case(at(-1 + 1e-8), -1 + 1e-8, 0, True),
    ),
    f"{BEYOND}, from above": Known(
        "upper end of the interval <= 1",
        OFF,
        Case(at(1.5), 1.5, 0, False),
        Case(at(1 - 1e-8), 1 - 1e-8, 0, True),
    ),
    "log10 N* of 1000 rollouts minus that of 100": Known(
        "lower end of the interval > 0",
        Case({}, 1.5, 0, True),
        # Found and lost again.
        Case({"found": (3, 2)}, -1.5, 0, False),
        Case({"found": (3, 3)}, 0.0, 0, False),
    ),
    "share of runs of which Cov_N < 1/2 at N = rollouts tells found from stuck": Known(
        "lower end of the interval >= 0.75",
        Case({}, 1.0, 0, True),
        Case({"found": (0, 4)}, 0.625, 0, False),
        Case({"found": (0, 3)}, 0.75, 0, True),
    ),
    "share of seeds in which Cov_N orders the runs better than the cross-entropy": Known(
        "lower end of the interval > 0.5",
        Case({}, 1.0, ALL, True),
        Case({"spoiled": 8}, 0.0, NONE, False),
        Case({"spoiled": 1}, 0.875, SEVEN, False),
    ),
    "share of seeds in which the start of least cross-entropy is stuck after 1000 rollouts": Known(
        "lower end of the interval > 0.5",
        Case({}, 1.0, ALL, True),
        Case({"found": (2, 4)}, 0.0, NONE, False),
        Case({"other": 1, "other_found": (2, 4)}, 0.875, SEVEN, False),
    ),
    "share of seeds in which the last start of least Cov_166 finds within 1000": Known(
        "lower end of the interval > 0.5",
        Case({}, 1.0, ALL, True),
        # 1000 / (2 ln 20) is 166.9: of the ratios below it the second start's is the last.
        Case({"found": (1, 1)}, 0.0, NONE, False),
        Case({"other": 1, "other_found": (1, 1)}, 0.875, SEVEN, False),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_a_seed_of_one_kind_orders_nothing_better() -> None:
    """Without a stuck run there is no concordance, and the seed does not count for coverage."""
    named = {check.name: check for check in checks(made(found=(4, 4)))}
    better = named["share of seeds in which Cov_N orders the runs better than the cross-entropy"]
    assert (better.measured, better.passed) == (0.0, False)


def test_notes_count_runs() -> None:
    written = " ".join(notes(made()))
    assert "At the end of 32 runs 24 have found the answer, with Pass@1 0.900" in written
    assert "0 are between 0.1 and 0.5; 8 have not moved at all" in written
    assert "100 rollouts: 0.500 of the starts found, 0.500 covered at this N" in written
    assert "least cross-entropy: 30, 30, 30, 30, 30, 30, 30, 30" in written
    assert "least Cov_166: 10, 10, 10, 10, 10, 10, 10, 10" in written
