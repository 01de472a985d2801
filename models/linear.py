"""Autoregressive linear models: gradients in closed form, divergences, projection onto a ball.

Functions are pure JAX on one prompt and one response; batches, draws and seeds are added by `vmap`.
Probabilities and features are in `tasks.linear`.

Source: Coverage Principle, arXiv 2510.15020, section 5.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.linear import FeatureMap, next_log_probs


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
