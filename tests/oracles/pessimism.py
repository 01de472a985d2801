"""Pessimism and Best-of-N on a few responses: every sample enumerated, lambda by bisection, plain Python."""

import itertools
import math
from collections.abc import Sequence


def threshold(rewards: Sequence[float], beta: float) -> float:
    """lambda with (1/N) sum relu((r_i - lambda)/beta) = 1."""
    # A mean of relus is at least 1 at mean - beta and at most 1 at max - beta.
    low, high = sum(rewards) / len(rewards) - beta, max(rewards)
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        over = sum(max(r - middle, 0.0) for r in rewards) / len(rewards) > beta
        low, high = (middle, high) if over else (low, middle)


def pessimism_law(
    rewards: Sequence[float],
    reference: Sequence[float],
    n: int,
    beta: float,
    ceiling: float | None,
    fresh: bool,
) -> list[float]:
    """The exact law of the output, by summing over all N-tuples."""
    law = [0.0] * len(rewards)
    for sample in itertools.product(range(len(rewards)), repeat=n):
        chance = math.prod(reference[i] for i in sample)
        seen = [rewards[i] for i in sample]
        bar = threshold(seen, beta)
        if not fresh:
            for i in sample:
                law[i] += chance * max(rewards[i] - bar, 0.0) / beta / n
            continue
        bound = (max(seen) if ceiling is None else ceiling) - bar
        accept = [min(max(r - bar, 0.0) / bound, 1.0) for r in rewards]
        refused = 1 - sum(p * a for p, a in zip(reference, accept, strict=True))
        for i, (p, a) in enumerate(zip(reference, accept, strict=True)):
            law[i] += chance * (sum(refused**k for k in range(n)) * p * a + refused**n * p)
    return law


def best_of_n_law(rewards: Sequence[float], reference: Sequence[float], n: int) -> list[float]:
    """The first drawn of the largest rewards."""
    law = [0.0] * len(rewards)
    for sample in itertools.product(range(len(rewards)), repeat=n):
        best = max(rewards[i] for i in sample)
        law[next(i for i in sample if rewards[i] == best)] += math.prod(reference[i] for i in sample)
    return law
