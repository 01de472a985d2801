"""Measurements of `rl_from_checkpoint` by hand and by enumeration, and the law that its targets come from."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from oracles.first_reward import MASSES, by_law

from experiments.rl_from_checkpoint.measure import boundary, concordance


def test_the_boundary_by_hand() -> None:
    """Two starts with pairs of weights .5, .5: middles of the weights at 1/8, 3/8, 5/8 and 7/8."""
    log_ratios, weights = np.array([[3.0, 1.0], [2.0, 6.0]]), np.array([0.5, 0.5])
    assert boundary(log_ratios, weights, 3 / 8) == 2.0
    assert boundary(log_ratios, weights, 0.5) == 2.5
    assert boundary(log_ratios, weights, 0.8125) == 5.25
    assert (boundary(log_ratios, weights, 0.0), boundary(log_ratios, weights, 1.0)) == (1.0, 6.0)
    # Unequal weights: ordered 1 (.45), 2 (.05), 3 (.05), 6 (.45); middles .225, .475, .525, .775.
    assert boundary(log_ratios, np.array([0.1, 0.9]), 0.5) == pytest.approx(2.5)
    assert boundary(log_ratios, np.array([0.1, 0.9]), 0.35) == pytest.approx(1.5)


def test_at_the_boundary_as_many_are_covered_as_are_found() -> None:
    rng = np.random.default_rng(0)
    log_ratios, weights = rng.normal(size=(5, 200)), np.full(200, 1 / 200)
    for share in (0.2, 0.4, 0.8):
        at = boundary(log_ratios, weights, share)
        assert np.mean(log_ratios < at) == pytest.approx(share, abs=1e-3)


def test_concordance_by_hand() -> None:
    found = np.array([True, True, False, False])
    assert concordance(np.array([1.0, 2.0, 3.0, 4.0]), found) == 1
    assert concordance(np.array([4.0, 3.0, 2.0, 1.0]), found) == 0
    assert concordance(np.array([1.0, 3.0, 2.0, 3.0]), found) == (1 + 1 + 0 + 0.5) / 4
    assert math.isnan(concordance(np.array([1.0, 2.0]), np.array([True, True])))


def test_the_expected_share_by_enumeration() -> None:
    """Two prompts of weights .3 and .7, two rollouts of each of three visits: all sequences of prompts."""
    weights, right = np.array([0.3, 0.7]), np.array([0.2, 0.05])
    missed = sum(
        float(np.prod([weights[i] * (1 - right[i]) ** 2 for i in visits]))
        for visits in itertools.product(range(2), repeat=3)
    )
    made = dataclasses.replace(
        by_law(1, np.random.default_rng(0)),
        log_right=np.log(right)[None, None],
        prompt_weights=weights,
        per_visit=2,
        rollouts=(6,),
        budgets=(1,),
    )
    np.testing.assert_allclose(made.expected(), [[[1 - missed]]])


def test_outcomes_predictors_and_choices() -> None:
    made = by_law(1, np.random.default_rng(0))
    start = made.start[0]
    curves = np.repeat(made.curves[..., :1], 3, axis=-1)
    curves[0, :4, 1], curves[0, :6, 2], curves[0, 6, 2] = 0.5, 0.9, 0.49
    made = dataclasses.replace(made, curves=curves)
    assert made.found[0].sum(axis=0).tolist() == [4, 6], "a half is found, less is not"
    predictors = made.predictors()
    assert [values.shape for values in predictors.values()] == [(1, 12, 2)] * 5
    # Masses above 1/400 and 1/3200 for all four pairs, whose ratios reach e^.3 about the start's.
    covered = [int(np.sum(MASSES * math.exp(-0.3) > 1 / n)) for n in (400, 3200)]
    assert [int(np.sum(made.matched[0, :, i] == 0)) for i in range(2)] == covered
    assert made.least_entropy().tolist() == [11]
    assert made.least_coverage(3200).tolist() == [covered[1] - 1]
    np.testing.assert_allclose(predictors["1 - Pass@1 on the prompts of RL"][0, :, 1], 1 - start)
    np.testing.assert_allclose(predictors["KL on the prompts of RL"][0, :, 0], -np.log(MASSES))
    # Right about all but those between what is covered and what was found.
    wrong = sum(abs(int(np.sum(made.matched[0, :, i] < 0.5)) - (4, 6)[i]) for i in range(2))
    np.testing.assert_allclose(made.right(made.matched < 0.5), 1 - wrong / 24)


def test_the_law_that_the_targets_come_from() -> None:
    """log10(N*/R) about .25 with a standard deviation of .56, and nine of ten runs told rightly."""
    made = by_law(4000, np.random.default_rng(1))
    off = (made.boundaries - np.log(made.rollouts)) / math.log(10)
    np.testing.assert_allclose(off.mean(axis=0), 0.577 / math.log(10), atol=0.05)
    np.testing.assert_allclose(off.std(axis=0), math.pi / math.sqrt(6) / math.log(10), atol=0.06)
    assert made.right(made.matched < 0.5).mean() == pytest.approx(0.92, abs=0.015)
    assert (made.right(made.coverage(8)[..., None].repeat(2, axis=-1) < 0.5)).mean() < 0.7
