"""Table of sampled responses at the end of a phase."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from decoding import sample_responses
from metrics.evaluators import HeldOut
from models import Model, Params, sequence_log_probs
from models.target import platform
from tasks import PAD, Example, Task, stream
from training.phase import Phase
from training.precision import exact_products

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
    drawn = draw_responses(model, task, params, chosen, key, 1)
    responses, log_probs, rewards, valid = (array[:, 0] for array in drawn)
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


class Drawn(NamedTuple):
    """Responses up to their ends, ln pi_hat(y|x) in nats, rewards and validity, by prompt and sample."""

    responses: Int[np.ndarray, "prompts samples response"]
    log_probs: Float[np.ndarray, "prompts samples"]
    rewards: Float[np.ndarray, "prompts samples"]
    valid: Float[np.ndarray, "prompts samples"]


def draw_responses(
    model: Model,
    task: Task,
    params: Params,
    examples: Example,
    key: PRNGKeyArray,
    num_samples: int,
    temperature: float = 1.0,
) -> Drawn:
    """`num_samples` responses to each of a batch of prompts, judged by the task.

    They are drawn at `temperature`; the log-probabilities are those of the model, at temperature 1. Both have
    products of float32's precision on every platform.
    """
    prompt, mask = examples.prompt, examples.prompt_mask
    with exact_products(platform()):
        sampled = sample_responses(model, params, prompt, mask, key, num_samples, temperature)
    samples, log_probs = (np.asarray(each) for each in sampled)
    judged = (np.asarray(each) for each in _judged(task, examples.latent, samples))
    responses, kept, rewards, valid = judged
    if temperature != 1 or not np.all(kept):
        # Tokens drawn beyond the end are not part of the response.
        log_probs = np.asarray(score_responses(model, params, prompt, mask, responses, kept))
    return Drawn(responses, log_probs, rewards, valid)


def score_responses(
    model: Model,
    params: Params,
    prompt: Int[Array | np.ndarray, "batch prompt"],
    prompt_mask: Bool[Array | np.ndarray, "batch prompt"],
    responses: Int[Array | np.ndarray, "batch candidates response"],
    response_mask: Bool[Array | np.ndarray, "batch candidates response"],
) -> Float[Array, "batch candidates"]:
    """`models.sequence_log_probs`, compiled, with products of float32's precision."""
    with exact_products(platform()):
        return _scored(model, params, prompt, prompt_mask, responses, response_mask)


_scored = jax.jit(sequence_log_probs, static_argnums=0)


@functools.partial(jax.jit, static_argnames="task")
def _judged(task: Task, latents: Any, samples: Array) -> tuple[Array, Array, Array, Array]:
    """Responses up to their ends, their positions, reward and validity."""
    # A model may draw padding as a token of the response.
    other = next((token for token in task.response_tokens if token != task.end_token), PAD)

    def one(latent: Any, drawn: Array) -> tuple[Array, Array, Array, Array]:
        response = task.trimmed(latent, drawn)
        kept = task.trimmed(latent, jnp.where(drawn == PAD, other, drawn)) != PAD
        return response, kept, task.reward(latent, response), task.validity(latent, response)

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(latents, samples)
