"""The table of sampled responses at the end of a phase."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from decoding import sample_responses
from metrics.evaluators import HeldOut
from models import Model, Params, token_log_probs
from tasks import PAD, stream
from training.phase import Phase

COLUMNS = ("class", "prompt", "pi_D's response", "sampled response", "reward", "valid", "ln pi_hat")


def sample_table(
    model: Model, phase: Phase, params: Params, seed: int, held_out: HeldOut, num_prompts: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of `COLUMNS`: one response of the model with `params`, sampled in the stream (seed, "table",
    phase), for each of `num_prompts` held-out prompts, at least one of every class."""
    task = phase.task
    spread = np.linspace(0, held_out.num_examples - 1, max(num_prompts, len(task.groups))).astype(int)
    # On the host and in one program, because every array operation on the device is a compilation.
    chosen = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[spread], held_out.batches.example)

    @jax.jit
    def judged(latent: Any, drawn: Array) -> tuple[Array, Array, Array]:
        responses = jax.vmap(task.trimmed)(latent, drawn)
        return (
            responses,
            jax.vmap(task.reward)(latent, responses),
            jax.vmap(task.validity)(latent, responses),
        )

    @jax.jit
    def log_prob(params: Params, prompt: Array, mask: Array, responses: Array) -> Array:
        found = token_log_probs(model.logits(params, prompt, mask, responses[:, None])[:, 0], responses)
        return jnp.sum(jnp.where(responses != PAD, found, 0.0), axis=-1)

    key = stream(seed, "table", phase.name)
    samples, log_probs = (
        np.asarray(a)[:, 0]
        for a in sample_responses(model, params, chosen.prompt, chosen.prompt_mask, key, 1)
    )
    responses, rewards, valid = (np.asarray(a) for a in judged(chosen.latent, samples))
    if np.any(responses != samples):
        # What was drawn beyond the end is no part of the response.
        log_probs = np.asarray(log_prob(params, chosen.prompt, chosen.prompt_mask, responses))
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
