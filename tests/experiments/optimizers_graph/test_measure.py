"""Measurements of the update-rule claim on curves whose answer is known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from covlab.claims.trained import mean_over_steps
from experiments.optimizers_graph.measure import (
    Curves,
    at_first_reach,
    choose_n,
    choose_place,
    coarseness,
    levels_from,
    over_seeds,
    trend,
)
from experiments.optimizers_graph.rules import Place

# Interpolation.


def test_a_value_is_read_where_the_loss_first_falls_to_a_level() -> None:
    kl = np.array([8.0, 4.0, 2.0, 3.0, 1.0])
    values = np.array([1.0, 0.8, 0.4, 0.6, 0.0])
    found = at_first_reach(kl, values, np.array([6.0, 4.0, 3.0, 2.0, 1.5, 1.0]))
    # 3 is passed at once between 4 and 2, and again later; 1.5 lies between 3 and 1.
    np.testing.assert_allclose(found, [0.9, 0.8, 0.6, 0.4, 0.15, 0.0])


def test_a_level_that_is_not_reached_or_lies_above_the_start_has_no_value() -> None:
    found = at_first_reach(np.array([2.0, 1.0]), np.array([0.5, 0.2]), np.array([3.0, 2.0, 0.5]))
    assert np.isnan(found).all()


def test_levels_begin_at_the_given_one_and_end_a_tenth_above() -> None:
    np.testing.assert_allclose(levels_from(2.0, 3), [2.0, 2.0 * math.sqrt(1.1), 2.2])
    np.testing.assert_allclose(levels_from(2.0, 1), [2.0])


def test_a_mean_over_the_iterates_is_the_area_below_the_curve() -> None:
    # Trapezoids of width 2, 4 and 4: 2 * .75 + 4 * .25 + 4 * 0.
    values = np.array([[1.0, 0.5, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]])
    np.testing.assert_allclose(mean_over_steps(np.array([0, 2, 6, 10]), values), [0.25, 0.3])


def test_seeds_without_a_value_are_left_out_and_two_are_needed() -> None:
    # Student's interval over 1 and 3: 2 +- 12.706.
    found = over_seeds(np.array([1.0, np.nan, 3.0]))
    np.testing.assert_allclose((found.estimate, found.high - 2.0), (2.0, 12.7062), rtol=1e-5)
    assert math.isnan(over_seeds(np.array([1.0, np.nan])).estimate)
    gaps = np.array([[0.0, 0.1, 0.2], [np.nan, 5.0, 0.0], [1.0, 1.1, 1.2]])
    np.testing.assert_allclose(trend((4, 8, 16), gaps).estimate, 0.1)
    assert math.isnan(trend((4, 8, 16), gaps[:2]).low)


# Places.


def falling(kl: Sequence[float], slopes: dict[float, float], seeds: int = 4) -> Curves:
    """Every seed's KL is `kl`, and its Cov_n `slopes[n]` times that, at most 1."""
    values = np.tile(np.array(kl), (seeds, 1))
    cov = {n: np.clip(slope * values, 0, 1) for n, slope in slopes.items()}
    return Curves(np.arange(len(kl)), values, cov, {})


def test_the_place_is_the_lowest_at_which_every_rule_has_room() -> None:
    # From 16 nats to 1 by a factor of 1.25 an evaluation.
    kl = [16 / 1.25**i for i in range(12)] + [1.0]
    # The lowest candidate is 1.1 nats, and its levels end at 1.21; then 1.31, 1.56, ...
    slopes = {2.0: 1.0, 4.0: 0.45, 8.0: 0.2}
    assert choose_place({"sgd": falling(kl, slopes)}, 3) == Place(4.0, 1.1)
    # Beside a rule that stops at 1.5 nats the first candidates are 1.65, where Cov_4 is .74 to .82 and Cov_8
    # .33 to .36, and 1.96, where Cov_8 is .39 to .43.
    slow = falling([max(each, 1.5) for each in kl], slopes)
    assert choose_place({"sgd": falling(kl, slopes), "muon": slow}, 3) == Place(8.0, 1.96)
    # Where no N fits at any candidate, the one that strays least: Cov_4 is largest at the last.
    steep = {2.0: 10.0, 4.0: 0.02}
    assert choose_place({"sgd": falling([4.0, 3.0, 1.0], steep)}, 3) == Place(4.0, 3.11)


def test_a_place_is_where_evaluations_are_close() -> None:
    # From 8 to 4 by a factor of 1.26 an evaluation, then at once to 1: at every candidate below 4 nats KL
    # falls by a factor of 4. The first above is 1.1 * 2^(8/4) = 4.4, where Cov_8 is .44.
    jump = falling([8.0, 6.35, 5.04, 4.0, 1.0], {4.0: 0.45, 8.0: 0.1})
    assert choose_place({"sgd": jump}, 1) == Place(8.0, 4.4)
    np.testing.assert_allclose(coarseness({"sgd": jump}, np.array([1.1, 4.4])), (4 + 1.26) / 2)


def test_a_quarter_of_the_seeds_may_stay_above_the_place() -> None:
    stuck = falling([16.0, 8.0, 4.0, 2.0, 1.3, 1.0], {4.0: 0.45})
    stuck.kl[0, 1:] = 12.0
    assert choose_place({"sgd": stuck}, 3).kl == 1.1
    stuck.kl[1, 1:] = 12.0
    assert choose_place({"sgd": stuck}, 3).kl == 13.2
    stuck.kl[:2, 1:] = 16.0
    with pytest.raises(ValueError, match=r"^kl: 17\.6 nats at best, where a run begins at 16; valid: lower"):
        choose_place({"sgd": stuck}, 3)


def test_the_n_after_equal_steps_is_that_at_which_sgd_is_nearest_a_half() -> None:
    # KL falls from .8 to .4 over the first half: its mean is .5, which Cov_4 and Cov_8 are .9 and .5 times;
    # that of Cov_2, at most 1, is .85.
    curves = falling([0.8, 0.4, 0.4], {2.0: 2.0, 4.0: 0.9, 8.0: 0.5})
    np.testing.assert_allclose(mean_over_steps(curves.steps, curves.cov[4.0]), 0.45)
    assert choose_n(curves) == 4.0
    # Of equal ones the smaller.
    assert choose_n(falling([0.5, 0.5], {16.0: 1.0, 2.0: 1.0})) == 2.0


def test_a_trend_is_by_doubling_of_the_length_and_paired_by_seed() -> None:
    lengths = (4, 8, 16)
    gaps = np.array([[0.0, 0.1, 0.2], [1.0, 1.1, 1.2]])
    found = trend(lengths, gaps)
    # The seeds' levels differ, their slopes do not.
    np.testing.assert_allclose((found.estimate, found.low, found.high), 0.1)
