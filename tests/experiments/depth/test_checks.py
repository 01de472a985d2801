"""Depth's checks on hand-made measurements of two seeds: what each reads off them, and its target."""

from typing import Any

import numpy as np
import pytest
from oracles.answers import Case, Known, bound, known_answers

from experiments.depth.checks import checks
from experiments.depth.measure import Measurements, Run, Scores, Settings

PROMPTS = 1000
SETTINGS = Settings(
    problems={"sorting": {}}, recursions=(1, 2), tested=(1, 2, 4), n=8.0, fresh_examples=PROMPTS
)
COVERED, ACCURATE = {(1, 1): 0.5, (2, 1): 0.9, (2, 2): 0.3, (2, 4): 0.4}, {(1, 1): 0.25, (2, 2): 0.75}
"""(recursions in training, in evaluation) -> share of prompts not covered, and greedy accuracy."""


def scores(uncovered: Any, accuracy: Any) -> Scores:
    """X is ln 8 on a share `uncovered` of the prompts, and just below elsewhere."""
    share = np.broadcast_to(uncovered, 2)[:, None]
    ratio = np.where(np.arange(PROMPTS) < np.round(PROMPTS * share), np.log(8), np.log(7.99))
    return Scores(np.broadcast_to(accuracy, 2).astype(float), ratio, np.full(PROMPTS, 1 / PROMPTS))


def run(trained: int, covered: dict[Any, Any], accurate: dict[Any, Any], excess: float) -> Run:
    """Numbers that nothing is said about are .6 and .1."""
    tested = {
        count: scores(covered.get((trained, count), 0.6), accurate.get((trained, count), 0.1))
        for count in SETTINGS.tested
    }
    curve = np.zeros((2, 2))
    return Run(10 // trained, 3.0 * trained, tested, (0, 10 // trained), curve, curve, excess)


def made(**changes: Any) -> Measurements:
    """`covered_<trained>_<tested>` and `accurate_...` replace shares: a number, or both seeds'."""
    excess = changes.pop("excess", -0.25)
    tables: dict[str, dict[Any, Any]] = {"covered": dict(COVERED), "accurate": dict(ACCURATE)}
    for name, value in changes.items():
        table, trained, tested = name.split("_")
        tables[table][int(trained), int(tested)] = value
    # Only the deeper run comes near the bound.
    runs = {
        count: run(count, tables["covered"], tables["accurate"], own)
        for count, own in ((1, -0.5), (2, excess))
    }
    return Measurements(SETTINGS, (2.0, 8.0), (48, 49), (), {"sorting": runs})


def difference(field: str, subtracted: float) -> Known:
    """The difference of `field` and a number that stays: positive, negative, and exactly 0."""
    return Known(
        "lower end of the interval > 0",
        Case({field: (subtracted + 0.198, subtracted + 0.202)}, 0.2, 0.002, True),
        Case({field: subtracted - 0.1}, -0.1, 0.0, False),
        Case({field: subtracted}, 0.0, 0.0, False),
    )


CHECKS = {
    "sorting, 2 recursions against 1 at equal FLOP: fall of Cov_8": difference("covered_1_1", 0.3),
    "sorting, 2 recursions against 1 at equal FLOP: rise of the accuracy": difference("accurate_2_2", 0.25),
    "sorting, trained with 2, tested with 1: rise of Cov_8": difference("covered_2_1", 0.3),
    "sorting, trained with 2, tested with 4: rise of Cov_8": difference("covered_2_4", 0.3),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


@pytest.mark.parametrize(
    ("shares", "state"), [((0.2, 0.201), "failed"), ((0.29, 0.5), "open"), ((0.499, 0.501), "passed")]
)
def test_an_interval_on_both_sides_of_0_is_open(shares: tuple[float, float], state: str) -> None:
    """Cov_8 at the right number is .3. Student's interval over two seeds extends T2 times half of their
    distance to either side."""
    assert checks(made(covered_2_4=shares))[3].state == state


def test_what_the_shallowest_model_does_with_more_recursions_is_not_judged() -> None:
    found = made(covered_1_2=0.0, covered_1_4=0.0, accurate_1_4=1.0)
    assert len(checks(found)) == 5
    assert all(check.passed for check in checks(found))
