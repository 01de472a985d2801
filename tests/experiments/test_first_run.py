"""The first command that the README names: the quantities of the lab move, and soon."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracking import read_records

SECONDS = 120


@pytest.mark.slow
def test_the_default_run_moves_coverage_and_pass_at_n(
    tmp_path: Path, command_line: Callable[..., tuple[list[str], dict[str, str]]]
) -> None:
    line, variables = command_line("train", ["tracking.wandb=disabled", "name=first"])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(line, cwd=tmp_path, env=variables, text=True, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 0, ended.stderr
    # Processor time, because the machine may be shared: so much fits into two minutes on one core.
    assert after.ru_utime - before.ru_utime < SECONDS
    records = list(read_records(tmp_path / "runs" / "train" / "first" / "metrics.jsonl"))
    first, last = records[0], records[-1]
    assert (first["step"], last["step"]) == (0, 2000)
    assert first["eval/cov/2"] > 0.99
    assert first["eval/pass/12"] < 0.01
    assert last["eval/cov/2"] < 0.9
    assert last["eval/pass/12"] > 0.5
    assert {"eval/cov/4", "eval/pass/8", "train/kl", "train/cov/4"} <= last.keys()
    lines = ended.stderr.splitlines()
    assert lines[0].startswith("train 0/2000  compiling")
    for shown in ("ce ", "kl ", "cov/4 ", "pass/8 "):
        assert f"  {shown}" in lines[-1]
