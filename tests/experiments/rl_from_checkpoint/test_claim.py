"""The claim on starts of reinforcement learning: checks on models whose answer is known; the tiny run.

The models of the checks are class-blind: their mass p on the majority's path decides everything else.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.reports import assert_rectangular

from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.rl_from_checkpoint import figures
from experiments.rl_from_checkpoint.checks import checks, notes
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Measurements, Outcome


def starts_of(kinds: tuple[str, ...] = ("as_trained", "minority")) -> Measurements:
    rng = np.random.default_rng(0)
    p = np.linspace(0.5, 0.9, 8) + rng.normal(0, 1e-3, (4, 8))
    later = 1 / (1 + (1 - p) / p * np.exp(-1.0))
    earlier = 1 / (1 + (1 - p) / p * np.exp(1.0))
    masses = {"as_trained": (p, later), "minority": (p, earlier)}
    outcomes = {}
    for kind in kinds:
        one = np.stack(masses[kind], axis=-1)
        reward = 0.9 * one + 0.1 * (1 - one) if kind == "as_trained" else 1 - one
        outcomes[kind] = Outcome({1: reward, 8: 1 - (1 - reward) ** 8}, np.array([0, 60]))
    cross_entropy = -0.9 * np.log(p) - 0.1 * np.log(1 - p)
    predictors = {
        CROSS_ENTROPY: cross_entropy,
        COVERAGE: 0.1 * (p > 0.75) + 1e-3 * p,
        TOURNAMENT: np.abs(p - 0.7),
    }
    chosen = {name: values.argmin(axis=1) for name, values in predictors.items()}
    return Measurements((1, 2, 3, 4), tuple(range(0, 800, 100)), predictors, chosen, outcomes, 4.0)


def test_cross_entropy_wins_as_trained_and_coverage_on_the_minority() -> None:
    results = starts_of()
    made = {check.name: check for check in checks(results)}
    assert len(made) == 8
    as_trained, difference = results.correlations("as_trained")
    assert as_trained[CROSS_ENTROPY].estimate > 0.95
    assert as_trained[COVERAGE].estimate < -0.95
    assert difference.high < 0
    lower = "as_trained: rank correlation of a lower Cov_4 at the start with a higher reward reached"
    assert not made[lower].passed
    assert not made["as_trained: the same minus that of the least cross-entropy"].passed
    for name, check in made.items():
        if name.startswith("minority: rank") or name == "minority: the same minus that of the cross-entropy":
            assert check.passed, name
    assert results.regret(CROSS_ENTROPY, "as_trained").max() == pytest.approx(0, abs=5e-3)
    assert results.regret(TOURNAMENT, "minority").mean() < results.regret(CROSS_ENTROPY, "minority").mean()


def test_notes_tables_and_figures(tmp_path: Path) -> None:
    results = starts_of()
    text = " ".join(notes(results))
    assert "Starts picked, by seed" in text
    assert_rectangular(figures.tables(results))
    drawn = save_all(tmp_path, figures.drawings(results))
    assert all(path.stat().st_size > 10_000 for _, path in drawn)
    alone = dataclasses.replace(results, outcomes={"minority": results.outcomes["minority"]})
    assert len(checks(alone)) == 4


def test_the_tiny_run_trains_a_base_and_six_starts(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("rl_from_checkpoint")
    assert Verdict.read(path / "verdict.json").seeds == (3, 4)
    assert len([each for each in path.iterdir() if (each / "status.json").exists()]) == 6 + 1
    page = (path / "report.html").read_text()
    assert len(page) > 20_000
    assert "reinforcement learning: wall (s)" in page
    assert "minority_00004" not in page, "one row per run would fill a page"
