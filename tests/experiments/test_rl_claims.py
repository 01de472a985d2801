"""The claims on reinforcement learning: checks on models whose answer is known, and both commands, small."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covlab.report.verdict import Verdict
from experiments import rl_from_checkpoint, rl_pass_at_k
from experiments.rl_from_checkpoint import figures as rl_from_checkpoint_figures
from experiments.rl_from_checkpoint import measure as rl_from_checkpoint_measure
from experiments.rl_from_checkpoint.measure import COVERAGE, CROSS_ENTROPY, TOURNAMENT, Outcome
from experiments.rl_pass_at_k import figures as rl_pass_at_k_figures
from experiments.rl_pass_at_k import measure as rl_pass_at_k_measure
from experiments.rl_pass_at_k.measure import COVERAGE_NS, NS, Arm, Measurements, blind_pass_at_k, kept_near

PROBS = (0.8, 0.2)


# Pass@k: class-blind models with mass q on the likelier class's path and the rest on the other's.


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


def passes_of(arm: Arm, **others: Arm) -> Measurements:
    return Measurements({"grpo": arm, **others}, PROBS, 1, 64, {"grpo": None, **dict.fromkeys(others, 0.3)})


def failing(found: Measurements) -> list[str]:
    return [check.name for check in rl_pass_at_k_measure.checks(found) if not check.passed]


def test_a_model_that_commits_passes_and_one_that_stays_or_sees_does_not() -> None:
    committed = passes_of(arm_of(0.8, 0.999))
    assert failing(committed) == []
    assert committed.judged.crossing.tolist() == [2, 2, 2, 2]
    assert len(failing(passes_of(arm_of(0.8, 0.8)))) >= 3
    knowing = failing(passes_of(arm_of(0.8, 0.999, sees_classes=True)))
    assert "Pass@1 at the end minus the best without telling classes apart" in knowing
    assert "Pass@64: fall below the base model's" in knowing
    assert "least k at which Pass@k is below the base model's, worst seed" in knowing


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


def test_pass_at_k_notes_tables_and_figures(tmp_path: Path) -> None:
    found = passes_of(arm_of(0.8, 0.999), rloo_kl=arm_of(0.8, 0.96))
    text = " ".join(rl_pass_at_k_measure.notes(found, 12.0))
    assert "closed form with weight 0.3 has 0.967" in text
    for _, columns, rows in rl_pass_at_k_figures.tables(found):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    drawn = rl_pass_at_k_figures.draw_all(tmp_path, found)
    assert all(path.stat().st_size > 10_000 for _, path in drawn)


# Starts: the order that a class-blind model's mass p gives to everything.


def starts_of(kinds: tuple[str, ...] = ("as_trained", "minority")) -> rl_from_checkpoint_measure.Measurements:
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
    return rl_from_checkpoint_measure.Measurements(
        (1, 2, 3, 4), tuple(range(0, 800, 100)), predictors, chosen, outcomes, 4.0
    )


def test_cross_entropy_wins_as_trained_and_coverage_on_the_minority() -> None:
    found = starts_of()
    made = {check.name: check for check in rl_from_checkpoint_measure.checks(found)}
    assert len(made) == 8
    as_trained, difference = found.correlations("as_trained")
    assert as_trained[CROSS_ENTROPY].estimate > 0.95
    assert as_trained[COVERAGE].estimate < -0.95
    assert difference.high < 0
    lower = "as_trained: rank correlation of a lower Cov_4 at the start with a higher reward reached"
    assert not made[lower].passed
    assert not made["as_trained: the same minus that of the least cross-entropy"].passed
    for name, check in made.items():
        if name.startswith("minority: rank") or name == "minority: the same minus that of the cross-entropy":
            assert check.passed, name
    assert found.regret(CROSS_ENTROPY, "as_trained").max() == pytest.approx(0, abs=5e-3)
    assert found.regret(TOURNAMENT, "minority").mean() < found.regret(CROSS_ENTROPY, "minority").mean()


def test_starts_notes_tables_and_figures(tmp_path: Path) -> None:
    found = starts_of()
    text = " ".join(rl_from_checkpoint_measure.notes(found, 12.0))
    assert "Starts picked, by seed" in text
    for _, columns, rows in rl_from_checkpoint_figures.tables(found):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    drawn = rl_from_checkpoint_figures.draw_all(tmp_path, found)
    assert all(path.stat().st_size > 10_000 for _, path in drawn)
    alone = dataclasses.replace(found, outcomes={"minority": found.outcomes["minority"]})
    assert len(rl_from_checkpoint_measure.checks(alone)) == 4


# The commands.

TINY = (
    "seed=3", "seeds=2", "name=tiny", "model.num_layers=1", "model.num_heads=2", "model.width=16",
    "batch_size=8", "log_every=8", "evaluation.num_examples=8", "tracking.wandb=disabled",
    "tracking.figures=false", "tracking.progress=false", "rl.steps=2", "rl.batch_size=2", "rl.log_every=2",
    "rl.source.per_prompt=2", "rl.evaluation.schedule.every=2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("main", "override", "message"),
    [
        (rl_pass_at_k.main, "large_k=1", "large_k: 1 is not above small_k = 1"),
        (rl_pass_at_k.main, "large_k=100", "large_k: 100; valid: 1 to 64, or one of 96, 128"),
        (rl_pass_at_k.main, "arms=null", "arms: None is not a mapping with at least 1 entries"),
        (rl_pass_at_k.main, "+rl.stepps=3", "rl.stepps: no such field; valid are"),
        (rl_pass_at_k.main, "seeds=1", "seeds: 1; rl_pass_at_k needs at least 2"),
        (rl_pass_at_k.main, "task.mixture={G1:0.5,G2:0.5}", "task.mixture.G1: 0.5; rl_pass_at_k needs more"),
        (
            rl_from_checkpoint.main,
            "starts=[0,7,1500]",
            "starts: [7]; valid: evaluated steps of phase",
        ),
        (rl_from_checkpoint.main, "starts=[0,20]", "starts: [0, 20]; valid: at least 3 different integers"),
        (
            rl_from_checkpoint.main,
            "tournament.tie_break=first",
            "tournament.tie_break: 'first' is not one",
        ),
        (
            rl_from_checkpoint.main,
            "prompts.minority.mixture.G2=0.5",
            "prompts.minority: task.mixture: probabilities",
        ),
        (rl_from_checkpoint.main, "checkpoint.parameters=ends", "checkpoint.parameters: ends; rl_from"),
        (rl_from_checkpoint.main, "run=nowhere", "nowhere/config.yaml"),
    ],
)
def test_bad_settings_are_refused_in_one_line(
    main: Any, override: str, message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(main, override)
    assert ended.status == 2
    assert message in ended.err, ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "overrides", "runs"),
    [
        ("rl_pass_at_k", ("steps=8", "evaluation.schedule.every=8"), 3),
        (
            "rl_from_checkpoint",
            (
                "phases.pretrain.steps=8", "phases.pretrain.evaluation.schedule.every=8",
                "phases.finetune.steps=8", "phases.finetune.evaluation.schedule.every=4", "starts=[0,4,8]",
            ),
            6,
        ),
    ],
)  # fmt: skip
def test_the_command_trains_judges_and_reuses(
    claim: str, overrides: tuple[str, ...], runs: int, command_line: Callable[..., Any], tmp_path: Path
) -> None:
    line, environment = command_line(claim, (*TINY, *overrides))
    ended = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    path = tmp_path / "runs" / claim / "tiny"
    verdict = Verdict.read(path / "verdict.json")
    assert verdict.claim == claim
    assert verdict.seeds == (3, 4)
    assert len([each for each in path.iterdir() if (each / "status.json").exists()]) == runs + 1
    assert (path / "report.html").stat().st_size > 20_000
    before = json.loads((path / "verdict.json").read_text())["checks"]
    again = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete already") == runs + 1
    assert json.loads((path / "verdict.json").read_text())["checks"] == before
