"""Rates of alarms, thresholds and areas under curves, against counting."""

import numpy as np
import pytest

from metrics.alarms import area_under_curve, rates, thresholds


def test_rates_count() -> None:
    events = np.array([True, True, True, False, False, False, False])
    alarms = np.array([[True, True, False, True, False, False, False]])
    found = rates(alarms, events, np.ones((1, 7)))
    shares = (found.sensitivity, found.false_alarm_rate, found.precision, found.base_rate)
    np.testing.assert_allclose(np.concatenate(shares), [2 / 3, 1 / 4, 2 / 3, 3 / 7])
    none = rates(np.zeros((1, 7), bool), events, np.ones((1, 7)))
    assert np.isnan(none.precision[0])
    assert none.sensitivity[0] == 0


def test_weights_are_multiplicities() -> None:
    rng = np.random.default_rng(0)
    scores, events = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
    times = rng.integers(0, 4, 30)
    weights = times[None].astype(float)
    many, happened = np.repeat(scores, times), np.repeat(events, times)
    ones = np.ones((1, many.size))
    assert area_under_curve(scores, events, weights) == pytest.approx(area_under_curve(many, happened, ones))
    quiet = ~events
    assert thresholds(scores[quiet], weights[:, quiet], 0.2) == pytest.approx(
        thresholds(many[~happened], ones[:, : (~happened).sum()], 0.2)
    )
    own = rates((scores > 2)[None], events, weights)
    again = rates((many > 2)[None], happened, ones)
    assert own.precision == pytest.approx(again.precision)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5])
def test_a_threshold_is_the_least_that_keeps_the_rate(rate: float) -> None:
    scores = np.random.default_rng(1).integers(0, 9, 40).astype(float)
    (limit,) = thresholds(scores, np.ones((1, 40)), rate)
    assert np.mean(scores > limit) <= rate
    lower = scores[scores < limit]
    if lower.size:
        assert np.mean(scores > lower.max()) > rate


def test_only_the_shares_of_the_weights_count() -> None:
    """Weights far below 1, and all of the weight at one end."""
    events, alarms = np.array([True, True, False]), np.array([[True, False, True]])
    found = rates(alarms, events, np.full((1, 3), 0.01))
    shares = (found.sensitivity, found.false_alarm_rate, found.precision, found.base_rate)
    np.testing.assert_allclose(np.concatenate(shares), [1 / 2, 1, 1 / 2, 2 / 3])
    scores = np.array([1.0, 2.0, 3.0])
    assert thresholds(scores, np.array([[0.0, 0.0, 0.5], [0.5, 0.0, 0.0]]), 0.4).tolist() == [3, 1]


def test_a_threshold_is_never_negative() -> None:
    assert thresholds(np.array([-np.inf, -2.0, -1.0]), np.ones((1, 3)), 0.4)[0] == 0
    assert thresholds(np.array([1.0, 2.0]), np.zeros((1, 2)), 0.4)[0] == np.inf
    assert thresholds(np.zeros(0), np.zeros((2, 0)), 0.4).tolist() == [np.inf, np.inf]
    for rate in (0, 1):
        with pytest.raises(ValueError, match=f"rate: {rate}; valid"):
            thresholds(np.zeros(2), np.ones((1, 2)), rate)


def test_area_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(2)
    scores, events = rng.integers(0, 5, 25).astype(float), rng.random(25) < 0.5
    scores[:5] = -np.inf
    pairs = [(a > b) + (a == b) / 2 for a in scores[events] for b in scores[~events]]
    assert area_under_curve(scores, events, np.ones((1, 25)))[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(area_under_curve(scores, np.zeros(25, bool), np.ones((1, 25)))[0])
