"""Guides that are executed: a page's files go into a copy of the project, its commands run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("tasks", "models", "decoding", "metrics", "training", "tracking"),
    *("theory", "covlab", "experiments", "benchmarks", "conf", "tests"),
)
COMMAND = re.compile(r"^(?:python -m |covlab )(\S+) (.*)$", re.MULTILINE)
"""`python -m experiments.train steps=9` or `covlab train steps=9`."""


class Page:
    """A page of docs/ that gives files and commands."""

    def __init__(self, page: str) -> None:
        self.text = (ROOT / "docs" / page).read_text()

    def sections(self) -> dict[str, str]:
        """The first code block under each heading that names a file."""
        found = re.findall(r"^## \d+\. `([^`]+)`\n.*?^```\w+\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)
        return dict(found)

    def commands(self) -> list[tuple[str, str]]:
        """(module, arguments) of the page's commands of this project, in their order."""
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)
        plain = "".join(text for language, text in blocks if not language)
        found = [(name, line) for name, line in COMMAND.findall(plain) if name != "pytest"]
        return [("experiments." + name.removeprefix("experiments."), line) for name, line in found]


class Guide(Page):
    """A page, and a copy of the project with the page's files in it."""

    def __init__(self, page: str, root: Path) -> None:
        super().__init__(page)
        self.root = root
        for package in PACKAGES:
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, root)
        for name, text in self.sections().items():
            assert not (root / name).exists(), f"{name} is in the project already"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def run(self, *arguments: str) -> str:
        """Run a command of the page, which must succeed; returns the output."""
        # Ahead of an editable install of the project itself.
        environment = {**os.environ, "PYTHONPATH": str(self.root), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def open_guide(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Guide]:
    """`open_guide("add_a_task.md")`."""
    return lambda page: Guide(page, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def read_guide() -> Callable[[str], Page]:
    """`read_guide("add_a_model.md")`: the page alone, where a copy of the project would cost more."""
    return Page
