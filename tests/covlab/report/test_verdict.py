import json
import os
from dataclasses import replace

import numpy as np
import pytest

from covlab.report.verdict import (
    Check,
    Verdict,
    VerdictError,
    check_interval,
    check_value,
    describe_hardware,
    hardware,
    started_at,
    versions,
)
from metrics.intervals import Interval

PASSED = Check("Pass@8 of the tournament", 0.995, (0.991, 0.998), ">= 0.98", True)
FAILED = Check("gap", 0.01, (-0.01, 0.03), "lower end of the interval > 0", False)


def make(**changes: object) -> Verdict:
    verdict = Verdict(
        claim="some_claim",
        source="Coverage Principle, arXiv 2510.15020, Figure 1",
        scale="cpu",
        checks=(PASSED,),
        seeds=(3, 4, 5),
        wall_seconds=12.5,
        hardware={"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "accelerators": []},
        command="python -m experiments.some_claim scale=cpu",
        started="2026-02-03T04:05:06+00:00",
        versions={"python": "3.11.7", "jax": "0.10.2", "covlab": "0.1.0"},
        notes=("One choice.",),
    )
    return replace(verdict, **changes)


def test_written_fields_are_exactly_the_documented_ones(tmp_path):
    path = make(checks=(PASSED, FAILED)).write(tmp_path / "deep" / "verdict.json")
    record = json.loads(path.read_text())
    assert set(record) == {
        "claim", "source", "scale", "holds", "outcome", "checks",
        "seeds", "wall_seconds", "hardware", "command",
        "started", "versions", "notes", "title",
    }  # fmt: skip
    assert record["checks"][1] == {
        "name": "gap", "measured": 0.01, "interval": [-0.01, 0.03], "target": "lower end of the interval > 0",
        "passed": False, "state": "open",
    }  # fmt: skip
    assert record["holds"] is False
    assert record["seeds"] == [3, 4, 5]
    assert os.listdir(path.parent) == ["verdict.json"]


def test_read_returns_what_was_written(tmp_path):
    verdict = make(checks=(PASSED, FAILED))
    assert Verdict.read(verdict.write(tmp_path / "verdict.json")) == verdict


def test_numpy_numbers_become_plain_ones(tmp_path):
    check = Check("x", np.float32(0.5), (np.float64(0.25), np.float64(0.75)), ">= 0.5", np.bool_(True))
    verdict = make(checks=[check], seeds=[0, 1, np.int64(7)], wall_seconds=np.float64(1))
    assert Verdict.read(verdict.write(tmp_path / "v.json")) == verdict
    assert [type(seed) for seed in verdict.seeds] == [int, int, int]
    assert type(check.passed) is bool
    assert type(check.measured) is float


@pytest.mark.parametrize(
    ("checks", "holds"), [((), False), ((PASSED,), True), ((PASSED, FAILED), False), ((FAILED,), False)]
)
def test_holds_needs_every_check_and_at_least_one(checks, holds):
    assert make(checks=checks).holds is holds


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_become_null_and_never_pass(tmp_path, bad):
    measured = Check("a", bad, None, "< 1", True)
    interval = Check("b", 0.5, (bad, bad), "< 1", True)
    assert (measured.measured, measured.passed) == (None, False)
    assert (interval.measured, interval.interval, interval.passed) == (0.5, None, False)
    path = make(checks=(measured, interval)).write(tmp_path / "v.json")
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert Verdict.read(path).checks == (measured, interval)


@pytest.mark.parametrize(
    ("op", "threshold", "on", "passed", "target"),
    [
        (">=", 0.5, "estimate", True, ">= 0.5"),
        (">", 0.5, "estimate", False, "> 0.5"),
        ("<=", 0.5, "estimate", True, "<= 0.5"),
        ("<", 0.5, "estimate", False, "< 0.5"),
        (">", 0.4, "low", False, "lower end of the interval > 0.4"),
        (">=", 0.4, "low", True, "lower end of the interval >= 0.4"),
        ("<", 0.6, "high", False, "upper end of the interval < 0.6"),
        ("<", 1, "high", True, "upper end of the interval < 1"),
        (">", 0.1 + 0.2, "estimate", True, "> 0.30000000000000004"),
    ],
)
def test_check_interval_tests_what_its_text_says(op, threshold, on, passed, target):
    check = check_interval("name", Interval(0.5, 0.4, 0.6), op, threshold, on=on)
    assert check == Check("name", 0.5, (0.4, 0.6), target, passed)


@pytest.mark.parametrize("on", ["estimate", "low", "high"])
@pytest.mark.parametrize(
    ("op", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
    ],
)
def test_a_check_decides_at_its_threshold(on: str, op: str, below: bool, at: bool, above: bool) -> None:
    """The ends of the interval are 1 apart, so that another end than the one asked for decides otherwise."""
    place = {"low": -1.0, "estimate": 0.0, "high": 1.0}[on]
    interval = Interval(0.0, -1.0, 1.0)
    for threshold, passed in ((place + 2**-40, below), (place, at), (place - 2**-40, above)):
        assert check_interval("name", interval, op, threshold, on).passed is passed
        assert check_value("name", place, op, threshold).passed is passed


def test_check_value_has_no_interval():
    assert check_value("violations", 0, "<=", 0) == Check("violations", 0.0, None, "<= 0", True)
    assert not check_value("violations", 1, "<=", 0).passed
    assert not check_value("violations", float("nan"), "<=", 0).passed


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: check_value("a", 1, "==", 1), "target_op: '=='"),
        (lambda: check_value("a", 1, "<", float("nan")), "threshold: nan"),
        (lambda: check_value("a", 1, "<", "1"), "threshold: '1'"),
        (lambda: check_interval("a", Interval(1, 0, 2), "<", 1, on="middle"), "on: 'middle'"),
        (lambda: Check("", 1, None, "< 1", True), "check.name: ''"),
        (lambda: Check("a", 1, None, " ", True), "check.target: ' '"),
        (lambda: Check("a", 1, None, "< 1", 1), "check.passed of 'a': 1"),
        (lambda: Check("a", None, None, "< 1", True), "check.measured of 'a': None"),
        (lambda: Check("a", "1", None, "< 1", True), "check.measured of 'a': '1'"),
        (lambda: Check("a", 1, (2, 1), "< 1", True), "check.interval of 'a': (2.0, 1.0)"),
        (lambda: Check("a", 1, (1,), "< 1", True), "check.interval of 'a': (1,)"),
        (lambda: make(claim=""), "claim: ''"),
        (lambda: make(seeds=8), "seeds: 8"),
        (lambda: make(seeds=(0.5,)), "seeds: (0.5,)"),
        (lambda: make(checks=("x",)), "checks: ('x',)"),
        (lambda: make(notes="One note."), "notes: 'One note.'"),
        (lambda: make(hardware="A CPU"), "hardware: 'A CPU'"),
        (lambda: make(wall_seconds=float("nan")), "wall_seconds: nan"),
        (lambda: make(wall_seconds=-1), "wall_seconds: -1"),
        (lambda: make(started="yesterday"), "started: 'yesterday'"),
    ],
)
def test_bad_values_are_named_in_one_line(call, fragment):
    with pytest.raises(VerdictError) as caught:
        call()
    assert str(caught.value).startswith(fragment)
    assert "valid: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda record: record.pop("scale"), "lacks field(s) scale"),
        (lambda record: record.update(mood="good"), "unknown field(s) mood"),
        (lambda record: record["checks"][0].pop("target"), "lacks field(s) target"),
        (lambda record: record["checks"][0].update(p=1), "unknown field(s) p"),
        (lambda record: record.update(checks={}), "checks: {}"),
        (lambda record: record.update(checks=[1]), "check: 1"),
        (lambda record: record.update(holds=False), "holds: False"),
        (lambda record: record.update(seeds=None), "seeds: None"),
        (lambda record: record["checks"][0].update(measured=None), "check.measured"),
        (lambda record: record["checks"][0].update(measured=float("nan")), "NaN is not strict JSON"),
    ],
)
def test_a_file_that_cannot_be_believed_is_refused_in_one_line(tmp_path, change, fragment):
    path = make().write(tmp_path / "verdict.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(VerdictError) as caught:
        Verdict.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"claim":', b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_verdict_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "verdict.json"
    path.write_bytes(content)
    with pytest.raises(VerdictError, match=r"verdict\.json: ") as caught:
        Verdict.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VerdictError, match=r"absent\.json: No such file"):
        Verdict.read(tmp_path / "absent.json")


def test_started_without_a_zone_is_utc():
    assert started_at("2026-01-01T00:00:00") == started_at("2026-01-01T01:00:00+01:00")
    assert started_at("2026-01-01") == started_at("2026-01-01T00:00:00Z")


def test_hardware_describes_this_machine():
    machine = hardware()
    assert set(machine) == {"cpu", "cores", "memory_gib", "accelerators"}
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert machine["cpu"]
    json.dumps(machine, allow_nan=False)


def test_hardware_in_one_line():
    machine = {"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "accelerators": ["GPU 9", "GPU 9", "GPU 1"]}
    assert describe_hardware(machine) == "A CPU, 2 cores, 8.0 GiB, 2 × GPU 9, 1 × GPU 1"
    assert describe_hardware(machine | {"accelerators": []}) == "A CPU, 2 cores, 8.0 GiB"


def test_versions_name_the_three_packages():
    import jax

    found = versions()
    assert set(found) == {"python", "jax", "covlab"}
    assert found["jax"] == jax.__version__


def test_a_verdict_of_before_titles_is_read(tmp_path):
    path = make(title="A title").write(tmp_path / "verdict.json")
    record = json.loads(path.read_text())
    assert Verdict.read(path).title == "A title"
    del record["title"]
    path.write_text(json.dumps(record))
    assert Verdict.read(path).title == ""


def test_a_title_is_a_text():
    with pytest.raises(VerdictError, match="title: 3; valid: a text"):
        make(title=3)
