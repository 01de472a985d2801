"""Scores of a batch's responses under other parameters than those of the current update."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models import Model, Params, token_log_probs


class OldScores(NamedTuple):
    """Scores in nats, constant with respect to gradients; None if not requested.

    Attributes:
        behaviour: ln pi_old(y_t|x, y_<t), under the parameters that drew the responses.
        reference: ln pi_ref(y_t|x, y_<t), under the reference model.
        distributions: ln pi_ref(a|x, y_<t) of every token a.
    """

    behaviour: Float[Array, "batch samples response"] | None = None
    reference: Float[Array, "batch samples response"] | None = None
    distributions: Float[Array, "batch samples response vocab"] | None = None


class Rolled(NamedTuple):
    """Part of a batch that models read."""

    prompt: Int[Array, "batch prompt"]
    prompt_mask: Bool[Array, "batch prompt"]
    responses: Int[Array, "batch samples response"]


def old_scores(
    model: Model,
    rolled: Rolled,
    parts: int,
    behaviour: Params | None = None,
    reference: Params | None = None,
    base: Model | None = None,
    distributions: bool = False,
) -> OldScores:
    """Score the responses under the given parameters.

    Args:
        model: the model of `behaviour`.
        rolled: prompts and responses.
        parts: number of equal parts of the batch that are computed in sequence, as for the gradient.
        behaviour, reference: parameters, or None for no scores.
        base: the model of `reference`; None: `model`.
        distributions: True to keep the full distributions of the reference, not only those of drawn tokens.
    """

    def score(own: Rolled) -> OldScores:
        def logits(of: Model, params: Params) -> Array:
            return of.logits(params, own.prompt, own.prompt_mask, own.responses)

        found: dict[str, Any] = {}
        if behaviour is not None:
            found["behaviour"] = token_log_probs(logits(model, behaviour), own.responses)
        if reference is not None:
            theirs = logits(base or model, reference)
            if distributions:
                found["distributions"] = jax.nn.log_softmax(theirs)
            else:
                found["reference"] = token_log_probs(theirs, own.responses)
        return OldScores(**found)

    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), rolled)
    scores = jax.lax.map(score, split)
    return jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), scores))


def divergence(
    logits: Float[Array, "*batch vocab"], reference: Float[Array, "*batch vocab"]
) -> Float[Array, "*batch"]:
    """KL(pi || pi_ref) = sum_a pi(a) (ln pi(a) - ln pi_ref(a)) in nats, from pi's logits and ln pi_ref."""
    own = jax.nn.log_softmax(logits)
    possible = jnp.isfinite(own)
    # Inner `where`s, because the gradient would be that of inf - inf where a token is impossible.
    gap = jnp.where(possible, own, 0.0) - jnp.where(possible, reference, 0.0)
    return jnp.sum(jnp.where(possible, jnp.exp(own) * gap, 0.0), axis=-1)
