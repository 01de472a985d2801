"""Arrays of a phase's first evaluation that later ones are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metrics.evaluators import Evaluator, HeldOut
from training.checkpoint_policy import stored_bytes
from training.processes import leads
from training.sink import Sink


class PhaseStart:
    """Arrays that `Evaluator.remembered` takes from step 0 of a phase, kept by the sink for a resumed run.

    A phase that is not evaluated at step 0, or began in an earlier version, has no arrays.

    Attributes:
        arrays: evaluator -> array -> (seeds, ...).
    """

    def __init__(self, evaluators: Sequence[Evaluator], sink: Sink) -> None:
        self._evaluators, self._sink = tuple(evaluators), sink
        self.arrays: dict[str, dict[str, np.ndarray]] = {}

    def begin(self, phase: str, resumed: bool) -> None:
        """Forget the phase before; recall the arrays of this one if it is resumed."""
        self.arrays = {}
        for path, array in (self._sink.kept(f"{phase}_start") if resumed and leads() else {}).items():
            name, _, key = path.rpartition("/")
            self.arrays.setdefault(name, {})[key] = array

    def keep(self, phase: str, step: int, scores: Any, held_out: HeldOut) -> None:
        """At step 0, take what is needed of the scores: evaluator -> array -> (seeds, examples, ...), padding
        of the last batch included."""
        if step > 0:
            return
        for evaluator in self._evaluators:
            own = {k: np.asarray(v)[:, : held_out.num_examples] for k, v in scores[evaluator.name].items()}
            if found := evaluator.remembered(own, held_out):
                self.arrays[evaluator.name] = found
        if self.arrays:
            self._sink.arrays(f"{phase}_start", self._flat)

    @property
    def bytes(self) -> int:
        """Space on disk of the arrays."""
        return stored_bytes(self._flat) if self.arrays else 0

    @property
    def _flat(self) -> dict[str, np.ndarray]:
        return {f"{name}/{key}": array for name, own in self.arrays.items() for key, array in own.items()}
