"""Marks of a command's parts."""

from __future__ import annotations

import time

import pytest

from benchmarks.startup import PARTS, parts
from benchmarks.timeline import Timeline, covered


@pytest.mark.parametrize(
    ("spans", "until", "total"),
    [
        ([], 9.0, 0.0),
        ([(0.0, 1.0), (2.0, 3.0)], 9.0, 2.0),
        ([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0)], 9.0, 5.0),
        ([(1.0, 2.0), (0.0, 4.0)], 3.0, 3.0),
        ([(5.0, 6.0)], 3.0, 0.0),
    ],
)
def test_nested_spans_count_once(spans: list[tuple[float, float]], until: float, total: float) -> None:
    assert covered(spans, until) == total


class Example:
    def work(self, record: dict[str, object]) -> str:
        return str(record)


def test_marks_surround_the_call_and_change_nothing() -> None:
    timeline = Timeline(time.time() - 1)
    # The last one made is the outermost.
    timeline.before(Example, "work", "called")
    timeline.after(Example, "work", "returned")
    timeline.steps(Example, "work")
    assert Example().work({"event": "step", "step": 3}) == "{'event': 'step', 'step': 3}"
    first = dict(timeline.marks)
    assert 1 <= first["step 3"] <= first["called"] <= first["returned"]
    Example().work({"event": "step", "step": 3})
    assert timeline.marks == first, "a mark is the first time"


def test_jaxs_events_become_seconds_before_a_mark() -> None:
    timeline = Timeline(time.time() - 10)
    timeline.compiled("/jax/core/compile/jaxpr_trace_duration", 2.0)
    timeline.compiled("/jax/core/compile/jaxpr_trace_duration", 1.0)
    timeline.compiled("/jax/unknown", 5.0)
    timeline.mark("done")
    found = timeline.record()["compilation"]["done"]
    assert found["tracing"] == pytest.approx(2.0, abs=0.1)
    assert found["compiling"] == found["reading_cache"] == 0


def test_parts_sum_to_the_last_mark() -> None:
    marks = {name: float(index**2) for index, name in enumerate(PARTS, start=1)}
    found = parts({"marks": marks})
    assert sum(found.values()) == marks["step 10"]
    assert found["imports"] == 3.0
