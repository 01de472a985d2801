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
    """Task with y in {0, 1}^H, uniform pi_ref and r(y) = mean(y).

    Attributes:
        length: the horizon H.
        tilt: lambda > 0 takes tau(y) = exp((r(y) - 1)/beta) with beta = 1/(lambda H), the tilt of reward
            maximisation with the regulariser beta KL(pi || pi_ref): tau(y) = exp(-lambda #zeros), pi* has
            independent tokens with odds e^lambda, and
            V(y_1:h) = exp(-lambda #zeros in y_1:h) ((1 + e^-lambda)/2)^(H - h).
            None takes tau = r: V(y_1:h) = (#ones in y_1:h + (H - h)/2)/H.

    With values delayed by one step, V^(y_1:h) = V(y_1:h-1), siblings have equal values, and a sampler that
    never backtracks samples pi_ref in all but the last token. For lambda > 0 this loses
    beta KL(pi_ref || pi*) = kl(1/2 || e^lambda/(1 + e^lambda))/lambda of the regularised reward for every H.
    For tau = r the loss is small: pi* tends to pi_ref, with total variation 1/sqrt(2 pi H) (derived).

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, Example 3.2. The paper's beta was not
    available; with beta of order 1/H the loss does not vanish with H.

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
        """Horizon H."""
        return self.length

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln 1/2 for both bits."""
        return uniform_log_probs(self.vocab_size, self.response_tokens)

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        """Exact V(y_1:h) by the formula of `tilt`."""
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
