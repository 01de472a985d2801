"""Small instances and an independent answer for every registered task (conf/task/*.yaml).

A new task `x` brings `oracles/small/x.py` with `INSTANCES`, a tuple of `Small`, small enough to enumerate
all sequences over the vocabulary; the contract test asks for it.
"""

import importlib
from pathlib import Path

from covlab.testing.tasks import Small


def described() -> set[str]:
    """The tasks that have instances here."""
    return {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__"}


def instances() -> dict[str, tuple[Small, ...]]:
    """The instances of every task that has some."""
    return {name: importlib.import_module(f"oracles.small.{name}").INSTANCES for name in sorted(described())}
