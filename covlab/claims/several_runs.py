"""The training runs of a claim that has several: in turn, with the time left, stopping where asked to."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from covlab.claims.old_claim import exit_status
from covlab.launch.build import Setup
from covlab.launch.cli import StopRequest
from covlab.launch.runs import train_run
from tracking.progress import duration
from tracking.wandb_options import require_no_run_id


def train_runs(
    claim: str,
    configs: Mapping[str, DictConfig],
    setups: Mapping[str, Setup],
    directories: Mapping[str, Path],
) -> int | None:
    """Train the named runs in turn, with a line before and after each; None, or why to stop (an exit status).

    The time left is estimated from the tokens that are still to be trained on.

    Raises:
        ValueError: WANDB_RUN_ID is set; nothing was trained.
    """
    for setup in setups.values():
        require_no_run_id(setup.tracking.wandb, claim)
    stop = StopRequest().install()
    tokens = {name: _tokens(setup) for name, setup in setups.items()}
    spent = done = 0.0
    for index, (name, own) in enumerate(configs.items(), start=1):
        _say(f"{claim}: {name}, {index} of {len(configs)}: {directories[name]}")
        began = time.monotonic()
        status = exit_status(train_run(own, directories[name], stop, setups[name]))
        if status is not None:
            return status
        spent, done = spent + time.monotonic() - began, done + tokens[name]
        left = sum(tokens.values()) - done
        if left > 0:
            _say(f"{claim}: {duration(spent)} so far, about {duration(spent * left / done)} left")
        if (reason := stop()) is not None and left > 0:
            _say(f"{claim}: stopped by {reason}; the same command continues")
            return 130
    return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tokens(setup: Setup) -> float:
    return float(
        sum(
            phase.steps * phase.batch_size * (phase.task.prompt_length + phase.task.response_length)
            for phase in setup.phases
        )
    )
