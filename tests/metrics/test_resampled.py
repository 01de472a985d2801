"""Tables of tournaments in one pass, and choices over resamples, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metrics import simple_tournament, tournament_matrices_of
from metrics.rank_correlation import spearman_interval
from metrics.resampled import Bootstrap, bootstrap_lowest, bootstrap_tournament


def plain_matrix(log_probs: np.ndarray, n: float, weights: np.ndarray) -> list[list[float]]:
    """Cov^_N by a loop over pairs and examples."""
    rows = []
    for i, pi in enumerate(log_probs):
        row = []
        for j, other in enumerate(log_probs):
            total = 0.0
            for a, b, w in zip(other, pi, weights, strict=True):
                ratio = 0.0 if a == b else a - b
                total += w if i != j and ratio >= math.log(n) - 1e-5 else 0.0
            row.append(total / weights.sum())
        rows.append(row)
    return rows


@pytest.mark.parametrize("weighted", [False, True])
def test_the_matrices_are_those_of_a_plain_loop(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several blocks, of which the last is not full.
    monkeypatch.setattr("metrics.pairwise._BLOCK", 7)
    rng = np.random.default_rng(0)
    log_probs = -rng.exponential(2, (5, 40)).round(1)
    log_probs[rng.random((5, 40)) < 0.1] = -math.inf
    weights = rng.integers(1, 4, 40).astype(float) if weighted else None
    found = tournament_matrices_of(log_probs, (1, 2, 5.7), weights)
    for matrix, n in zip(found, (1, 2, 5.7), strict=True):
        expected = plain_matrix(log_probs, n, np.ones(40) if weights is None else weights)
        np.testing.assert_allclose(matrix, expected, atol=1e-14)
    assert tournament_matrices_of(log_probs[:1], (2,)).tolist() == [[[0.0]]]


@pytest.mark.parametrize("tie_break", ["min_cross_entropy", "latest"])
def test_every_resample_is_a_tournament(tie_break: str) -> None:
    """The same resamples, drawn by the same generator, with `simple_tournament` on each."""
    log_probs = -np.random.default_rng(1).exponential(2, (4, 30))
    log_probs[2, 3] = -math.inf
    found = bootstrap_tournament(log_probs, 2.0, np.random.default_rng(5), 60, tie_break)
    rng, times = np.random.default_rng(5), np.zeros(4, int)
    for _ in range(60):
        drawn = rng.integers(30, size=30)
        times[simple_tournament(log_probs[:, drawn], 2.0, tie_break=tie_break).index] += 1
    assert found.times.tolist() == times.tolist()
    assert found.index == simple_tournament(log_probs, 2.0, tie_break=tie_break).index


def test_groups_of_examples_vary_as_examples_do(monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs = -np.random.default_rng(2).exponential(1, (2, 3000))
    log_probs[1] -= 0.02
    shares = []
    for groups in (4096, 500):
        monkeypatch.setattr("metrics.resampled.GROUPS", groups)
        found = bootstrap_tournament(log_probs, 2.0, np.random.default_rng(3), 2000)
        assert found.index == simple_tournament(log_probs, 2.0).index
        shares.append(found.times[0] / 2000)
    assert 0.1 < shares[0] < 0.9
    assert shares[1] == pytest.approx(shares[0], abs=0.12)


def test_a_choice_that_nothing_rivals_and_one_that_has_rivals() -> None:
    certain = -np.ones((3, 50)) * np.array([[1.0], [5.0], [6.0]])
    found = bootstrap_tournament(certain, 2.0, np.random.default_rng(0), 100)
    assert (found.index, found.times.tolist(), found.alternatives()) == (0, [100, 0, 0], (0,))
    # With three checkpoints, 5/3 % of the resamples: once in 100 is too rare, twice is not.
    assert Bootstrap(1, np.array([60, 39, 1]), 100).alternatives() == (0, 1)
    assert Bootstrap(1, np.array([60, 38, 2]), 100).alternatives() == (0, 1, 2)
    assert Bootstrap(2, np.array([60, 39, 1]), 100).alternatives() == (0, 1, 2)
    assert Bootstrap(0, np.array([99, 0, 1]), 100, near=(1,)).alternatives() == (0, 1)
    # Never chosen is never enough, however many checkpoints there are.
    assert Bootstrap(0, np.array([99, 1, *[0] * 48]), 100).alternatives() == (0, 1)
    with pytest.raises(ValueError, match="num_resamples: 0"):
        bootstrap_tournament(certain, 2.0, np.random.default_rng(0), 0)


def test_the_least_mean_over_resamples() -> None:
    values = np.random.default_rng(1).random((3, 20))
    found = bootstrap_lowest(values, np.random.default_rng(5), 200)
    rng, times = np.random.default_rng(5), np.zeros(3, int)
    for _ in range(200):
        times[np.argmin(values[:, rng.integers(20, size=20)].mean(axis=1))] += 1
    assert found.times.tolist() == times.tolist()
    for i, own in enumerate(values):
        test = stats.ttest_rel(own, values[found.index], alternative="greater") if i != found.index else None
        assert (i in found.near) == (test is None or test.pvalue >= 0.025)
    equal = bootstrap_lowest(np.stack([values[0]] * 30), np.random.default_rng(0), 20)
    assert equal.alternatives() == tuple(range(30))
    with pytest.raises(ValueError, match=r"valid: .*finite numbers"):
        bootstrap_lowest(np.full((2, 2), math.inf), np.random.default_rng(0))


def test_the_interval_of_a_rank_correlation() -> None:
    first, second = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 3, 2, 4, 6, 5])
    found = spearman_interval(first, second)
    r = stats.spearmanr(first, second).statistic
    half = 1.959963984540054 * math.sqrt((1 + r * r / 2) / 3)
    assert found.estimate == pytest.approx(r)
    assert found.low == pytest.approx(math.tanh(math.atanh(r) - half))
    assert found.high == pytest.approx(math.tanh(math.atanh(r) + half))
    perfect = spearman_interval(first, first)
    assert (perfect.estimate, perfect.high) == (1.0, 1.0)
    assert 0 < perfect.low < 1
    with pytest.raises(ValueError, match="4 items; valid: at least 5"):
        spearman_interval(first[:4], first[:4])
