"""docs/add_an_objective.md is executed: its files go into a copy of the project, its commands run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add_an_objective.md"
PACKAGES = ("tasks", "models", "decoding", "metrics", "training", "tracking", "experiments", "conf", "tests")
FILES = (
    "training/coverage_hinge.py",
    "conf/objective/coverage_hinge.yaml",
    "tests/training/test_coverage_hinge.py",
)
COMMAND = re.compile(r"^python -m (\S+) (.*)$", re.MULTILINE)


def sections() -> dict[str, str]:
    """The first code block under each heading that names a file."""
    found = re.findall(
        r"^## \d+\. `([^`]+)`\n.*?^```\w+\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    return dict(found)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in sections().items():
        assert not (root / name).exists(), f"{name} is in the project already"
        (root / name).write_text(text)
    return root


def run(root: Path, *arguments: str) -> str:
    """What a command of the page prints; it must succeed."""
    # Ahead of an editable install of the project itself.
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_the_page_names_the_files_of_an_objective() -> None:
    assert tuple(sections()) == FILES


def test_the_objective_of_the_page_passes_its_tests(project: Path) -> None:
    said = run(
        project,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "coverage_hinge"),
        *("tests/training/test_coverage_hinge.py", "tests/experiments/test_schema.py"),
    )
    # Five of its own, and one that builds a run with it.
    assert int(re.findall(r"(\d+) passed", said)[-1]) == 6


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(project: Path) -> None:
    commands = [found for found in COMMAND.findall(PAGE.read_text()) if found[0].startswith("experiments.")]
    assert [module for module, _ in commands] == [
        "experiments.train",
        "experiments.evaluate",
        "experiments.dco",
    ]
    for module, arguments in commands:
        words = shlex.split(arguments)
        if module == "experiments.train":
            words = [
                *(word for word in words if not word.startswith("steps=")),
                "steps=20",
                "tracking.wandb=disabled",
            ]
        said = run(project, "-m", module, *words)
    assert "hinge_256" in said
    assert (project / "runs" / "train" / "hinge" / "evaluations").is_dir()
