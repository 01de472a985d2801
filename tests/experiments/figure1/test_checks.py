"""Figure 1's checks on hand-made measurements: what each reads off them, and where its target lies."""

from typing import Any, cast

import numpy as np
from oracles.answers import Case, Known, bound, columns, known_answers, two
from oracles.shortcut import BLINDNESS, blindness, both, halves, kl, rises

from covlab.claims.shortcut import FineTuning
from experiments.figure1.checks import checks

LOW_KL = 0.3251
"""The KL of the best class-blind model, -.9 ln .9 - .1 ln .1, to four places."""


def made(**changes: Any) -> FineTuning:
    """Two seeds at four checkpoints. Their lowest KL and the tournament's choice are at checkpoints 1 and 2
    of the first seed, 2 and 1 of the second; the best Pass@8 is at the first one. Over the checkpoints Pass@N
    falls as Cov_M rises and as the KL falls."""
    lowest, chosen, best = (
        changes.pop(name, default)
        for name, default in (("lowest", two(0.955, 2e-4)), ("chosen", two(0.975, 1e-4)), ("best", 0.99))
    )
    best = best if isinstance(best, np.ndarray) else two(best, 1e-4)
    eight = np.array([[best[0], lowest[0], chosen[0], 0.96], [best[1], chosen[1], lowest[1], 0.96]])
    fields: dict[str, Any] = {
        # The KL rises by .015 and by .004 above its running minimum and ends .004 above it.
        "kl": KL,
        "cov": {
            2.0: columns((0.75, 0.03), 0.1, 0.2, (0.25, 0.01)),
            3.0: columns(0.7, 0.6, 0.5, 0.4),
            4.0: COV,
            4.6: columns(0.9, 0.8, 0.9, 0.7),
            5.7: COV / 2,
        },
        "halves": HALVES,
        "passes": {4: eight / 2, 8: eight, 12: (1 + eight) / 2},
        "lowest": np.array([1, 2]),
        "chosen": np.array([2, 1]),
        "blindness": BLINDNESS,
        "bound_excess": -0.25,
    }
    unused = cast(Any, None)
    return FineTuning(tournament=unused, matrices=unused, tables={}, log_odds={}, **fields | changes)


KL = np.array([[0.993, 0.399, 0.414, 0.403], [1.015, 0.406, 0.401, 0.405]])
COV = np.array([[0.029, 0.2, 0.05, 0.123], [0.031, 0.05, 0.2, 0.127]])
# Both seeds fall by .06 n -+ .01 and rise by .03 n -+ .002 on either half of the prompts.
HALVES = {
    n: both(columns((0.125 + 0.06 * n, 0.01), 0.125, 0.5, (0.125 + 0.03 * n, 0.002)))
    for n in (3.0, 4.0, 4.6, 5.7)
}


def cov(n: float, *values: Any) -> dict[str, Any]:
    return {"cov": {2.0: np.zeros((2, 4)), 4.0: COV, 5.7: COV, n: columns(*values)}}


def profile(m: float, values: np.ndarray) -> dict[str, Any]:
    """The values in place of Cov_m."""
    return {"cov": {2.0: np.zeros((2, 4)), 4.0: COV, 5.7: COV / 2} | {m: values}}


def falls(n: float) -> Known:
    return Known(
        "lower end of the interval > 0",
        Case({}, 0.06 * n, 0.01, True),
        # Both seeds fall, by too different amounts.
        Case(halves(HALVES, n, (0.3, 0.1), 0.125, 0.3, 0.25), 0.175, 0.1, False),
        Case(halves(HALVES, n, 0.125, 0.125, 0.3, 0.25), 0, 0, False),
    )


def predicts(m: float, right: float) -> Known:
    """The profile orders Pass@N perfectly and the KL the wrong way round: a rank correlation of 1 against
    -1, an R^2 of 1 against 0."""
    return Known(
        "lower end of the interval > 0",
        Case({}, right, 0, True),
        Case(profile(m, KL) | {"kl": COV}, -right, 0, False),
        # Both order it perfectly.
        Case({"kl": COV}, 0, 0, False),
    )


CHECKS = {
    "KL: largest rise above its running minimum, worst seed (nats)": Known(
        "<= 0.02",
        Case({}, 0.015, None, True),
        # Only the second seed rises too far, and comes down again.
        Case(kl(1, 0.5, np.array([0.5, 0.53]), 0.4), 0.03, None, False),
        Case(kl(1, 0.0, 0.02, 0), 0.02, None, True),
    ),
    "KL: fall from start to end (nats)": Known(
        ">= 0.3",
        Case({}, 0.6, 0.01, True),
        Case(kl(1, 0.2, 0.2, (0.71, 0.01)), 0.29, 0.01, False),
        Case(kl(0.3, 0.2, 0.2, 0), 0.3, 0, True),
    ),
    "Cov_2: fall from start to end": Known(
        ">= 0.3",
        Case({}, 0.5, 0.02, True),
        Case(cov(2.0, 0.75, 0, 0, (0.5, 0.01)), 0.25, 0.01, False),
        Case(cov(2.0, 0.3, 0.9, 0, 0), 0.3, 0, True),
    ),
    "Cov_4: minimum over the run": Known(
        "<= 0.05",
        Case({}, 0.03, 0.001, True),
        Case(cov(4.0, 0.9, (0.0625, 0.001), 0.5, 0.75), 0.0625, 0.001, False),
        Case(cov(4.0, 0.9, 0.4, 0.05, 0.8), 0.05, 0, True),
    ),
    "Cov_4: at the end": Known(
        ">= 0.09",
        Case({}, 0.125, 0.002, True),
        Case(cov(4.0, 0.9, 0.4, 0.7, (0.08, 0.001)), 0.08, 0.001, False),
        Case(cov(4.0, 0, 0, 0, 0.09), 0.09, 0, True),
    ),
    "Pass@8 of the min-KL checkpoint": Known(
        "<= 0.965",
        Case({}, 0.955, 2e-4, True),
        Case({"lowest": two(0.97, 1e-3)}, 0.97, 1e-3, False),
        Case({"lowest": two(0.965)}, 0.965, 0, True),
    ),
    "Pass@8 of the best checkpoint": Known(
        ">= 0.98",
        Case({}, 0.99, 1e-4, True),
        Case({"best": two(0.978, 1e-3)}, 0.978, 1e-3, False),
        Case({"best": two(0.98)}, 0.98, 0, True),
    ),
    "Pass@8: tournament's choice over min-KL's": Known(
        ">= 0.015",
        Case({}, 0.02, 1e-4, True),
        # The best checkpoint gains more than enough.
        Case({"chosen": two(0.965, 1e-3)}, 0.01, 8e-4, False),
        Case({"lowest": two(0.0), "chosen": two(0.015)}, 0.015, 0, True),
    ),
    "Pass@8: that gain excludes 0": Known(
        "lower end of the interval > 0",
        Case({}, 0.02, 1e-4, True),
        # The mean is above .015; the interval reaches below 0.
        Case({"chosen": two(0.975, 0.0022)}, 0.02, 0.002, False),
        Case({"chosen": two(0.955, 2e-4)}, 0.0, 0, False),
    ),
    **blindness(),
    "KL: minimum over the run (nats)": Known(
        f"> {LOW_KL}",
        Case({}, 0.4, 0.001, True),
        Case(kl(1, (0.32, 0.001), 0.33, 0.34), 0.32, 0.001, False),
        Case(kl(1, 0.5, LOW_KL, 0.34), LOW_KL, 0, False),
    ),
    **bound("bound_excess"),
    **{f"Cov_{n:g}: fall from start to turning point": falls(n) for n in (3.0, 4.0, 4.6)},
    **{f"Cov_{n:g}: rise from turning point to end": rises(HALVES, n) for n in (4.0, 4.6, 5.7)},
    "Pass@8: rank correlation with a lower Cov_4 minus with a lower KL": predicts(4.0, 2),
    "Pass@8: isotonic R^2 of Cov_4 minus that of KL": predicts(4.0, 1),
    "Pass@12: rank correlation with a lower Cov_5.7 minus with a lower KL": predicts(5.7, 2),
    "Pass@12: isotonic R^2 of Cov_5.7 minus that of KL": predicts(5.7, 1),
    "Pass@12: tournament's choice over min-KL's": Known(
        "lower end of the interval > 0",
        Case({}, 0.01, 5e-5, True),
        Case({"chosen": two(0.975, 0.0022)}, 0.01, 0.001, False),
        Case({"chosen": two(0.955, 2e-4)}, 0.0, 0, False),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_the_whole_interval_is_asked_at_the_end_that_is_nearer_to_missing_the_target() -> None:
    means = [known.target for known in CHECKS.values()]
    whole = [check.target for check in checks(made(), whole_interval=True)]
    asked = [f"{'upper' if '<' in target else 'lower'} end of the interval {target}" for target in means[1:8]]
    assert whole[1:8] == asked
    assert whole[11] == f"lower end of the interval {means[11]}"
    # Checks without an interval, and those that ask for all of it in any case, stay as they are.
    same = (0, 8, 9, 10, *range(12, len(whole)))
    assert [whole[i] for i in same] == [means[i] for i in same]
