"""Responses and prompts of bracket tasks, written by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from tasks import BracketLatent, BracketTask


def padded(task: BracketTask, text: str, size: int) -> np.ndarray:
    """Tokens of the words, then padding."""
    tokens = task.encode(text)
    return np.array(tokens + [0] * (size - len(tokens)), np.int32)


def latent_of(length: int, stack: tuple[int, ...], opened: tuple[int, ...]) -> BracketLatent:
    """Latent of a prompt of `length` brackets: types and places of those that are open."""
    rows = np.full((2, 3), -1, np.int32)
    rows[0, : len(stack)], rows[1, : len(stack)] = stack, opened
    number = [jnp.asarray(value, jnp.int32) for value in (length, len(stack), 0)]
    return BracketLatent(jnp.zeros((0,), jnp.int32), number[0], number[1], *jnp.asarray(rows), number[2])
