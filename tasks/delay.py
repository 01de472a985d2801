"""The VGB paper's "delay" task: bits, a uniform base model, a tilt towards ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.checks import real, whole
from tasks.tilted import TiltedTask, uniform_log_probs

_LARGEST = 80.0
"""Largest tilt times length: exp(-80) is a normal float32."""


@dataclasses.dataclass(frozen=True)
class Delay(TiltedTask):
    """y in {0, 1}^H, pi_ref uniform, r(y) = mean(y).

    Attributes:
        length: the horizon H.
        tilt: lambda > 0 takes tau(y) = exp((r(y) - 1)/beta) with beta = 1/(lambda H), the tilt of reward
            maximisation with the regulariser beta KL(pi || pi_ref): tau(y) = exp(-lambda #zeros), pi* has
            independent tokens with odds e^lambda, and
            V(y_1:h) = exp(-lambda #zeros in y_1:h) ((1 + e^-lambda)/2)^(H - h).
            None takes tau = r itself: V(y_1:h) = (#ones in y_1:h + (H - h)/2)/H.

    With values that come one step late, V^(y_1:h) = V(y_1:h-1), the values of siblings are equal, and
    whoever never goes back samples pi_ref in all but the last token. For lambda > 0 that loses
    beta KL(pi_ref || pi*) = kl(1/2 || e^lambda/(1 + e^lambda))/lambda of the regularised reward, whatever H.
    For tau = r it loses little: pi* itself tends to pi_ref, with total variation 1/sqrt(2 pi H) (derived).

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.2; its beta is not in the text
    that this was built from, and beta of order 1/H is what makes the loss not vanish with H.

    Raises:
        ValueError: a length < 1, a tilt that is not positive or so large that tau underflows.
    """

    length: int = 8
    tilt: float | None = 1.0

    def __post_init__(self) -> None:
        whole("task.length", self.length, 1)
        if self.tilt is not None:
            real("task.tilt", self.tilt, above=0, other="null")
            if self.tilt * self.length > _LARGEST:
                raise ValueError(
                    f"task.tilt: {self.tilt!r} times task.length {self.length} exceeds {_LARGEST:g}, where "
                    f"tau underflows"
                )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Bits."""
        return ("0", "1")

    @property
    def response_length(self) -> int:
        """H."""
        return self.length

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln 1/2 for either bit."""
        return uniform_log_probs(self.vocab_size, self.response_tokens)

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """The formula above."""
        counted = jnp.arange(self.length) < length
        ones = jnp.sum(counted & (prefix == 2)).astype(jnp.float32)
        rest = (self.length - length).astype(jnp.float32)
        if self.tilt is None:
            found = (ones + rest / 2) / self.length
        else:
            zeros = self.length - rest - ones
            mean = jnp.log((1 + jnp.exp(jnp.float32(-self.tilt))) / 2)
            found = jnp.exp(-self.tilt * zeros + rest * mean)
        return jnp.where(self.legal(prefix, length), found, 0.0)

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """tau(y)."""
        return self.value(latent, response, jnp.asarray(self.length))
