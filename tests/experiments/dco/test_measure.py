"""The claim on over-confidence: its measurements and checks on numbers whose answer is known; its command."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from covlab.claims.claim import Plan
from covlab.claims.matrices import RunMatrices
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.dco import runs
from experiments.dco.checks import checks, notes
from experiments.dco.figures import drawings, tables
from experiments.dco.measure import (
    PASS_NS,
    Arm,
    Measurements,
    Recorded,
    Settings,
    arm_of,
    calibration,
    ensemble,
    numbers_trained_for,
)
from training import Averaging, LabelSmoothing

NS = (1, 4, 16, 64)
STEPS = np.array([0, 100, 200])


def recorded(probabilities: Any, correct: Any) -> Recorded:
    """A record of single-response prompts: (seeds, checkpoints, prompts, candidates), of which the first
    correct one is pi_D's."""
    log_prob = np.log(np.asarray(probabilities, np.float64))
    right = np.asarray(correct, bool)
    prompts = len(right)
    own = np.take_along_axis(log_prob, right.argmax(axis=1)[None, None, :, None], axis=-1)[..., 0]
    matrices = RunMatrices(
        phase="train",
        steps=tuple(range(log_prob.shape[1])),
        seeds=tuple(range(len(log_prob))),
        diverged=(),
        log_probs=own,
        log_pi=np.zeros(prompts),
        weights=np.full(prompts, 1 / prompts),
        groups=np.zeros(prompts, int),
        log_prob_correct=own,
        prompt_weights=np.full(prompts, 1 / prompts),
    )
    return Recorded(matrices, log_prob, right, np.isfinite(log_prob).all(axis=(0, 1)))


def test_calibration_by_hand() -> None:
    """Two prompts with two valid responses, one with one; 0 fills the rows."""
    p = np.array([[0.6, 0.2], [0.1, 0.3], [0.5, 0.0]])
    correct = np.array([[True, False], [True, False], [True, False]])
    with np.errstate(divide="ignore"):
        confidence, right = calibration(np.log(p), correct, p > 0, np.array([0.25, 0.25, 0.5]))
    assert confidence == pytest.approx(0.25 * 0.75 + 0.25 * 0.75 + 0.5)
    assert right == pytest.approx(0.75)


def test_an_arm_by_hand() -> None:
    found = arm_of(recorded([[[[0.5, 0.5], [0.01, 0.9]]]], [[True, False], [True, False]]), NS)
    assert found.passes[1][0, 0] == pytest.approx(0.255)
    assert found.passes[4][0, 0] == pytest.approx((1 - 0.5**4 + 1 - 0.99**4) / 2)
    assert found.coverage[4][0, 0] == 0.5
    assert found.coverage[64][0, 0] == 0.5
    assert found.coverage[256][0, 0] == 0
    assert found.kl[0, 0] == pytest.approx((math.log(2) + math.log(100)) / 2)
    assert found.overconfidence[0, 0] == pytest.approx((0.5 + 0.9 / 0.91) / 2 - 0.5)
    assert set(found.passes) == {*NS, *PASS_NS}


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    """The first checkpoint is left out; each seed mixes its own."""
    record = recorded(
        [[[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]]], [[[0.9, 0.1]], [[1e-9, 0.5]], [[0.5, 0.5]]]],
        [[True, False]],
    )
    mixed = ensemble(record, 1)
    np.testing.assert_allclose(np.exp(mixed.log_prob)[:, 0, 0], [[0.4, 0.6], [0.25, 0.5]], rtol=1e-6)
    found = arm_of(mixed, NS)
    np.testing.assert_allclose(found.passes[1], [[0.4], [0.25]], rtol=1e-6)
    assert found.steps.tolist() == [2]


def arm(end: dict[int, float], early: dict[int, float], cov: tuple[float, float], over: float) -> Arm:
    """Four seeds near the given means; the first evaluation is like the early one."""
    rng = np.random.default_rng(0)

    def spread(*means: float) -> np.ndarray:
        return np.array(means) + rng.normal(0, 0.002, (4, len(means)))

    def between(of: dict[int, float], n: int) -> float:
        return float(np.interp(math.log(n), [math.log(key) for key in of], list(of.values())))

    every = sorted({*NS, *PASS_NS})
    right = spread(0.6, 0.6, 0.6)
    return Arm(
        STEPS,
        {n: spread(0.0, between(early, n), between(end, n)) for n in every},
        {n: spread(1.0, *cov) for n in every},
        spread(9.0, 1.4, 1.7),
        right + over,
        right,
    )


START = {1: 0.55, 4: 0.75, 16: 0.85, 64: 0.94}
COV, CALM = (0.12, 0.19), (0.12, 0.08)


def measured() -> Measurements:
    """As the claim has it."""
    arms = {
        "cross_entropy": arm({1: 0.7, 4: 0.76, 16: 0.81, 64: 0.87}, START, COV, 0.15),
        "dco_4": arm({1: 0.6, 4: 0.80, 16: 0.86, 64: 0.93}, START, CALM, 0.05),
        "dco_16": arm({1: 0.4, 4: 0.78, 16: 0.90, 64: 0.97}, START, CALM, 0.02),
        "dco_64": arm({1: 0.1, 4: 0.36, 16: 0.80, 64: 0.99}, START, CALM, 0.01),
        "label_smoothing": arm({1: 0.65, 4: 0.76, 16: 0.85, 64: 0.93}, START, CALM, 0.05),
    }
    trained_for = {"cross_entropy": 1, "dco_4": 4, "dco_16": 16, "dco_64": 64}
    return Measurements((0, 1, 2, 3), (), arms, trained_for, 1, 64, 37.5, -1.0)


def failing(found: Measurements) -> list[int]:
    """Numbers of the checks that fail, in their order."""
    return [i for i, check in enumerate(checks(found)) if not check.passed]


def test_checks_pass_on_what_is_claimed() -> None:
    assert failing(measured()) == []
    assert len(checks(measured())) == 14


@pytest.mark.long
def test_notes_tables_and_figures_name_every_arm(tmp_path: Path) -> None:
    found = dataclasses.replace(measured(), left_out=("seed 9 of dco_4",))
    written = " ".join(notes(found))
    assert all(name in written for name in found.arms)
    assert "seed 9 of dco_4" in written
    assert "37.5 epochs" in written
    final = tables(found)[0][2]
    assert [row[0] for row in final] == list(found.arms)
    assert final[1][3] == pytest.approx(0.8, abs=0.01)
    drawn = save_all(tmp_path, drawings(found))
    assert [file.stem for _, file in drawn] == ["training", "pass_at_n", "interventions"]
    assert all(file.stat().st_size > 10_000 for _, file in drawn)


def test_arms_are_phases_that_see_the_same_examples(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config(
        "dco", "arms.dco_4.objective.n=8", "+arms.label_smoothing.optimizer={learning_rate: 1}"
    )
    plan = Plan(config, Path("runs/dco/x"), frozenset({"scale", *field_checks(Settings)}))
    configs = {name: arm.config for name, arm in runs.stage(read(Settings, config), plan).items()}
    setups = {name: build(own) for name, own in configs.items()}
    trained_for = numbers_trained_for({name: setup.phases[0].objective for name, setup in setups.items()})
    assert trained_for == {"cross_entropy": 1, "dco_4": 8, "dco_16": 16, "dco_64": 64, "dco_256": 256}
    assert {setup.phases[0].name for setup in setups.values()} == {"train"}
    assert setups["label_smoothing"].phases[0].objective == LabelSmoothing(smoothing=0.1)
    assert setups["averaging"].phases[0].averaging == Averaging("ema", 0.99)
    assert setups["cross_entropy"].phases[0].averaging is None
    assert configs["dco_4"].name == "x-dco_4"
    assert not {"arms", "early", "large", "scale"} & set(configs["dco_4"])


def test_the_tiny_run_trains_its_arms_and_judges_them(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("dco")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.seeds, verdict.holds) == ((3, 4), False)
    assert {each.name for each in path.iterdir() if each.is_dir()} == {
        *("cross_entropy", "dco_4", "dco_64", "label_smoothing", "confidence_penalty", "averaging"),
        "figures",
    }
    assert (path / "report.html").read_text().count("<figure") == 3
