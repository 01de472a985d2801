"""Training FLOP of a shared-weight transformer, and steps of equal cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from models import Recursive


def step_flops(model: Recursive, batch_size: int) -> float:
    """Floating-point operations of the matrix products that one training step needs.

    With B sequences, R response tokens, Q prompt tokens before the last, T = Q + R inputs, width d, hidden
    width m d, vocabulary V and L uses of blocks (`model.depth`), and 2 operations for a multiplication and
    addition, the forward pass is

        L - 1 uses:  2 T (4 + 2 m) d^2  +  4 d T (T + 1) / 2
        last use:    2 Q 2 d^2  +  2 R (4 + 2 m) d^2  +  4 d (R Q + R (R + 1) / 2)
        logits:      2 R d V

    Queries, keys, values, output and feed-forward come first, then scores and weighted values of the pairs
    that causality leaves. The last use computes outputs for the response only. Look-ups count nothing. The
    backward pass needs twice the forward, so that a step needs 3 B times the sum. A router is not counted.
    """
    before, response, width = model.prompt_length - 1, model.response_length, model.width
    length = before + response
    dense = (4 + 2 * model.mlp_ratio) * width**2
    use = 2 * length * dense + 4 * width * length * (length + 1) / 2
    pairs = response * before + response * (response + 1) / 2
    last = 2 * before * 2 * width**2 + 2 * response * dense + 4 * width * pairs
    logits = 2 * response * width * model.vocab_size
    return 3 * batch_size * ((model.depth - 1) * use + last + logits)


def equal_steps(model: Recursive, batch_size: int, steps: int, recursions: Sequence[int]) -> tuple[int, ...]:
    """For each number of recursions the steps, at least 1, whose FLOP are nearest to those of `steps` steps
    with the first number."""
    costs = [step_flops(dataclasses.replace(model, num_recursions=count), batch_size) for count in recursions]
    return tuple(max(1, round(steps * costs[0] / cost)) for cost in costs)
