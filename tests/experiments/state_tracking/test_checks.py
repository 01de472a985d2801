"""State tracking's checks on hand-made measurements: what each reads off them, and where its target lies."""

from typing import Any

import numpy as np
import pytest
from oracles.answers import Case, Known, bound, known_answers
from scipy import stats

from experiments.state_tracking.checks import checks
from experiments.state_tracking.measure import CELLS, Measurements, Run

SEEDS, PROMPTS = 8, 20
RANGES = ((1, 3), (4, 5), (6, 7))
"""Numbers of elements: trained on, beyond, and the largest ones, which alone are judged."""
SOLVED, FAILED = (40,) * 8, (20,) * 8
"""Right tokens of each seed in the last range, of 40."""


def run(longest: tuple[int, ...], earlier: bool, excess: float) -> Run:
    """A run on strings of seven elements: right tokens by seed in the last range, and whether all others
    are right."""
    right = np.zeros((SEEDS, PROMPTS, 7), bool)
    right[:, :, :5] = earlier
    for seed, count in enumerate(longest):
        right[seed, :, 5:] = (np.arange(40) < count).reshape(PROMPTS, 2)
    return Run(np.zeros(right.shape), right, np.full(PROMPTS, 7), excess)


def made(**changes: Any) -> Measurements:
    """Every model does what is predicted, but for `changes`: `<problem>_<model>`: right answers by seed."""
    excess = changes.pop("excess", -0.25)
    solving = {"parity_negative_1", "parity_negative_2", "s3_negative_2"}
    runs: dict[str, dict[str, Run]] = {}
    for problem in ("parity", "s3"):
        runs[problem] = {}
        for model in (*CELLS, "transformer"):
            name = f"{problem}_{model}"
            # The controls are right on all other ranges, the solving runs wrong: neither counts.
            given = changes.pop(name, SOLVED if name in solving else FAILED)
            own_excess = excess if name == "s3_transformer" else -0.5
            runs[problem][model] = run(given, name not in solving, own_excess)
    assert not changes
    return Measurements(0.95, dict.fromkeys(runs, RANGES), (2.0,), tuple(range(SEEDS)), (), runs)


def exact(count: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of eight seeds."""
    low = stats.beta.ppf(0.025, count, 9 - count) if count else 0.0
    high = stats.beta.ppf(0.975, count + 1, 8 - count) if count < 8 else 1.0
    return float(low), float(high)


def seeds(count: int) -> tuple[int, ...]:
    """`count` seeds at the threshold of .95, 38 of 40, all others just below."""
    return (38,) * count + (37,) * (8 - count)


def solves(name: str) -> Known:
    """All of eight seeds decide; seven leave the lower end at .47, and none is a failure."""
    return Known(
        "lower end of the interval > 0.5",
        Case({name: seeds(8)}, 1.0, exact(8), True),
        Case({name: seeds(0)}, 0.0, exact(0), False),
        Case({name: seeds(7)}, 7 / 8, exact(7), False),
    )


def does_not(name: str) -> Known:
    """None of eight seeds decides; one leaves the upper end at .53, and all are a failure."""
    return Known(
        "upper end of the interval < 0.5",
        Case({name: seeds(0)}, 0.0, exact(0), True),
        Case({name: seeds(8)}, 1.0, exact(8), False),
        Case({name: seeds(1)}, 1 / 8, exact(1), False),
    )


CHECKS = {
    "parity, eigenvalues in [0, 1], n_h = 1: share of seeds that solve, predicted none": does_not(
        "parity_positive_1"
    ),
    "parity, eigenvalues in [0, 1], n_h = 2: share of seeds that solve, predicted none": does_not(
        "parity_positive_2"
    ),
    "parity, eigenvalues in [-1, 1], n_h = 1: share of seeds that solve, predicted all": solves(
        "parity_negative_1"
    ),
    "parity, eigenvalues in [-1, 1], n_h = 2: share of seeds that solve, predicted all": solves(
        "parity_negative_2"
    ),
    "s3, eigenvalues in [0, 1], n_h = 1: share of seeds that solve, predicted none": does_not(
        "s3_positive_1"
    ),
    "s3, eigenvalues in [0, 1], n_h = 2: share of seeds that solve, predicted none": does_not(
        "s3_positive_2"
    ),
    "s3, eigenvalues in [-1, 1], n_h = 1: share of seeds that solve, predicted none": does_not(
        "s3_negative_1"
    ),
    "s3, eigenvalues in [-1, 1], n_h = 2: share of seeds that solve, predicted all": solves("s3_negative_2"),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


@pytest.mark.parametrize(("count", "state"), [(0, "failed"), (1, "open"), (7, "open"), (8, "passed")])
def test_seeds_between_the_two_decisions_leave_a_check_open(count: int, state: str) -> None:
    of_success = checks(made(s3_negative_2=seeds(count)))[7]
    assert of_success.state == state
    of_failure = checks(made(s3_negative_1=seeds(8 - count)))[6]
    assert of_failure.state == state


def test_what_is_not_predicted_is_not_judged() -> None:
    found = made(s3_transformer=SOLVED, parity_transformer=(0,) * 8)
    assert len(checks(found)) == 9
    assert all(check.passed for check in checks(found))
