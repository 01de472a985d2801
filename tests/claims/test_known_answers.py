"""Numbers that follow from the definitions alone, by closed form or by enumeration.

Source: Coverage Principle, arXiv 2510.15020; what is derived from it is marked so in each test.
"""

import itertools
import math

import numpy as np
import pytest

from metrics import (
    answer_level_log_ratio,
    bound_violations,
    check_coverage_bound,
    coverage_bound,
    coverage_profile,
    hellinger_bound,
    kl,
    kl_converse_bound,
    log_density_ratio,
    offset_tournament,
    pass_at_n,
    simple_tournament,
    weighted_mean,
)

MAJORITY, MINORITY = 0.9, 0.1
CLASSES = np.array([MAJORITY, MINORITY])
PASS_NS, COVERAGE_NS = (4, 8, 12), (2, 4, 5.7)


def class_blind(majority_path: float, minority_path: float) -> tuple[float, np.ndarray, np.ndarray]:
    """KL, Pass@N and Cov_N of a tabular model, enumerated over the two classes, with one correct path each.

    The data follow the majority path with probability 0.9 by class, and given the class deterministically.
    """
    log_prob = np.log([majority_path, minority_path])
    log_ratio = log_density_ratio(np.zeros(2), log_prob)
    passes = weighted_mean(pass_at_n(log_prob, PASS_NS).T, CLASSES)
    return float(kl(log_ratio, CLASSES)), passes, coverage_profile(log_ratio, COVERAGE_NS, CLASSES)


@pytest.mark.parametrize(
    ("paths", "kl_printed", "passes", "coverages"),
    [
        ((0.9, 0.1), 0.325, ("0.934", "0.957", "0.972"), (0.1, 0.1, 0.1)),
        ((0.6, 0.4), 0.551, ("0.964", "0.998", "0.9998"), (0.1, 0, 0)),
        ((0.5, 0.5), 0.693, ("0.938", "0.996", "0.9998"), (1, 0, 0)),
        ((5 / 12, 5 / 12), 0.875, ("0.884", "0.987", "0.998"), (1, 0, 0)),
    ],
)
def test_class_blind_models_to_the_printed_digits_and_to_the_closed_form(
    paths: tuple[float, float], kl_printed: float, passes: tuple[str, ...], coverages: tuple[float, ...]
) -> None:
    divergence, passed, covered = class_blind(*paths)
    p, q = paths
    assert round(divergence, 3) == kl_printed
    assert divergence == pytest.approx(-MAJORITY * math.log(p) - MINORITY * math.log(q), abs=1e-6)
    for value, printed, n in zip(passed, passes, PASS_NS, strict=True):
        assert f"{value:.{len(printed) - 2}f}" == printed
        closed = MAJORITY * (1 - (1 - p) ** n) + MINORITY * (1 - (1 - q) ** n)
        assert value == pytest.approx(closed, abs=1e-6)
    np.testing.assert_allclose(covered, coverages, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "lowest", "highest", "pass_at_8"),
    [(2, 0.45, 0.71, 0.994), (4, 0.42, 0.85, 0.972), (5.7, 0.42, 0.895, 0.959)],
)
def test_ties_of_the_simple_tournament_on_the_ideal_class_blind_curve(
    n: float, lowest: float, highest: float, pass_at_8: float
) -> None:
    # Derived: p ties at 0 while 0.9/p < N and (7/12)/(1-p) < N, the best that any other checkpoint offers.
    grid = np.linspace(5 / 12, MAJORITY, 101)
    log_probs = np.log(np.column_stack([grid, 1 - grid]))
    selection = simple_tournament(log_probs, n, CLASSES)
    tied = [i for i, p in enumerate(grid) if MAJORITY / p < n and (7 / 12) / (1 - p) < n]
    assert selection.tied == tuple(tied)
    assert selection.scores[tied].max() == 0
    assert grid[tied[0]] == pytest.approx(lowest, abs=0.005)
    assert grid[tied[-1]] == pytest.approx(highest, abs=0.005)
    # The KL falls all the way to p = 0.9, so that the tie-break by it takes the last of them.
    assert selection.index == tied[-1]
    chosen = pass_at_n(log_probs[selection.index], (8,))[:, 0]
    assert round(float(weighted_mean(chosen, CLASSES)), 3) == pass_at_8


def enumerable(seed: int, prompts: int = 3, responses: int = 5, models: int = 4) -> tuple[np.ndarray, ...]:
    """mu over prompts, pi_D(y|x), and several models, some of which give some responses no probability."""
    rng = np.random.default_rng(seed)
    mu = rng.dirichlet(np.ones(prompts))
    data = rng.dirichlet(np.full(responses, 0.8), size=prompts)
    others = rng.dirichlet(np.full(responses, 0.4), size=(models, prompts))
    others[rng.random(others.shape) < 0.1] = 0.0
    return mu, data, others / others.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(25))
def test_coverage_kl_and_pass_at_n_equal_sums_over_enumerable_distributions(seed: int) -> None:
    mu, data, models = enumerable(seed)
    correct = np.random.default_rng(seed).random(data.shape) < 0.4
    joint = (mu[:, None] * data).ravel()
    cells = list(itertools.product(range(3), range(5)))
    for model in models:
        with np.errstate(divide="ignore"):
            log_ratio = log_density_ratio(np.log(data), np.log(model)).ravel()
            log_correct = np.log(np.sum(model * correct, axis=1))
        profile = coverage_profile(log_ratio, (1, 2, 5.7), joint)
        for value, n in zip(profile, (1, 2, 5.7), strict=True):
            tail = sum(mu[x] * data[x, y] for x, y in cells if data[x, y] >= n * model[x, y])
            assert value == pytest.approx(tail, abs=1e-12)
        impossible = any(model[x, y] == 0 for x, y in cells)
        plain = (
            math.inf
            if impossible
            else sum(mu[x] * data[x, y] * math.log(data[x, y] / model[x, y]) for x, y in cells)
        )
        assert kl(log_ratio, joint) == pytest.approx(plain, rel=1e-10)
        # Every ordered pair of draws, not the formula.
        both = sum(
            mu[x] * model[x, y] * model[x, z]
            for x, y, z in itertools.product(range(3), range(5), range(5))
            if correct[x, y] or correct[x, z]
        )
        assert weighted_mean(pass_at_n(log_correct, (2,))[:, 0], mu) == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("n", [1.5, 4, 20])
def test_both_tournaments_equal_loops_over_enumerable_distributions(seed: int, n: float) -> None:
    mu, data, models = enumerable(seed)
    rng, (size, draws, a) = np.random.default_rng(seed), (len(models), 6, 0.2)
    prompts = rng.choice(3, size=12, p=mu)
    responses = np.array([rng.choice(5, p=data[x]) for x in prompts])
    sampled = np.array([[rng.choice(5, size=draws, p=model[x]) for x in prompts] for model in models])
    beats = np.zeros((size, size))
    penalty = np.zeros((size, size))
    for i, j in itertools.permutations(range(size), 2):
        for k, (x, y) in enumerate(zip(prompts, responses, strict=True)):
            # A product instead of a quotient decides p/0; 0/0 is no victory.
            beats[i, j] += models[j][x, y] > 0 and models[j][x, y] >= n * models[i][x, y]
            penalty[i, j] += sum(models[j][x, z] >= n * models[i][x, z] for z in sampled[i, k]) / draws
    simple = np.array([max(beats[i] / 12) for i in range(size)])
    offset = np.array([max((beats[i] - 2 * n**a * penalty[i]) / 12) for i in range(size)])
    with np.errstate(divide="ignore"):
        log_models = np.log(models)
    log_probs = log_models[:, prompts, responses]
    samples = np.stack([log_models[:, prompts[:, None], s] for s in sampled])
    for selection, scores in (
        (simple_tournament(log_probs, n), simple),
        (offset_tournament(log_probs, samples, n, a), offset),
    ):
        np.testing.assert_allclose(selection.scores, scores, atol=1e-12)
        assert selection.tied == tuple(np.flatnonzero(scores <= scores.min() + 1e-12))


def test_a_perfect_model_covers_at_one_and_nothing_beyond() -> None:
    log_ratio = np.zeros(7)
    assert coverage_profile(log_ratio, (1, 1.001, 2, 100)).tolist() == [1, 0, 0, 0]
    assert kl(log_ratio) == 0
    assert kl_converse_bound(log_ratio) == 0


@pytest.mark.parametrize("n", [2, 3, 4, 4.6, 5.7, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_ratio_of_exactly_n_counts_for_n(n: float, dtype: type[np.floating]) -> None:
    # Path-star graphs, derived: a model at chance 1/d has Cov_N = 1 for N <= d and 0 beyond.
    log_ratio = log_density_ratio(np.zeros(3), np.log(np.full(3, 1 / n, dtype=dtype)))
    assert coverage_profile(log_ratio, (n, n * 1.001)).tolist() == [1, 0]


def test_probabilities_below_the_smallest_float32() -> None:
    log_prob = np.array([-200.0, -400.0])
    assert np.exp(log_prob.astype(np.float32)).tolist() == [0, 0]
    log_ratio = log_density_ratio(np.array([-100.0, -399.0]), log_prob)
    assert coverage_profile(log_ratio, (2, 4, 1e40)).tolist() == [1, 0.5, 0.5]
    assert kl(log_ratio) == 50.5
    np.testing.assert_allclose(pass_at_n(log_prob, (8,))[:, 0], 8 * np.exp(log_prob), rtol=1e-12)
    rivals = np.array([[-200.0, -200.0], [-198.0, -200.5]])
    assert simple_tournament(rivals, 4).scores.tolist() == [0.5, 0]


@pytest.mark.parametrize("n", [2, 4, 16, 1000])
def test_the_bound_by_kl_is_tight_for_bernoulli(n: float) -> None:
    # Bernoulli(p) against Bernoulli(p/N): Cov_N = p, and KL/(ln N - 1 + 1/N) -> p as p -> 0.
    for p in (0.5, 0.1, 1e-3, 1e-6):
        data, model = np.array([p, 1 - p]), np.array([p / n, 1 - p / n])
        log_ratio = log_density_ratio(np.log(data), np.log1p(model - 1))
        assert coverage_profile(log_ratio, (n,), data)[0] == pytest.approx(p, rel=1e-12)
        exact = p * math.log(n) + (1 - p) * (math.log1p(-p) - math.log1p(-p / n))
        assert kl(log_ratio, data) == pytest.approx(exact, abs=1e-12)
        bound = coverage_bound(log_ratio, (n,), data)[0]
        assert bound == pytest.approx(exact / (math.log(n) - 1 + 1 / n), rel=1e-6)
        assert p * (1 - 1e-9) <= bound <= p * (1 + 3 * p) * (1 + 1e-6)


@pytest.mark.parametrize("spread", [0.01, 0.5, 3.0, 50.0])
def test_the_bounds_hold_sample_by_sample_on_thousands_of_random_vectors(spread: float) -> None:
    rng = np.random.default_rng(0)
    ns = (1, 1.0001, 1.1, 2, 4, 4.6, 5.7, 100, 1e9)
    log_ratio = rng.standard_t(2, size=(2000, 8)) * spread
    # Half of the vectors have ratios exactly at, just below and just above an N, some are infinite.
    at_n = np.log(rng.choice(ns, size=(1000, 8))) + rng.choice([0, -1e-5, 1e-5, -1e-16], size=(1000, 8))
    log_ratio[:1000] = np.where(rng.random((1000, 8)) < 0.6, at_n, log_ratio[:1000])
    log_ratio[:100, 0] = np.inf
    weights = rng.random(8)
    for tolerance in (0.0, 1e-5):
        assert check_coverage_bound(log_ratio, ns, weights, tolerance) <= 1e-12
        gap = coverage_profile(log_ratio, ns, weights, tolerance) - hellinger_bound(
            log_ratio, ns, weights, tolerance
        )
        assert gap.max() <= 1e-12
    assert (kl(log_ratio, weights) <= kl_converse_bound(log_ratio, weights) * (1 + 1e-12) + 1e-12).all()
    # With the plain mean of X in its place, as a sample gives it, the same bound is violated.
    plain = np.mean(log_ratio[1000:], axis=1) / (math.log(2) - 0.5)
    violated = coverage_profile(log_ratio[1000:], (2,))[:, 0] > plain
    assert violated.any() or spread < 0.1
    assert (bound_violations(log_ratio[1000:], (2,))[:, 0] <= 1e-12).all()


def test_answers_can_be_covered_worse_than_responses() -> None:
    # Derived: one answer, two chains of thought; as printed in the paper the claim would need 1 <= 0.6.
    data, model = np.array([0.6, 0.4]), np.array([0.001, 0.4])
    responses = coverage_profile(log_density_ratio(np.log(data), np.log(model)), (2,), data)
    answers = coverage_profile(
        answer_level_log_ratio(np.log(data), np.log(model), np.zeros(2, int)), (2,), data
    )
    assert (responses[0], answers[0]) == (0.6, 1.0)


@pytest.mark.parametrize("seed", range(40))
def test_answers_are_covered_at_c_n_up_to_c_over_c_minus_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data, model = rng.dirichlet(np.full(12, 0.3)) + 1e-12, rng.dirichlet(np.full(12, 0.3)) + 1e-12
    log_data, log_model = np.log(data / data.sum()), np.log(model / model.sum())
    answers = rng.integers(0, 4, size=12)
    by_answer = answer_level_log_ratio(log_data, log_model, answers)
    by_response = log_density_ratio(log_data, log_model)
    for n, c in itertools.product((1, 1.5, 4, 16), (1.01, 1.5, 2, 5, 100)):
        left = coverage_profile(by_answer, (c * n,), np.exp(log_data), tolerance=0.0)[0]
        right = coverage_profile(by_response, (n,), np.exp(log_data), tolerance=0.0)[0]
        assert left <= c / (c - 1) * right + 1e-12
