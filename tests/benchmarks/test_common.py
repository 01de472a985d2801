"""Medians, intervals, turns, arguments and records."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import common
from benchmarks.common import UsageError, in_turn, ratio, summary


@pytest.mark.parametrize("count", [6, 9, 15, 40])
def test_the_interval_is_the_widest_pair_of_order_statistics_that_is_needed(count: int) -> None:
    """Compared with scipy's binomial quantile: the k-th smallest and largest of n values."""
    values = np.random.default_rng(count).permutation(count).astype(float)
    found = summary(values.tolist())
    k = int(stats.binom.ppf(0.025, count, 0.5))
    assert (found.low, found.high) == (float(k - 1), float(count - k))
    assert found.confidence == pytest.approx(1 - 2 * stats.binom.cdf(k - 1, count, 0.5))
    assert found.confidence >= 0.95
    assert found.median == pytest.approx((count - 1) / 2)
    assert found.values == tuple(values)


def test_few_values_give_their_extremes_and_say_how_little_that_is() -> None:
    found = summary([3.0, 1.0, 2.0, 5.0])
    assert (found.low, found.high, found.confidence) == (1.0, 5.0, 1 - 2 / 2**4)
    assert summary([2.0]).confidence == 0.0


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan]])
def test_a_summary_needs_finite_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="measurements"):
        summary(values)


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that slows down threefold changes both times and not their ratio."""
    found = ratio([2.0, 6.0, 4.0], [1.0, 3.0, 2.0])
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)


def test_every_round_begins_with_another_contender() -> None:
    order: list[str] = []

    def note(name: str) -> float:
        order.append(name)
        return float(len(order))

    times = in_turn({name: lambda name=name: note(name) for name in "abc"}, 4)
    assert "".join(order) == "abcbcacababc"
    assert times == {"a": [1.0, 6.0, 8.0, 10.0], "b": [2.0, 4.0, 9.0, 11.0], "c": [3.0, 5.0, 7.0, 12.0]}


def test_a_record_is_strict_json() -> None:
    made = common.plain({"a": summary([1.0, 2.0]), "b": (np.float32(0.1), 3, None, True), 4: "text"})
    assert made["a"]["median"] == 1.5
    assert made["b"] == [0.1, 3, None, True]
    assert made["4"] == "text"
    json.dumps(made, allow_nan=False)
    with pytest.raises(ValueError, match="finite"):
        common.plain({"a": math.nan})


def test_the_record_names_machine_versions_and_command(tmp_path: Path) -> None:
    path = common.write(tmp_path / "new", "example", ["--cores", "1", "a b"], 1, {"ratio": 2.0})
    record = json.loads(path.read_text())
    assert path == tmp_path / "new" / "example.json"
    assert record["command"] == "python -m benchmarks.example --cores 1 'a b'"
    assert record["hardware"]["cores"] == 1
    assert {"python", "jax", "numpy"} <= set(record["versions"])
    assert record["results"] == {"ratio": 2.0}


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_count_is_a_positive_integer(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        common.parser("example", "", repeats=3).parse_args([f"--repeats={text}"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: argument --repeats: {text!r} is not an integer >= 1\n"


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: object) -> None:
        raise UsageError("field: bad")

    with pytest.raises(SystemExit) as exit_:
        common.run(main, [])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: field: bad\n"


def test_more_cores_than_there_are_is_refused() -> None:
    cores = common.available_cores()
    with pytest.raises(UsageError, match=f"--cores: {cores + 1} is more than the {cores}"):
        common.keep_to(cores + 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_cores_are_those_of_this_process() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert common.keep_to(1) == 1
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    assert common.keep_to(None) == len(before)
