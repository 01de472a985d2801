"""Queries of policy gradient against REINFORCE on the whole weight matrix, one query at a time."""

import math

import numpy as np
import pytest

from theory.likelihood_barrier import margin_of, outcome_queries, process_queries, share_of

LENGTH, SYMBOLS, STEP = 3, 4, 0.3


def reinforce(share: float, error: float, process: bool, rng: np.random.Generator) -> int:
    """Queries of REINFORCE on W (symbols, features): each position of the prompt relabels the tokens."""
    features = np.array([0.6, 0.8])
    right = [2, 0, 3]
    start = math.log(share * (SYMBOLS - 1) / (1 - share))
    weights = np.outer(np.eye(SYMBOLS)[0] * start, features)
    for queries in range(100_000):
        logits = weights @ features
        law = np.exp(logits - logits.max())
        law /= law.sum()
        if law[0] ** LENGTH >= 1 - error:
            return queries
        # Rank r of position h is the token (right[h] + r) mod k.
        tokens = [(right[h] + rng.choice(SYMBOLS, p=law)) % SYMBOLS for h in range(LENGTH)]
        ranks = [(token - right[h]) % SYMBOLS for h, token in enumerate(tokens)]
        whole = all(rank == 0 for rank in ranks)
        change = np.zeros(SYMBOLS)
        for rank in ranks:
            change += (float(rank == 0) if process else float(whole)) * (np.eye(SYMBOLS)[rank] - law)
        weights = weights + STEP * np.outer(change, features)
    raise AssertionError("not solved")


@pytest.mark.long
@pytest.mark.parametrize("process", [False, True])
def test_the_margin_is_all_that_moves(process: bool) -> None:
    share, error, count = 0.4, 0.3, 300
    rng = np.random.default_rng(0)
    brute = np.array([reinforce(share, error, process, rng) for _ in range(count)], float)
    model = (LENGTH, SYMBOLS, STEP, rng)
    if process:
        found = np.array([process_queries(share, error, *model) for _ in range(4 * count)])
    else:
        found = np.array([outcome_queries(share**LENGTH, error, *model) for _ in range(4 * count)])
    noise = math.sqrt(brute.var() / count + found.var() / (4 * count))
    assert abs(brute.mean() - found.mean()) < 4 * noise
    assert noise < 0.1 * brute.mean()


def test_waiting_times_at_small_likelihoods() -> None:
    """With a step that solves the prompt at once the queries are geometric: mean 1/alpha."""
    rng = np.random.default_rng(1)
    found = np.array([outcome_queries(1e-8, 0.5, 16, 8, 10.0, rng) for _ in range(2000)])
    assert found.mean() == pytest.approx(1e8, rel=0.1)
    assert np.median(found) == pytest.approx(math.log(2) * 1e8, rel=0.1)
    # One right token of 16 moves the margin as far.
    found = np.array([process_queries(1e-6, 0.5, 16, 8, 40.0, rng) for _ in range(2000)])
    assert found.mean() == pytest.approx(1 / (16 * 1e-6), rel=0.1)


def test_margins() -> None:
    assert share_of(margin_of(0.3, 5), 5) == pytest.approx(0.3)
    assert share_of(margin_of(1e-9, 32), 32) == pytest.approx(1e-9)
    assert share_of(800.0, 32) == 1.0
    assert share_of(0.0, 8) == pytest.approx(1 / 8)
    assert outcome_queries(0.6, 0.5, 4, 4, 0.1, np.random.default_rng(0)) == 0
