"""A warning during training: cross-entropy improves, but coverage probably gets worse.

Beside every evaluation the host compares the held-out responses' log-probabilities with those of the phase's
earlier evaluations. No pi_D enters: one response a prompt, as a practitioner has. What it says is in the
records (`warning/...`) and, when an alarm starts, in one line.
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
    """Which statistic raises an alarm, and where: `metrics.early_warning`, `experiments.early_warning`.

    Attributes:
        kind, parameter: of the statistic; for the tournaments the parameter is N.
        threshold: an alarm is a value beyond it.

    Raises:
        ValueError: one line for a statistic that does not exist, or a threshold that is no number >= 0.
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
        """The statistic."""
        return Statistic(self.kind, self.parameter)


class Watch:
    """The log-probabilities of a phase's evaluations so far, and what they say of the newest one.

    Everything follows from these arrays, which a run keeps in `log_probs/`: a resumed run recalls them and
    writes the same records. Memory: 8 bytes a seed, evaluation and held-out prompt.
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
        """Take up the phase's recorded evaluations, (step, log_prob) in order, without a word."""
        for step, log_prob in found:
            self._take(phase, held_out, step, log_prob)
        # Whether an alarm goes on depends on the newest evaluation alone.
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
        """Put `warning/alarm` (0 or 1) and, where an earlier evaluation has the higher cross-entropy,
        `warning/value` and `warning/since`, its step, into the records of the seeds that live; one line for
        the alarms that start. Evaluators that score no held-out responses are left alone.
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
                # Fewer digits than a sum's rounding could reach: a resumed run writes the same bytes.
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
