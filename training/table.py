"""The table of sampled responses at the end of a phase."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
    task, batches = phase.task, held_out.batches.example
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: held_out.num_examples], batches)
    spread = np.linspace(0, held_out.num_examples - 1, max(num_prompts, len(task.groups))).astype(int)
    chosen = jax.tree.map(lambda a: a[spread], flat)
    key = stream(seed, "table", phase.name)
    samples, found = sample_responses(model, params, chosen.prompt, chosen.prompt_mask, key, 1)
    responses = jax.vmap(task.trimmed)(chosen.latent, samples[:, 0])
    log_probs = np.asarray(found)[:, 0]
    if bool(jnp.any(responses != samples[:, 0])):
        # What was drawn beyond the end is no part of the response.
        logits = jax.jit(model.logits)(params, chosen.prompt, chosen.prompt_mask, responses[:, None])[:, 0]
        kept = jnp.where(responses != PAD, token_log_probs(logits, responses), 0.0)
        log_probs = np.asarray(jnp.sum(kept, axis=-1))
    rewards = np.asarray(jax.vmap(task.reward)(chosen.latent, responses))
    valid = np.asarray(jax.vmap(task.validity)(chosen.latent, responses))
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
