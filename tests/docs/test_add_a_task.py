"""docs/add_a_task.md is executed: its files go into a copy of the project, its commands run there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

FILES = ("tasks/caesar.py", "conf/task/caesar.yaml", "tests/oracles/small/caesar.py")


@pytest.fixture(scope="module")
def guide(open_guide: Callable[[str], Any]) -> Any:
    return open_guide("add_a_task.md")


def test_the_page_names_the_files_of_a_task(guide: Any) -> None:
    assert tuple(guide.sections()) == FILES


@pytest.mark.long
def test_the_task_of_the_page_is_under_the_contract(guide: Any) -> None:
    said = guide.run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "caesar or registered",
        "tests/tasks/test_contract.py",
    )
    assert int(re.findall(r"(\d+) passed", said)[-1]) > 5
    shown = guide.run("-m", "experiments.show", "task=caesar", "num=1")
    assert "copy" in shown


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(guide: Any) -> None:
    assert [module for module, _ in guide.commands()] == [
        "experiments.show",
        "experiments.train",
        "experiments.evaluate",
    ]
    for module, arguments in guide.commands():
        words = shlex.split(arguments)
        if module == "experiments.train":
            words = [
                *(word for word in words if not word.startswith("steps=")),
                "steps=30",
                "tracking.wandb=disabled",
            ]
        guide.run("-m", module, *words)
    assert (guide.root / "runs" / "train" / "caesar" / "evaluations").is_dir()
