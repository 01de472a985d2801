"""Ancestral sampling of many responses per prompt in one program that shares the prompt's cache."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models import Model, Params
from tasks import categorical


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def sample_responses(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    key: PRNGKeyArray,
    num_samples: int,
    temperature: float = 1.0,
) -> tuple[Int[Array, "batch samples response"], Float[Array, "batch samples"]]:
    """Draw `num_samples` responses per prompt, y_t ~ softmax(logits / temperature).

    Returns:
        The responses and ln pi_T(y|x) in nats under the sampling distribution (the model at temperature 1).
    """
    shape = (prompt.shape[0], num_samples)

    def step(carry: tuple[Array, Array, Array], position: Array) -> tuple[tuple[Array, Array, Array], Array]:
        cache, tokens, log_probs = carry
        logits, cache = model.step(params, cache, tokens, position)
        scaled = jax.nn.log_softmax(logits / temperature)
        tokens = categorical(jax.random.fold_in(key, position), scaled)
        log_probs += jnp.take_along_axis(scaled, tokens[..., None], axis=-1)[..., 0]
        return (cache, tokens, log_probs), tokens

    cache = model.start(params, prompt, prompt_mask, num_samples)
    last = jnp.broadcast_to(prompt[:, -1:], shape)
    carry = (cache, last, jnp.zeros(shape))
    (_, _, log_probs), tokens = jax.lax.scan(step, carry, jnp.arange(model.response_length))
    return jnp.moveaxis(tokens, 0, -1), log_probs
