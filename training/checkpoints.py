"""Orbax checkpoints: the full state for resuming, parameters alone for asking again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp


@dataclasses.dataclass(frozen=True)
class CheckpointPolicy:
    """What is kept on disk.

    Attributes:
        every_seconds: least wall time between two saves of the full state (at boundaries of the step grid, at
            the end of a phase and on a signal in any case); 0 saves at every boundary.
        keep: full states kept.
        parameters: "evaluations" keeps the parameters of every evaluation, thinned evenly to the budget;
            "ends" of every phase's last step only; "none".
        budget_mb: disk budget in MB of all parameter checkpoints of a run.
    """

    every_seconds: float = 60.0
    keep: int = 2
    parameters: Literal["evaluations", "ends", "none"] = "ends"
    budget_mb: float = 500.0

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise ValueError(f"checkpoint.every_seconds: {self.every_seconds!r} is not a number >= 0")
        if not isinstance(self.keep, int) or self.keep < 1:
            raise ValueError(f"checkpoint.keep: {self.keep!r} is not an integer >= 1")
        if self.parameters not in ("evaluations", "ends", "none"):
            raise ValueError(
                f"checkpoint.parameters: {self.parameters!r} is not one of evaluations, ends, none"
            )
        if not self.budget_mb > 0:
            raise ValueError(f"checkpoint.budget_mb: {self.budget_mb!r} is not a positive number")

    def parameter_steps(self, grids: Sequence[Sequence[int]], bytes_each: int) -> list[set[int]]:
        """For each phase, given its evaluation steps, the steps whose parameters are kept within the
        budget."""
        if self.parameters == "none":
            return [set() for _ in grids]
        ends = [{max(grid)} for grid in grids]
        if self.parameters == "ends":
            return ends
        room = int(self.budget_mb * 1e6 / max(bytes_each, 1)) - len(grids)
        others = [sorted(set(grid) - end) for grid, end in zip(grids, ends, strict=True)]
        for stride in range(1, max(map(len, others)) + 1):
            if sum(math.ceil(len(steps) / stride) for steps in others) <= room:
                return [set(steps[::stride]) | end for steps, end in zip(others, ends, strict=True)]
        return ends


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a saved state stands: the phase's index, the step within it, the metric lines written so far, and
    (seed, phase's name, step) of every seed that has diverged."""

    phase: int
    step: int
    lines: int
    failed: Sequence[tuple[int, str, int]] = ()


class Checkpoints:
    """The checkpoints below one directory."""

    def __init__(self, directory: Path, policy: CheckpointPolicy) -> None:
        self.policy = policy
        self._parameters = directory / "parameters"
        self._states = ocp.CheckpointManager(
            (directory / "state").absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=policy.keep,
                create=True,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
            ),
            item_names=("state", "position"),
        )
        self._writer = ocp.StandardCheckpointer()

    def save(self, global_step: int, position: Position, state: Any) -> None:
        """Save the full state; the write is atomic, and nothing happens if that step is saved already."""
        if global_step in self._states.all_steps():
            return
        self._states.save(
            global_step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(jax.tree.map(np.asarray, state)),
                position=ocp.args.JsonSave(dataclasses.asdict(position)),
            ),
        )
        self._states.wait_until_finished()

    def restore(
        self, abstract_state: Callable[[int], Any], warn: Callable[[str], None]
    ) -> tuple[Position, Any] | None:
        """The newest readable state, or None; `abstract_state(phase)` gives its shapes.

        An unreadable checkpoint is named through `warn`, and the one before it is tried.
        """
        for global_step in sorted(self._states.all_steps(), reverse=True):
            try:
                found = self._states.restore(
                    global_step, args=ocp.args.Composite(position=ocp.args.JsonRestore())
                )
                position = Position(**found["position"])
                failed = tuple((seed, name, at) for seed, name, at in position.failed)
                position = dataclasses.replace(position, failed=failed)
                abstract = abstract_state(position.phase)
                restored = self._states.restore(
                    global_step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
                )
                return position, jax.tree.map(np.asarray, restored["state"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                reason = " ".join(str(error).split())[:160]
                warn(
                    f"checkpoint at global step {global_step} cannot be read ({reason}); trying the one "
                    f"before"
                )
        return None

    def save_parameters(self, phase: str, step: int, params: Any) -> None:
        """Save parameters alone, in the background."""
        path = self._parameter_path(phase, step)
        if not path.exists():
            self._writer.save(path, jax.tree.map(np.asarray, params))

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.wait_until_finished()
        self._states.close()

    def _parameter_path(self, phase: str, step: int) -> Path:
        return (self._parameters / phase / f"{step:08d}").absolute()


def saved_parameters(directory: Path) -> list[tuple[str, int]]:
    """(phase, step) of the parameter checkpoints below a run's `checkpoints/`, in order of phase name and
    step."""
    found = []
    for path in sorted((directory / "parameters").glob("*/*")):
        if path.is_dir() and path.name.isdecimal():
            found.append((path.parent.name, int(path.name)))
    return found


def load_parameters(directory: Path, phase: str, step: int, abstract: Any) -> Any:
    """Parameters saved below a run's `checkpoints/`, with a leading axis of seeds.

    Raises:
        ValueError: if there is no such checkpoint; the line names those that there are.
    """
    path = directory / "parameters" / phase / f"{step:08d}"
    if not path.is_dir():
        there = ", ".join(f"{name}:{number}" for name, number in saved_parameters(directory)) or "none"
        raise ValueError(f"checkpoint: no parameters of phase {phase} at step {step}; there are {there}")
    restored = ocp.StandardCheckpointer().restore(path.absolute(), abstract)
    return jax.tree.map(np.asarray, restored)
