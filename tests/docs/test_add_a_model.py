"""docs/add_a_model.md is executed: its tests run here, its commands in a copy of the project."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = ("models/bilinear.py", "conf/model/bilinear.yaml", "tests/models/test_bilinear.py")


def test_the_model_of_the_page_passes_its_tests(
    read_guide: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = read_guide("add_a_model.md").sections()
    assert tuple(sections) == FILES
    for name in (FILES[0], FILES[2]):
        file = tmp_path / Path(name).name
        file.write_text(sections[name])
        module = ".".join(Path(name).with_suffix("").parts)
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module, loaded)
        spec.loader.exec_module(loaded)
    tests = [value for key, value in vars(loaded).items() if key.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(open_guide: Callable[[str], Any]) -> None:
    guide = open_guide("add_a_model.md")
    assert [module for module, _ in guide.commands()] == [
        "experiments.train",
        "experiments.train",
        "experiments.compare",
    ]
    for module, arguments in guide.commands():
        short = ["steps=20", "tracking.wandb=disabled"] if module == "experiments.train" else []
        words = [word for word in shlex.split(arguments) if not word.startswith("steps=")]
        guide.run("-m", module, *words, *short)
    assert (guide.root / "runs" / "compare" / "report.html").is_file()
