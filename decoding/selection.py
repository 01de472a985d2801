"""Selection of diverse responses by the features of a model."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models import Model, Params
from tasks.checks import real, whole


def select_diverse(features: Float[Array, "samples width"], k: int, ridge: float = 0.01) -> Int[Array, " k"]:
    """Indices of k responses, selected greedily: argmax_i h_i' Lambda h_i among the remaining responses.

    Lambda = (ridge I + sum of h h' over the selected)^-1, updated by the Sherman-Morrison formula:
    Lambda <- Lambda - (Lambda h)(Lambda h)'/(1 + h' Lambda h). Ties go to the first index. The first response
    has the largest norm; directions already selected have a small score.

    Raises:
        ValueError: k out of range, or a ridge that is not positive.

    Source: representation-based exploration, arXiv 2510.11686, section 3; `ridge` is the paper's lambda.

    Example:
        >>> select_diverse(jnp.array([[2.0, 0.0], [1.9, 0.0], [0.0, 1.0]]), 2)
        Array([0, 2], dtype=int32)
    """
    whole("k", k, 1, features.shape[0])
    real("ridge", ridge, above=0)
    return _select(features.astype(jnp.float32), k, ridge)


@functools.partial(jax.jit, static_argnames=("k",))
def _select(own: Float[Array, "samples width"], k: int, ridge: Float[Array, ""] | float) -> Int[Array, " k"]:
    def pick(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        inverse, left = carry
        moved = own @ inverse
        novelty = jnp.where(left, jnp.sum(moved * own, axis=-1), -jnp.inf)
        chosen = jnp.argmax(novelty)
        row = moved[chosen]
        inverse -= jnp.outer(row, row) / (1 + novelty[chosen])
        return (inverse, left.at[chosen].set(False)), chosen.astype(jnp.int32)

    start = (jnp.eye(own.shape[-1], dtype=jnp.float32) / ridge, jnp.ones(own.shape[0], bool))
    return jax.lax.scan(pick, start, None, length=k)[1]


def response_features(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    responses: Int[Array, "batch samples response"],
    mask: Bool[Array, "batch samples response"],
) -> Float[Array, "batch samples width"]:
    """Features h(x, y): mean last hidden state over the tokens of a response, float32; 0 without tokens.

    The mean is over the states that predict y_1..y_n, one position before the tokens: models have no position
    for the last token, after which nothing is predicted (`GPT.max_length`).

    Raises:
        ValueError: a model whose last layer is not a matrix (`Model.features`).
    """
    states = model.features(params, prompt, prompt_mask, responses).astype(jnp.float32)
    kept = jnp.where(mask[..., None], states, 0.0)
    return jnp.sum(kept, axis=2) / jnp.maximum(jnp.sum(mask, axis=2, dtype=jnp.float32), 1.0)[..., None]


def whitened(features: Float[Array, "samples width"], ridge: float = 0.01) -> Float[Array, "samples width"]:
    """(h - mean) C^-1/2 in float32, C = cov(h) + ridge tr(cov(h))/width I: no direction counts more than
    another for its spread alone.

    With `ridge` near 0 an invertible linear map of the features turns the result and does nothing else, so
    that `select_diverse` picks the same.

    Raises:
        ValueError: a ridge that is not positive.
    """
    real("ridge", ridge, above=0)
    centred = features.astype(jnp.float32) - jnp.mean(features, axis=0, dtype=jnp.float32)
    values, vectors = jnp.linalg.eigh(centred.T @ centred / features.shape[0])
    # Rounding may make the eigenvalue 0 negative; all are 0 where all features are equal.
    values = jnp.maximum(values, 0.0)
    spread = jnp.maximum(values + ridge * jnp.mean(values), jnp.finfo(jnp.float32).tiny)
    return centred @ (vectors * jax.lax.rsqrt(spread)) @ vectors.T
