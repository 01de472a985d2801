"""Decoders run on a `TreeTask`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decoding import Decoded, Problem, TaskPolicy, TaskValues, Walk, decode
from oracles.trees import Node, TreeTask


def problem(task: TreeTask, prompts: int = 1) -> Problem:
    """Prompts that share one tree."""
    return Problem(
        jnp.ones((prompts, 1), jnp.int32), jnp.ones((prompts, 1), bool), (), jnp.full((prompts,), task.depth)
    )


def run_on(task: TreeTask, decoder: Any, chains: int, seed: int, values: Walk | None = None) -> Decoded:
    """Chains of one prompt, with the task's own values by default."""
    values = TaskValues(task) if values is None else values
    decoded = decode(decoder, task, TaskPolicy(task), values, problem(task), jax.random.key(seed), chains)
    return jax.tree.map(lambda a: np.asarray(a)[0], decoded)


def responses(decoded: Decoded) -> list[Node]:
    """The leaf that each chain returned, () where it is unfinished."""
    return [
        tuple(row[row > 0].tolist()) if finished else ()
        for row, finished in zip(decoded.responses, decoded.finished, strict=True)
    ]
