"""Autoregressive linear models in JAX, one prompt and one response at a time, apart from the float64 runs of
`theory.sgd`: gradients in closed form, divergences, the ball, and a gradient step after every token.

Token-level SGD carries the final parameters on to the next sequence. Test-time training predicts every token
with the parameters at that token, and discards the parameters after the sequence.

Source: Coverage Principle, arXiv 2510.15020, sections 5, 6.1 (equations 21 to 23) and 6.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.drawing import categorical
from tasks.linear import FeatureMap, next_log_probs
from training.distillation import truncation_weights


def token_gradients(
    features: FeatureMap, theta: Float[Array, " dimension"], prompt: Any, response: Int[Array, " horizon"]
) -> Float[Array, "horizon dimension"]:
    """grad_theta ln pi_theta(y_h | x, y_<h) = phi(x, y_1:h) - E_{a ~ pi_theta(.|x, y_<h)} phi(x, (y_<h, a)).

    The sum over h is the gradient of ln pi_theta(y|x).
    """
    paths = features.path(prompt, response)
    mean = jnp.einsum("hv,hvd->hd", jnp.exp(next_log_probs(theta, paths)), paths)
    return jnp.take_along_axis(paths, response[:, None, None], axis=1)[:, 0] - mean


def token_kls(
    features: FeatureMap,
    theta_star: Float[Array, " dimension"],
    theta: Float[Array, " dimension"],
    prompt: Any,
    response: Int[Array, " horizon"],
) -> Float[Array, " horizon"]:
    """KL(pi_theta*(.|x, y_<h) || pi_theta(.|x, y_<h)) in nats at every proper prefix of the response.

    The sum over prefixes, averaged over y ~ pi_theta*(.|x), is KL(pi_theta* || pi_theta).
    """
    paths = features.path(prompt, response)
    star = next_log_probs(theta_star, paths)
    return jnp.sum(jnp.exp(star) * (star - next_log_probs(theta, paths)), axis=-1)


def project(theta: Float[Array, " dimension"], radius: float = 1.0) -> Float[Array, " dimension"]:
    """The nearest point of the Euclidean ball of `radius` around 0."""
    squared = jnp.sum(jnp.square(theta))
    outside = squared > radius**2
    # Inside the ball the root of 1, because the root of 0 has no derivative.
    return jnp.where(outside, theta * (radius / jnp.sqrt(jnp.where(outside, squared, 1.0))), theta)


class Running(NamedTuple):
    """Result of a pass over one response.

    Attributes:
        next_log_probs: ln pi(a | x, y_<h) of every token a under the parameters at token h, in nats: the law
            of test-time training.
        thetas: parameters at every token, and after the last token.
    """

    next_log_probs: Float[Array, "horizon vocab"]
    thetas: Float[Array, "horizon_1 dimension"]

    def log_probs(self, response: Int[Array, " horizon"]) -> Float[Array, " horizon"]:
        """ln pi_TTT(y_h | x, y_<h) of the tokens of `response`; the sum over h is ln pi_TTT(y|x)."""
        return jnp.take_along_axis(self.next_log_probs, response[:, None], axis=-1)[:, 0]


def token_step(
    theta: Float[Array, " dimension"],
    features: Float[Array, "vocab dimension"],
    token: Int[Array, ""],
    learning_rate: Float[Array, ""] | float,
    radius: float | None,
) -> Float[Array, " dimension"]:
    """Proj(theta + eta (phi(x, y_1:h) - E_{a ~ pi_theta} phi(x, (y_<h, a)))); Proj is left out if `radius` is
    None."""
    gradient = features[token] - jnp.exp(next_log_probs(theta, features)) @ features
    moved = theta + learning_rate * gradient
    return moved if radius is None else project(moved, radius)


def token_pass(
    features: FeatureMap,
    theta: Float[Array, " dimension"],
    prompt: Any,
    response: Int[Array, " horizon"],
    learning_rate: Float[Array, ""] | float,
    radius: float | None = 1.0,
) -> Running:
    """Gradient steps over the tokens of a given response, starting at `theta`."""

    def step(running: Array, at: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        phi, token = at
        return token_step(running, phi, token, learning_rate, radius), (next_log_probs(running, phi), running)

    last, (laws, thetas) = jax.lax.scan(step, theta, (features.path(prompt, response), response))
    return Running(laws, jnp.concatenate([thetas, last[None]]))


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
