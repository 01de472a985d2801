"""Step size and bounds of token-level SGD for linear models."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def token_learning_rate(bound: float, variance: float, sequences: int) -> float:
    """eta = min{1/(2 B^2), (sigma*^2 T)^(-1/2)}, the step size of Theorem 6.1 for T sequences."""
    largest = 1 / (2 * bound**2)
    return largest if variance <= 0 else min(largest, (variance * sequences) ** -0.5)


def token_sgd_bound(learning_rate: float, variance: float, sequences: int) -> float:
    """4/(eta T) + 2 eta sigma*^2 in nats, for eta <= 1/(2 B^2) and parameters in the unit ball.

    It bounds the expected mean of KL(pi_D || pi_TTT,t) over the iterates t = 1..T (proof of Theorem 6.1).
    """
    return 4 / (learning_rate * sequences) + 2 * learning_rate * variance


def start_bound(
    learning_rate: float, variance: Float[Array, "*batch"], distance: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """|theta - theta*|^2/eta + 2 eta sum_h Var_h in nats, for eta <= 1/(2 B^2).

    It bounds KL(pi_D(.|x) || pi_TTT(.|x)) for any start theta in the ball and any prompt x whose tokens have
    variances that add up to `variance`. The proof is that of Theorem 6.1 for a single sequence (T = 1), with
    the distance in place of the diameter. The bound also holds for prompts that were never trained on.
    """
    return jnp.square(distance) / learning_rate + 2 * learning_rate * variance
