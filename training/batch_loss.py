"""Losses of a batch's responses under a model (stage 5 of `training.program`)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models import Model, Params, token_log_probs, token_logits
from training.objectives import Objective, Scores
from training.old_scores import divergence
from training.sources import TrainingBatch


def batch_loss(
    model: Model,
    objective: Objective,
    params: Params,
    batch: TrainingBatch,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Mean over the batch's responses of the objective's losses, each times the weight of its class.

    For an objective that weighs sequences, the weighted mean sum_i w_i l_i / sum_i w_i.
    """
    losses, scores, weights = response_losses(model, objective, params, batch, class_weights)
    if objective.weighs:
        return mean_by_weight(objective, losses, scores, weights)[0]
    return mean_by_class(losses, weights)


def mean_by_class(losses: Array, weights: Array | None) -> Float[Array, ""]:
    """Mean of the losses, each times the weight of its class."""
    return jnp.mean(losses if weights is None else weights * losses)


def mean_by_weight(
    objective: Objective, losses: Array, scores: Scores, weights: Array | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted mean of the losses, and ln of the sum of the weights, in nats."""
    log_weights = jax.lax.stop_gradient(objective.log_weights(scores))
    if weights is not None:
        log_weights += jnp.log(weights)
    log_mass = jax.nn.logsumexp(log_weights)
    return jnp.sum(jnp.exp(log_weights - log_mass) * losses), log_mass


def response_losses(
    model: Model,
    objective: Objective,
    params: Params,
    batch: TrainingBatch,
    class_weights: Sequence[float] | None,
    token: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "batch samples"], Scores, Float[Array, "batch 1"] | None]:
    """Loss of every response, the scores that it was computed from, and the weight of its class.

    With `token`, only the token at that position of the responses, counted from 0, is scored.
    """
    logits, further, penalty = model.training_pass(
        params, batch.prompt, batch.prompt_mask, batch.responses, batch.response_mask, objective.ahead
    )
    prompt_scores = prompt_mask = None
    if objective.needs_prompt:
        prompt_scores = token_log_probs(
            model.prompt_logits(params, batch.prompt, batch.prompt_mask), batch.prompt[:, 1:]
        )[:, None]
        prompt_mask = (batch.prompt_mask[:, :-1] & batch.prompt_mask[:, 1:])[:, None]
    theirs = batch.old.distributions
    if theirs is not None:
        # Masked before the divergence, whose gradient at padding would be 0 times an arbitrary number.
        theirs = jnp.where(batch.response_mask[..., None], theirs, 0.0)
    mask = batch.response_mask
    if token is not None:
        mask &= jnp.arange(mask.shape[-1]) == token
    scores = Scores(
        token_log_probs(logits, batch.responses),
        mask,
        prompt_scores,
        prompt_mask,
        token_logits(logits, batch.responses),
        batch.rewards if batch.bonus is None or batch.rewards is None else batch.rewards + batch.bonus,
        batch.old.behaviour,
        batch.old.reference,
        None if theirs is None else divergence(logits, theirs),
        jax.nn.log_softmax(logits),
        batch.teacher,
        _ahead_log_probs(further, batch.responses) if further else None,
        batch.kept,
    ).masked()
    weights = None if class_weights is None else jnp.asarray(class_weights)[batch.group][:, None]
    losses = objective.losses(scores)
    return losses if penalty is None else losses + penalty, scores, weights


def _ahead_log_probs(
    further: Sequence[Float[Array, "batch samples _ vocab"]], responses: Int[Array, "batch samples response"]
) -> Float[Array, "batch samples heads response"]:
    """ln pi_d(y_t|x, y_<t-d) of the heads d = 1, 2, ..., and 0 at t < d."""
    by_head = [token_log_probs(logits, responses[..., d:]) for d, logits in enumerate(further, start=1)]
    early = [(0, 0)] * (responses.ndim - 1)
    return jnp.stack([jnp.pad(own, [*early, (d, 0)]) for d, own in enumerate(by_head, start=1)], axis=-2)
