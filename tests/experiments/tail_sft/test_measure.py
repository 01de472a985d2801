"""Measurements of the claim on TailSFT: an arm by hand, the plain checkpoints that are compared, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices
from experiments.tail_sft.measure import arm_of, same_kl, same_pass_1, tails_of
from training import DCO, CrossEntropy, TailSFT


def matrices(probabilities: np.ndarray) -> RunMatrices:
    """One response per prompt; (seeds, checkpoints, prompts)."""
    log_probs = np.log(probabilities)
    count = probabilities.shape[2]
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
    """k = 2: f = 1 - (1-p)^2. The last prompt is decided at the start: f = .9999."""
    arm = arm_of(matrices(np.array([[[0.5, 0.5, 0.2, 0.99], [0.9, 0.1, 0.2, 0.1]]])), 2)
    np.testing.assert_allclose(arm.pass_1, [[0.5475, 0.325]])
    np.testing.assert_allclose(arm.pass_k[0, 0], (0.75 + 0.75 + 0.36 + 0.9999) / 4)
    np.testing.assert_allclose(arm.pass_k[0, 1], (0.99 + 0.19 + 0.36 + 0.19) / 4)
    np.testing.assert_allclose(arm.kl[0, 1], -np.log([0.9, 0.1, 0.2, 0.1]).mean())
    np.testing.assert_allclose([arm.lost[0], arm.gained[0]], [0.56 / 4, 0.24 / 4])
    np.testing.assert_allclose(arm.undecided, [0.75])
    np.testing.assert_allclose(arm.ratio, [0.56 / 0.24])


def test_the_plain_checkpoints_that_are_compared() -> None:
    kl = np.array([[1.0, 0.5, 0.4, 0.6, 0.8], [1.0, 0.5, 0.4, 0.6, 0.8], [1.0, 0.5, 0.4, 0.6, 0.8]])
    assert same_kl(kl, np.array([0.6, 0.1, 2.0])).tolist() == [3, 2, 4]
    passes = np.array([[0.1, 0.3, 0.5], [0.1, 0.3, 0.5], [0.2, 0.2, 0.2]])
    assert same_pass_1(passes, np.array([0.31, 9.0, 0.2])).tolist() == [1, 2, 2]


def test_arms_that_cannot_be_compared_are_refused() -> None:
    plain = CrossEntropy()
    tails = {"a": TailSFT(), "b": TailSFT(filter_fraction=0), "c": DCO()}
    assert tails_of({"plain": plain, **tails}) == ("a",)
    with pytest.raises(ValueError, match=r"^arms\.a\.objective: TailSFT; the first arm of tail_sft is Cross"):
        tails_of(tails)
    with pytest.raises(ValueError, match=r"^arms: plain, c; tail_sft needs an arm of TailSFT"):
        tails_of({"plain": plain, "c": DCO()})
    sampled = dataclasses.replace(matrices(np.full((1, 2, 3), 0.5)), log_prob_correct=None)
    with pytest.raises(ValueError, match=r"^task: tail_sft needs a task that enumerates"):
        arm_of(sampled, 2)
