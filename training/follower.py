"""Sink and checkpoints of processes that leave files and terminal to the first process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from training.checkpoint_policy import CheckpointPolicy
from training.checkpoints import Checkpoints, Position
from training.sink import Record, Sink


class SilentSink(Sink):
    """Sink without output."""

    def metrics(self, records: Sequence[Record]) -> None:
        """Do nothing."""
        return

    def timing(self, record: Record) -> None:
        """Do nothing."""
        return

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Do nothing."""
        return

    def histogram(self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray) -> None:
        """Do nothing."""
        return

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Do nothing."""
        return

    def progress(self, phase: str, step: int, total: int, info: Mapping[str, float]) -> None:
        """Do nothing."""
        return

    def waiting(self, phase: str, step: int, total: int, text: str) -> None:
        """Do nothing."""
        return

    def message(self, text: str) -> None:
        """Do nothing."""
        return

    def flush(self) -> None:
        """Do nothing."""
        return

    def rewind(self, position: int) -> None:
        """Do nothing."""
        return

    def position(self) -> int:
        """Number of lines: 0."""
        return 0


class SilentCheckpoints(Checkpoints):
    """Checkpoints that another process reads and writes, with the policy of that process."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy = policy

    def save(self, global_step: int, position: Position, state: Any) -> None:
        """Do nothing."""

    def restore(
        self, abstract_state: Callable[[int], Any], warn: Callable[[str], None], lines: int | None = None
    ) -> None:
        """None, because the first process shares the restored state."""

    def save_parameters(self, phase: str, step: int, params: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
