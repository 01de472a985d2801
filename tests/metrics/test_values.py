"""Metrics of value functions by hand."""

from typing import Any

import numpy as np
import pytest
from oracles.toy import ToyTask

from metrics.evaluators import make_held_out
from metrics.values import ValueEvaluator, calibration_error


def test_calibration_error_by_hand() -> None:
    values, rewards = np.array([0.12, 0.18, 0.85, 0.95, 1.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    # Bin [.1, .2): 2/5 |.5 - .15|; bin [.8, .9): 1/5 |1 - .85|; bin [.9, 1]: 2/5 |.5 - .975|. The signs
    # differ, so that other bins would give another sum.
    expected = 0.4 * 0.35 + 0.2 * 0.15 + 0.4 * 0.475
    for weight in (0.2, 0.6):
        found = calibration_error(values, rewards, np.full(5, weight))
        assert found == pytest.approx(expected), "weights count by their shares"


def test_a_rollouts_positions_share_its_weight_and_padding_has_none() -> None:
    held_out = make_held_out(ToyTask(), 1, 2, 0)
    assert held_out.groups.tolist() == [0, 1]
    scores: dict[str, Any] = {
        "value": np.array([[[0.5, 1.0]], [[0.25, 0.9]]]),
        "reward": np.array([[[1.0, 1.0]], [[0.0, 0.0]]]),
        "mask": np.array([[[True, True]], [[True, False]]]),
        "exact": np.array([[[0.5, 0.5]], [[0.25, 0.0]]]),
    }
    found = dict(ValueEvaluator().reduce(scores, held_out))
    # Weights: easy .9, half of it at each position; hard .1 at its one real position.
    error = 0.45 * 0.25 + 0.45 * 0.0 + 0.1 * 0.0625
    assert found["squared_error"] == pytest.approx(error)
    assert found["reward"] == pytest.approx(0.9)
    assert found["excess"] == pytest.approx(error - 0.09)
    assert found["bias"] == pytest.approx(0.45 * -0.5 + 0.1 * 0.25)
    assert found["rmse"] == pytest.approx(np.sqrt(0.45 * 0.25))
    assert found["easy/squared_error"] == pytest.approx(0.125)
    assert found["hard/rmse"] == pytest.approx(0.0)
