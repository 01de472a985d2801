"""What the training loop reports to: the one thing that it knows of files, bars and dashboards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]


class Sink(Protocol):
    """Receives what a run produces; `tracking` implements it, `experiments` injects it.

    Records of `metrics` hold deterministic content only, so that a resumed run writes the same bytes;
    wall-clock facts go to `timing`.
    """

    def metrics(self, records: Sequence[Record]) -> None:
        """Append the records of one logged step, one a seed."""

    def timing(self, record: Record) -> None:
        """Append one wall-clock record."""

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep per-example arrays, for example sequence log-probabilities on the held-out set."""

    def histogram(self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray) -> None:
        """Show a weighted distribution."""

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Show a table, for example of sampled responses."""

    def progress(self, phase: str, step: int, total: int, info: Mapping[str, float]) -> None:
        """Move the progress bar."""

    def message(self, text: str) -> None:
        """Say one line to the user."""

    def warning(self, title: str, text: str) -> None:
        """Say one line that should not be missed; the title names it where alerts have one."""
        self.message(text)

    def recorded(self, phase: str, last: int) -> Iterable[tuple[int, np.ndarray]]:
        """(step, `log_prob`) of the phase's evaluations up to step `last`, in order, that `arrays` was given
        before; for a resumed run."""
        return ()

    def flush(self) -> None:
        """Make everything appended so far durable; called before every checkpoint."""

    def position(self) -> int:
        """Number of metric lines written so far; stored with a checkpoint."""

    def rewind(self, position: int) -> None:
        """Go on after the first `position` metric lines: a resumed run writes those after them again."""
