"""Training FLOP of a shared-weight transformer, and steps of equal cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from covlab.plan.flops import necessary_flops
from models import Recursive


def step_flops(model: Recursive, batch_size: int) -> float:
    """`necessary_flops` of one training step, with `model.depth` uses of blocks. A router is not counted."""
    return necessary_flops(
        model.prompt_length,
        model.response_length,
        model.width,
        model.mlp_ratio,
        model.vocab_size,
        model.depth,
        batch_size,
    )


def equal_steps(model: Recursive, batch_size: int, steps: int, recursions: Sequence[int]) -> tuple[int, ...]:
    """For each number of recursions the steps, at least 1, whose FLOP are nearest to those of `steps` steps
    with the first number."""
    costs = [step_flops(dataclasses.replace(model, num_recursions=count), batch_size) for count in recursions]
    return tuple(max(1, round(steps * costs[0] / cost)) for cost in costs)
