"""The claim on starts of reinforcement learning on runs by the law of the first reward and by other laws; its
page; the tiny run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from oracles.first_reward import by_law
from oracles.reports import assert_rectangular

from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.rl_from_checkpoint import figures
from experiments.rl_from_checkpoint.checks import checks, notes
from experiments.rl_from_checkpoint.measure import Measurements


def outcomes(results: Measurements) -> list[str]:
    return [check.name for check in checks(results) if check.state == "failed"]


def passing(shift: float, count: int = 60) -> float:
    """Share of claims of 8 seeds that hold."""
    rng = np.random.default_rng(3)
    return float(np.mean([all(c.passed for c in checks(by_law(8, rng, shift))) for _ in range(count)]))


def test_runs_by_the_law_mostly_hold() -> None:
    """Also where twice the mass is needed, as if the half of the rollouts were spent on growing."""
    assert passing(0.0) > 0.7
    assert passing(math.log(2)) > 0.7


def test_runs_that_need_a_right_answer_of_every_prompt_are_refuted() -> None:
    """N is then the rollouts of a visit, 8."""
    refuted = outcomes(by_law(8, np.random.default_rng(4), math.log(400)))
    assert any(name.startswith("log10(N*/R)") and name.endswith("below") for name in refuted)


def test_runs_that_find_everything_are_refuted() -> None:
    refuted = outcomes(by_law(8, np.random.default_rng(5), -20.0))
    assert any(name.startswith("log10(N*/R)") and name.endswith("above") for name in refuted)
    assert any("start of least cross-entropy is stuck" in name for name in refuted)


def test_notes_tables_and_figures(tmp_path: Path) -> None:
    results = by_law(8, np.random.default_rng(6))
    assert "Starts picked, by seed: least cross-entropy: 11, 11" in " ".join(notes(results))
    assert_rectangular(figures.tables(results))
    drawn = save_all(tmp_path, figures.drawings(results))
    assert all(path.stat().st_size > 10_000 for _, path in drawn)
    # Without a stuck run there is nothing to order.
    found = dataclasses.replace(results, curves=np.ones_like(results.curves))
    assert_rectangular(figures.tables(found))


def test_the_tiny_run_trains_a_base_and_three_starts(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("rl_from_checkpoint")
    assert Verdict.read(path / "verdict.json").seeds == (3, 4)
    assert len([each for each in path.iterdir() if (each / "status.json").exists()]) == 3 + 1
    page = (path / "report.html").read_text()
    assert len(page) > 20_000
    assert "reinforcement learning: wall (s)" in page
    assert "rl_00004, " not in page, "one row per run would fill a page"
