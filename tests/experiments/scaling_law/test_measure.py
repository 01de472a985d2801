"""The claim's measurements against plain sums."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.best_of_n import worst_set_loss

from covlab.claims.claim import Study
from experiments.scaling_law.checks import checks
from experiments.scaling_law.measure import Settings, measure, needed, shares
from theory.scaling_law import even_pair, random_pair
from tracking import Progress


def test_shares_are_losses_of_all_sets_over_the_kl() -> None:
    pair = random_pair(np.random.default_rng(3), 4, 3)
    found = shares(pair, (2, 16))
    for n, share in zip((2, 16), found, strict=True):
        loss = sum(
            mu * worst_set_loss(target, model, n)
            for mu, target, model in zip(
                pair.prompts.tolist(), pair.target.tolist(), pair.model.tolist(), strict=True
            )
        )
        r = share * pair.divergence / loss
        assert (math.exp(r) - 1) / r == pytest.approx(n)


def test_a_pair_of_equal_ratios_needs_a_logarithm_of_eps() -> None:
    """(1 - 1/8)^N <= .05 at N = ln .05/ln .875 = 22.4; the other KL gives the answer half of the time."""
    assert needed(even_pair(math.log(8)), 0.05) == 23
    assert needed(even_pair(math.log(2)), 0.05) == 5


def test_a_tiny_measurement_agrees_with_the_law(tiny_settings: Callable[[str], Settings]) -> None:
    found = measure(tiny_settings("scaling_law"), Study({}, Progress(), Path()))
    np.testing.assert_allclose(found.law, [(math.exp(r) - 1) / r for r in (4, 8, 16)])
    np.testing.assert_array_equal(found.needed[0, :2], np.ceil(found.law[:2]))
    assert {name: values.shape for name, values in found.shares.items()} == {
        "bits, one prompt": (32, 2),
        "softmax, one prompt": (64, 2),
        "bits, 3 prompts": (32, 2),
        "softmax, 3 prompts": (64, 2),
    }
    names = {check.name for check in checks(found) if not check.passed}
    assert not names or names == {"bits: worst loss over KL/r(N), largest"}
