"""Compiled decoders against exact laws, with delayed values and dead ends."""

import math

import numpy as np
import pytest

from decoding import VGB, ActionRejection
from decoding.analytic_values import Delayed
from tasks.delay import Delay
from tasks.parity import Parity
from theory.vgb.laws import UNLIMITED, chi_square, decoders, expected_queries, goodness_of_fit, sample
from theory.vgb.typed_trees import action_level_moves, first_leaf_steps, leaf_probability, parity_tree

PARITY = Parity(length=6, block=2)
CHAINS = 2000


@pytest.mark.slow
def test_responses_follow_the_exact_laws() -> None:
    task = Delay(length=4, tilt=1.5)
    methods = decoders(32)
    found = {name: sample(task, Delayed(task), each, CHAINS, 41, name) for name, each in methods.items()}
    fit = goodness_of_fit(task, Delayed(task), found, 32)
    assert min(each.law for each in fit.values()) > 1e-3
    # Neither of the two that are biased passes for the target.
    assert max(fit["action level"].target, fit["first leaf"].target) < 1e-6


@pytest.mark.slow
def test_the_action_level_dies_and_pays_as_computed() -> None:
    moves = action_level_moves(parity_tree(6, 2))
    drawn = sample(PARITY, Delayed(PARITY), ActionRejection(budget=UNLIMITED), CHAINS, 42, "parity")
    success = leaf_probability(moves)
    share = drawn.decoded.finished.mean()
    assert abs(share - success) < 4 * math.sqrt(success * (1 - success) / CHAINS)
    assert np.array_equal(drawn.decoded.reward, drawn.decoded.finished)
    error = (drawn.queries.high - drawn.queries.low) / 4
    assert abs(drawn.queries.estimate - expected_queries(moves, 2)) < 4 * error


@pytest.mark.slow
def test_vgb_ends_on_parity_at_the_cost_of_its_exact_number_of_steps() -> None:
    walk = VGB(budget=UNLIMITED, stop="first_leaf", steps=UNLIMITED, runs=1, laziness=0.0)
    drawn = sample(PARITY, Delayed(PARITY), walk, CHAINS, 43, "parity")
    assert drawn.decoded.reward.min() == 1
    bits = drawn.decoded.responses[0] - 1
    counts = np.bincount(bits[:, ::2] @ np.array([4, 2, 1]), minlength=8)
    assert chi_square(counts, np.full(8, 1 / 8)) > 1e-3
    # Two queries a node expanded: one at the root, and at most one a move down to an inner node.
    moves_down = (first_leaf_steps(parity_tree(6, 2)) / 2 + 6) / 2 - 1
    assert 12 <= drawn.queries.low < drawn.queries.high <= 2 * (1 + moves_down)
