"""Measurements of the claim on forks: an arm by hand, closed forms against enumeration, the arms in order."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices
from experiments.forks.laws import blind_pass, decision_entropy, proportion
from experiments.forks.measure import Cell, Measurements, Settings, arm_of


def matrices(probabilities: np.ndarray) -> RunMatrices:
    """One response per prompt; (seeds, checkpoints, prompts)."""
    log_probs, count = np.log(probabilities), probabilities.shape[2]
    return RunMatrices(
        phase="train",
        steps=(0, 10),
        seeds=(4,),
        diverged=(),
        log_probs=log_probs,
        log_pi=np.zeros(count),
        weights=np.full(count, 1 / count),
        groups=np.zeros(count, int),
        log_prob_correct=log_probs,
        prompt_weights=np.full(count, 1 / count),
    )


def test_an_arm_by_hand() -> None:
    """Pass@3 = 1 - (1-p)^3; Cov_3 counts the prompts with p <= 1/3."""
    arm = arm_of(matrices(np.array([[[0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.9, 0.1]]])), 3)
    np.testing.assert_allclose(arm.pass_1, [[0.5, 0.7]])
    np.testing.assert_allclose(arm.pass_k, [[0.875, (3 * 0.999 + 0.271) / 4]])
    np.testing.assert_allclose(arm.lost, [0.875 - 0.817])
    np.testing.assert_allclose(arm.lost_from_best, [0.875 - 0.817])
    np.testing.assert_allclose(arm.gained, [0.2])
    np.testing.assert_allclose(arm.kl[0, 0], np.log(2))
    np.testing.assert_allclose(arm.coverage[3.0], [[0, 0.25]])
    np.testing.assert_allclose(arm.coverage[2.0], [[1, 0.25]])
    sampled = dataclasses.replace(matrices(np.full((1, 2, 3), 0.5)), log_prob_correct=None)
    with pytest.raises(ValueError, match=r"^task: forks needs a task that enumerates"):
        arm_of(sampled, 2)


@pytest.mark.parametrize(
    ("majority", "minority", "k"), [(0.9, 0.1, 8), (0.99, 0.2, 64), (0.5, 0.3, 3), (1.0, 0.1, 5)]
)
def test_pass_of_a_model_that_cannot_see_the_decisions(majority: float, minority: float, k: int) -> None:
    """Enumeration of all sides of all decisions."""
    for decisions in range(5):
        total = 0.0
        for sides in itertools.product((0, 1), repeat=decisions):
            share = np.prod([minority if side else 1 - minority for side in sides])
            right = np.prod([1 - majority if side else majority for side in sides])
            total += share * (1 - (1 - right) ** k)
        assert blind_pass(decisions, majority, minority, k) == pytest.approx(total, rel=1e-12)


def test_a_uniform_model_passes_whatever_the_minority() -> None:
    for layers in range(4):
        assert blind_pass(layers, 0.5, 0.1, 64) == pytest.approx(1 - (1 - 0.5**layers) ** 64, rel=1e-12)


def test_the_entropy_of_a_decision() -> None:
    assert decision_entropy(0.1) == pytest.approx(0.32508297, rel=1e-7)
    assert (decision_entropy(0), decision_entropy(0.5)) == (0, pytest.approx(np.log(2)))


def test_a_line_through_the_origin() -> None:
    share = np.array([0.0, 1.0, 2.0])
    slope, explained = proportion(share, np.array([[0.0, 1.0, 1.0], [0.3, 0.3, 0.3], [0.0, -2.0, -4.0]]))
    np.testing.assert_allclose(slope, [0.6, 0.18, -2.0])
    np.testing.assert_allclose(explained, [1 - 0.2 / (2 / 3), 0, 1])
    with pytest.raises(ValueError, match=r"^share: all are 0"):
        proportion(np.zeros(2), np.ones((1, 2)))


def test_the_arms_in_order() -> None:
    settings = Settings(64, (0, 1, 3), {})
    runs = [cell.run for cell in settings.cells()]
    assert runs == ["forks_0", "forks_1", "forks_3", "first_fork_3"]
    assert [cell.decisions for cell in settings.cells()] == [0, 1, 3, 1]
    results = Measurements(64, 0.1, 5, (1, 2), {}, None, 0.0)
    assert results.share(Cell("forks", 3)) == 0.6
    assert results.entropy(Cell("first_fork", 3)) == pytest.approx(decision_entropy(0.1))
    assert results.entropy(Cell("forks", 3)) == pytest.approx(3 * decision_entropy(0.1))
    with pytest.raises(ValueError, match=r"^branching: \[1, 2, 3\]; valid: 0, the control, and others"):
        Settings(64, (1, 2, 3), {})
