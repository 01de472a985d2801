"""Answering prompts with a decoder, batch by batch, and the value functions that guide it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from covlab.launch.trained import intervals
from decoding import (
    Constant,
    Corrupted,
    Decoder,
    ModelPolicy,
    ModelValues,
    Problem,
    Rollouts,
    TaskValues,
    Walk,
    decode,
    problem_of,
)
from metrics import Interval
from metrics.answers import Answers
from metrics.evaluators import HeldOut
from models import Model, Params
from tasks import Task

FRACTIONS = ("accuracy", "finished", "pass")
"""Metrics in [0, 1]."""


def prompts_of(held_out: HeldOut) -> Problem:
    """All prompts of a held-out set."""
    return problem_of(held_out.task, held_out.flat(held_out.batches.example))


def answer(
    decoder: Decoder,
    task: Task,
    policy: Walk,
    values: Walk,
    problem: Problem,
    key: PRNGKeyArray,
    samples: int,
    batch_size: int,
    report: Callable[[], None] = lambda: None,
) -> Answers:
    """`samples` responses of every prompt, `batch_size` prompts at a time in one program.

    The last batch is padded with repetitions, which are cut off again. `report` is called after each batch.
    """
    total = problem.prompt.shape[0]
    size = min(batch_size, total)
    batches = []
    for first in range(0, total, size):
        index = jnp.asarray(np.arange(first, first + size) % total)
        part = jax.tree.map(lambda leaf, index=index: leaf[index], problem)
        decoded = decode(decoder, task, policy, values, part, jax.random.fold_in(key, first // size), samples)
        batches.append(jax.tree.map(np.asarray, decoded))
        report()
    whole = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *batches)
    return Answers(whole.responses, whole.finished, whole.reward, whole.queries, whole.tokens)


def values_named(
    name: str,
    task: Task,
    policy: ModelPolicy,
    network: tuple[Model, Params] | None,
    rollouts: int,
    corruption: float,
    seed: int,
) -> Walk:
    """The value function called `name`: `exact`, `rollouts`, `constant`, else `network`'s.

    Raises:
        ValueError: an invalid setting, in one line.
    """
    if name == "rollouts":
        values: Walk = Rollouts(policy, task, rollouts, seed)
    elif name == "constant":
        values = Constant(task)
    elif network is not None:
        values = ModelValues(*network)
    else:
        values = TaskValues(task)
    return Corrupted(values, task, corruption, seed) if corruption else values


def over_prompts(
    values: Mapping[str, Float[np.ndarray, " prompts"]], held_out: HeldOut
) -> dict[str, dict[str, Interval]]:
    """Metric -> class ("" for the mixture) -> mean with a 95 % interval over held-out prompts."""
    return {
        name: intervals(array, "accuracy" if name.startswith(FRACTIONS) else "ce", held_out)
        for name, array in values.items()
    }


def texts(task: Task, problem: Problem, answers: Answers, count: int) -> list[tuple[Any, ...]]:
    """(prompt, response, reward, finished, queries) of the first sample of `count` evenly spaced prompts."""
    indices = np.linspace(0, len(answers.responses) - 1, min(count, len(answers.responses))).astype(int)
    return [
        (
            task.decode(np.asarray(problem.prompt)[i]),
            task.decode(answers.responses[i, 0]),
            float(answers.reward[i, 0]),
            "yes" if answers.finished[i, 0] else "no",
            int(answers.queries[i, 0]),
        )
        for i in indices
    ]
