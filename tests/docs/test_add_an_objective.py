"""docs/add_an_objective.md is executed: its files go into a copy of the project, its commands run there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

FILES = (
    "training/coverage_hinge.py",
    "conf/objective/coverage_hinge.yaml",
    "tests/training/test_coverage_hinge.py",
)


@pytest.fixture(scope="module")
def guide(open_guide: Callable[[str], Any]) -> Any:
    return open_guide("add_an_objective.md")


def test_the_page_names_the_files_of_an_objective(guide: Any) -> None:
    assert tuple(guide.sections()) == FILES


@pytest.mark.long
def test_the_objective_of_the_page_passes_its_tests(guide: Any) -> None:
    said = guide.run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "coverage_hinge"),
        *("tests/training/test_coverage_hinge.py", "tests/covlab/launch/test_schema.py"),
    )
    # Five of its own, and one that builds a run with it.
    assert int(re.findall(r"(\d+) passed", said)[-1]) == 6


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(guide: Any) -> None:
    assert [module for module, _ in guide.commands()] == [
        "experiments.train",
        "experiments.evaluate",
        "experiments.dco",
    ]
    for module, arguments in guide.commands():
        words = shlex.split(arguments)
        if module == "experiments.train":
            words = [
                *(word for word in words if not word.startswith("steps=")),
                "steps=20",
                "tracking.wandb=disabled",
            ]
        said = guide.run("-m", module, *words)
    assert "hinge_256" in said
    assert (guide.root / "runs" / "train" / "hinge" / "evaluations").is_dir()
