"""The claim on Pass@k after reinforcement learning: checks on models whose answer is known; the tiny run.

The models of the checks are class-blind: mass q on the likelier class's path and the rest on the other's.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from oracles.reports import assert_rectangular

from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.rl_pass_at_k import figures
from experiments.rl_pass_at_k.checks import checks, kept_near, notes
from experiments.rl_pass_at_k.measure import (
    COVERAGE_NS,
    NS,
    Arm,
    Measurements,
    blind_pass_at_k,
    first_inside,
)

PROBS = (0.8, 0.2)


def arm_of(start: float, end: float, sees_classes: bool = False) -> Arm:
    rng = np.random.default_rng(0)
    masses = np.clip(np.array([[start, end]] * 4) + rng.normal(0, 1e-3, (4, 2)), 0, 1)

    def passes(mass: float, n: int, last: bool) -> float:
        return 1.0 if last and sees_classes else blind_pass_at_k(PROBS, (mass, 1 - mass), n)

    def coverage(mass: float, n: float) -> float:
        return sum(p for p, q in zip(PROBS, (mass, 1 - mass), strict=True) if q <= 0 or 1 / q >= n)

    def table(of: Callable[..., float], ns: Any) -> np.ndarray:
        return np.array([[[of(q, n, i) for i, q in enumerate(row)] for row in masses] for n in ns])

    return Arm(
        (1, 2, 3, 4),
        np.array([0, 100]),
        table(passes, NS),
        table(lambda q, n, _: coverage(q, n), (*COVERAGE_NS, 64.0)),
        np.ones((4, 2)),
        masses,
        0.0,
    )


def open_arm(start: float, end: float) -> Arm:
    """Every prompt has the probability `start` of a right path, then `end`; at first a tenth of the prompts
    is never answered rightly."""
    passes = [[[0.9 * (1 - (1 - start) ** n), 1 - (1 - end) ** n]] * 4 for n in NS]
    return dataclasses.replace(arm_of(0.8, 0.999), passes=np.array(passes), majority=None)


def results_of(arm: Arm, opened: Arm | None = None, **others: Arm) -> Measurements:
    weights = {"grpo": None, **dict.fromkeys(others, 0.3)}
    opened = open_arm(0.5, 0.9) if opened is None else opened
    return Measurements({"grpo": arm, **others}, opened, (0.5, 0.9), (), PROBS, 1, 64, weights)


def failing(results: Measurements) -> list[str]:
    return [check.name for check in checks(results) if not check.passed]


def test_a_model_that_commits_passes_and_one_that_stays_or_sees_does_not() -> None:
    committed = results_of(arm_of(0.8, 0.999))
    assert failing(committed) == []
    assert committed.judged.crossing.tolist() == [2, 2, 2, 2]
    assert len(failing(results_of(arm_of(0.8, 0.8)))) >= 3
    knowing = failing(results_of(arm_of(0.8, 0.999, sees_classes=True)))
    assert "Pass@1 at the end minus the best without telling classes apart" in knowing
    assert "Pass@64: fall below the base model's" in knowing
    assert "least k at which Pass@k is below the base model's, worst seed" in knowing


def test_an_open_arm_may_rise_or_fall() -> None:
    assert results_of(arm_of(0.8, 0.999)).open.crossing.tolist() == [0, 0, 0, 0]
    lower = open_arm(0.5, 0.9)
    lower = dataclasses.replace(lower, passes=lower.passes[..., ::-1])
    assert failing(results_of(arm_of(0.8, 0.999), lower)) == [
        "open: Pass@64 of the base model",
        "open: Pass@1: share gained of what the base model misses",
        "open: Pass@64: rise by reinforcement learning",
        "Pass@64: blind fall and open rise together",
    ]


def test_a_base_model_is_taken_at_its_first_checkpoint_in_the_window() -> None:
    """Both ends are inside. A curve that is never inside, jumps over the window or falls back gives the last,
    or the first that is."""
    passes = np.array(
        [
            [0.1, 0.5, 0.7, 0.9],
            [0.1, 0.9, 0.2, 0.6],
            [0.0, 0.1, 0.2, 0.49],
            [0.1, 0.3, 0.91, 0.99],
            [0.1, 0.95, 0.8, 0.99],
        ]
    )
    index, there = first_inside(passes, (0.5, 0.9))
    assert index.tolist() == [1, 1, 3, 3, 2]
    assert there.tolist() == [True, True, False, False, True]


def test_every_arm_has_the_blind_arms_and_the_open_one_in_order() -> None:
    results = results_of(arm_of(0.8, 0.999), rloo=arm_of(0.8, 0.96))
    assert list(results.every_arm) == ["grpo", "rloo", "open"]
    assert results.every_arm["open"] is results.open
    assert results.every_arm["rloo"] is results.arms["rloo"]


def test_notes_give_the_shares_of_seeds_that_start_and_that_rise() -> None:
    """Clopper and Pearson: 4 of 5 seeds [.28, .99]; 3 of 4 [.19, .99]."""
    opened = open_arm(0.5, 0.9)
    opened.passes[NS.index(64), 1, 1] = 0.0
    found = dataclasses.replace(results_of(arm_of(0.8, 0.999), opened), outside=(9,))
    started, rose = notes(found)[-2:]
    assert "Pass@64 in [0.5, 0.9]: 4 of 5 seeds, 0.80 [0.28, 0.99]; without one: 9." in started
    assert "both rise in 3 of 4 seeds, 0.75 [0.19, 0.99]" in rose


def test_closed_forms() -> None:
    assert blind_pass_at_k(PROBS, PROBS, 1) == pytest.approx(0.68)
    assert blind_pass_at_k(PROBS, (1, 0), 4096) == pytest.approx(0.8)
    rng = np.random.default_rng(2)
    prompts, k = 200_000, 3
    rare = rng.random(prompts) < PROBS[1]
    hit = np.any((rng.random((prompts, k)) < 0.3) == rare[:, None], axis=1)
    assert blind_pass_at_k(PROBS, (0.7, 0.3), k) == pytest.approx(hit.mean(), abs=5e-3)
    q = np.linspace(1e-6, 1 - 1e-6, 1_000_001)
    for p, weight in ((0.8, 0.3), (0.6, 1.0)):
        reward = p * q + (1 - p) * (1 - q)
        kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
        assert kept_near(p, weight) == pytest.approx(q[np.argmax(reward - weight * kl)], abs=1e-5)


@pytest.mark.long
def test_notes_tables_and_figures(tmp_path: Path) -> None:
    results = results_of(arm_of(0.8, 0.999), rloo_kl=arm_of(0.8, 0.96))
    text = " ".join(notes(results))
    assert "closed form with weight 0.3 has 0.967" in text
    assert "open: Pass@1 0.450 -> 0.900, Pass@64 0.900 -> 1.000" in text
    assert_rectangular(figures.tables(results))
    drawn = save_all(tmp_path, figures.drawings(results))
    assert all(path.stat().st_size > 10_000 for _, path in drawn)


def test_the_tiny_run_trains_two_bases_and_four_arms(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("rl_pass_at_k")
    assert Verdict.read(path / "verdict.json").seeds == (3, 4)
    assert len([each for each in path.iterdir() if (each / "status.json").exists()]) == 2 + 4
    assert (path / "report.html").stat().st_size > 20_000
    # Every seed's Pass@64 is inside the tiny run's window from the start: the first checkpoint is step 0.
    opened = yaml.safe_load((path / "open" / "config.yaml").read_text())
    assert opened["base"]["steps"] == {"3": 0, "4": 0}
