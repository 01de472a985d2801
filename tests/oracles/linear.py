"""Autoregressive linear models in plain NumPy, float64, one prefix at a time; sums over all responses."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Phi = Callable[[tuple[int, ...]], np.ndarray]
"""phi(x, y_1:h) of one prompt, for any non-empty prefix."""


def next_probs(phi: Phi, vocab: int, theta: np.ndarray, prefix: tuple[int, ...]) -> np.ndarray:
    weights = [math.exp(float(theta @ phi((*prefix, a)))) for a in range(vocab)]
    return np.array(weights) / sum(weights)


def log_prob(phi: Phi, vocab: int, theta: np.ndarray, response: Sequence[int]) -> float:
    return sum(
        math.log(next_probs(phi, vocab, theta, tuple(response[:h]))[response[h]])
        for h in range(len(response))
    )


def responses(vocab: int, horizon: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(vocab), repeat=horizon))


def law(phi: Phi, vocab: int, horizon: int, theta: np.ndarray) -> dict[tuple[int, ...], float]:
    return {y: math.exp(log_prob(phi, vocab, theta, y)) for y in responses(vocab, horizon)}


def kl(phi: Phi, vocab: int, horizon: int, star: np.ndarray, theta: np.ndarray) -> float:
    return sum(
        p * (math.log(p) - log_prob(phi, vocab, theta, y)) for y, p in law(phi, vocab, horizon, star).items()
    )


def entropy(phi: Phi, vocab: int, horizon: int, theta: np.ndarray) -> float:
    return -sum(p * math.log(p) for p in law(phi, vocab, horizon, theta).values())


def coverage(phi: Phi, vocab: int, horizon: int, star: np.ndarray, theta: np.ndarray, n: float) -> float:
    """P[pi*(y)/pi(y) >= n], with a tolerance at equality."""
    return sum(
        p
        for y, p in law(phi, vocab, horizon, star).items()
        if math.log(p) - log_prob(phi, vocab, theta, y) >= math.log(n) - 1e-9
    )


def variance(phi: Phi, vocab: int, horizon: int, star: np.ndarray) -> float:
    """E sum_h |phi - E phi|^2 by E|phi - phi'|^2/2 with phi' an independent copy given the prefix."""
    total = 0.0
    for y, p in law(phi, vocab, horizon, star).items():
        for h in range(horizon):
            probs = next_probs(phi, vocab, star, y[:h])
            children = [phi((*y[:h], a)) for a in range(vocab)]
            for a, b in itertools.product(range(vocab), repeat=2):
                total += p * probs[a] * probs[b] * float(np.sum((children[a] - children[b]) ** 2)) / 2
    return total


def slope(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Gradient by central differences."""
    rows = np.eye(len(at)) * step
    return np.array([(function(at + row) - function(at - row)) / (2 * step) for row in rows])
