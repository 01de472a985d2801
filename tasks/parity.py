"""The VGB paper's parity task: blocks of bits, each closed by a parity bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tasks.checks import whole
from tasks.tilted import TiltedTask, uniform_log_probs

_MOST_CHECKS = 120
"""2^-120 is a normal float32."""


@dataclasses.dataclass(frozen=True)
class Parity(TiltedTask):
    """Task with y in {0, 1}^H, uniform pi_ref, and tau(y) = 1 if every block of `block` bits is even.

    A block is even if the last bit, the check, is the XOR of the other bits.

    Attributes:
        length: the horizon H.
        block: bits of a block; divides the length.

    V(y_1:h) = 0 if a complete block of y_1:h is odd, else 2^-(checks still to come). pi* is uniform on the
    2^(H - H/block) responses with tau = 1. A verifier delayed by one step, V^(y_1:h) = V(y_1:h-1), gives no
    information where a check is chosen. A sampler that never backtracks passes all but the last check with
    probability 2^-(H/block - 1); the verifier guides the last check.

    Source: Taming Imperfect Process Verifiers, arXiv 2510.03149, experiments ("Parity", delayed feedback);
    the blocks are this project's choice.

    Raises:
        ValueError: a length or block out of range, a block that does not divide the length.
    """

    length: int = 8
    block: int = 2

    def __post_init__(self) -> None:
        whole("task.length", self.length, 1)
        whole("task.block", self.block, 1)
        if self.length % self.block:
            raise ValueError(f"task.block: {self.block} does not divide task.length {self.length}")
        if self.length // self.block > _MOST_CHECKS:
            raise ValueError(
                f"task.length: {self.length} makes {self.length // self.block} checks; valid: at most "
                f"{_MOST_CHECKS}"
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
        """Exact V(y_1:h) by the formula in the class docstring."""
        complete = length // self.block
        left = (self.length // self.block - complete).astype(jnp.float32)
        odd = self._odd(prefix) & (jnp.arange(self.length // self.block) < complete)
        alive = self.legal(prefix, length) & ~jnp.any(odd)
        return jnp.where(alive, jnp.exp2(-left), 0.0)

    def _odd(self, response: Int[Array, " response"]) -> Bool[Array, " checks"]:
        """True for blocks of odd parity."""
        return jnp.sum((response == 2).reshape(-1, self.block), axis=1) % 2 == 1

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if no block is odd, else 0."""
        return self.value(latent, response, jnp.asarray(self.length))
