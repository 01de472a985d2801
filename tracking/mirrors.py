"""Mirrors of a run: copies of what the run directory holds, for a program that displays them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tracking.metrics_file import Record


def say(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)


class Mirror(Protocol):
    """A copy of a run's output elsewhere. No method raises: a failure costs one line, and the run goes on."""

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take the records of one step, one per seed."""

    def timing(self, record: Mapping[str, Any]) -> None:
        """Take a timing record."""

    def histogram(
        self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Take a histogram of `values` (..., examples), which belongs to the next metrics."""

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Take a table."""

    def alert(self, title: str, text: str) -> None:
        """Take a warning."""

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Take PNG files, by name."""

    def replay(self, records: Sequence[Record]) -> None:
        """Take everything in the run directory for the metric `records`, which are all so far."""

    def finish(self, exit_code: int = 0) -> None:
        """End the copy. Idempotent."""
