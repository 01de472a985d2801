"""Laws of bracket strings as tables over (brackets so far, depth), by dynamic programming on the host.

Types of open brackets are independent of the depths, and the stack determines the type of a close bracket, so
every condition, count and sum depends on a string through its depths alone. Tables have T + 1 rows for
t = 0..T brackets so far and `levels` columns for depths. The last column stands for all depths greater than a
balanced string of T brackets can reach.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float

OPEN, CLOSE, END = 0, 1, 2
"""Actions, the last axis of `Law.steps`."""


def num_levels(total: int) -> int:
    """Columns of a table for strings of at most `total` brackets: depths 0..total//2, one for the rest."""
    return total // 2 + 2


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """A law of balanced strings of at most `total` brackets.

    Attributes:
        steps: P(action | brackets so far, depth); zeros in states that have probability 0 or are final.
        accepts: True if a balanced string of t brackets is accepted, t = 0..T.
        has_end: True if strings end in an END token.
    """

    steps: Float[np.ndarray, "time levels action"]
    accepts: Bool[np.ndarray, " time"]
    has_end: bool

    @property
    def total(self) -> int:
        """T, the largest number of brackets."""
        return len(self.accepts) - 1

    @property
    def supported(self) -> Bool[np.ndarray, "time levels"]:
        """True in states where pi_D has a next token or the string is complete."""
        found = self.steps.sum(axis=-1) > 0
        if not self.has_end:
            found[self.total, 0] = True
        return found


def shifted(
    after: Float[np.ndarray, "*batch levels"], outside: float = 0.0
) -> tuple[Float[np.ndarray, "*batch levels"], Float[np.ndarray, "*batch levels"]]:
    """`after` one level up and one level down: the values after an open and after a close bracket.

    An open bracket at the last level stays there; the value below level 0 is `outside`.
    """
    up = np.concatenate([after[..., 1:], after[..., -1:]], axis=-1)
    low = np.full_like(after[..., :1], outside)
    return up, np.concatenate([low, after[..., :-1]], axis=-1)


@functools.cache
def conditioned_law(max_depth: int, min_length: int, max_length: int) -> Law:
    """Standard sampler of Dyck-(k, m), conditioned on `min_length` to `max_length` tokens, END counted.

    The sampler, in depths: depth 0: END with probability 1/2, else open; 0 < depth < m: close with
    probability 1/2, else open; depth m: close. Let beta(t, d) be the probability of acceptance from state
    (t, d). The conditioned process takes action a with probability P(a | d) beta(after a) / beta(t, d)
    (Doob's h-transform).
    """
    total = 2 * ((max_length - 1) // 2)
    brackets = np.arange(total + 1)
    accepts = (brackets % 2 == 0) & (brackets + 1 >= min_length)
    levels = num_levels(total)
    base = np.zeros((levels, 3))
    base[: min(max_depth, levels - 1)] = [0.5, 0.5, 0.0]
    base[max_depth : max_depth + 1] = [0.0, 1.0, 0.0]
    base[0] = [0.5, 0.0, 0.5]
    # In logarithms, because the probability of a long string underflows.
    with np.errstate(divide="ignore"):
        log_base, log_accepts = np.log(base), np.log(accepts.astype(np.float64))
    log_after = np.full(levels, -np.inf)
    steps = np.zeros((total + 1, levels, 3))
    for t in reversed(range(total + 1)):
        up, down = shifted(log_after, -np.inf)
        ends = np.full(levels, -np.inf)
        ends[0] = log_accepts[t]
        joint = log_base + np.stack([up, down, ends], axis=-1)
        log_after = np.logaddexp.reduce(joint, axis=-1)
        log_after[-1] = -np.inf
        possible = np.isfinite(log_after)
        steps[t, possible] = np.exp(joint[possible] - log_after[possible, None])
    return Law(_reached(steps), accepts, has_end=True)


@functools.cache
def fixed_length_law(max_depth: int, length: int) -> Law:
    """Fixed-length sampler of Botta et al. (arXiv 2502.12123), in depths.

    Open if the stack is empty; close if the remaining length equals the depth or the depth is the cap; else
    either with probability 1/2.
    """
    levels = num_levels(length)
    steps = np.zeros((length + 1, levels, 3))
    for t in range(length):
        for depth in range(min(max_depth, length - t, levels - 2) + 1):
            forced = depth in (length - t, max_depth)
            close = 1.0 if forced else 0.0 if depth == 0 else 0.5
            steps[t, depth] = [1 - close, close, 0]
    return Law(_reached(steps), np.arange(length + 1) == length, has_end=False)


def _reached(steps: Float[np.ndarray, "time levels action"]) -> Float[np.ndarray, "time levels action"]:
    """`steps` with rows of zeros in states that the process cannot reach."""
    possible = np.zeros(steps.shape[:2], bool)
    possible[0, 0] = True
    for t in range(len(steps) - 1):
        possible[t + 1, 1:] |= possible[t, :-1] & (steps[t, :-1, OPEN] > 0)
        possible[t + 1, :-1] |= possible[t, 1:] & (steps[t, 1:, CLOSE] > 0)
    return np.where(possible[:, :, None], steps, 0.0)


def occupancy(steps: Float[np.ndarray, "time levels action"]) -> Float[np.ndarray, "time levels"]:
    """P(depth d after t brackets and no END before), from the empty stack."""
    found = np.zeros(steps.shape[:2])
    found[0, 0] = 1
    for t in range(len(steps) - 1):
        mass = found[t][:, None] * steps[t]
        found[t + 1, 1:] += mass[:-1, OPEN]
        found[t + 1, :-1] += mass[1:, CLOSE]
    return found


@functools.cache
def entropies(law: Law, type_entropy: float) -> Float[np.ndarray, "time levels"]:
    """Entropy of the rest of the string in nats, given the stack.

    By the chain rule this is the expected sum of next-token entropies; an open bracket adds `type_entropy`.
    """
    found = np.zeros(law.steps.shape[:2])
    after = np.zeros(law.steps.shape[1])
    for t in reversed(range(law.total + 1)):
        up, down = shifted(after)
        step = law.steps[t]
        own = -np.sum(step * np.log(np.where(step > 0, step, 1.0)), axis=-1)
        after = own + step[:, OPEN] * (type_entropy + up) + step[:, CLOSE] * down
        found[t] = after
    return found


@functools.cache
def completions(law: Law, num_types: int, max_depth: int | None) -> tuple[tuple[int, ...], ...]:
    """Exact number of balanced strings of an accepted length that complete t brackets at depth d.

    With `max_depth`, only completions within that depth count.
    """
    levels = law.steps.shape[1]
    deepest = levels - 2 if max_depth is None else min(max_depth, levels - 2)
    after = [0] * levels
    rows = []
    for t in reversed(range(law.total + 1)):
        row = [0] * levels
        for depth in range(deepest + 1):
            row[depth] = int(depth == 0 and bool(law.accepts[t]))
            if t < law.total:
                row[depth] += num_types * after[depth + 1] + (after[depth - 1] if depth else 0)
        after = row
        rows.append(tuple(row))
    return tuple(reversed(rows))


def noisy_steps(law: Law, num_types: int, noise: float) -> Float[np.ndarray, "time levels action"]:
    """P(open of any type), P(close of the right type), P(END) of the noisy base model in every state.

    The token is uniform over the response tokens with probability `noise`, else drawn from pi_D. In states
    where pi_D has no next token it is always uniform.
    """
    tokens = 2 * num_types + law.has_end
    uniform = np.array([num_types, 1, law.has_end], np.float64) / tokens
    mixed = (1 - noise) * law.steps + noise * uniform
    found = np.where(law.steps.sum(axis=-1, keepdims=True) > 0, mixed, uniform)
    found[:, 0, CLOSE] = 0
    return found


@functools.cache
def values(law: Law, num_types: int, noise: float, max_depth: int | None) -> Float[np.ndarray, "time levels"]:
    """P(the completed string is balanced and of an accepted length) in every state of the noisy base model.

    With `max_depth`, the string must also stay within that depth.
    """
    steps = noisy_steps(law, num_types, noise)
    levels = law.steps.shape[1]
    deepest = levels - 2 if max_depth is None else min(max_depth, levels - 2)
    possible = np.arange(levels) <= deepest
    empty = np.arange(levels) == 0
    found = np.zeros((law.total + 1, levels))
    after = np.zeros(levels)
    for t in reversed(range(law.total + 1)):
        if t == law.total and not law.has_end:
            after = empty * law.accepts[t]
        else:
            up, down = shifted(after)
            ended = steps[t, :, END] * (empty & law.accepts[t])
            after = ended + steps[t, :, OPEN] * up + steps[t, :, CLOSE] * down
        after = np.where(possible, after, 0.0)
        found[t] = after
    return found
