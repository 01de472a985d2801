"""Tables of bracket strings in every state against recursions over single states."""

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest

from tasks import bracket_law
from tasks.bracket_law import CLOSE, END, OPEN, Law

Move = Callable[[int, int], tuple[float, float, float]]
"""Probabilities of an open bracket, a close bracket and END after t brackets at a depth."""


def conditioned(max_depth: int, low: int, high: int) -> tuple[int, Move]:
    """(largest number of brackets, move) of the sampler given `low` to `high` tokens."""
    total = max(t for t in range(0, high, 2))

    def base(depth: int) -> tuple[float, float, float]:
        if depth == 0:
            return 0.5, 0.0, 0.5
        return (0.0, 1.0, 0.0) if depth == max_depth else (0.5, 0.5, 0.0)

    @functools.cache
    def chance(t: int, depth: int) -> float:
        """Probability that the string ends with an allowed number of tokens."""
        if t > total or depth < 0 or depth > max_depth:
            return 0.0
        return sum(joint(t, depth))

    def joint(t: int, depth: int) -> tuple[float, float, float]:
        up, down, end = base(depth)
        ended = end * (depth == 0 and t % 2 == 0 and t + 1 >= low)
        return up * chance(t + 1, depth + 1), down * chance(t + 1, depth - 1), ended

    def move(t: int, depth: int) -> tuple[float, float, float]:
        whole = chance(t, depth)
        up, down, end = joint(t, depth)
        return (up / whole, down / whole, end / whole) if whole else (0.0, 0.0, 0.0)

    return total, move


def fixed(max_depth: int, length: int) -> tuple[int, Move]:
    def move(t: int, depth: int) -> tuple[float, float, float]:
        if t == length:
            return 0.0, 0.0, 0.0
        if depth in (length - t, max_depth):
            return 0.0, 1.0, 0.0
        return (0.5, 0.5, 0.0) if depth else (1.0, 0.0, 0.0)

    return length, move


CASES = [
    *((bracket_law.conditioned_law(*given), conditioned(*given), given[1]) for given in
      ((2, 3, 7), (1, 1, 5), (3, 1, 4), (5, 2, 6), (2, 5, 8), (4, 7, 9))),
    *((bracket_law.fixed_length_law(*given), fixed(*given), None) for given in
      ((1, 4), (2, 6), (3, 6), (9, 8), (2, 2))),
]  # fmt: skip


@pytest.mark.parametrize(("law", "plain", "low"), CASES)
def test_tables_are_those_of_a_recursion(law: Law, plain: tuple[int, Move], low: int | None) -> None:
    total, move = plain
    assert law.total == total
    assert law.has_end == (low is not None)
    accepted = [t == total if low is None else t % 2 == 0 and t + 1 >= low for t in range(total + 1)]
    assert law.accepts.tolist() == accepted
    # Probability of every state, forwards.
    state = {(0, 0): 1.0}
    for t in range(total):
        for depth in range(total + 1):
            mass = state.get((t, depth), 0.0)
            for action, change in ((OPEN, 1), (CLOSE, -1)):
                part = mass * move(t, depth)[action]
                if part:
                    state[t + 1, depth + change] = state.get((t + 1, depth + change), 0.0) + part
    levels = law.steps.shape[1]
    assert levels == total // 2 + 2
    passed = bracket_law.occupancy(law.steps)
    entropy = bracket_law.entropies(law, 0.3)

    @functools.cache
    def surprise(t: int, depth: int) -> float:
        moves = move(t, depth)
        own = -sum(p * math.log(p) for p in moves if p)
        if moves[OPEN]:
            own += moves[OPEN] * (0.3 + surprise(t + 1, depth + 1))
        if moves[CLOSE]:
            own += moves[CLOSE] * surprise(t + 1, depth - 1)
        return own

    for t, depth in np.ndindex(total + 1, levels):
        mass = state.get((t, depth), 0.0)
        wanted = move(t, depth) if mass else (0.0, 0.0, 0.0)
        np.testing.assert_allclose(law.steps[t, depth], wanted, atol=1e-12)
        assert passed[t, depth] == pytest.approx(mass, abs=1e-12)
        final = low is None and (t, depth) == (total, 0)
        assert law.supported[t, depth] == (sum(wanted) > 0 or final)
        if mass:
            assert entropy[t, depth] == pytest.approx(surprise(t, depth), abs=1e-12)


@pytest.mark.parametrize("max_depth", [None, 1, 2, 99])
@pytest.mark.parametrize(("law", "plain", "low"), [CASES[0], CASES[4], CASES[6], CASES[7], CASES[9]])
def test_counts_and_values_are_those_of_a_recursion(
    law: Law, plain: tuple[int, Move], low: int | None, max_depth: int | None
) -> None:
    total, _ = plain
    types, noise = 3, 0.2
    tokens = 2 * types + (low is not None)
    deepest = total if max_depth is None else max_depth

    @functools.cache
    def count(t: int, depth: int) -> int:
        if t > total or depth < 0 or depth > deepest:
            return 0
        return int(depth == 0 and law.accepts[t]) + types * count(t + 1, depth + 1) + count(t + 1, depth - 1)

    def noisy(t: int, depth: int) -> tuple[float, float, float]:
        """An open bracket of any type, the one close bracket that fits, END."""
        uniform = types / tokens, 1 / tokens, (low is not None) / tokens
        own = law.steps[t, depth]
        share = noise if own.sum() else 1.0
        up, down, end = ((1 - share) * p + share * q for p, q in zip(own, uniform, strict=True))
        return up, down if depth else 0.0, end

    @functools.cache
    def value(t: int, depth: int) -> float:
        if t > total or depth < 0 or depth > deepest or depth > total // 2:
            return 0.0
        up, down, end = noisy(t, depth)
        done = depth == 0 and bool(law.accepts[t])
        if low is None and t == total:
            return float(done)
        return end * done + up * value(t + 1, depth + 1) + down * value(t + 1, depth - 1)

    steps = bracket_law.noisy_steps(law, types, noise)
    counts = bracket_law.completions(law, types, max_depth)
    values = bracket_law.values(law, types, noise, max_depth)
    levels = law.steps.shape[1]
    assert len(counts) == total + 1
    for t, depth in np.ndindex(total + 1, levels):
        np.testing.assert_allclose(steps[t, depth], noisy(t, depth), atol=1e-12)
        # The last level stands for depths from which no string of T brackets comes back.
        if depth < levels - 1 and depth <= t:
            assert counts[t][depth] == count(t, depth)
            assert values[t, depth] == pytest.approx(value(t, depth), abs=1e-12)
        elif depth == levels - 1:
            assert counts[t][depth] == values[t, depth] == 0


def test_values_shift_by_a_level_and_stay_at_the_last() -> None:
    up, down = bracket_law.shifted(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), -7.0)
    assert up.tolist() == [[2, 3, 3], [5, 6, 6]]
    assert down.tolist() == [[-7, 1, 2], [-7, 4, 5]]
    assert bracket_law.shifted(np.array([1.0, 2.0]))[1].tolist() == [0, 1]
    assert (OPEN, CLOSE, END) == (0, 1, 2)
