"""Warnings during training: cross-entropy improves, but coverage probably gets worse.

At every evaluation the host compares the log-probabilities of held-out responses with those at earlier
evaluations of the phase. The warning uses one response per prompt and does not use pi_D. Results are in the
records (`warning/...`), and one line is printed when an alarm starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from metrics.early_warning import BASELINE, Statistic, drawn_candidates
from metrics.evaluators import HeldOut
from tasks.checks import real
from training.sink import Record, Sink


@dataclasses.dataclass(frozen=True)
class EarlyWarning:
    """Statistic and threshold of an alarm: see `metrics.early_warning`, `experiments.early_warning`.

    Attributes:
        kind, parameter: the statistic; for the tournaments the parameter is N.
        threshold: a larger value is an alarm.

    Raises:
        ValueError: in one line, for an unknown statistic or a threshold that is not a number >= 0.
    """

    kind: str = "net_tournament"
    parameter: float | None = 4
    threshold: float = 0.025

    def __post_init__(self) -> None:
        try:
            statistic = self.statistic
        except ValueError as error:
            raise ValueError(f"early_warning.{error}") from None
        if statistic.kind == BASELINE:
            raise ValueError(
                f"early_warning.kind: {BASELINE}; valid: a statistic beside the cross-entropy's own"
            )
        real("early_warning.threshold", self.threshold, least=0)

    @property
    def statistic(self) -> Statistic:
        """Statistic of `kind` and `parameter`."""
        return Statistic(self.kind, self.parameter)


class Watch:
    """Monitor of the log-probabilities of a phase's evaluations so far.

    The state consists of arrays that a run keeps in `log_probs/`, so a resumed run recalls them and writes
    the same records. Memory: 8 bytes per seed, evaluation and held-out prompt.
    """

    def __init__(self, settings: EarlyWarning) -> None:
        self._settings = settings
        self._phase: str | None = None
        self._steps: list[int] = []
        self._history = np.zeros((0, 0, 0))
        self._drawn = np.zeros(0, int)
        self._kept = np.zeros(0, int)
        self._alarmed: set[int] = set()

    def recall(self, phase: str, held_out: HeldOut, found: Iterable[tuple[int, np.ndarray]]) -> None:
        """Load the recorded evaluations of the phase, (step, log_prob) in order, without messages."""
        for step, log_prob in found:
            self._take(phase, held_out, step, log_prob)
        # Whether an alarm continues depends on the newest evaluation only.
        self._values(range(len(self._history)))

    def observe(
        self,
        phase: str,
        held_out: HeldOut,
        step: int,
        scores: Mapping[str, Any],
        heads: Sequence[Record],
        alive: Sequence[int],
        sink: Sink,
    ) -> None:
        """Add warnings to the records of the live seeds, and print one line for the alarms that start.

        `warning/alarm` is 0 or 1. If an earlier evaluation has higher cross-entropy, `warning/value` is the
        statistic and `warning/since` the step of that evaluation. Nothing is added if no evaluator scores
        held-out responses.
        """
        found = [own["log_prob"] for own in scores.values() if "log_prob" in own]
        if not found:
            return
        self._take(phase, held_out, step, np.asarray(found[0])[:, : held_out.num_examples])
        before = set(self._alarmed)
        said = []
        for index, strongest in self._values(alive):
            alarm = index in self._alarmed
            heads[index]["warning/alarm"] = int(alarm)
            if strongest.earlier >= 0:
                since = self._steps[strongest.earlier]
                # Fewer digits than rounding of a sum affects, so that a resumed run writes the same bytes.
                value = float(f"{strongest.value:.9g}")
                heads[index] |= {"warning/value": value, "warning/since": since}
                if alarm and index not in before:
                    said.append(f"seed {heads[index]['seed']} {strongest.value:.3g} against step {since}")
        if said:
            sink.warning(
                f"early warning: {phase} step {step}",
                f"{phase} step {step}: cross-entropy improves, but coverage probably gets worse: "
                f"{self._settings.statistic} above {self._settings.threshold:g}: {', '.join(said)}, which "
                f"covered better",
            )

    def _values(self, seeds: Iterable[int]) -> list[tuple[int, Any]]:
        count = len(self._steps)
        if count < 2:
            return []
        found = []
        for index in seeds:
            own = self._history[index, :count]
            if np.isnan(own[-1]).any():
                continue
            strongest = self._settings.statistic.strongest(own[:-1], own[-1], self._weights)
            if strongest.value > self._settings.threshold:
                self._alarmed.add(index)
            else:
                self._alarmed.discard(index)
            found.append((index, strongest))
        return found

    def _take(
        self,
        phase: str,
        held_out: HeldOut,
        step: int,
        log_prob: Float[np.ndarray, "seeds examples candidates"],
    ) -> None:
        if phase != self._phase:
            self._phase, self._steps, self._alarmed = phase, [], set()
            self._kept = np.flatnonzero(held_out.weights > 0)
            self._drawn = drawn_candidates(held_out.candidate_weight[self._kept])
            self._weights = held_out.weights[self._kept]
            self._history = np.zeros((len(log_prob), 16, self._kept.size))
        count = len(self._steps)
        if count == self._history.shape[1]:
            self._history = np.concatenate([self._history, np.zeros_like(self._history)], axis=1)
        self._history[:, count] = np.asarray(log_prob)[:, self._kept, self._drawn]
        self._steps.append(step)
