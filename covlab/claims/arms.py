"""Training the runs of a claim in turn, and configuring reinforcement learning from a checkpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from covlab.claims.settings import Overrides
from covlab.launch.base_model import rl_config
from covlab.launch.build import PHASE_KEYS, Setup, build, plain
from covlab.launch.cli import StopRequest
from covlab.launch.runs import Finished, train_run
from covlab.launch.trained import TrainedRun
from tracking.progress import duration
from tracking.wandb_options import require_no_run_id

_NOT_SHARED = (
    *("task", "model", "objective", "source", "phases"),
    *("class_proposal", "dataset_size", "averaging"),
)
"""Settings of a base run that reinforcement learning does not take over."""
RL_KEYS = tuple(sorted({*PHASE_KEYS, "checkpoint", "tracking", "task_overrides"} - {"task"}))
"""Settings of a run of reinforcement learning that a claim may state."""
check_rl_settings = Overrides(RL_KEYS)
"""The check of a claim's settings of reinforcement learning; null stands for no settings."""


class Arm(NamedTuple):
    """A training run of a claim.

    Attributes:
        config: a configuration of experiments.train.
        directory: below the claim's directory; "" is the run's name, "." the claim's directory itself.
        label: displayed name of the run, with which messages on errors in `config` begin. "" displays the
            run's name and leaves messages unchanged.
        where: beginning of the messages instead of `label`.
    """

    config: DictConfig
    directory: str = ""
    label: str = ""
    where: str = ""


def train_arms(
    claim: str,
    arms: Mapping[str, Arm | TrainedRun],
    path: Path,
    check: Callable[[str, Setup], None] | None = None,
    check_all: Callable[[Mapping[str, Setup]], None] | None = None,
    stop: Callable[[], Callable[[], str | None]] = lambda: StopRequest().install(),
) -> dict[str, TrainedRun] | int:
    """Train the runs below `path` in turn, and print a line before and after every run.

    Every run is built and checked before the first is trained. A `TrainedRun` is returned unchanged. The
    remaining time is estimated from the remaining training tokens.

    Args:
        claim: the claim's name.
        arms: the runs by name.
        path: the claim's directory.
        check: takes a run's name and setup; refuses by a ValueError.
        check_all: takes the setups of all runs, by name; refuses by a ValueError.
        stop: installs the signal handlers, once for all stages of a claim; called after the checks.

    Returns:
        The finished runs by name; 130 if a signal stopped training, 1 if every seed of a run diverged.

    Raises:
        ValueError: a bad configuration, or WANDB_RUN_ID is set; nothing was trained.
    """
    trained = {name: run for name, run in arms.items() if isinstance(run, TrainedRun)}
    new = {name: arm for name, arm in arms.items() if isinstance(arm, Arm)}
    setups = {name: _build(name, arm, check) for name, arm in new.items()}
    if check_all is not None:
        check_all(setups)
    for name, setup in setups.items():
        # A run in the claim's directory is the only one: it may have the id, and is not announced.
        if new[name].directory != ".":
            require_no_run_id(setup.tracking.wandb, claim)
    asked = stop()
    tokens = {name: _tokens(setup) for name, setup in setups.items()}
    spent = done = 0.0
    for index, (name, arm) in enumerate(new.items(), start=1):
        directory = path / (arm.directory or name)
        if arm.directory != ".":
            _say(f"{claim}: {arm.label or name}, {index} of {len(new)}: {directory}")
        began = time.monotonic()
        status = exit_status(train_run(arm.config, directory, asked, setups[name]))
        if status is not None:
            return status
        config: dict[str, Any] = plain(arm.config)
        trained[name] = TrainedRun(directory, config, setups[name])
        spent, done = spent + time.monotonic() - began, done + tokens[name]
        left = sum(tokens.values()) - done
        if left > 0:
            _say(f"{claim}: {duration(spent)} so far, about {duration(spent * left / done)} left")
        if (reason := asked()) is not None and left > 0:
            _say(f"{claim}: stopped by {reason}; the same command continues")
            return 130
    return trained


def exit_status(finished: Finished) -> int | None:
    """None for a complete run; else 130 (stopped) or 1 (every seed diverged), after printing one line."""
    if finished.state == "stopped":
        print(f"{finished.path}: stopped by {finished.reason}; the same command continues", file=sys.stderr)
        return 130
    if finished.state == "failed":
        print(f"{finished.path}: {finished.reason}", file=sys.stderr)
        return 1
    return None


def rl_run_config(
    config: DictConfig,
    base: Path,
    checkpoint: str | Mapping[int, str],
    name: str,
    overrides: Sequence[Mapping[str, Any] | None],
) -> DictConfig:
    """The configuration of a run of reinforcement learning from a checkpoint, for experiments.train.

    Args:
        config: the base run's configuration; seeds, evaluation, checkpoints and tracking are taken over.
        base: the base run's directory.
        checkpoint: checkpoint of the base run; `last` or `<phase>:<step>`, or by seed.
        name: name of the new run.
        overrides: settings of conf/train_rl.yaml, applied in order.

    Raises:
        ValueError: as `rl_config`.
    """
    shared = OmegaConf.create({key: value for key, value in config.items() if key not in _NOT_SHARED})
    OmegaConf.set_struct(shared, False)
    empty: dict[str, Any] = {"phases": {}, "class_proposal": None, "dataset_size": None}
    start = {"run": str(base), "checkpoint_of": checkpoint, "task_overrides": None, "name": name}
    merged = OmegaConf.merge(shared, empty, start, *(changes or {} for changes in overrides))
    assert isinstance(merged, DictConfig)
    return rl_config(merged)


def built_before_its_start(
    name: str,
    config: DictConfig,
    overrides: Sequence[Mapping[str, Any] | None],
    task: Mapping[str, Any] | DictConfig,
    check: Callable[[str, Setup], None],
) -> Setup:
    """Build and check a run that starts from a checkpoint of another, before that one is trained.

    Args:
        name: name of the run, with which a message begins.
        config: the other run's configuration, which is changed.
        overrides: settings of conf/train_rl.yaml, applied in order.
        task: fields of the task that differ from the other run's, before `task_overrides` of `overrides`.
        check: takes the run's name and setup; refuses by a ValueError.

    Raises:
        ValueError: a run that cannot be built, or that `check` refuses.
    """
    changes = OmegaConf.merge({}, *(given or {} for given in overrides))
    assert isinstance(changes, DictConfig)
    own = changes.pop("task_overrides", None) or {}
    # Another objective or source takes the place of the other run's with none of its fields.
    config.objective, config.source, config.phases = {}, {}, {}
    merged = OmegaConf.merge(config, changes, {"task": task}, {"task": own})
    assert isinstance(merged, DictConfig)
    try:
        setup = build(merged)
        check(name, setup)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return setup


def _build(name: str, arm: Arm, check: Callable[[str, Setup], None] | None) -> Setup:
    try:
        setup = build(arm.config)
        if check is not None:
            check(name, setup)
    except ValueError as error:
        if where := arm.where or arm.label:
            raise ValueError(f"{where}: {error}") from None
        raise
    return setup


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tokens(setup: Setup) -> float:
    return float(
        sum(
            phase.steps * phase.batch_size * (phase.task.prompt_length + phase.task.response_length)
            for phase in setup.phases
        )
    )
