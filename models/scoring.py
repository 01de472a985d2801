"""Log-probabilities of responses under a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.base import Model, Params


def token_logits(
    logits: Float[Array, "*batch length vocab"], tokens: Int[Array, "*batch length"]
) -> Float[Array, "*batch length"]:
    """Logit of each token.

    A product with one-hot rows picks the logit, because the gradient of a gather is expensive.
    """
    one_hot = jax.nn.one_hot(tokens, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(jnp.where(one_hot > 0, logits, 0.0), axis=-1)


def token_log_probs(
    logits: Float[Array, "*batch length vocab"], tokens: Int[Array, "*batch length"]
) -> Float[Array, "*batch length"]:
    """ln softmax(logits)[token], in nats."""
    return token_logits(logits, tokens) - jax.nn.logsumexp(logits, axis=-1)


def sequence_log_probs(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    responses: Int[Array, "batch candidates response"],
    response_mask: Bool[Array, "batch candidates response"],
) -> Float[Array, "batch candidates"]:
    """ln pi(y|x) = sum_t ln pi(y_t | x, y_<t) of several responses per prompt; t runs over real tokens."""
    scores = token_log_probs(model.logits(params, prompt, prompt_mask, responses), responses)
    return jnp.sum(jnp.where(response_mask, scores, 0.0), axis=-1)
