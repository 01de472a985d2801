"""Small instances and an independent answer for every registered task (conf/task/*.yaml).

A new task `x` brings `oracles/small/x.py` with `INSTANCES`, a tuple of `Small`, small enough to enumerate
all sequences over the vocabulary; the contract test asks for it.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from tasks import Task


@dataclasses.dataclass(frozen=True)
class Small:
    """A small instance; both answers are computed from the prompt's text.

    Attributes:
        probability: exact pi_D(response | prompt).
        reward: (prompt, class, response) -> the reward in [0, 1]: for tasks with a 0/1 reward, whether that
            class can emit the response.
    """

    task: Task
    probability: Callable[[str, Sequence[int]], Fraction]
    reward: Callable[[str, str, Sequence[int]], bool | Fraction]


def described() -> set[str]:
    """The tasks that have instances here."""
    return {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__"}


def instances() -> dict[str, tuple[Small, ...]]:
    """The instances of every task that has some."""
    return {name: importlib.import_module(f"oracles.small.{name}").INSTANCES for name in sorted(described())}
