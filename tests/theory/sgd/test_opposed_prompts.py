"""The lower-bound family: known answers, the features of the task, steps of the general rules."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from theory.sgd.family import SGDFamily, letters_start, letters_token_law
from theory.sgd.opposed_prompts import (
    Family,
    slope_coverage,
    slope_law,
    slope_steps,
    spike_steps,
)
from theory.sgd.rare_prompts import kept_tokens


@pytest.mark.parametrize(("horizon", "visits"), [(256, 9), (512, 20), (1024, 41), (4096, 166)])
def test_visits_that_sgd_needs_at_the_largest_step_of_the_small_step_instance(
    horizon: int, visits: int
) -> None:
    """Computed independently: B' = 25, B = 625, N = 16, eta = 8/(HB)."""
    family = Family(horizon, inner=25.0, plus=1.0, target=0.5)
    step = np.array([8 / (horizon * family.bound)])
    needed = slope_steps(family, "sequence", step, 4, np.random.default_rng(0), 400).fixed
    np.testing.assert_array_equal(needed, visits)


def test_sgd_flips_for_ever_on_its_own_spike_and_truncated_steps_do_not() -> None:
    family = Family(256, inner=25.0)
    flipping = np.array([8.0, 16.0, 64.0]) / (family.horizon * family.bound)
    assert np.all(np.isinf(spike_steps(family, "sequence", flipping, 4)))
    assert np.all(spike_steps(family, "sequence", flipping[:1] / 32, 4) <= 4)
    assert np.all(spike_steps(family, "truncated", np.array([2.0**-7, 2.0**-8]), 4) < 40)
    assert np.all(spike_steps(family, "token", np.array([1 / (2 * family.bound)]), 4, 3) == 1)


def test_family_is_the_tasks() -> None:
    family, task = Family(256, inner=25.0), SGDFamily(256, 25.0, 625.0)
    assert family.start == pytest.approx(letters_start(task, family.n))
    one, zero, mean = slope_law(np.array([12.5, -3.0]))
    expected = letters_token_law(task)
    assert np.exp([zero[0], one[0]]) == pytest.approx(expected[1:])
    assert mean[0] == pytest.approx(expected @ [-1, 0, 1])
    assert mean[1] == pytest.approx((math.exp(-3) - math.exp(3)) / (math.exp(-3) + 1 + math.exp(3)))
    e = 20.0
    a = e / (2 * (e - 1))
    found = np.asarray(task.tokens(jnp.float32(e / (256 * 625)))) / 625
    np.testing.assert_allclose(
        found, [[a, -math.sqrt(1 - a * a)], [1, 0], [a, math.sqrt(1 - a * a)]], atol=1e-5
    )


def test_coverage_of_a_slope_is_that_of_counted_zeros() -> None:
    family = Family(50, inner=4.0)
    truth = slope_law(np.asarray(2.0))
    for u in (0.5, 1.6, 1.9, 2.0, 2.5):
        own = slope_law(np.asarray(u))
        counts = np.arange(51)
        ratios = (50 - counts) * (truth[0] - own[0]) + counts * (truth[1] - own[1])
        chance = stats.binom.pmf(counts, 50, math.exp(truth[1]))
        expected = chance[ratios >= math.log(16) - 1e-12].sum()
        assert slope_coverage(family, np.array([u]))[0] == pytest.approx(expected, abs=1e-9)


def test_kept_tokens_are_the_sum_of_the_weights() -> None:
    np.testing.assert_allclose(
        kept_tokens(np.array([0.0, 0.1, 0.5, 300.0]), 10, 2.0), [10, 10, 4, 2 / 300], rtol=1e-12
    )


def test_a_token_at_a_time_and_test_time_training() -> None:
    family = Family(64, inner=12.0, plus=0.5)
    found = slope_steps(family, "token", np.array([2.0**-7, 2.0**-9]), 6, np.random.default_rng(0), 200)
    assert found.running is not None
    assert np.all(found.running <= found.fixed)
    assert np.all(np.isfinite(found.fixed))
    # Steps that fail elsewhere are not run.
    elsewhere = np.array([3.0, np.inf])
    part = slope_steps(
        family, "truncated", np.array([2.0**-6, 1.0]), 3, np.random.default_rng(0), 50, elsewhere
    )
    assert np.all(np.isinf(part.fixed[1]))
    assert np.all(np.isfinite(part.fixed[0]))
