"""Interface between the training loop and files, progress bars and dashboards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]


class Sink(Protocol):
    """Receiver of what a run produces; `tracking` implements it, `experiments` injects it.

    Records of `metrics` hold only deterministic content, so that a resumed run writes the same bytes.
    Wall-clock times go to `timing`.
    """

    def metrics(self, records: Sequence[Record]) -> None:
        """Append the records of one logged step, one record per seed."""

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

    def waiting(self, phase: str, step: int, total: int, text: str) -> None:
        """Show beside the bar what `phase` waits for at `step`, until the next `progress`."""

    def message(self, text: str) -> None:
        """Show one line to the user."""

    def warning(self, title: str, text: str) -> None:
        """Show one line that should not be missed; `title` is the title of an alert."""
        self.message(text)

    def recorded(self, phase: str, last: int) -> Iterable[tuple[int, np.ndarray]]:
        """(step, `log_prob`) of the phase's evaluations up to step `last`, in order, for a resumed run: the
        values that `arrays` was given before."""
        return ()

    def kept(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays that `arrays` was last given under this name, also by an earlier process; else none."""
        return {}

    def flush(self) -> None:
        """Make all appended data durable; called before every checkpoint."""

    def position(self) -> int:
        """Number of metric lines written so far, which a checkpoint stores."""

    def rewind(self, position: int) -> None:
        """Drop all but the first `position` metric lines: a resumed run writes the others again."""
