"""Checkpoints: the full state for resuming, parameters alone for later evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tasks.drawing import DRAWS
from training.checkpoint_policy import CheckpointPolicy
from training.parameter_files import (
    Misfit,
    described,
    digest,
    read_digest,
    read_parameters,
    require_fit,
    write_parameters,
)
from training.processes import several

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

# Orbax is imported locally, because its import would delay the start of training.


@dataclasses.dataclass(frozen=True)
class Position:
    """Position of a saved state: index of the phase, step within it, and number of metric lines so far.

    It also has (seed, name of the phase, step) of every diverged seed, and `tasks.drawing.DRAWS` of the run.
    """

    phase: int
    step: int
    lines: int
    failed: Sequence[tuple[int, str, int]] = ()
    draws: int = 1

    def require_same_draws(self) -> None:
        """Refuse a state of a run with another version of random draws, which would mix with the current one.

        Raises:
            CheckpointError: `draws` is not `tasks.drawing.DRAWS`.
        """
        if self.draws != DRAWS:
            raise CheckpointError(
                f"checkpoints: the run began with random draws of version {self.draws}, these are of version "
                f"{DRAWS}, and it would mix both; valid: another name=..."
            )


_ADVICE = (
    "put back what is damaged or, to train again from the start, delete this folder: the lines of "
    "metrics.jsonl stay and are compared"
)


class CheckpointError(ValueError):
    """Checkpoints that cannot be read; the message is one line with advice."""


class Checkpoints:
    """Checkpoints in one directory.

    Every checkpoint has a SHA-256 of the arrays, because a flipped bit in a file would otherwise be read as
    another number. A full state is an Orbax checkpoint; parameters alone are one file per checkpoint.
    """

    def __init__(self, directory: Path, policy: CheckpointPolicy) -> None:
        # Orbax logs a traceback per thread for errors that are raised here once.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.policy = policy
        self._directory = directory
        self._parameters = directory / "parameters"
        self._unreadable = directory / "unreadable"
        # Partial files of a killed process; below `state`, Orbax removes them.
        for leftover in self._parameters.glob("*/.*.npz.tmp"):
            leftover.unlink(missing_ok=True)
        for folder in self._parameters.glob("*/*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)
        self._writer = ThreadPoolExecutor(1, "parameters")
        self._pending: list[Future[None]] = []
        self._saved: set[Path] = set()
        self._state_directory = (directory / "state").absolute()
        self._state_directory.mkdir(parents=True, exist_ok=True)

    @functools.cached_property
    def _states(self) -> ocp.CheckpointManager:
        import orbax.checkpoint as ocp

        return ocp.CheckpointManager(
            self._state_directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self.policy.keep,
                create=False,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                multiprocessing_options=_by_itself(),
            ),
            item_names=("state", "position"),
        )

    def save(self, global_step: int, position: Position, state: Any) -> None:
        """Save the full state atomically; a step that is already saved is skipped.

        Raises:
            OSError: the disk refuses; existing checkpoints stay.
            CheckpointError: the manager did not save, because a later step exists.
        """
        import orbax.checkpoint as ocp

        with _writing(self._directory):
            # A run resumed from this state does not save earlier parameters again, so they must be complete.
            self._wait()
            if global_step in self._states.all_steps():
                return
            host = jax.tree.map(np.asarray, state)
            entry = dataclasses.asdict(position)
            saved = self._states.save(
                global_step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(host),
                    position=ocp.args.JsonSave(entry | {"sha256": digest(host, entry)}),
                ),
            )
            self._states.wait_until_finished()
            if not saved:
                raise CheckpointError(
                    f"{self._state_directory}: the state at global step {global_step} was not saved; the "
                    f"newest there is {self._states.latest_step()}: move away what is newer, then the same "
                    "command continues"
                )

    def restore(
        self, abstract_state: Callable[[int], Any], warn: Callable[[str], None], lines: int | None = None
    ) -> tuple[Position, Any] | None:
        """Newest usable state of the shapes `abstract_state(phase)`; None if none was ever saved.

        A checkpoint that cannot be read, or was saved after more than `lines` lines of metrics, is reported
        through `warn`, and the previous one is tried. Skipped checkpoints move to `unreadable/`, because the
        run saves these steps again.

        Raises:
            CheckpointError: there are checkpoints, and none is usable. Nothing was changed.
        """
        if not any(self._state_directory.iterdir()):
            return None
        steps = sorted(self._states.all_steps(), reverse=True)
        reasons: list[str] = []
        for passed, global_step in enumerate(steps):
            advice = _ADVICE
            # Damaged files cause errors of any type in the libraries that read them.
            try:
                position, state = self._read(global_step, abstract_state)
            except Misfit as error:
                reasons.append(f"cannot be read ({error})")
                # If the previous checkpoint fits, the metadata of this one may be damaged instead.
                advice = "continue with what it was saved with, or choose another name"
            except Exception as error:
                reasons.append(f"cannot be read ({_brief(error)})")
            else:
                if lines is None or position.lines <= lines:
                    self._set_aside(steps[:passed])
                    return position, state
                reasons.append(
                    f"was saved after {position.lines} lines of metrics, of which {lines} are left"
                )
            if passed < len(steps) - 1:
                warn(f"checkpoint at global step {global_step} {reasons[-1]}; trying the one before")
        if not steps:
            return None
        raise CheckpointError(
            f"{self._state_directory}: none of {len(steps)} checkpoints can be used; the one at global step "
            f"{steps[-1]} {reasons[-1]}: nothing was changed; {advice}"
        )

    def _read(self, global_step: int, abstract_state: Callable[[int], Any]) -> tuple[Position, Any]:
        import orbax.checkpoint as ocp

        entry = _position_entry(self._states, global_step)
        saved = entry.pop("sha256", None)
        failed = tuple((seed, name, at) for seed, name, at in entry["failed"])
        position = Position(**(entry | {"failed": failed}))
        abstract = abstract_state(position.phase)
        saved_as = _checkpointer().metadata(self._state_directory / str(global_step) / "state")
        _require_saved(saved_as.item_metadata, abstract)
        restored = self._states.restore(
            global_step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
        )
        state = jax.tree.map(np.asarray, restored["state"])
        if saved not in (None, digest(state, entry)):
            raise ValueError("its contents differ from what was saved")
        return position, state

    def _set_aside(self, steps: Sequence[int]) -> None:
        for step in steps:
            target = self._unreadable / str(step)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            (self._state_directory / str(step)).rename(target)
        if steps:
            self._states.reload()

    def save_parameters(self, phase: str, step: int, params: Any) -> None:
        """Save parameters alone, in the background.

        Raises:
            OSError: the disk refuses.
        """
        path = _parameter_file(self._directory, phase, step)
        with _writing(self._directory):
            for each in [each for each in self._pending if each.done()]:
                self._pending.remove(each)
                each.result()
            # Files of an earlier process are replaced, because restarted training may give other numbers.
            if path not in self._saved:
                host = jax.tree.map(np.array, params)
                self._saved.add(path)
                self._pending.append(self._writer.submit(_replace_parameters, path, host))

    def _wait(self) -> None:
        """Return once all parameters are on disk; raises errors of the writes once."""
        pending, self._pending = self._pending, []
        for each in pending:
            each.result()

    def close(self) -> None:
        """Wait for pending writes. Raises OSError if the disk refuses one."""
        with _writing(self._directory):
            self._writer.shutdown()
            self._wait()
            # An unused manager has nothing to write.
            if "_states" in vars(self):
                self._states.close()


def _parameter_file(directory: Path, phase: str, step: int) -> Path:
    return directory / "parameters" / phase / f"{step:08d}.npz"


def _replace_parameters(path: Path, host: Any) -> None:
    write_parameters(path, host)
    # Earlier versions of the program saved one folder per checkpoint.
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _by_itself() -> ocp.options.MultiprocessingOptions:
    """Options with which the first process reads and writes without synchronising with the others."""
    import orbax.checkpoint as ocp

    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0} if several() else None)


def _checkpointer() -> ocp.StandardCheckpointer:
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer(multiprocessing_options=_by_itself())


def _require_saved(metadata: Any, abstract: Any) -> None:
    """`require_fit` on Orbax's metadata of the saved arrays."""
    require_fit(described(getattr(metadata, "tree", metadata)), described(abstract))


def _brief(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Context in which disk errors, which libraries wrap in several layers, become an OSError of one line."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        named = re.search(r"os_error_code='(\d+)'", str(error))
        number = cause.errno if isinstance(cause, OSError) else int(named.group(1)) if named else None
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(directory)) from error


def saved_parameters(directory: Path) -> list[tuple[str, int]]:
    """(phase, step) of the parameter checkpoints in a run's `checkpoints/`, sorted by phase name and step."""
    found = set()
    for path in (directory / "parameters").glob("*/*"):
        step = path.name.removesuffix(".npz")
        if step.isdecimal():
            found.add((path.parent.name, int(step)))
    return sorted(found)


def require_same_draws(directory: Path) -> None:
    """`Position.require_same_draws` of the newest state in a run's `checkpoints/`; changes nothing.

    Without a readable state it does nothing, because `Checkpoints.restore` reports that.

    Raises:
        CheckpointError: the run began with another version of random draws.
    """
    folder = (directory / "state").absolute()
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    import orbax.checkpoint as ocp

    try:
        with ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                read_only=True, enable_async_checkpointing=False, multiprocessing_options=_by_itself()
            ),
            item_names=("state", "position"),
        ) as states:
            entry = _position_entry(states, states.latest_step())
    except Exception:
        return
    entry.pop("sha256", None)
    Position(**entry).require_same_draws()


def _position_entry(states: ocp.CheckpointManager, step: int | None) -> dict[str, Any]:
    """Metadata of a state: the fields of `Position`, and the SHA-256."""
    import orbax.checkpoint as ocp

    return dict(states.restore(step, args=ocp.args.Composite(position=ocp.args.JsonRestore()))["position"])


def saved_digest(directory: Path, phase: str, step: int) -> str | None:
    """SHA-256 stored in a parameter checkpoint in a run's `checkpoints/`; None if there is none.

    The arrays are not read; `load_parameters` compares them with the SHA-256.

    Raises:
        ValueError: the checkpoint cannot be read.
    """
    path = _parameter_file(directory, phase, step)
    folder = path.with_suffix("")
    try:
        if path.is_file():
            return read_digest(path)
        if not folder.is_dir():
            return None
        found = (_checkpointer().metadata(folder.absolute()).custom_metadata or {}).get("sha256")
    except Exception as error:
        raise CheckpointError(f"checkpoint: {path}: cannot be read ({_brief(error)})") from None
    return None if found is None else str(found)


def load_parameters(directory: Path, phase: str, step: int, abstract: Any) -> Any:
    """Parameters saved in a run's `checkpoints/`, with a leading axis of seeds.

    Raises:
        ValueError: if there is no such checkpoint (the line lists the existing ones), if names, shapes or
            types differ from `abstract`, or if the checkpoint is damaged.
    """
    path = _parameter_file(directory, phase, step)
    # Earlier versions of the program saved one folder per checkpoint, with Orbax.
    folder = path.with_suffix("")
    if not path.is_file() and not folder.is_dir():
        there = ", ".join(f"{name}:{number}" for name, number in saved_parameters(directory)) or "none"
        raise ValueError(f"checkpoint: no parameters of phase {phase} at step {step}; there are {there}")
    try:
        return (
            read_parameters(path, abstract) if path.is_file() else _read_folder(folder.absolute(), abstract)
        )
    except Misfit as error:
        raise CheckpointError(f"checkpoint: {path}: {error}") from None
    except Exception as error:
        raise CheckpointError(f"checkpoint: {path}: cannot be read ({_brief(error)})") from None


def _read_folder(folder: Path, abstract: Any) -> Any:
    checkpointer = _checkpointer()
    saved_as = checkpointer.metadata(folder)
    metadata = saved_as.custom_metadata or {}
    _require_saved(saved_as.item_metadata, abstract)
    params = jax.tree.map(np.asarray, checkpointer.restore(folder, abstract))
    if metadata.get("sha256", digest(params)) != digest(params):
        raise ValueError("its contents differ from what was saved: it is damaged")
    return params
