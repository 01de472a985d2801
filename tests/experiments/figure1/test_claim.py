"""The verdict of Figure 1: its checks on curves whose answer is known, and the whole command on a tiny
run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from covlab.claims.selection import RunMatrices, run_tables
from covlab.report.verdict import Verdict
from experiments.figure1.measure import COVERAGE_NS, PASS_NS, Measurements, checks, picks
from metrics import Interval


def class_blind_matrices(paths: np.ndarray, per_class: int = 50) -> RunMatrices:
    """The matrices of seeds whose model puts mass p on the majority's path and 1 - p on the minority's."""
    groups = np.repeat([0, 1], per_class)
    weights = np.where(groups == 0, 0.9, 0.1) / per_class
    log_probs = np.where(groups == 0, np.log(paths)[..., None], np.log1p(-paths)[..., None])
    return RunMatrices(
        phase="finetune",
        steps=tuple(range(paths.shape[1])),
        seeds=tuple(range(paths.shape[0])),
        diverged=(),
        log_probs=log_probs,
        log_pi=np.zeros(groups.size),
        weights=weights,
        groups=groups,
        log_prob_correct=log_probs,
        prompt_weights=weights,
    )


def measured(paths: np.ndarray, auc: float = 0.5) -> Measurements:
    matrices = class_blind_matrices(paths)
    tables = run_tables(matrices, COVERAGE_NS, pass_ns=PASS_NS)

    passes = matrices.pass_at_n(PASS_NS)
    assert passes is not None
    return Measurements(
        matrices=matrices,
        kl=matrices.kl(),
        cov=matrices.coverage(COVERAGE_NS),
        passes=passes,
        tables=tables,
        chosen=picks(tables, "simple_tournament", 2.0, "min_cross_entropy"),
        lowest=picks(tables, "min_kl"),
        blindness={seed: Interval(auc, auc - 0.01, auc + 0.01) for seed in matrices.seeds},
        log_odds={},
        bound_excess=0.0,
    )


def ideal(seeds: int = 3, end: float = 0.88) -> np.ndarray:
    # A start on both paths with a little less than its half, then along the class-blind curve.
    rng = np.random.default_rng(0)
    return np.linspace(0.45, end, 60) + rng.uniform(-1e-3, 1e-3, (seeds, 1))


def failing(found: Measurements) -> list[str]:
    return [check.name for check in checks(found) if not check.passed]


def test_checks_pass_where_the_shortcut_is_learned() -> None:
    # From (0.24, 0.24) on the two paths, as a pre-trained model has with mixed paths, to the class-blind
    # optimum.
    found = measured(ideal())
    start = np.log([0.3, 0.3, 0.3])
    log_probs = found.matrices.log_probs.copy()
    log_probs[:, 0] = start[:, None]
    matrices = dataclasses.replace(found.matrices, log_probs=log_probs, log_prob_correct=log_probs)
    passes = matrices.pass_at_n(PASS_NS)
    assert passes is not None
    found = dataclasses.replace(
        found, matrices=matrices, kl=matrices.kl(), cov=matrices.coverage(COVERAGE_NS), passes=passes
    )
    assert failing(found) == []


def test_checks_fail_without_a_shortcut() -> None:
    # A model that stops half way never loses the minority: coverage does not degrade and nothing is gained by
    # selecting.
    names = failing(measured(ideal(end=0.6)))
    assert "Cov_4: at the end" in names
    assert "Pass@8: tournament's choice over min-KL's" in names
    assert "Pass@8 of the min-KL checkpoint" in names


def test_checks_fail_where_the_model_sees_the_class() -> None:
    assert any("class-blindness" in name for name in failing(measured(ideal(), auc=0.7)))


def test_checks_fail_where_kl_rises() -> None:
    paths = ideal()
    paths[:, -5:] = 0.99
    assert "KL: largest rise above its running minimum, worst seed (nats)" in failing(measured(paths))


def test_command_writes_verdict_and_report(tmp_path: Path) -> None:
    overrides = [
        "seed=0",
        "seeds=2",
        f"root={tmp_path}",
        "name=tiny",
        "task.depth=2",
        "task.num_ids=10",
        "model.num_layers=1",
        "model.num_heads=2",
        "model.width=16",
        "batch_size=8",
        "phases.pretrain.steps=20",
        "phases.pretrain.log_every=20",
        "phases.finetune.steps=20",
        "phases.finetune.evaluation.schedule.every=5",
        "evaluation.num_examples=16",
        "evaluation.table_prompts=2",
        "blindness_examples=32",
        "tracking.wandb=disabled",
    ]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.figure1", *overrides],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "figure1" / "tiny"
    verdict = Verdict.read(run / "verdict.json")
    assert not verdict.holds
    assert verdict.seeds == (0, 1)
    assert "seeds=2" in verdict.command
    report = (run / "report.html").read_text()
    assert report.count("<figure") == 5
    for check in verdict.checks:
        assert check.name.split(":")[0] in report
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records} == {"pretrain", "finetune"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=1", "error: seeds: 1; figure1 needs at least 2"),
        ("tournament.n=2.5", "error: tournament.n: 2.5 is not one of"),
        ("tournament.tie_break=coin", "error: tournament.tie_break: 'coin' is not one of"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, override: str, message: str) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.figure1", override, f"root={tmp_path}/runs"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
