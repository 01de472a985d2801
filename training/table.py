"""Table of sampled responses at the end of a phase."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from decoding import sample_responses
from metrics.evaluators import HeldOut
from models import Model, Params, sequence_log_probs
from tasks import PAD, Task, stream
from training.phase import Phase

COLUMNS = ("class", "prompt", "pi_D's response", "sampled response", "reward", "valid", "ln pi_hat")


def sample_table(
    model: Model, phase: Phase, params: Params, seed: int, held_out: HeldOut, num_prompts: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of `COLUMNS`: responses to held-out prompts, sampled in the stream (seed, "table", phase).

    There are `num_prompts` prompts, at least one of every class.
    """
    task = phase.task
    spread = np.linspace(0, held_out.num_examples - 1, max(num_prompts, len(task.groups))).astype(int)
    chosen = jax.tree.map(lambda a: a[spread], held_out.flat(held_out.batches.example))

    key = stream(seed, "table", phase.name)
    samples, log_probs = (
        np.asarray(a)[:, 0]
        for a in sample_responses(model, params, chosen.prompt, chosen.prompt_mask, key, 1)
    )
    responses, rewards, valid = (np.asarray(a) for a in _judged(task, chosen.latent, samples))
    if np.any(responses != samples):
        # Tokens drawn beyond the end are not part of the response.
        kept = responses[:, None]
        scores = _score(model, params, chosen.prompt, chosen.prompt_mask, kept, kept != PAD)
        log_probs = np.asarray(scores)[:, 0]
    for i, response in enumerate(responses):
        yield (
            task.groups[int(chosen.group[i])],
            task.decode(chosen.prompt[i]),
            task.decode(chosen.response[i]),
            task.decode(response),
            int(rewards[i]),
            int(valid[i]),
            round(float(log_probs[i]), 4),
        )


_score = jax.jit(sequence_log_probs, static_argnums=0)


@functools.partial(jax.jit, static_argnames="task")
def _judged(task: Task, latent: Any, drawn: Array) -> tuple[Array, Array, Array]:
    """Responses up to their ends, with reward and validity."""
    responses = jax.vmap(task.trimmed)(latent, drawn)
    return responses, jax.vmap(task.reward)(latent, responses), jax.vmap(task.validity)(latent, responses)
