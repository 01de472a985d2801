"""Contract of every registered task, on instances small enough to enumerate."""

from pathlib import Path

import pytest
from oracles.small import described, instances

from covlab.testing.tasks import small_contract

TestTasks = pytest.mark.long(
    small_contract(
        {f"{name}-{i}": small for name, several in instances().items() for i, small in enumerate(several)}
    )
)


def test_every_registered_task_is_under_this_contract() -> None:
    registered = {path.stem for path in (Path(__file__).parents[2] / "conf" / "task").glob("*.yaml")}
    assert registered, "conf/task holds no task"
    missing = registered - described()
    assert not missing, (
        f"add tests/oracles/small/<task>.py with small instances and an oracle of {sorted(missing)}"
    )
    assert described() <= registered, f"no file in conf/task for {sorted(described() - registered)}"
