"""Lowest and highest values against a stable sort, ties included."""

import jax
import numpy as np
import pytest

from tasks.ordering import highest, lowest


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("kinds", [2, 5, 1000])
def test_both_ends_are_a_stable_sorts(count: int, kinds: int) -> None:
    rng = np.random.default_rng(kinds)
    values = rng.integers(0, kinds, (30, 40)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.inf
    values[rng.random(values.shape) < 0.2] = -1.0
    order = np.argsort(values, axis=1, kind="stable")
    np.testing.assert_array_equal(jax.vmap(lambda row: lowest(row, count))(values), order[:, :count])
    np.testing.assert_array_equal(jax.vmap(lambda row: highest(row, count))(values), order[:, -count:])
