"""Completions that TRL's trainers log: `completions_STEP.parquet`, the last generation batch of a step.

Columns are `step`, `prompt`, `completion`, one per reward function, and `advantage`, which is a reward minus
the group's mean and says nothing of a response alone. A prompt has no id: equal prompts are one group. Each
file is a checkpoint. Prompts differ from step to step, so that two files can be compared only where a run
repeats its prompts.
"""

from __future__ import annotations

import re
from pathlib import Path

from covlab.readers import tables
from covlab.readers.base import Checkpoint, Collector, Wanted, the_only
from covlab.readers.contents import digest, shown
from tracking import LoadError

FILE = re.compile(r"completions_(?P<step>\d+)\.parquet")
NOT_REWARDS = ("step", "prompt", "completion", "advantage", "images", "trace")


class Reader:
    """TRL."""

    name = "trl"
    summary = "TRL: completions_STEP.parquet, or the folder of them"

    def recognises(self, source: Path) -> bool:
        """True for a folder with such files, or one file."""
        return bool(_files(source))

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each file, in the order of steps.

        Raises:
            ValueError: several rewards and none asked for, a reward that is neither 0 nor 1, missing columns.
        """
        return [_checkpoint(file, wanted) for file in _files(source)]


READER = Reader()


def _files(source: Path) -> list[Path]:
    paths = [source] if source.is_file() else [*source.glob("completions_*.parquet")]
    if source.is_dir() and not paths:
        paths = [*source.glob("completions/completions_*.parquet")]
    found = [(int(match["step"]), path) for path in paths if (match := FILE.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _checkpoint(file: Path, wanted: Wanted) -> Checkpoint:
    names = tables.columns(file)
    if missing := [name for name in ("prompt", "completion") if name not in names]:
        raise LoadError(f"{file}: no column {missing[0]}; there are {', '.join(names) or 'none'}")
    if wanted.score == "advantage":
        raise LoadError("score: advantage: a reward minus its group's mean; valid: a column of rewards")
    rewards = [name for name in names if name not in NOT_REWARDS]
    reward = the_only("score", rewards, wanted.score, f"{file}: rewards")
    collector = Collector(file)
    judge = wanted.judge()
    for number, record in tables.rows(file):
        row = collector.place(None, digest(record["prompt"]), shown(_text(record["prompt"])))
        if judge is not None:
            right: bool | None = judge(_text(record["completion"]), None, record)
        else:
            right = wanted.is_right(f"{file}: row {number}: {reward}", record[reward])
        collector.sample(row, right)
    return collector.checkpoint(f"step {int(file.stem.rpartition('_')[2])}")


def _text(value: object) -> str:
    """A text, or that of the last message."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return str(value[-1].get("content"))
    return str(value)
