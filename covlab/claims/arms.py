"""Training the runs of a claim in turn, with an estimate of the remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from covlab.launch.build import Setup, build, plain
from covlab.launch.cli import StopRequest
from covlab.launch.runs import Finished, train_run
from covlab.launch.trained import TrainedRun
from tracking.progress import duration
from tracking.wandb_options import require_no_run_id


class Arm(NamedTuple):
    """A training run of a claim.

    Attributes:
        config: a configuration of experiments.train.
        directory: below the claim's directory; "" is the run's name, "." the claim's directory itself.
        label: displayed name of the run, with which messages on errors in `config` begin. "" displays the
            run's name and leaves messages unchanged.
    """

    config: DictConfig
    directory: str = ""
    label: str = ""


def train_arms(
    claim: str,
    arms: Mapping[str, Arm],
    path: Path,
    check: Callable[[str, Setup], None] | None = None,
) -> dict[str, TrainedRun] | int:
    """Train the runs below `path` in turn, and print a line before and after every run.

    Every run is built and checked before the first is trained. The remaining time is estimated from the
    remaining training tokens.

    Args:
        claim: the claim's name.
        arms: the runs by name.
        path: the claim's directory.
        check: takes a run's name and setup; refuses by a ValueError.

    Returns:
        The finished runs by name; 130 if a signal stopped training, 1 if every seed of a run diverged.

    Raises:
        ValueError: a bad configuration, or WANDB_RUN_ID is set; nothing was trained.
    """
    setups = {name: _build(name, arm, check) for name, arm in arms.items()}
    for setup in setups.values():
        require_no_run_id(setup.tracking.wandb, claim)
    stop = StopRequest().install()
    tokens = {name: _tokens(setup) for name, setup in setups.items()}
    spent = done = 0.0
    trained: dict[str, TrainedRun] = {}
    for index, (name, arm) in enumerate(arms.items(), start=1):
        directory = path / (arm.directory or name)
        _say(f"{claim}: {arm.label or name}, {index} of {len(arms)}: {directory}")
        began = time.monotonic()
        status = exit_status(train_run(arm.config, directory, stop, setups[name]))
        if status is not None:
            return status
        config: dict[str, Any] = plain(arm.config)
        trained[name] = TrainedRun(directory, config, setups[name])
        spent, done = spent + time.monotonic() - began, done + tokens[name]
        left = sum(tokens.values()) - done
        if left > 0:
            _say(f"{claim}: {duration(spent)} so far, about {duration(spent * left / done)} left")
        if (reason := stop()) is not None and left > 0:
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


def _build(name: str, arm: Arm, check: Callable[[str, Setup], None] | None) -> Setup:
    try:
        setup = build(arm.config)
        if check is not None:
            check(name, setup)
    except ValueError as error:
        if arm.label:
            raise ValueError(f"{arm.label}: {error}") from None
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
