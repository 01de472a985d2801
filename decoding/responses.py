"""Responses of a base model to a batch of prompts, within a training step or an evaluation.

With one random key per prompt, responses do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from models import Model, Params
from tasks import PAD, Example, Task, categorical


def base_responses(
    task: Task,
    examples: Example,
    keys: PRNGKeyArray,
    base: Model | None,
    params: Params,
    samples: int,
    restricted: bool = True,
) -> tuple[Int[Array, "batch samples response"], Bool[Array, "batch samples response"]]:
    """`samples` responses per prompt, y_h ~ pi_ref(.|x, y_1:h-1), and the mask of their tokens.

    Tokens of a model are drawn among `task.response_tokens`, renormalised. A response ends with
    `task.end_token` or after `task.max_tokens` tokens and is then padded.

    Args:
        keys: one key per example.
        base, params: the base model and the parameters; None and () for the task's exact base model.
        restricted: False draws tokens of a model from the full vocabulary, without renormalisation; padding
            is then a wrong token.
    """
    shape = (examples.prompt.shape[0], samples)
    depth = jax.vmap(task.max_tokens)(examples.latent)[:, None]
    start, step = _base(task, examples, base, params, samples, restricted)

    def extend(
        carry: tuple[Any, Array, Array, Array], position: Array
    ) -> tuple[tuple[Any, Array, Array, Array], Array]:
        cache, tokens, prefix, going = carry
        logits, cache = step(cache, tokens, prefix, position)
        own = jax.vmap(lambda key: jax.random.fold_in(key, position))(keys)
        drawn = jax.vmap(categorical)(own, logits)
        going &= position < depth
        tokens = jnp.where(going, drawn, PAD).astype(prefix.dtype)
        prefix = jax.lax.dynamic_update_slice_in_dim(prefix, tokens[..., None], position, axis=-1)
        counts = going
        if task.end_token is not None:
            going &= tokens != task.end_token
        return (cache, tokens, prefix, going), counts

    last = jnp.broadcast_to(examples.prompt[:, -1:], shape)
    prefix = jnp.full((*shape, task.response_length), PAD, examples.response.dtype)
    carry = (start, last, prefix, jnp.ones(shape, bool))
    (_, _, responses, _), mask = jax.lax.scan(extend, carry, jnp.arange(task.response_length))
    return responses, jnp.moveaxis(mask, 0, -1)


def _base(
    task: Task, examples: Example, base: Model | None, params: Params, samples: int, restricted: bool
) -> tuple[Any, Callable[[Any, Array, Array, Array], tuple[Array, Any]]]:
    """A cache, and a function from (cache, last tokens, prefixes, length) to (logits, cache)."""
    allowed = jnp.zeros(task.vocab_size, bool).at[jnp.asarray(task.response_tokens)].set(True)
    if base is None:

        def by_task(cache: Any, tokens: Array, prefix: Array, position: Array) -> tuple[Array, Any]:
            own = jax.vmap(jax.vmap(task.reference_log_probs, (None, 0, None)), (0, 0, None))
            return own(examples.latent, prefix, position), cache

        return (), by_task

    def by_model(cache: Any, tokens: Array, prefix: Array, position: Array) -> tuple[Array, Any]:
        logits, cache = base.step(params, cache, tokens, position)
        return jnp.where(allowed, logits, -jnp.inf) if restricted else logits, cache

    return base.start(params, examples.prompt, examples.prompt_mask, samples), by_model
