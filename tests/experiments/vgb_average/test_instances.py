"""Trees, trained values and measurements of `vgb_average` against closed forms and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from decoding.exact import action_level_law, target_law
from experiments.vgb_average.instances import (
    exact_tree,
    mean_reward,
    trained_table,
    with_table,
    zeros_of,
)
from experiments.vgb_average.measure import Settings, measure_values
from tasks import numpy_stream
from theory.vgb.average_case import few_children_law
from theory.vgb.typed_trees import count_law, delay_tree


def test_values_of_the_exact_tree_have_a_closed_form() -> None:
    tree, tilt = exact_tree(5, 0.7), 0.7
    for h, (value, zeros) in enumerate(zip(tree.values, zeros_of(5), strict=True)):
        np.testing.assert_allclose(value, np.exp(-tilt * zeros) * ((1 + np.exp(-tilt)) / 2) ** (5 - h))
    assert mean_reward(5, tilt) == pytest.approx(tree.values[0][0])
    zeros = zeros_of(5)[-1]
    counted = np.bincount(zeros, target_law(tree), minlength=6)
    np.testing.assert_allclose(counted, count_law(delay_tree(5, tilt).target, 0), atol=1e-12)


def test_the_table_is_the_regression_written_out() -> None:
    horizon, tilt, rollouts = 4, 1.0, 30
    table = trained_table(horizon, tilt, rollouts, numpy_stream(7, "test"))
    zero = numpy_stream(7, "test").random((rollouts, horizon)) < 0.5
    rewards = [np.exp(-tilt * row.sum()) for row in zero]
    for h in range(horizon):
        for z in range(horizon + 1):
            passing = [r for row, r in zip(zero, rewards, strict=True) if row[:h].sum() == z]
            expected = (sum(passing) + np.mean(rewards)) / (len(passing) + 1)
            assert table[h, z] == pytest.approx(expected)


def test_many_rollouts_give_the_exact_values() -> None:
    tree = exact_tree(4, 1.0)
    table = trained_table(4, 1.0, 400_000, numpy_stream(8, "test"))
    values = with_table(tree, table)
    for h in range(1, 4):
        np.testing.assert_allclose(values.values[h], tree.values[h], rtol=0.03)
    np.testing.assert_array_equal(values.values[-1], tree.values[-1])


def test_exact_values_leave_no_error() -> None:
    tree = exact_tree(4, 1.0)
    own = measure_values(tree, tree, Settings(horizons=(3, 4, 5), steps=(1, 8)))
    assert own.over == pytest.approx(1)
    assert own.under == pytest.approx(1)
    assert own.uniform == pytest.approx(1)
    assert own.leaf_mass == pytest.approx(1 / 8)
    assert own.way_back == pytest.approx(32)
    assert own.action.kl == pytest.approx(0, abs=1e-12)
    assert own.first.variation == pytest.approx(0, abs=1e-12)
    assert own.first_steps == pytest.approx(32)
    assert own.samples in (6, 7)  # 2 ln 20 = 5.99, times P_T(leaf)/m
    assert own.walks[0].shortfall <= own.way_back / own.walks[0].steps


def test_measured_divergences_are_those_of_the_definition() -> None:
    tree = exact_tree(4, 1.0)
    values = with_table(tree, trained_table(4, 1.0, 20, numpy_stream(9, "test")))
    own = measure_values(tree, values, Settings(horizons=(3, 4, 5)))
    target, law = target_law(tree), action_level_law(values)
    assert own.action.kl == pytest.approx(float(np.sum(target * np.log(target / law))))
    assert own.action.variation == pytest.approx(float(np.abs(target - law).sum() / 2))


def test_few_children_with_exact_values_write_independent_letters() -> None:
    """One letter's odds at the root and one at any other node decide the whole law."""
    horizon, children, tilt = 3, 4, 1.0
    law = few_children_law(exact_tree(horizon, tilt), children).reshape((2,) * horizon)
    values = 2 * np.array([np.exp(-tilt), 1.0]) / (1 + np.exp(-tilt))
    counts = np.arange(children + 1)
    drawn = np.array([1, 4, 6, 4, 1]) / 16
    odds = []
    for back in (0.0, children):
        zero, one = counts * values[0], (children - counts) * values[1]
        odds.append(np.sum(drawn * zero / (zero + one + back)) / np.sum(drawn * one / (zero + one + back)))
    # The last letter's odds carry no further factor, because both leaves go back at the same rate.
    for letter, expected in enumerate((odds[0], odds[1], odds[1])):
        axes = tuple(axis for axis in range(horizon) if axis != letter)
        zero, one = law.sum(axis=axes)
        assert zero / one == pytest.approx(expected)


def test_kl_of_few_children_with_exact_values_is_linear_in_the_horizon() -> None:
    found = []
    for horizon in (3, 4, 5):
        tree = exact_tree(horizon, 1.0)
        target = target_law(tree)
        found.append(float(target @ np.log(target / few_children_law(tree, 256))))
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-6)
    # The first letter counts for four.
    assert found[0] / (found[1] - found[0]) == pytest.approx(3 + 3, rel=0.02)
