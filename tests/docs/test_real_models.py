"""docs/real_models.md is executed: its files are written into a folder, its commands run there."""

from __future__ import annotations

import glob
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covlab.readers.registry import OWN
from experiments import select


@pytest.mark.long
def test_the_page_runs_as_it_stands(
    read_guide: Callable[[str], Any],
    call: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = read_guide("real_models.md")
    files = page.sections()
    assert list(files) == ["my_verifier.py", "make_evaluations.py", "later.csv"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, "make_evaluations.py"], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    said = []
    for module, line in page.commands():
        assert module == "experiments.select"
        monkeypatch.chdir(tmp_path)
        words = [each for word in shlex.split(line) for each in (sorted(glob.glob(word)) or [word])]
        ended = call(select.main, *words)
        assert (ended.status, ended.err) == (0, "")
        said.append(ended.out)
    likelihood, counts, predicted = said
    assert len(said) == 3
    names = ["step-100", "step-300", "step-500", "step-700", "step-1000"]
    content = json.loads((tmp_path / "by_counts.json").read_text())["counts"]
    assert content["checkpoints"] == names
    assert content["change"]["coverage_ratio"]["k"] == 4
    assert "Recommendation: " in likelihood
    assert "Recommendation: " in counts
    for name in ("by_likelihood_log_probs.png", "by_counts_counts.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "Pass@" not in predicted
    assert "What predicts the later number" in predicted


def test_the_page_lists_every_format(read_guide: Callable[[str], Any]) -> None:
    text = read_guide("real_models.md").text
    table = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert table == ["format", *OWN]
