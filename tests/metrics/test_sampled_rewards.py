"""Best-of-N from samples, against all subsets."""

import itertools

import numpy as np
import pytest

from metrics import best_of_n, best_of_n_interval, mean_interval, pass_at_n, pass_at_n_unbiased


def test_it_is_the_mean_over_all_subsets() -> None:
    rewards = np.random.default_rng(0).normal(size=(2, 3, 7))
    found = best_of_n(rewards, range(1, 8))
    assert found.shape == (2, 3, 7)
    for n in range(1, 8):
        subsets = [rewards[..., list(rows)].max(axis=-1) for rows in itertools.combinations(range(7), n)]
        np.testing.assert_allclose(found[..., n - 1], np.mean(subsets, axis=0))


def test_with_0_and_1_it_is_pass_at_n() -> None:
    rewards = (np.random.default_rng(1).random((50, 300)) < 0.02).astype(float)
    ns = (1, 4, 32, 300)
    expected = pass_at_n_unbiased(300, rewards.sum(axis=1).astype(int), ns)
    np.testing.assert_allclose(best_of_n(rewards, ns), expected, atol=1e-12)


def test_the_interval_covers_the_closed_form() -> None:
    rewards = (np.random.default_rng(2).random((400, 64)) < 0.1).astype(float)
    interval = best_of_n_interval(rewards, 8, confidence=0.999)
    exact = pass_at_n(np.log(0.1), (8,))[0]
    assert interval.low < exact < interval.high
    assert interval == mean_interval(best_of_n(rewards, (8,))[:, 0], 0.999)
    # Narrow enough to tell N from its neighbour.
    assert not interval.low < pass_at_n(np.log(0.1), (7,))[0] < interval.high


@pytest.mark.parametrize(
    ("rewards", "ns", "message"),
    [
        (np.zeros((2, 0)), (1,), "reward: shape"),
        (np.array([1.0, np.nan]), (1,), "reward: contains"),
        (np.zeros(3), (4,), "ns: contains 4; valid: at most the number of samples, 3"),
        (np.zeros(3), (1.5,), "ns: contains 1.5"),
    ],
)
def test_bad_input_is_refused(rewards: np.ndarray, ns: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_of_n(rewards, ns)
