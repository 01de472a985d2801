"""Rank correlations against SciPy, and the paired bootstrap on cases whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from metrics.rank_correlation import mean_ranks, rank_correlation_intervals, spearman


def test_ranks_and_correlation_are_scipys_ties_included() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, two = rng.integers(0, 5, 9).astype(float), rng.normal(size=9)
        np.testing.assert_array_equal(mean_ranks(one), stats.rankdata(one))
        assert float(spearman(one, two)) == pytest.approx(stats.spearmanr(one, two).statistic)


def test_what_orders_nothing_has_no_correlation() -> None:
    assert float(spearman(np.zeros(4), np.arange(4.0))) == 0
    assert float(spearman(np.array([0, np.inf, np.inf]), np.arange(3.0))) == pytest.approx(3**0.5 / 2)


def test_two_items_are_ordered_alike_or_oppositely() -> None:
    assert float(spearman(np.array([1.0, 2.0]), np.array([5.0, 9.0]))) == pytest.approx(1)
    assert float(spearman(np.array([1.0, 2.0]), np.array([9.0, 5.0]))) == pytest.approx(-1)


def test_two_groups_suffice_for_an_interval() -> None:
    outcome = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    predictor = np.array([[[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]]])
    rng = np.random.default_rng(0)
    (found,), () = rank_correlation_intervals(predictor, outcome, (), rng, num_resamples=50)
    # Correlations 1 and -1.
    assert found.estimate == pytest.approx(0)
    assert -1 <= found.low < found.high <= 1


def test_a_better_predictor_wins_and_equal_ones_tie_exactly() -> None:
    rng = np.random.default_rng(1)
    outcome = np.arange(8.0) + rng.normal(size=(4, 8)) * 0.1
    noisy = outcome + rng.normal(size=(4, 8)) * 3
    predictors = np.stack([outcome, noisy, np.exp(outcome), -outcome])
    each, (worse, same) = rank_correlation_intervals(predictors, outcome, ((1, 0), (2, 0)), rng, 500)
    assert each[0].estimate == pytest.approx(1)
    assert each[3].estimate == pytest.approx(-1)
    assert each[1].low < each[1].estimate < each[1].high < 1
    assert each[1].estimate == pytest.approx(
        np.mean([stats.spearmanr(*pair).statistic for pair in zip(noisy, outcome, strict=True)])
    )
    assert worse.high < 0
    # The same resample for all predictors: what orders alike differs by nothing, in every one.
    assert (same.estimate, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("predictors", "outcome"), [((1, 2, 3), (2, 4)), ((1, 1, 3), (1, 3)), ((2, 3), (2, 3))]
)
def test_shapes_that_do_not_match_are_refused(predictors: tuple[int, ...], outcome: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="predictors, outcome: shapes"):
        rank_correlation_intervals(np.zeros(predictors), np.zeros(outcome), (), np.random.default_rng(0))


def test_a_nan_is_refused() -> None:
    bad, good = np.array([0.0, np.nan]), np.arange(2.0)
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match="contain NaN"):
            spearman(*pair)
