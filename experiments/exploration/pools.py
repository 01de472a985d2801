"""Pools of responses that a model draws itself, judged, with what its representations say of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from decoding import base_responses, select_diverse, whitened
from decoding.selection import response_features
from metrics.evaluators import HeldOut, make_held_out
from models import Model, Params, sequence_log_probs
from tasks import Example, Task, stream
from training.exploration import elliptic_bonus

REPRESENTATION, WHITENED = "representation", "representation, whitened"
"""Rules that pick by `decoding.select_diverse`, on features as they are and on whitened ones."""


class Pool(NamedTuple):
    """N responses to each prompt.

    Attributes:
        reward, valid: whether a response is correct, and whether it obeys the task's local rules.
        alike: for each response the index of the first one with the same tokens.
        log_prob: ln pi(y|x) under the model that drew them, nats.
        orders: by rule, in which order the responses are picked.
        bonus: h' V^-1 h within groups of rollouts, in the pool's order, weight 1; no bonus is left out.
    """

    reward: Bool[np.ndarray, "prompts responses"]
    valid: Bool[np.ndarray, "prompts responses"]
    alike: Int[np.ndarray, "prompts responses"]
    log_prob: Float[np.ndarray, "prompts responses"]
    orders: Mapping[str, Int[np.ndarray, "prompts responses"]]
    bonus: Float[np.ndarray, "prompts responses"]


class PoolSettings(NamedTuple):
    """Size of the pools.

    Attributes:
        responses: N of each prompt.
        prompts: of each class of the task.
        ridge: lambda of `select_diverse` and of the bonus.
        group: rollouts that the bonus compares.
    """

    responses: int
    prompts: int
    ridge: float
    group: int


def held_out_prompts(task: Task, settings: PoolSettings, seed: int) -> HeldOut:
    """The prompts that all pools of a task share, in one batch."""
    total = settings.prompts * len(task.groups)
    return make_held_out(task, settings.prompts, total, seed, "exploration")


def prompt_weights(held_out: HeldOut, only: str | None) -> Float[np.ndarray, " prompts"]:
    """Weights of the prompts, with sum 1: by the probabilities of their classes, or 0 outside one class."""
    weights = held_out.weights
    if only is not None:
        weights = np.where(held_out.groups == held_out.task.groups.index(only), weights, 0.0)
    return weights / weights.sum()


def draw_pool(
    held_out: HeldOut,
    model: Model,
    params: Params,
    settings: PoolSettings,
    key: PRNGKeyArray,
    ordered: bool = True,
) -> Pool:
    """`settings.responses` responses of the model to each prompt; the same key gives every model the same
    random numbers. Without `ordered`, orders and bonus are left empty, and valid and log_prob too."""
    task = held_out.task
    example: Example = jax.tree.map(lambda leaf: leaf[0], held_out.batches.example)
    keys = jax.random.split(key, held_out.num_examples)
    tokens, drawn = _draw(task, model, params, example, keys, settings, ordered)
    # Apart from padding, a token that was drawn is part of the response, whatever it is.
    alike = np.stack([first_alike(responses) for responses in np.asarray(tokens)])
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in drawn.items()}
    orders = {name: arrays[name] for name in (REPRESENTATION, WHITENED) if ordered}
    empty = np.zeros((held_out.num_examples, 0))
    return Pool(
        arrays["reward"],
        arrays.get("valid", empty.astype(bool)),
        alike,
        arrays.get("log_prob", empty).astype(np.float64),
        orders,
        arrays.get("bonus", empty).astype(np.float64),
    )


@functools.partial(jax.jit, static_argnames=("task", "model", "settings", "ordered"))
def _draw(
    task: Task,
    model: Model,
    params: Params,
    examples: Example,
    keys: PRNGKeyArray,
    settings: PoolSettings,
    ordered: bool,
) -> tuple[Array, dict[str, Array]]:
    responses, mask = base_responses(
        task, examples, keys, model, params, settings.responses, restricted=False
    )
    judge = jax.vmap(jax.vmap(task.reward, (None, 0)))
    tokens = jnp.where(mask, responses, -1)
    facts = {"reward": judge(examples.latent, responses) > 0}
    if not ordered:
        return tokens, facts
    given = (model, params, examples.prompt, examples.prompt_mask, responses, mask)
    facts["valid"] = jax.vmap(jax.vmap(task.validity, (None, 0)))(examples.latent, responses) > 0
    facts["log_prob"] = sequence_log_probs(*given)
    features = response_features(*given)
    pick = functools.partial(select_diverse, k=settings.responses, ridge=settings.ridge)
    facts[REPRESENTATION] = jax.vmap(pick)(features)
    facts[WHITENED] = jax.vmap(pick)(jax.vmap(whitened)(features))
    grouped = features.reshape(features.shape[0], -1, settings.group, features.shape[-1])
    facts["bonus"] = elliptic_bonus(grouped, settings.ridge, 1.0).reshape(features.shape[:2])
    return tokens, facts


def first_alike(tokens: Int[np.ndarray, "responses response"]) -> Int[np.ndarray, " responses"]:
    """For each response the index of the first one with the same tokens."""
    _, first, inverse = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
    firsts: np.ndarray = first[inverse.reshape(-1)]
    return firsts


def pool_key(seed: int, task: str, training_seed: int) -> PRNGKeyArray:
    """The stream of a task's pools for the model of a training seed: alike for all its checkpoints."""
    return stream(seed, "evaluation", "exploration", "responses", task, training_seed)
