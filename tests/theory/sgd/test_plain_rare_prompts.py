"""Runs on rare prompts against loops over scalars that take the same random numbers."""

import itertools
import math
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from theory.sgd import rare_prompts as rare

TRUTHS, N = (0.8, -0.5), 3.0
RUNG = rare.Rung(5, np.array([0.3, 0.1]), np.array(TRUTHS), 1.5, 0.7)
VISITS = rare.Visits(np.array([[2.0, 6.0], [5.0, 2.0], [1.0, 0.0], [2.0, 2.0]]))
GAINS = np.array([0.05, 0.6])


def plus(u: float) -> float:
    return 1 / (1 + math.exp(-2 * u))


def plain_kl(truth: float, u: float) -> float:
    p, q = plus(truth), plus(u)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def plain_fixed(truth: float, u: float, size: int = 5, n: float = N) -> np.ndarray:
    """KL, Cov_N and D_N of fixed parameters, by a sum over the number of +1."""
    p, q = plus(truth), plus(u)
    covered = sum(
        math.comb(size, k) * p**k * (1 - p) ** (size - k)
        for k in range(size + 1)
        if k * math.log(p / q) + (size - k) * math.log((1 - p) / (1 - q)) >= math.log(n) - 1e-12
    )
    kl = size * plain_kl(truth, u)
    return np.array([kl, covered, min(math.log(n), kl)])


def clip(u: float) -> float:
    return min(max(u, -1.05), 1.05)


def plain_means(values: Any) -> np.ndarray:
    """mu(k) times the mean over the iterates of (visits, values, rates, draws)."""
    share = VISITS.durations / VISITS.durations.sum(axis=0)
    return RUNG.mass * np.einsum("vd,vird->ird", share, np.array(values))


def test_token_steps_are_those_of_a_plain_loop() -> None:
    running, fixed, last = rare.token_means(RUNG, GAINS, VISITS, 4, N, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    now = np.zeros((2, 2))
    all_running, all_fixed = [], []
    for _ in range(4):
        at_start, along = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
        signs = np.where(rng.random((5, 1, 4, 2)) < [plus(each) for each in TRUTHS], 1, -1)
        for r, d in itertools.product(range(2), range(2)):
            truth, start = TRUTHS[d], now[r, d]
            at_start[:, r, d] = plain_fixed(truth, start)
            for response in reversed(range(4)):
                u, kl, ratio = start, 0.0, 0.0
                for sign in signs[:, 0, response, d]:
                    kl += plain_kl(truth, u)
                    ratio += math.log(plus(sign * truth) / plus(sign * u))
                    u = clip(u + GAINS[r] * (sign - math.tanh(u)))
                along[:, r, d] += np.array([kl, ratio >= math.log(N), min(kl, math.log(N))]) / 4
            now[r, d] = u
        all_running.append(along)
        all_fixed.append(at_start)
    np.testing.assert_allclose(running, plain_means(all_running), rtol=1e-10)
    np.testing.assert_allclose(fixed, plain_means(all_fixed), rtol=1e-10)
    np.testing.assert_allclose(last, now, rtol=1e-10)
    assert np.abs(last).max() == pytest.approx(1.05), "the box must do something"


@pytest.mark.parametrize(
    ("gradient", "every"), [("sampled", 1), ("truncated", 2), ("soft", 1), ("sampled", 3)]
)
def test_sequence_steps_are_those_of_a_plain_loop(gradient: Any, every: int) -> None:
    found = rare.sequence_means(RUNG, GAINS, VISITS, N, np.random.default_rng(6), gradient, every)
    rng = np.random.default_rng(6)
    now = np.zeros((2, 2))
    values: list[np.ndarray] = []
    probs = np.broadcast_to([plus(each) for each in TRUTHS], (2, 2))
    for visit in range(4):
        if visit % every == 0:
            held = np.zeros((3, 2, 2))
            for r, d in itertools.product(range(2), range(2)):
                held[:, r, d] = plain_fixed(TRUTHS[d], now[r, d])
        values.append(held)
        kept = np.full((2, 2), 5.0)
        if gradient == "truncated":
            for r, d in itertools.product(range(2), range(2)):
                eps = plain_kl(TRUTHS[d], now[r, d])
                kept[r, d] = min(5.0, math.log(N) / eps) if eps > 0 else 5.0
        whole = np.floor(kept).astype(np.int64)
        if gradient == "soft":
            total = kept * np.tanh(TRUTHS)
        else:
            ones, part = rng.binomial(whole, probs), rng.random((2, 2)) < probs
            total = ones - (whole - ones) + (kept - whole) * np.where(part, 1, -1)
        for r, d in itertools.product(range(2), range(2)):
            now[r, d] = clip(now[r, d] + GAINS[r] * (total[r, d] - kept[r, d] * math.tanh(now[r, d])))
    np.testing.assert_allclose(found, plain_means(values), rtol=1e-10)


def test_fixed_values_on_a_grid() -> None:
    for truth, u, n, size in itertools.product(
        (-0.9, 0.2), (-3.0, -0.9, 0.1, 0.2, 2.0), (1.0, 2.0, 50.0), (1, 7)
    ):
        own = rare.Rung(4, np.ones(1), np.array([truth]))
        found = np.array(rare.fixed_values(own, np.array([[u]]), n, size))[:, 0, 0]
        np.testing.assert_allclose(found, plain_fixed(truth, u, size, n), atol=1e-12)
    assert rare.fixed_values(own, np.array([[0.3]]), 2.0).kl == pytest.approx(4 * plain_kl(0.2, 0.3))


@pytest.mark.parametrize("slope", [1, -1])
def test_a_count_within_1e_9_of_the_edge_counts(slope: int) -> None:
    """N at which the log ratio of two +1 (or -1) among three tokens is short by some 1e-9 of a token."""
    truth, u = 0.9 * slope, 0.2 * slope
    many, few = (math.log(plus(s * truth) / plus(s * u)) for s in (slope, -slope))
    p = plus(0.9)
    two, three = 3 * p**2 * (1 - p) + p**3, p**3
    for off, wanted in ((0.8e-9, two), (1.2e-9, three), (-1.2e-9, two)):
        n = math.exp((2 + off) * many + (1 - off) * few)
        own = rare.Rung(3, np.ones(1), np.array([truth]))
        assert rare.fixed_values(own, np.array([u]), n).coverage[0] == pytest.approx(wanted, abs=1e-12)


def test_visits_are_counted_from_the_drawn_places() -> None:
    rng: Any = mock.Mock()
    rng.binomial.return_value = np.array([2, 0, 1])
    rng.choice.side_effect = lambda steps, size, replace: np.array([7, 3, 9][:size]) * (not replace)
    mass = np.array([0.1, 0.2, 0.3])
    visits = rare.draw_visits(mass, 10, rng)
    rng.binomial.assert_called_once_with(10, mass)
    assert visits.durations.T.tolist() == [[4, 4, 2], [10, 0, 0], [8, 2, 0]]
    assert visits.most == 2
    values = np.arange(18.0).reshape(3, 2, 3)
    plain = np.einsum("vd,vrd->rd", visits.durations / 10, values)
    np.testing.assert_allclose(visits.mean(values), plain)
    np.testing.assert_allclose(visits.mean(values[:, 0]), plain[0])


def test_prompts_and_tokens_from_given_numbers() -> None:
    rng: Any = mock.Mock()
    rng.uniform.side_effect = lambda low, high, draws: np.linspace(low, high, draws)
    rng.choice.side_effect = lambda signs, draws: np.array([signs[0], signs[1], signs[1]])
    own = rare.rare_prompt(12, 0.25, 3, rng, 2.0, 0.5)
    np.testing.assert_allclose(own.truth, [-0.5, 0.75, 1.0])
    np.testing.assert_allclose(own.mass, 0.25 / (12 * 4 * (1 - np.tanh(own.truth) ** 2)))
    assert (own.length, own.bound, own.radius) == (12, 2.0, 0.5)
    plain = rare.rare_prompt(12, 0.25, 3, rng)
    np.testing.assert_allclose(plain.truth, [-0.5, 0.75, 1.0])
    assert (plain.bound, plain.radius, rare.Rung(1, plain.mass, plain.truth)[3:]) == (1, 1, (1, 1))
    numbers = SimpleNamespace(random=lambda shape: np.full(shape, 0.5))
    coin = rare.Rung(2, np.ones(3), np.array([0.0, 1e-9, -1e-9]))
    assert rare.draw_signs(coin, (2, 1), numbers).tolist() == [[[-1, 1, -1]]] * 2  # type: ignore[arg-type]
