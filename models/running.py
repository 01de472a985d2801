"""Running parameters of a linear model: a gradient step after every token of a response.

One pass serves training and decoding. Token-level SGD carries the final parameters on to the next sequence.
Test-time training predicts every token with the parameters at that token, and discards the parameters after
the sequence.

Source: Coverage Principle, arXiv 2510.15020, section 6.1, equations 21 to 23.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.linear import project
from tasks.linear import FeatureMap, next_log_probs


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
