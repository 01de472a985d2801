"""Balanced strings of a fixed length (Botta et al. 2025, arXiv 2502.12123)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasks.bracket_law import Law, fixed_length_law
from tasks.brackets import BracketTask
from tasks.checks import probabilities, whole


@dataclasses.dataclass(frozen=True)
class FixedDyck(BracketTask):
    """The fixed-length sampler with unequal type probabilities and forced closing.

    Attributes:
        length: number of brackets of a string; there is no END token.
        type_probs: probabilities of the types of an open bracket.

    The sampler: an open bracket if the stack is empty; a close bracket if the remaining length equals the
    depth, or the depth is `max_depth`; else a close bracket with probability 1/2. pi_D is this sampler,
    unconditioned. Defaults are from the VGB paper (arXiv 2510.03149). Other fields are documented in
    `BracketTask`.

    Raises:
        ValueError: in one line, for a field out of range, an odd length, type probabilities that are not a
            distribution over the types, or a prefix that cannot be completed.

    >>> round(FixedDyck().string_entropy, 4)
    23.9788
    """

    num_types: int = 2
    max_depth: int = 12
    mixture: Any = (("drawn", 1.0),)
    length: int = 32
    type_probs: Sequence[float] = (0.2, 0.8)

    def _check_sizes(self) -> None:
        whole("task.length", self.length, 2)
        if self.length % 2:
            raise ValueError(f"task.length: {self.length} is odd; a balanced string has an even number")
        object.__setattr__(
            self, "type_probs", probabilities("task.type_probs", self.type_probs, positive=True)
        )
        if len(self.type_probs) != self.num_types:
            raise ValueError(
                f"task.type_probs: {list(self.type_probs)} has {len(self.type_probs)} probabilities for "
                f"task.num_types = {self.num_types}"
            )

    @property
    def _type_probs(self) -> tuple[float, ...]:
        return tuple(self.type_probs)

    @property
    def _law(self) -> Law:
        return fixed_length_law(self.max_depth, self.length)
