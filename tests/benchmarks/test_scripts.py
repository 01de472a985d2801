"""Every benchmark runs at its smallest size and refuses bad arguments in one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common
from benchmarks.__main__ import NAMES

RATIOS = {
    "frameworks": "covlab_over",
    "flops": "share_of_product",
    "profile": "milliseconds_a_step",
    "seeds": "together_over_in_turn",
    "evaluation": "share_of_loop_by_comparison",
    "sampling": "cached_over",
    "startup": "cold_over_warm",
    "memory": "most_over_fewest_seeds",
    "own_module": "covlab_over_loop",
}


def test_all_are_run_by_the_package() -> None:
    assert set(NAMES) == set(RATIOS)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_argument_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"benchmarks.{name}").main
    for arguments in (["--repeats", "0"], ["--cores", "99999", "--tiny"], ["--unknown"]):
        if name == "frameworks" and importlib.util.find_spec("torch") is None and "--cores" in arguments:
            continue
        with pytest.raises(SystemExit) as exit_:
            common.run(main, arguments)
        lines = capsys.readouterr().err.splitlines()
        assert exit_.value.code == 2
        assert len(lines) == 1
        assert lines[0].startswith("error: ")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_what_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("benchmarks.frameworks").main
    with pytest.raises(SystemExit):
        common.run(main, ["--against", "torch_eager"])
    assert "torch is not installed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_size_runs(name: str, tmp_path: Path) -> None:
    arguments = ["--tiny", "--repeats", "1", "--out", str(tmp_path)]
    if name == "frameworks":
        pytest.importorskip(
            "torch", reason="PyTorch is not in .venv: `make bench` makes an environment with it"
        )
        pytest.importorskip("flax", reason="Flax is not in .venv: `make bench` makes an environment with it")
        # Without torch.compile, which compiles C++ for a minute.
        arguments += ["--against", "torch_eager", "flax"]
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["benchmark"] == name
    assert record["command"].startswith(f"python -m benchmarks.{name} --tiny")
    assert all(value > 0 for value in ratios(record["results"][RATIOS[name]])) or name == "evaluation"


def ratios(found: Any) -> list[float]:
    """Medians of a summary or of a mapping of summaries; a plain number as it is."""
    if not isinstance(found, dict):
        return [found]
    return [found["median"]] if "median" in found else [value["median"] for value in found.values()]
