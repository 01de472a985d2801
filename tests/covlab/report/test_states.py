"""Three states of a check and of a claim, and the number of seeds that would decide."""

import json

import numpy as np
import pytest
from scipy import stats

from covlab.report.states import Target, check_state, needed_seeds, parse_target
from covlab.report.verdict import Check, Verdict, VerdictError, check_interval, check_value, open_text
from metrics.intervals import Interval, mean_interval


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("on", ["estimate", "low", "high"])
@pytest.mark.parametrize("threshold", [0, -0.25, 1e-7, 16384])
def test_targets_are_read_as_they_are_written(operator, on, threshold):
    check = check_interval("name", Interval(0.0, -1.0, 1.0), operator, threshold, on)
    assert parse_target(check.target) == Target(operator, threshold)


@pytest.mark.parametrize("text", ["", "about 3", "> many", "middle of the interval > 0", "> 0 or so"])
def test_free_words_are_no_target(text):
    assert parse_target(text) is None


@pytest.mark.parametrize(
    ("interval", "target", "state"),
    [
        ((0.1, 0.3), "lower end of the interval > 0", "passed"),
        ((-0.1, 0.3), "lower end of the interval > 0", "open"),
        ((-0.3, -0.1), "lower end of the interval > 0", "failed"),
        # At equality the threshold itself is excluded by > and allowed by >=.
        ((-0.3, 0.0), "lower end of the interval > 0", "failed"),
        ((-0.3, 0.0), "lower end of the interval >= 0", "open"),
        ((0.0, 0.3), "upper end of the interval < 0", "failed"),
        ((0.0, 0.3), "upper end of the interval <= 0", "open"),
        ((0.1, 0.3), "upper end of the interval <= 0", "failed"),
        # A target of the estimate: open as long as an end reaches it.
        ((-0.3, 0.1), "> 0", "open"),
        ((-0.3, -0.1), "> 0", "failed"),
        ((-0.3, 0.1), "a target in free words", "open"),
    ],
)
def test_state_of_an_interval(interval, target, state):
    middle = sum(interval) / 2
    assert check_state(state == "passed", middle, interval, target) == state
    assert Check("name", middle, interval, target, state == "passed").state == state


def test_an_exact_number_fails_and_a_missing_one_is_open():
    assert check_value("name", 1.0, "<", 1).state == "failed"
    assert check_value("name", 0.5, "<", 1).state == "passed"
    assert check_value("name", float("nan"), "<", 1).state == "open"
    assert check_value("name", float("-inf"), "<", 1).state == "open"


def made(*checks: Check, seeds=(0, 1, 2, 3)) -> Verdict:
    return Verdict(
        "toy", "a paper", "cpu", checks, seeds, 1.0, {}, "python -m toy", "2026-01-01", {"python": "3.11"}
    )


PASSED = check_value("a", 0.5, "<", 1)
FAILED = check_value("b", 1.5, "<", 1)
OPEN = check_interval("c", Interval(0.1, -0.1, 0.3), ">", 0, "low")


@pytest.mark.parametrize(
    ("checks", "outcome"),
    [
        ((), "open"),
        ((PASSED,), "holds"),
        ((PASSED, OPEN), "open"),
        ((PASSED, OPEN, FAILED), "refuted"),
        ((FAILED,), "refuted"),
    ],
)
def test_outcome_of_a_claim(checks, outcome):
    verdict = made(*checks)
    assert (verdict.outcome, verdict.holds) == (outcome, outcome == "holds")
    assert verdict.refuted_by == tuple(check for check in checks if check is FAILED)


def test_needed_seeds_by_hand():
    """n = 4 seeds with s = 1 and mean .5: the half-width is t_{.975, 3} / 2. A search by hand over m."""
    half = stats.t.ppf(0.975, 3) / 2
    needed = needed_seeds(0.5, (0.5 - half, 0.5 + half), "lower end of the interval > 0", 4)
    by_hand = next(
        m for m in range(2, 200) if (stats.t.ppf(0.975, m - 1) + stats.t.ppf(0.8, m - 1)) / np.sqrt(m) <= 0.5
    )
    assert needed == by_hand == 34
    # Another threshold at the same distance needs as many, half the distance about four times as many.
    assert needed_seeds(0.5, (0.5 - half, 0.5 + half), "upper end of the interval < 1", 4) == 34
    assert needed_seeds(0.5, (0.5 - half, 0.5 + half), "> 0.25", 4) == pytest.approx(4 * 34, rel=0.08)


def test_that_many_seeds_decide_with_a_probability_of_four_fifths():
    rng = np.random.default_rng(5)
    half = stats.t.ppf(0.975, 3) / 2
    needed = needed_seeds(0.5, (0.5 - half, 0.5 + half), "lower end of the interval > 0", 4)
    lows = [mean_interval(rng.normal(0.5, 1.0, needed)).low for _ in range(2000)]
    share = np.mean(np.array(lows) > 0)
    assert 0.77 <= share <= 0.84  # .8, 4 standard errors below and the exact power's .81 above


@pytest.mark.parametrize(
    ("measured", "interval", "target", "seeds"),
    [
        (None, (0.0, 1.0), "> 0", 4),
        (0.5, None, "> 0", 4),
        (0.5, (0.0, 1.0), "free words", 4),
        (0.5, (0.0, 1.0), "> 0", 1),
        (0.0, (-1.0, 1.0), "> 0", 4),
    ],
)
def test_where_no_number_of_seeds_can_be_said(measured, interval, target, seeds):
    assert needed_seeds(measured, interval, target, seeds) is None


def test_the_claim_asks_for_the_most_seeds_of_its_open_checks():
    near = check_interval("d", Interval(0.05, -0.15, 0.25), ">", 0, "low")
    counts = [needed_seeds(c.measured, c.interval, c.target, 4) for c in (OPEN, near)]
    assert counts[0] < counts[1] == made(PASSED, OPEN, near).seeds_to_decide
    assert f"2 checks are open; with the present spread {counts[1]} seeds" in open_text(made(OPEN, near))
    assert made(PASSED).seeds_to_decide is None
    assert open_text(made(PASSED)) == ""
    undecidable = check_interval("e", Interval(0.0, -1.0, 1.0), ">", 0, "low")
    assert made(OPEN, undecidable).seeds_to_decide is None
    assert "may not decide them" in open_text(made(OPEN, undecidable))


def test_files_from_before_are_read_and_contradictions_refused(tmp_path):
    verdict = made(PASSED, OPEN, FAILED)
    path = verdict.write(tmp_path / "verdict.json")
    record = json.loads(path.read_text())
    assert record["outcome"] == "refuted"
    assert [check["state"] for check in record["checks"]] == ["passed", "open", "failed"]
    assert Verdict.read(path) == verdict

    old = {key: value for key, value in record.items() if key != "outcome"}
    old["checks"] = [
        {key: value for key, value in check.items() if key != "state"} for check in record["checks"]
    ]
    path.write_text(json.dumps(old))
    assert Verdict.read(path) == verdict

    path.write_text(json.dumps(record | {"outcome": "holds"}))
    with pytest.raises(VerdictError, match="outcome: 'holds'; valid: refuted"):
        Verdict.read(path)
    record["checks"][1]["state"] = "failed"
    path.write_text(json.dumps(record))
    with pytest.raises(VerdictError, match=r"check\.state of 'c': 'failed'; valid: open"):
        Verdict.read(path)
