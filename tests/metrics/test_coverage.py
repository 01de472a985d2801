import math

import numpy as np
import pytest

from metrics.coverage import (
    answer_level_log_ratio,
    coverage_profile,
    log_density_ratio,
    log_ratio_histogram,
    name_of_n,
    summarize_log_ratio,
    weighted_mean,
)

NS = (1, 2, 3, 4, 4.6, 5.7, 16)


def plain_coverage(log_ratio: list[float], n: float, weights: list[float], tolerance: float) -> float:
    hit = sum(w for x, w in zip(log_ratio, weights, strict=True) if x >= math.log(n) - tolerance)
    return hit / sum(weights)


@pytest.mark.parametrize("seed", range(5))
def test_profile_equals_plain_loops_over_a_batch_with_weights_and_infinities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_ratio = rng.normal(0.5, 1.5, size=(2, 3, 40))
    log_ratio[rng.random(log_ratio.shape) < 0.1] = np.inf
    weights = rng.random(40) * (rng.random(40) < 0.8)
    profile = coverage_profile(log_ratio, NS, weights)
    assert profile.shape == (2, 3, len(NS))
    for index in np.ndindex(2, 3):
        expected = [plain_coverage(list(log_ratio[index]), n, list(weights), 1e-5) for n in NS]
        np.testing.assert_allclose(profile[index], expected, atol=1e-12)


def test_profile_is_inclusive_at_equality_and_the_tolerance_is_in_nats() -> None:
    at_four = np.array([math.log(4)])
    assert coverage_profile(at_four, (4,), tolerance=0.0)[0] == 1
    assert coverage_profile(at_four - 0.9e-5, (4,))[0] == 1
    assert coverage_profile(at_four - 1.1e-5, (4,))[0] == 0
    assert coverage_profile(at_four.astype(np.float32), (4,))[0] == 1


def test_uniform_weights_give_exact_counts() -> None:
    log_ratio = np.repeat([0.0, 3.0], [7, 3])
    assert coverage_profile(log_ratio, (1, 2)).tolist() == [1.0, 0.3]


def test_only_proportions_of_weights_matter_and_weight_zero_is_no_example() -> None:
    log_ratio = np.array([0.0, 1.0, 2.0, np.inf])
    small = coverage_profile(log_ratio, NS, np.array([0.1, 0.2, 0.1, 0.0]))
    np.testing.assert_allclose(small, coverage_profile(np.array([0.0, 1.0, 1.0, 2.0]), NS), atol=1e-15)


@pytest.mark.parametrize(
    ("log_ratio", "ns", "weights", "tolerance", "field"),
    [
        ([0.0], (0.99,), None, 0.0, "ns"),
        ([0.0], (2, math.nan), None, 0.0, "ns"),
        ([0.0], (), None, 0.0, "ns"),
        ([0.0, math.nan], (2,), None, 0.0, "log_ratio"),
        ([], (2,), None, 0.0, "log_ratio"),
        ([0.0, 1.0], (2,), [1.0], 0.0, "weights"),
        ([0.0, 1.0], (2,), [1.0, -0.5], 0.0, "weights"),
        ([0.0, 1.0], (2,), [0.0, 0.0], 0.0, "weights"),
        ([0.0, 1.0], (2,), [math.nan, 1.0], 0.0, "weights"),
        ([0.0, 1.0], (2,), [math.inf, 1.0], 0.0, "weights"),
        ([0.0], (2,), None, -1e-9, "tolerance"),
        ([0.0], (2,), None, math.nan, "tolerance"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    log_ratio: list[float], ns: tuple[float, ...], weights: list[float] | None, tolerance: float, field: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: .*(; valid: | is not )[^\n]*$"):
        coverage_profile(
            np.array(log_ratio), ns, None if weights is None else np.array(weights), tolerance=tolerance
        )


@pytest.mark.parametrize(
    ("n", "name"), [(5.7, "5.7"), (4.0, "4"), (4, "4"), (1, "1"), (4.6, "4.6"), (100, "100")]
)
def test_name_of_n(n: float, name: str) -> None:
    assert name_of_n(n) == name


def test_name_of_n_rejects_what_is_no_n() -> None:
    with pytest.raises(ValueError, match=r"ns: 0.5 is not a number >= 1"):
        name_of_n(0.5)


def test_log_density_ratio_covers_every_kind_of_zero() -> None:
    zero = -np.inf
    ratio = log_density_ratio(np.array([-1.0, zero, -1.0, zero]), np.array([-3.0, zero, zero, -3.0]))
    assert ratio.tolist() == [2.0, 0.0, np.inf, -np.inf]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^log_denominator"):
            log_density_ratio(np.zeros(2), np.array([0.0, bad]))
        with pytest.raises(ValueError, match=r"^log_numerator"):
            log_density_ratio(np.array([0.0, bad]), np.zeros(2))


def test_a_mean_of_probabilities_is_a_probability() -> None:
    rng = np.random.default_rng(0)
    for size in (3, 10, 97, 1000):
        for _ in range(200):
            weights = rng.exponential(size=size)
            assert weighted_mean(np.ones(size), weights) == 1
            assert weighted_mean(np.full((2, size), 0.1), weights).tolist() == [0.1, 0.1]


def test_weighted_mean_drops_weight_zero_and_refuses_both_infinities() -> None:
    assert weighted_mean(np.array([1.0, 3.0, np.inf]), np.array([3.0, 1.0, 0.0])) == 1.5
    assert weighted_mean(np.array([1.0, np.inf])) == np.inf
    with pytest.raises(ValueError, match=r"^values"):
        weighted_mean(np.array([-np.inf, np.inf]))


def test_summary_returns_values_of_the_sample() -> None:
    log_ratio = np.array([[3.0, 1.0, np.inf, 2.0], [0.0, 0.0, 0.0, -1.0]])
    summary = summarize_log_ratio(
        log_ratio, np.array([0.25, 0.5, 0.125, 0.125]), (0, 0.5, 0.625, 0.875, 0.9, 1)
    )
    assert summary.quantiles[0].tolist() == [1.0, 1.0, 2.0, 3.0, np.inf, np.inf]
    assert summary.minimum.tolist() == [1.0, -1.0]
    assert summary.maximum.tolist() == [np.inf, 0.0]
    assert summary.mean.tolist() == [np.inf, -0.125]
    with pytest.raises(ValueError, match=r"levels: contains 1.5"):
        summarize_log_ratio(log_ratio, levels=(1.5,))


def test_summary_quantiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    values, weights, levels = rng.normal(size=57), rng.random(57), np.linspace(0.01, 0.99, 23)
    ours = summarize_log_ratio(values, weights, tuple(levels)).quantiles
    np.testing.assert_array_equal(ours, np.quantile(values, levels, weights=weights, method="inverted_cdf"))


def test_summary_levels_reach_from_one_percent_to_ninety_nine() -> None:
    summary = summarize_log_ratio(np.arange(1.0, 1001.0))
    assert summary.levels == (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    assert summary.quantiles.tolist() == [10, 50, 250, 500, 750, 950, 990]


def test_histogram_tails_are_the_coverage_profile() -> None:
    rng = np.random.default_rng(1)
    log_ratio, weights, ns = rng.normal(1, 1, size=(2, 50)), rng.random(50), (1, 2, 4)
    log_ratio[0, :3] = np.log(2)
    log_ratio[1, 0] = np.inf
    mass = log_ratio_histogram(log_ratio, np.log(ns), weights)
    tails = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(tails[:, 0], 1)
    np.testing.assert_allclose(tails[:, 1:], coverage_profile(log_ratio, ns, weights, tolerance=0.0))


@pytest.mark.parametrize("edges", [[], [1.0, 1.0], [2.0, 1.0], [0.0, np.inf]])
def test_histogram_refuses_bad_edges(edges: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^edges"):
        log_ratio_histogram(np.zeros(3), np.array(edges))


def test_answers_sum_over_their_responses() -> None:
    data = np.log([0.1, 0.2, 0.3, 0.4])
    model = np.array([math.log(0.5), -np.inf, math.log(0.5), -np.inf])
    ratio = answer_level_log_ratio(data, model, np.array([7, 7, 3, 9]))
    np.testing.assert_allclose(ratio, [math.log(0.6), math.log(0.6), math.log(0.6), np.inf])
    with pytest.raises(ValueError, match=r"^answers"):
        answer_level_log_ratio(data, model, np.array([1, 2]))


def test_all_of_the_weight_is_exactly_1_however_the_sums_round() -> None:
    rng = np.random.default_rng(0)
    exceeded = 0
    for size in range(3, 60):
        weights = rng.random(size)
        exceeded += np.ones(size, bool) @ weights / weights.sum() > 1
        assert coverage_profile(np.full(size, 9.0), (1,), weights)[0] <= 1
    assert exceeded
