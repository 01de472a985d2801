"""Sorting strings of symbols."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int

from tasks.base import PAD
from tasks.checks import whole
from tasks.sequences import SequenceTask

_MOST_SYMBOLS = 10_000


@dataclasses.dataclass(frozen=True)
class Sorting(SequenceTask):
    """Prompt `s1 ... sn =` of n symbols from 1..num_symbols, response the same n symbols in ascending order.

    Attributes:
        num_symbols: size of the alphabet; symbols repeat in a prompt and as often in the response.

    pi_D(.|x) is a point mass, so that Cov_N = P[pi_hat(y|x) <= 1/N].

    Source: Yan et al., Neural Execution Engines, arXiv 2006.08084 (sorting beyond the trained lengths). Other
    fields, and the classes by length, are documented in `SequenceTask`.

    Raises:
        ValueError: in one line, for a field out of range.
    """

    num_symbols: int = 16

    def _check(self) -> None:
        whole("task.num_symbols", self.num_symbols, 2, _MOST_SYMBOLS)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The numbers 1..num_symbols."""
        return tuple(str(i) for i in range(1, self.num_symbols + 1))

    @property
    def response_length(self) -> int:
        """The longest string."""
        return self.longest

    def _answer(self, symbols: Int[Array, " longest"], length: Int[Array, ""]) -> Int[Array, " response"]:
        asked = jnp.arange(self.longest) < length
        # Unused places sort behind all symbols.
        ascending = jnp.sort(jnp.where(asked, symbols, self.num_symbols))
        return jnp.where(asked, 1 + ascending, PAD)
