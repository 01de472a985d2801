"""Means of normalised SGD against the enumeration of every batch, token by token, and sampled runs."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from theory.sgd import batch_bias as laws

BITS = laws.Bits(3.0, 0.3, 2, 0.6)


def enumerated(bits: laws.Bits, p: float, batch: int, damping: float, log_n: float) -> tuple[float, ...]:
    """move, square and stopped as sums over every batch: prompts, then every token of every sequence."""
    kl = bits.length * sum(a * math.log(a / b) for a, b in ((bits.rare, p), (1 - bits.rare, 1 - p)))
    move = square = stopped = 0.0
    for prompts in itertools.product((0, 1), repeat=batch):
        weight = math.prod(bits.plus if prompt else 1 - bits.plus for prompt in prompts)
        stopped += weight * min(log_n, sum(prompts) * kl / batch)
        tokens = bits.length * sum(prompts)
        for drawn in itertools.product((0, 1), repeat=tokens):
            mass = weight * math.prod(bits.rare if y else 1 - bits.rare for y in drawn)
            g = sum(bits.bound * (y - p) for y in drawn) / batch
            move += mass * g / (damping + abs(g))
            square += mass * (g / (damping + abs(g))) ** 2
    return move, square, stopped


@pytest.mark.parametrize(("p", "batch", "damping"), [(0.1, 1, 0.01), (0.3, 2, 1.0), (0.8, 3, 40.0)])
def test_means_are_sums_over_all_batches(p: float, batch: int, damping: float) -> None:
    found = laws.step(BITS, p, batch, damping, math.log(2))
    np.testing.assert_allclose(found, enumerated(BITS, p, batch, damping, math.log(2)), rtol=1e-10)


def test_the_gradient_of_the_model_is_the_difference_quotient() -> None:
    """d/dtheta of ln p(y) at one sequence of two bits with one 1: B (k - H p)."""
    theta, bound, step = -0.4, 3.0, 1e-6

    def log_prob(at: float) -> float:
        p = 1 / (1 + math.exp(-bound * at))
        return math.log(p) + math.log(1 - p)

    p = 1 / (1 + math.exp(-bound * theta))
    slope = (log_prob(theta + step) - log_prob(theta - step)) / (2 * step)
    assert slope == pytest.approx(bound * (1 - 2 * p), rel=1e-6)


def test_coverage_and_variance_are_sums_over_responses() -> None:
    bits, p, n = laws.Bits(3.0, 0.3, 3, 0.6), 0.1, 4.0
    covered = variance = 0.0
    for y in itertools.product((0, 1), repeat=3):
        mass = math.prod(0.3 if each else 0.7 for each in y)
        ratio = math.prod(0.3 / 0.1 if each else 0.7 / 0.9 for each in y)
        covered += 0.6 * mass * (ratio >= n)
        variance += 0.6 * mass * sum((3.0 * (each - 0.3)) ** 2 for each in y)
    assert bits.coverage(p, n) == pytest.approx(covered)
    np.testing.assert_allclose(bits.coverage(np.array([[p, 0.3]]), n), [[covered, 0.0]])
    assert bits.variance == pytest.approx(variance)


def test_the_resting_point_is_where_long_runs_with_short_steps_stay() -> None:
    bits = laws.Bits(8.0, 0.1)
    rng = np.random.default_rng(0)
    for batch, damping in ((1, 1.0), (4, 0.3)):
        path = laws.run(bits, bits.rare, batch, (0.002, damping), 6000, 64, rng)
        logit = np.log(path[3000:] / (1 - path[3000:])).mean()
        rest = laws.resting_point(bits, batch, damping)
        assert rest < 0.06
        assert logit == pytest.approx(math.log(rest / (1 - rest)), abs=0.1)


def test_where_every_mean_update_points_down_it_rests_at_the_end() -> None:
    bits = laws.Bits(8.0, 0.1)
    assert laws.resting_point(bits, 1, 1e-6) == pytest.approx(1 / (1 + math.exp(8)))
    assert laws.resting_point(laws.Bits(8.0, 0.9), 1, 1e-6) == pytest.approx(1 / (1 + math.exp(-8)))
    assert laws.resting_point(bits, 1, 1e9) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("rare", [1 / 7, 1 / 40])
def test_the_least_batch_is_the_median_of_the_number_of_ones(rare: float) -> None:
    """The least K with (1 - p*)^K < 1/2, without a damping; with a large one, 1."""
    bits = laws.Bits(32.0, rare)
    median = next(k for k in range(1, 999) if (1 - rare) ** k < 0.5)
    assert laws.least_batch(bits, 1e-9, 16.0, 999) == median
    assert laws.least_batch(bits, 1e-9, 16.0, median - 1) == median
    assert laws.least_batch(bits, 1e9, 16.0, 999) == 1


def test_both_sides_of_the_lemmas_by_hand() -> None:
    p, batch, log_n = 0.1, 2, math.log(4)
    damping = 8 * 3.0 * log_n
    move, square, stopped = enumerated(BITS, p, batch, damping, log_n)
    sigma = math.sqrt(0.6 * 2 * 9 * 0.21)
    off = (math.log(p / (1 - p)) - math.log(0.3 / 0.7)) / 3
    first = 2 * stopped / log_n + 4 * log_n * sigma**2 / damping**2 + sigma / (damping * math.sqrt(2))
    second = -8 * damping * move * off + 240 * 3 / 2 + 8 * (log_n * sigma / damping) ** 2
    found = laws.lemma_sides(BITS, p, batch, damping, log_n)
    np.testing.assert_allclose(found, [square / first, stopped / second], rtol=1e-10)


def test_the_explicit_bound_is_twice_the_terms_of_the_proof() -> None:
    """The proof's inequality before it drops constants, solved for the mean of Delta."""
    bits, updates, batch, m = laws.Bits(1.0, 0.3, 5), 1e6, 100, math.log(50)
    eta, damping, bound = laws.theorem_bound(bits, updates, batch, m)
    assert (eta, damping) == (pytest.approx(1 / 128), pytest.approx(8 * m))
    sigma = math.sqrt(5 * 0.21)
    right = 240 / batch + 8 * (m * sigma / damping) ** 2 + 16 * damping / (updates * eta)
    right += 16 * eta * m * sigma**2 / damping + 4 * eta * sigma / math.sqrt(batch)
    share = 8 * eta * damping / m
    assert bound == pytest.approx(2 / (m - 1) * right / (1 - share))
    late = laws.theorem_bound(bits, 1e12, batch, m)[0]
    assert late == pytest.approx((m / (sigma**2 * 1e12)) ** 0.25)


def test_sgd_is_the_rule_without_normalisation() -> None:
    bits = laws.Bits(2.0, 0.3)
    path = laws.run(bits, 0.5, 3, (0.1, math.inf), 4, 2, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    ones = rng.binomial(rng.binomial(3, 1.0, (4, 2)), 0.3)
    for draw in range(2):
        theta = 0.0
        for t in range(4):
            theta += 0.1 * 2.0 * (int(ones[t, draw]) - 3 / (1 + math.exp(-2 * theta))) / 3
            theta = max(-1.0, min(1.0, theta))
            assert path[t, draw] == pytest.approx(1 / (1 + math.exp(-2 * theta)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: laws.least_batch(BITS, 1.0, 16.0, 9), "length: 2; valid: 1"),
        (lambda: laws.lemma_sides(BITS, 0.1, 1, 1.0, 1.0), "damping: 1.0; valid: at least 8 B ln N = 24"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
