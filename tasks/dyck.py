"""Dyck-(k, m): balanced strings of k bracket types and depth at most m (Hewitt et al. 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tasks.bracket_law import Law, conditioned_law
from tasks.brackets import BracketTask
from tasks.checks import whole


@dataclasses.dataclass(frozen=True)
class Dyck(BracketTask):
    """The standard sampler of Dyck-(k, m), conditioned on the accepted lengths.

    Attributes:
        min_length, max_length: accepted lengths in tokens, END counted. The shortest nonempty string has
            length 3. None as `max_length` means 8m(m - 2) + 60, which is 84 for m = 3.

    The sampler: with an empty stack END with probability 1/2, else an open bracket with a uniform type; with
    0 < depth < m a close bracket with probability 1/2, else an open one; at depth m a close bracket. pi_D is
    exactly this process given an accepted length: every step is weighted by the probability of acceptance
    after it. Other fields are documented in `BracketTask`.

    Raises:
        ValueError: in one line, for a field out of range, lengths that admit no string, or a prefix that no
            accepted string begins with.

    >>> round(Dyck().string_entropy, 4)
    10.995
    """

    num_types: int = 2
    max_depth: int = 3
    mixture: Any = (("drawn", 1.0),)
    min_length: int = 3
    max_length: int | None = None

    def _check_sizes(self) -> None:
        whole("task.min_length", self.min_length, 1)
        if self.max_length is not None:
            whole("task.max_length", self.max_length, 1, other="null")
        if not any(length % 2 for length in range(self.min_length, self._longest + 1)):
            raise ValueError(
                f"task.min_length: no balanced string has {self.min_length} to {self._longest} tokens "
                f"(task.max_length) with END counted, which is an odd number"
            )

    @property
    def _longest(self) -> int:
        return 8 * self.max_depth * (self.max_depth - 2) + 60 if self.max_length is None else self.max_length

    @property
    def _law(self) -> Law:
        return conditioned_law(self.max_depth, self.min_length, self._longest)

    def _prefix_steps(self, length: int) -> np.ndarray:
        return conditioned_law(self.max_depth, max(self.min_length, length + 1), self._longest).steps
