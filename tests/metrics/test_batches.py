"""Functions of batches give each row what it gets alone, for any number of leading axes; draws by hand."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from metrics import coverage, divergence, early_warning, inference_pessimism, lines, worst_reward
from metrics.alarms import area_under_curve, rates, thresholds
from metrics.answers import Answers
from metrics.rank_correlation import mean_ranks, rank_correlation_intervals, spearman
from metrics.worst_reward import samples_needed, threshold_loss, worst_loss

RNG = np.random.default_rng(11)
ROWS = RNG.normal(0.5, 1.5, (2, 3, 5)).round(1)
OTHER = RNG.normal(size=(2, 3, 5))
LAWS, REFERENCE = RNG.dirichlet(np.ones(5), (2, 3)), RNG.dirichlet(np.ones(5))
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25, 1.25])
NS = (1, 2, 5.7)
EDGES = np.array([-1.0, 0.0, 1.5])


def like(x: np.ndarray) -> np.ndarray:
    """The reference for every row."""
    return np.broadcast_to(REFERENCE, x.shape)


def extremes(found: coverage.LogRatioSummary) -> list[np.ndarray]:
    return [found.mean, found.minimum, found.maximum]


FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], Any], np.ndarray]] = {
    "coverage_profile": (lambda x: coverage.coverage_profile(x, NS, WEIGHTS), ROWS),
    "weighted_mean": (lambda x: coverage.weighted_mean(x, WEIGHTS), ROWS),
    "summarize_log_ratio": (lambda x: extremes(coverage.summarize_log_ratio(x, WEIGHTS)), ROWS),
    "quantiles": (lambda x: coverage.summarize_log_ratio(x, WEIGHTS).quantiles, ROWS),
    "log_ratio_histogram": (lambda x: coverage.log_ratio_histogram(x, EDGES, WEIGHTS), ROWS),
    "kl": (lambda x: divergence.kl(x, WEIGHTS), ROWS),
    "cross_entropy": (lambda x: divergence.cross_entropy(x, WEIGHTS), ROWS),
    "f_divergence_part": (lambda x: divergence.f_divergence_part(x, WEIGHTS), ROWS),
    "squared_hellinger": (lambda x: divergence.squared_hellinger(x, WEIGHTS), ROWS),
    "coverage_bound": (lambda x: divergence.coverage_bound(x, NS, WEIGHTS), ROWS),
    "hellinger_bound": (lambda x: divergence.hellinger_bound(x, NS, WEIGHTS), ROWS),
    "bound_violations": (lambda x: divergence.bound_violations(x, NS, WEIGHTS), ROWS),
    "coverage_supremum": (lambda x: divergence.coverage_supremum(x, WEIGHTS), ROWS),
    "kl_converse_bound": (lambda x: divergence.kl_converse_bound(x, WEIGHTS), ROWS),
    "upper_quantile": (lambda x: early_warning.upper_quantile(x, WEIGHTS, 0.6), ROWS),
    "tail_mean": (lambda x: early_warning.tail_mean(x, WEIGHTS, 0.3), ROWS),
    "pessimism": (lambda x: [*inference_pessimism.pessimism(x, 0.3)[::3]], ROWS),
    "weights": (lambda x: inference_pessimism.pessimism(x, 0.3, like(x)).weights, ROWS),
    "acceptance": (lambda x: inference_pessimism.acceptance(inference_pessimism.pessimism(x, 0.3)), ROWS),
    "rejection_law": (lambda x: inference_pessimism.rejection_law(REFERENCE, x, 3), LAWS),
    "coverage_coefficient": (lambda x: inference_pessimism.coverage_coefficient(x, like(x)), LAWS),
    "worst_loss": (lambda x: worst_reward.worst_loss(x, like(x), (1, 2)), LAWS),
    "threshold_loss": (lambda x: worst_reward.threshold_loss(x, like(x), (1, 2)), LAWS),
    "e_gamma": (lambda x: worst_reward.e_gamma_divergence(x, like(x), (1.5, 2)), LAWS),
    "hockey_stick": (
        lambda x: worst_reward.hockey_stick_divergence(x, like(x), (1, 2)),
        LAWS,
    ),
    "mean_ranks": (mean_ranks, ROWS),
    "line_fit": (lambda x: [*lines.line_fit((1, 2, 4, 5, 9), x)], ROWS),
    "chord_deviation": (lambda x: lines.chord_deviation((1, 2, 4, 5, 9), x), ROWS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_row_gets_what_it_gets_alone(name: str) -> None:
    function, rows = FUNCTIONS[name]
    whole, flat = function(rows), function(rows.reshape(6, 5))
    for index, (i, j) in enumerate(np.ndindex(2, 3)):
        alone = function(rows[i, j])
        for found in (whole, flat):
            at = (i, j) if found is whole else index
            if isinstance(found, list):
                for part, own in zip(found, alone, strict=True):
                    np.testing.assert_allclose(part[at], own, rtol=1e-12)
                    assert np.shape(part[at]) == np.shape(own)
            else:
                np.testing.assert_allclose(found[at], alone, rtol=1e-12)
                assert np.shape(found[at]) == np.shape(alone)


def test_correlations_of_a_batch_and_of_one_row_with_many() -> None:
    found = spearman(ROWS, OTHER)
    assert found.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert found[i, j] == pytest.approx(float(spearman(ROWS[i, j], OTHER[i, j])))
    np.testing.assert_allclose(spearman(ROWS, OTHER[0]), [spearman(row, OTHER[0]) for row in ROWS])
    for one, two in ((np.zeros(1), np.zeros(1)), (np.zeros(()), np.zeros(2)), (np.zeros(2), np.zeros(3))):
        with pytest.raises(ValueError, match="first, second: shapes"):
            spearman(one, two)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_intervals_of_correlations_are_quantiles_over_the_same_resamples(confidence: float) -> None:
    given, outcome = OTHER[:, :2], ROWS[0, :2]
    each, pairs = rank_correlation_intervals(
        given, outcome, ((1, 0),), np.random.default_rng(3), 30, confidence
    )
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(2, size=(30, 2)), rng.integers(5, size=(30, 2, 5))
    draws = np.array(
        [
            [
                np.mean(
                    [
                        float(spearman(predictor[group][own], outcome[group][own]))
                        for group, own in zip(rows[r], columns[r], strict=True)
                    ]
                )
                for r in range(30)
            ]
            for predictor in given
        ]
    )
    level = (1 - confidence) / 2
    for found, values in zip((*each, *pairs), (*draws, draws[1] - draws[0]), strict=True):
        assert (found.low, found.high) == pytest.approx(np.quantile(values, (level, 1 - level)))
    assert pairs[0].estimate == pytest.approx(each[1].estimate - each[0].estimate)


def test_alarms_of_several_rows_of_weights_by_sums() -> None:
    rng = np.random.default_rng(5)
    scores, events = rng.integers(-2, 5, 12).astype(float), rng.random(12) < 0.5
    weights = rng.integers(0, 3, (4, 12)).astype(float)
    alarms = rng.random((4, 12)) < 0.5
    found = rates(alarms, events, weights)
    areas, limits = (
        area_under_curve(scores, events, weights),
        thresholds(scores[~events], weights[:, ~events], 0.3),
    )
    for row, (w, a) in enumerate(zip(weights, alarms, strict=True)):
        total, hit, false = w.sum(), w[a & events].sum(), w[a & ~events].sum()
        shares = (
            hit / w[events].sum(),
            false / w[~events].sum(),
            hit / (hit + false),
            w[events].sum() / total,
        )
        mine = (found.sensitivity, found.false_alarm_rate, found.precision, found.base_rate)
        np.testing.assert_allclose([each[row] for each in mine], shares)
        pairs = [
            (w[i] * w[j] * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2), w[i] * w[j])
            for i, j in itertools.product(np.flatnonzero(events), np.flatnonzero(~events))
        ]
        assert areas[row] == pytest.approx(sum(p for p, _ in pairs) / sum(q for _, q in pairs))
        candidates = [0.0, *scores[~events & (scores > 0)]]
        quiet = w[~events]
        kept = [v for v in candidates if quiet[scores[~events] > v].sum() <= 0.3 * quiet.sum() + 1e-9]
        assert limits[row] == min(kept)
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"rate: .*; valid"):
            thresholds(scores, weights, rate)


def test_laws_may_exceed_1_by_rounding_alone() -> None:
    one = np.array([1.0])
    assert worst_loss(np.array([1 + 5e-10]), one, (1,))[0] == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="target: not a law"):
        worst_loss(np.array([1 + 2e-9]), one, (1,))
    with pytest.raises(ValueError, match=r"target: shape \(\); valid"):
        worst_loss(np.array(1.0), np.array(1.0), (1,))
    assert threshold_loss(one, one / 4, (2,))[0] == pytest.approx((3 / 4) ** 2), "a ratio of factor N counts"


def test_the_least_number_of_samples_at_its_limits() -> None:
    """A loss of (3/4)^N, which is 81/256 at N = 4."""
    law = np.array([1.0]), np.array([0.25])
    for loss, least in ((0.32, 4), (0.31, 5), (81 / 256 + 1e-12, 4), (0.76, 1), (0.74, 2)):
        assert samples_needed(*law, loss) == least
    assert samples_needed(*law, 0.32, at_most=4) == 4
    assert samples_needed(*law, 0.32, at_most=3) is None
    assert samples_needed(*law, 0.31, at_most=6) == 5
    for loss in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"loss: .*; valid"):
            samples_needed(*law, loss)


def test_chains_without_queries_stay_as_they_are() -> None:
    answers = Answers(
        np.zeros((1, 2, 1), int),
        np.ones((1, 2), bool),
        np.ones((1, 2)),
        np.array([[0, 1]]),
        np.array([[3, 5]]),
    )
    small = answers.within(0)
    assert small.queries.tolist() == [[0, 0]]
    assert small.finished.tolist() == [[True, False]]
    assert small.tokens.tolist() == [[3, 0]]


def test_quantiles_at_both_ends_and_at_sums_of_weights() -> None:
    values = np.array([3.0, 1.0, 2.0, math.inf])
    found = coverage.summarize_log_ratio(
        values, np.array([0.1, 0.2, 0.3, 0.4]), (0, 0.2, 0.21, 0.5, 0.6, 0.61, 1)
    )
    assert found.quantiles.tolist() == [1, 1, 2, 2, 3, math.inf, math.inf]
    assert found.levels == (0, 0.2, 0.21, 0.5, 0.6, 0.61, 1)
    assert (found.minimum, found.maximum, found.mean) == (1, math.inf, math.inf)
    for level in (-0.01, 1.01):
        with pytest.raises(ValueError, match=f"levels: contains {level}"):
            coverage.summarize_log_ratio(values, None, (0.5, level))
