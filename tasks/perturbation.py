"""The VGB paper's "perturbation" task: three letters, one of them forbidden."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.checks import whole
from tasks.tilted import TiltedTask, uniform_log_probs

_SMALLEST = 1e-37
"""Smallest V at the root that is a normal float32."""


@dataclasses.dataclass(frozen=True)
class Perturbation(TiltedTask):
    """Task with y in {a, b, c}^H, uniform pi_ref, tau(y) = 1 if y has no c: pi* is uniform on {a, b}^H.

    Attributes:
        length: the horizon H.

    V(y_1:h) = (2/3)^(H - h) if y_1:h has no c, else 0. With values that overrate one action,
    V^(y_1:h) = (1 + eps 1{y_h = a}) V(y_1:h), a sampler that never backtracks chooses `a` with probability
    (1 + eps)/(2 + eps). The number of a's is then binomial with the wrong mean, at total variation of order
    min(eps sqrt(H), 1).

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.1 (the task "ABC"). The forbidden
    letter c and the uniform pi_ref are this project's choice.

    Raises:
        ValueError: a length < 1 or so large that V at the root underflows.
    """

    length: int = 6

    def __post_init__(self) -> None:
        whole("task.length", self.length, 1)
        if (2 / 3) ** self.length < _SMALLEST:
            most = int(math.log(_SMALLEST) / math.log(2 / 3))
            raise ValueError(
                f"task.length: {self.length} is too long; valid: at most {most}, where V at the root is "
                f"still a float32"
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Letters."""
        return ("a", "b", "c")

    @property
    def response_length(self) -> int:
        """Horizon H."""
        return self.length

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln 1/3 for every letter."""
        return uniform_log_probs(self.vocab_size, self.response_tokens)

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """Exact V(y_1:h): (2/3)^(H - h) without a c, else 0."""
        forbidden = jnp.any((jnp.arange(self.length) < length) & (prefix == 3))
        rest = (self.length - length).astype(jnp.float32)
        alive = self.legal(prefix, length) & ~forbidden
        return jnp.where(alive, jnp.exp(rest * jnp.log(jnp.float32(2 / 3))), 0.0)

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 without a c, else 0."""
        return self.value(latent, response, jnp.asarray(self.length))
