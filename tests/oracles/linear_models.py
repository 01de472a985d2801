"""Autoregressive linear models on whole sequences in JAX, from the product's functions on single tokens."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.linear import token_gradients, token_kls
from models.running import token_pass, token_step
from tasks.drawing import categorical
from tasks.linear import FeatureMap, next_log_probs
from training.distillation import truncation_weights


def token_variances(
    features: FeatureMap,
    theta_star: Float[Array, " dimension"],
    prompt: Any,
    response: Int[Array, " horizon"],
) -> Float[Array, " horizon"]:
    """E|phi - E phi|^2 at every proper prefix of the response, a ~ pi_theta*(.|x, y_<h).

    The sum over prefixes, averaged over prompts and y ~ pi_theta*(.|x), is the inherent variance sigma*^2.
    """
    paths = features.path(prompt, response)
    probs = jnp.exp(next_log_probs(theta_star, paths))
    mean = jnp.einsum("hv,hvd->hd", probs, paths)
    return jnp.einsum("hv,hvd->h", probs, jnp.square(paths - mean[:, None]))


def log_probs_of_all(
    features: FeatureMap,
    theta: Float[Array, " dimension"],
    prompt: Any,
    responses: Int[Array, "responses horizon"],
) -> Float[Array, " responses"]:
    """ln pi_theta(y|x) of each response, in nats; `tasks.linear.all_responses` lists all responses."""

    def one(response: Array) -> Array:
        every = next_log_probs(theta, features.path(prompt, response))
        return jnp.sum(jnp.take_along_axis(every, response[:, None], axis=-1))

    return jax.vmap(one)(responses)


def truncated_gradient(
    features: FeatureMap,
    theta_star: Float[Array, " dimension"],
    theta: Float[Array, " dimension"],
    prompt: Any,
    response: Int[Array, " horizon"],
    budget: Float[Array, ""] | float,
) -> Float[Array, " dimension"]:
    """sum_h alpha_h grad_theta ln pi_theta(y_h | x, y_<h) for a linear student and a linear teacher.

    An infinite budget gives the gradient of the sequence.
    """
    weights = truncation_weights(token_kls(features, theta_star, theta, prompt, response), budget)
    return weights @ token_gradients(features, theta, prompt, response)


def sample_running(
    features: FeatureMap,
    theta: Float[Array, " dimension"],
    prompt: Any,
    key: PRNGKeyArray,
    learning_rate: Float[Array, ""] | float,
    radius: float | None = 1.0,
) -> Int[Array, " horizon"]:
    """y ~ pi_TTT(.|x): each token is drawn from the running law, then a gradient step on the token follows.

    The token at depth h is drawn with `key` folded with h.
    """

    def step(carry: tuple[Array, Array], length: Array) -> tuple[tuple[Array, Array], None]:
        running, prefix = carry
        phi = features.children(prompt, prefix, length)
        token = categorical(jax.random.fold_in(key, length), next_log_probs(running, phi))
        running = token_step(running, phi, token, learning_rate, radius)
        return (running, prefix.at[length].set(token.astype(prefix.dtype))), None

    start = (theta, jnp.zeros(features.horizon, jnp.int32))
    return jax.lax.scan(step, start, jnp.arange(features.horizon))[0][1]


def token_sgd(
    features: FeatureMap,
    theta: Float[Array, " dimension"],
    prompts: Any,
    responses: Int[Array, "sequences horizon"],
    learning_rate: Float[Array, ""] | float,
    radius: float | None = 1.0,
) -> tuple[Float[Array, "sequences dimension"], Float[Array, " dimension"]]:
    """theta_{t,h+1} = Proj(theta_{t,h} + eta grad ln pi_{theta_t,h}(y_h^t | x^t, y_<h^t)), over the tokens h
    of one sequence t after the other (equation 21 of arXiv 2510.15020).

    Args:
        prompts: a pytree whose leaves have a leading axis of sequences.

    Returns:
        Parameters at the start of every sequence, and after the last sequence.
    """

    def step(running: Array, sequence: tuple[Any, Array]) -> tuple[Array, Array]:
        prompt, response = sequence
        return token_pass(features, running, prompt, response, learning_rate, radius).thetas[-1], running

    last, starts = jax.lax.scan(step, theta, (prompts, responses))
    return starts, last
