"""Examples of a task drawn for evaluation, with the responses that an evaluation scores."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from tasks import PAD, Example, Task, stream
from tasks.compiling import QUICK
from tasks.streams import IMPLEMENTATION


class Candidates(NamedTuple):
    """Responses scored at every evaluation, with exact properties from the task.

    For an enumerable task these are all valid responses to every prompt and `log_pi` is the exact ln pi_D, so
    that expectations over y ~ pi_D(.|x) are sums. Otherwise the only candidate is the drawn response, with
    weight 1.
    """

    responses: Array
    mask: Array
    log_pi: Array
    weight: Array
    correct: Array


def draw_examples(task: Task, per_group: int, seed: int, split: str) -> tuple[Example, Candidates]:
    """`per_group` examples of every class from the stream (seed, "evaluation", split, class), and their
    candidates, as host arrays."""
    groups = np.repeat(np.arange(len(task.groups), dtype=np.int32), per_group)
    keys = _keys(split, tuple(task.groups), per_group, np.uint32(seed))
    return examples_of(task, np.asarray(keys), groups)


def examples_of(
    task: Task, keys: UInt32[np.ndarray, "rows words"], groups: Int[np.ndarray, " rows"]
) -> tuple[Example, Candidates]:
    """`Task.sample_group` of every key, given by its words, and class, and the candidates, as host arrays.

    A task and a number of rows have one program, whatever is drawn: the held-out set, those of evaluations,
    and the training prompts that a start compares with them share what is compiled.
    """
    draw = _draw_few if len(groups) <= FEW else _draw
    drawn: tuple[Example, Candidates] = jax.tree.map(np.asarray, draw(task, keys, groups))
    return drawn


@functools.partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=QUICK)
def _keys(
    split: str, names: tuple[str, ...], per_group: int, seed: Int[Array, ""]
) -> UInt32[Array, "rows words"]:
    """Words of `per_group` keys of each class's stream, in order."""
    streams = [stream(seed, "evaluation", split, name) for name in names]
    return jnp.concatenate([jax.random.key_data(jax.random.split(key, per_group)) for key in streams])


def _draws(
    task: Task, keys: UInt32[Array, "rows words"], groups: Int[Array, " rows"]
) -> tuple[Example, Candidates]:
    # A call per class would be traced and compiled per class.
    examples = jax.vmap(task.sample_group)(jax.random.wrap_key_data(keys, impl=IMPLEMENTATION), groups)
    return examples, jax.vmap(functools.partial(_candidates, task))(examples)


_draw = jax.jit(_draws, static_argnames="task")
_draw_few = jax.jit(_draws, static_argnames="task", compiler_options=QUICK)
FEW = 8192
"""Largest number of examples whose drawing takes less time than compiling it well."""


def _candidates(task: Task, example: Example) -> Candidates:
    if not task.num_enumerated:
        drawn = (example.response[None], example.response_mask[None], example.log_prob[None])
        return Candidates(*drawn, weight=jnp.ones((1,)), correct=jnp.ones((1,), bool))
    found = task.enumerate(example.latent)
    log_pi = jax.vmap(task.log_prob, in_axes=(None, 0))(example.latent, found.responses)
    log_pi = jnp.where(found.mask, log_pi, -jnp.inf)
    correct = jax.vmap(task.reward, in_axes=(None, 0))(example.latent, found.responses) > 0
    # Responses of different lengths end in padding, which has no probability.
    mask = found.mask[:, None] & (found.responses != PAD)
    return Candidates(found.responses, mask, log_pi, jnp.exp(log_pi), correct & found.mask)
