"""The training command with the toy task and model in place of the configured ones: all of a run's files and
all of its ways to end, with little to trace.

    python -m tests.faults.toy root=FOLDER name=run tracking.wandb=disabled
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

sys.path.append(str(Path(__file__).parents[1]))

from oracles.toy import TabularModel, ToyTask, fuse_step

from covlab.launch.build import Setup, build
from covlab.launch.cli import StopRequest, command
from covlab.launch.run_names import run_path
from covlab.launch.runs import Finished, train_run
from covlab.launch.runtime import configure
from covlab.launch.settings import EvaluationSettings
from training import CrossEntropy, EvaluationSchedule, Phase

LENGTH = 8
"""Steps of each of the two phases: a boundary, with a save of the full state, after every second one."""


def toy_setup(config: DictConfig) -> Setup:
    """Two phases, two seeds, an evaluation at every other boundary; tracking as configured."""
    schedule = EvaluationSchedule(every=4)
    settings = EvaluationSettings(schedule, 6, 6, 0, (2, 5.7), (1, 4), 0, 2)
    phases = tuple(
        Phase(name, ToyTask(easy), CrossEntropy(), fuse_step(rate), LENGTH, 4, None, schedule, 2)
        for name, easy, rate in (("one", 0.9, 0.5), ("two", 0.5, 0.1))
    )
    real = build(config)
    checkpoint = dataclasses.replace(real.checkpoint, every_seconds=0.0, parameters="evaluations")
    return Setup(TabularModel(), phases, (settings,) * 2, checkpoint, real.tracking, (0, 1))


def toy_train(config: DictConfig, path: Path, stop: Callable[[], str | None] = lambda: None) -> Finished:
    """`train_run` of the toy."""
    return train_run(config, path, stop, toy_setup(config))


def run(config: DictConfig) -> int:
    """Run the toy as `experiments.train` does."""
    configure(2, config.devices)
    finished = toy_train(config, run_path(config, ["run"]), StopRequest().install())
    print(f"{finished.path}: {finished.state} {finished.reason}".rstrip(), file=sys.stderr)
    return {"complete": 0, "stopped": 130}.get(finished.state, 1)


main = command("train", run, module="tests.faults.toy")

if __name__ == "__main__":
    main()
