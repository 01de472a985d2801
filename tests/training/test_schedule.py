from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import EvaluationSchedule


@pytest.mark.parametrize(
    ("options", "total", "grid"),
    [
        ({"every": 4}, 10, (0, 4, 8, 10)),
        ({"every": 5}, 10, (0, 5, 10)),
        ({"every": 1}, 3, (0, 1, 2, 3)),
        ({"every": 0}, 10, (0, 10)),
        ({"every": 4, "start": False}, 10, (4, 8, 10)),
        ({"every": 100}, 10, (0, 10)),
        ({"every": 4}, 0, (0,)),
        ({"spacing": "logarithmic", "per_decade": 1}, 1000, (0, 1, 10, 100, 1000)),
        ({"spacing": "logarithmic", "per_decade": 2}, 50, (0, 1, 3, 10, 32, 50)),
        ({"spacing": "logarithmic", "per_decade": 3, "start": False}, 10, (1, 2, 5, 10)),
    ],
)
def test_grids(options: dict, total: int, grid: tuple[int, ...]) -> None:
    assert EvaluationSchedule(**options).steps(total) == grid


@pytest.mark.long
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 50),
    st.sampled_from(["linear", "logarithmic"]),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 5000),
)
def test_a_grid_ascends_from_its_start_to_the_last_step(
    every: int, spacing: str, per_decade: int, start: bool, total: int
) -> None:
    grid = EvaluationSchedule(every, spacing, per_decade, start).steps(total)
    assert list(grid) == sorted(set(grid))
    assert grid[-1] == total
    assert (grid[0] == 0) == (start or total == 0)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"every": -1}, "evaluation.schedule.every: -1 is not an integer >= 0"),
        ({"every": 1.5}, "evaluation.schedule.every: 1.5 is not an integer >= 0"),
        ({"spacing": "cubic"}, "evaluation.schedule.spacing: 'cubic' is not one of linear, logarithmic"),
        ({"per_decade": 0}, "evaluation.schedule.per_decade: 0 is not an integer >= 1"),
    ],
)
def test_bad_settings_are_refused_in_one_line(options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="evaluation") as refused:
        EvaluationSchedule(**options)
    assert str(refused.value) == line
