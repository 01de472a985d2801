"""Measurements of the claim on TailSFT: an arm by hand, the plain checkpoints that are compared, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices
from experiments.tail_sft.measure import (
    DESTROYED,
    KEPT,
    Arm,
    Measurements,
    arm_of,
    at_equal_kl,
    nearest,
    starts_of,
    tails_of,
)
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


def test_plain_fine_tuning_at_an_arms_kl() -> None:
    """At a checkpoint's KL, below all, above all, and a quarter of the way from .6 to .8."""
    kl, passes = np.tile([1.0, 0.5, 0.4, 0.6, 0.8], (4, 1)), np.tile([0.9, 0.95, 0.93, 0.8, 0.6], (4, 1))
    found = at_equal_kl(kl, passes, np.array([0.6, 0.1, 2.0, 0.65]))
    np.testing.assert_allclose(found, [0.8, 0.93, 0.6, 0.75])


def test_a_curve_that_falls_with_kl_is_met_without_bias() -> None:
    """Pass@k = 1 - KL/10 at any step: the comparison at equal KL finds this law between the checkpoints,
    also where the KL goes up and down."""
    kl = np.cumsum(np.random.default_rng(0).normal(0.2, 0.3, (50, 40)), axis=1)
    end = np.random.default_rng(1).uniform(kl.min(axis=1), kl[:, -1].clip(kl.min(axis=1) + 1e-9))
    np.testing.assert_allclose(at_equal_kl(kl, 1 - kl / 10, end), 1 - end / 10, atol=1e-12)


def test_the_plain_checkpoint_of_nearest_pass_1() -> None:
    passes = np.array([[0.1, 0.3, 0.5], [0.1, 0.3, 0.5], [0.2, 0.2, 0.2]])
    assert nearest(passes, np.array([0.31, 9.0, 0.2])).tolist() == [1, 2, 2]


def reinforced(kl: list[float], pass_1: list[float], pass_k: list[float]) -> Arm:
    """Reinforcement learning by seed: KL before it, Pass@1 and Pass@k after it. At the start both are -7, and
    at step 10 of 40 they are 1 and 2 below the end."""
    one, many = (
        np.stack([np.full(2, -7.0), np.array(ends) - below, np.array(ends)], axis=1)
        for ends, below in ((pass_1, 1), (pass_k, 2))
    )
    over = np.stack([np.array(kl), np.full(2, 50.0), np.full(2, 60.0)], axis=1)
    return Arm(np.array([0, 10, 40]), one, many, over, *(np.zeros(2) for _ in range(3)))


def two_arms() -> Measurements:
    """Plain fine-tuning with two starts, whose KL is in the other order in the second seed, and two arms."""
    starts = {
        "base": reinforced([2.0, 2.0], [0.9, 0.9], [0.9, 0.9]),
        "CE": reinforced([10.0, 6.0], [0.2, 0.4], [0.3, 0.5]),
        "stopped_a": reinforced([8.0, 9.0], [0.4, 0.1], [0.7, 0.2]),
        "a": reinforced([9.5, 8.0], [0.5, 0.6], [0.8, 0.9]),
        "b": reinforced([7.0, 12.0], [0.1, 0.3], [0.2, 0.4]),
        "other": reinforced([9.0, 9.0], [0.0, 0.0], [0.0, 0.0]),
    }
    kept = {"CE": starts["CE"], "b": starts["b"]}
    own = dict.fromkeys(("CE", "a", "b", "more", "other"), starts["CE"])
    index = np.array([0, 0])
    return Measurements(
        16, (1, 2), {DESTROYED: own, KEPT: own}, ("a", "b", "more"), {DESTROYED: index, KEPT: index},
        {DESTROYED: None, KEPT: None}, {DESTROYED: starts, KEPT: kept}, {DESTROYED: 0.5, KEPT: 1.0}, -1.0,
    )  # fmt: skip


def test_what_is_read_off_reinforcement_learning_by_hand() -> None:
    """Trapezoids from -7 to e - 1 over 10 batches and from e - 1 to e over 30: with e = .2 the mean is
    (10 (-7 - .8) / 2 + 30 (-.8 + .2) / 2) / 40 = -1.2."""
    results = two_arms()
    np.testing.assert_allclose(results.read(DESTROYED, "CE", 1, "end"), [0.2, 0.4])
    np.testing.assert_allclose(results.read(DESTROYED, "CE", 16, "end"), [0.3, 0.5])
    np.testing.assert_allclose(results.read(DESTROYED, "CE", 1, "short"), [-0.8, -0.6])
    np.testing.assert_allclose(results.read(DESTROYED, "CE", 16, "short"), [-1.7, -1.5])
    # A higher end by d lifts the mean over the batches by d (10 / 2 + 30) / 40.
    np.testing.assert_allclose(results.read(DESTROYED, "CE", 1, "batches"), [-1.2, -1.2 + 0.2 * 0.875])
    gain = results.gain_after(DESTROYED, "a", "CE", 16, "batches")
    np.testing.assert_allclose(gain, [0.5 * 0.875, 0.4 * 0.875])


def test_reinforcement_learning_at_equal_kl_by_hand() -> None:
    """`a` in the first seed: KL 9.5 is three quarters of the way from 8 to 10, so Pass@1 is .25. In the
    second seed the way is from 6 to 9: KL 8 is two thirds of it, Pass@1 .2. `b` lies below and above both
    starts. The KL after the start, and the base, are no part of it."""
    results = two_arms()
    np.testing.assert_allclose(results.gain_at_equal_kl("a"), [0.5 - 0.25, 0.6 - 0.2])
    np.testing.assert_allclose(results.gain_at_equal_kl("a", 16), [0.8 - 0.4, 0.9 - 0.3])
    np.testing.assert_allclose(results.gain_at_equal_kl("a", 1, "batches"), [0.25 * 0.875, 0.4 * 0.875])
    np.testing.assert_allclose(results.gain_at_equal_kl("b"), [0.1 - 0.4, 0.3 - 0.1])


def test_gains_after_reinforcement_learning_are_averaged_over_its_arms_of_tail_sft() -> None:
    """Over `a` and `b`: no start is at the end of `more`, and `other` is not TailSFT."""
    results = two_arms()
    assert (results.compared(DESTROYED), results.compared(KEPT)) == (("a", "b"), ("b",))
    np.testing.assert_allclose(results.gain_after(DESTROYED, "a", "CE"), [0.3, 0.2])
    np.testing.assert_allclose(results.mean_gain(DESTROYED, "CE"), [(0.3 - 0.1) / 2, (0.2 - 0.1) / 2])
    np.testing.assert_allclose(results.mean_gain(KEPT, "CE", 16, "short"), [-0.1, -0.1])
    gain = results.mean_gain(DESTROYED, "base", 16, "batches")
    np.testing.assert_allclose(gain, [0.875 * (-0.1 - 0.7) / 2, 0.875 * (0.0 - 0.5) / 2])
    np.testing.assert_allclose(results.mean_gain(DESTROYED, None), [(0.25 - 0.3) / 2, (0.4 + 0.2) / 2])


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


def test_starts_are_one_list_of_different_names_for_each_set_up() -> None:
    assert starts_of("starts", {"destroyed": ["a", "b"], "kept": ["a"]}) == {
        "destroyed": ("a", "b"),
        "kept": ("a",),
    }
    with pytest.raises(ValueError, match=r"^starts: .*; valid: a mapping with destroyed, kept"):
        starts_of("starts", {"destroyed": ["a"]})
    for names in ([], ["a", "a"], "ab"):
        with pytest.raises(ValueError, match=r"^starts.kept: .*; valid: a list of different names"):
            starts_of("starts", {"destroyed": ["a"], "kept": names})
