"""Token-level SGD: an update after every token, with step size and bounds for linear models.

Source: Coverage Principle, arXiv 2510.15020, section 6.1, equations 21 to 23.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from training.objectives import Objective, Scores


@dataclasses.dataclass(frozen=True)
class TokenLevel(Objective):
    """Maximum likelihood with an update after every token, for any model:

        theta_t,h+1 = theta_t,h + rule(grad ln pi_theta_t,h(y_h | x, y_<h)),  theta_t+1 = theta_t,H.

    The optimizer is the rule; `optimizer=sgd` with a batch of one sequence is the theorem's token-level SGD.
    With a larger batch the gradient of token h is the mean over the batch. Responses that have ended have no
    gradient at later tokens. A sequence of length H costs H forward and backward passes of the network.

    The loss of a step is -sum_h ln pi_theta_t,h(y_h | x, y_<h). For plain SGD on one sequence that is
    -ln pi_TTT(y|x) of test-time training from theta_t with the same learning rate
    (`decoding.TestTimeTraining` with parameters = "all"). The records `train/kl` and `train/cov/<N>` are then
    unbiased estimates of KL(pi_D || pi_TTT) and of its Cov_N, as sequences are fresh.
    """

    @property
    def by_token(self) -> bool:
        """True."""
        return True

    def losses(self, scores: Scores) -> Float[Array, "*batch"]:
        """-ln pi of the token that is scored, in nats; 0 after the end of the response."""
        return -scores.log_probs


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
