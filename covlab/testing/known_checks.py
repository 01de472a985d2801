"""Tables of known answers for the checks of a claim, on measurements made by hand.

A table has a `Known` for every check of a claim, in the claim's order, so that a check without one is
noticed. `agree` compares the checks of one right measurement with it, `decides` turns one measured number at
a time, `known_answers` makes the tests of a claim from both.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from covlab.report.verdict import Check

Ends = tuple[float, float]
SURE = 1e-6
"""How close to its threshold a check must decide, relative to the threshold (or absolute, about 0)."""


class Known(NamedTuple):
    """Expected result of a check.

    Attributes:
        target: its text, the operator and the threshold at the end.
        right: the number that it measures on the right measurements, where it passes.
        interval: its ends there; None for an exact number, "some" for ends that chance decides.
        at: measurements on which this number is the argument; None where the check measures a constant.
        wrong: an argument at which it clearly fails.
        edge: arguments about the threshold, and whether the check passes there; by default a millionth to
            either side.
        alone: True if no other check turns where this one does.
    """

    target: str
    right: float
    interval: Ends | str | None
    at: Callable[[Any], Any] | None
    wrong: Any = None
    edge: Sequence[tuple[Any, bool]] = ()
    alone: bool = True

    @property
    def edges(self) -> Sequence[tuple[Any, bool]]:
        if self.edge:
            return self.edge
        operator, threshold = self.target.split()[-2:]
        above, step = operator.startswith(">"), SURE * (abs(float(threshold)) or 1.0)
        return ((float(threshold) + step, above), (float(threshold) - step, not above))


def agree(checks: Sequence[Check], table: Mapping[str, Known]) -> None:
    """Assert that every check of the claim is in the table, gives the table's result, and passes."""
    assert [check.name for check in checks] == list(table)
    for check in checks:
        known = table[check.name]
        assert check.target == known.target, check.name
        assert check.measured == pytest.approx(known.right, rel=1e-9, abs=1e-9), check.name
        if known.interval is None:
            assert check.interval is None, check.name
        else:
            assert check.interval is not None, check.name
            if known.interval == "some":
                assert check.measured is not None, check.name
                assert check.interval[0] < check.measured < check.interval[1], check.name
            else:
                assert check.interval == pytest.approx(known.interval, rel=1e-9, abs=1e-12), check.name
        assert check.passed, check.name


def decides(judge: Callable[[Any], Sequence[Check]], table: Mapping[str, Known], name: str) -> None:
    """Assert that the check fails where it must, decides at its threshold as its target says, and turns alone
    there."""
    known = table[name]
    assert known.at is not None
    others = []
    for value, passes in ((known.wrong, False), *known.edges):
        judged = {each.name: each for each in judge(known.at(value))}
        check = judged.pop(name)
        assert check.measured == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert (check.target, check.passed) == (known.target, passes), value
        others.append([each.name for each in judged.values() if not each.passed])
    assert not known.alone or all(failed == others[1] for failed in others[2:]), others


def turned(table: Mapping[str, Known]) -> list[str]:
    """Names of the checks that measure something of the measurements."""
    return [name for name, known in table.items() if known.at is not None]


def known_answers(
    judge: Callable[[Any], Sequence[Check]],
    right: Any,
    table: Mapping[str, Known],
    elsewhere: Collection[str] = (),
) -> type:
    """Tests of all checks of a claim; those of the checks in `elsewhere` turn nothing of the table."""

    class TestKnownAnswers:
        def test_right_measurements(self) -> None:
            agree(judge(right), table)

        @pytest.mark.parametrize("name", turned(table))
        def test_wrong_measurements_and_those_at_the_threshold(self, name: str) -> None:
            decides(judge, table, name)

        def test_every_check_is_turned(self) -> None:
            assert {*turned(table), *elsewhere} == set(table)

    return TestKnownAnswers


def power(sizes: Sequence[float], exponent: float, factor: float = 1.0, draws: int = 2) -> np.ndarray:
    """Equal draws of factor (size/first size)^exponent: the fitted slope has an interval of width 0."""
    return np.tile(factor * (np.asarray(sizes, float) / sizes[0]) ** exponent, (draws, 1))
