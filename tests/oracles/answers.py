"""Known answers of a claim's checks: the expected number and judgement on hand-made measurements.

Intervals over seeds are checked on two seeds, m - d and m + d, or on values that are all equal: Student's
interval over two values is m +- T2 d.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from covlab.report.verdict import Check

T2 = math.tan(0.475 * math.pi)
"""The 97.5 % quantile of Student's t with one degree of freedom, 12.706."""


class Case(NamedTuple):
    """One set of measurements, and a check's expected result.

    Attributes:
        changes: what differs from measurements on which every check passes.
        measured: the number that the check must report.
        spread: d of two seeds m - d and m + d; (low, high) for other intervals; None for a number without.
        passed: the check's judgement.
    """

    changes: Mapping[str, Any]
    measured: float
    spread: float | tuple[float, float] | None
    passed: bool


class Known(NamedTuple):
    """A check's target as it is written, a case that is right, one that is wrong, and one at the edge."""

    target: str
    right: Case
    wrong: Case
    edge: Case


def bound(field: str) -> dict[str, Known]:
    """The check of the coverage bound by KL, on measurements with an excess of -.25 in `field`."""
    return {
        "coverage bound by KL: largest excess at any evaluation": Known(
            "<= 1e-09",
            Case({}, -0.25, None, True),
            Case({field: 2e-9}, 2e-9, None, False),
            Case({field: 1e-9}, 1e-9, None, True),
        )
    }


def two(mean: float, spread: float = 0.0) -> np.ndarray:
    """Values of two seeds."""
    return np.array([mean - spread, mean + spread])


def columns(*values: float | tuple[float, float] | np.ndarray) -> np.ndarray:
    """(2 seeds, values): each value is a number, (mean, spread) or both seeds' numbers."""
    made = [v if isinstance(v, np.ndarray) else two(*v) if isinstance(v, tuple) else two(v) for v in values]
    return np.stack(made, axis=1)


def table(known: Mapping[str, Known]) -> list[Any]:
    """Parameters (name of the check, target, case) of a test."""
    return [
        pytest.param(name, each.target, case, id=f"{name}: {kind}")
        for name, each in known.items()
        for kind, case in zip(("right", "wrong", "edge"), each[1:], strict=True)
    ]


def verify(checks: Sequence[Check], name: str, target: str, case: Case) -> None:
    """The check of that name reports what the case says."""
    (check,) = [each for each in checks if each.name == name]
    assert check.target == target
    assert check.measured == pytest.approx(case.measured, rel=1e-9, abs=1e-10)
    if case.spread is None:
        assert check.interval is None
    else:
        half = T2 * case.spread if not isinstance(case.spread, tuple) else None
        ends = case.spread if half is None else (case.measured - half, case.measured + half)
        assert check.interval == pytest.approx(ends, rel=1e-9, abs=1e-9)
    assert check.passed is case.passed


def assert_complete(known: Mapping[str, Known], checks: Sequence[Check]) -> None:
    """Every check has its cases, in the claim's order; on the right measurements all of them pass."""
    assert [check.name for check in checks] == list(known)
    assert [check.name for check in checks if not check.passed] == []
    for name, each in known.items():
        assert each.right.passed, name
        assert not each.wrong.passed, name


def known_answers(
    checks: Callable[[Any], Sequence[Check]], made: Callable[..., Any], known: Mapping[str, Known]
) -> type:
    """Tests of all checks of a claim on the measurements that `made` makes from a case's changes."""

    class TestKnownAnswers:
        @pytest.mark.parametrize(("name", "target", "case"), table(known))
        def test_known_answer(self, name: str, target: str, case: Case) -> None:
            verify(checks(made(**case.changes)), name, target, case)

        def test_every_check_has_known_answers(self) -> None:
            assert_complete(known, checks(made()))

    return TestKnownAnswers
