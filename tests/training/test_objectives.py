from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from training import (
    DCO,
    ConfidencePenalty,
    CountBonus,
    CrossEntropy,
    DynamicFineTuning,
    LabelSmoothing,
    LossChange,
    MultiToken,
    OnPolicyDistillation,
    Paced,
    PolicyGradient,
    RepresentationBonus,
    Reweighted,
    Scores,
    StepwiseDCO,
    TailSFT,
    TruncatedDistillation,
    ValueRegression,
)

TOKENS = np.array([[-1.0, -2.0, -4.0], [-0.5, -8.0, -100.0]], np.float32)
MASK = np.array([[True, True, True], [True, True, False]])
PROMPT = np.array([[-100.0, -3.0], [-1.0, -1.0]], np.float32)
PROMPT_MASK = np.array([[False, True], [True, True]])
ALONE = Scores(TOKENS, MASK)
WITH_PROMPT = Scores(TOKENS, MASK, PROMPT, PROMPT_MASK)


def test_sequence_log_probs_skip_padding() -> None:
    np.testing.assert_allclose(ALONE.log_probs, [-7.0, -8.5])


@pytest.mark.parametrize(
    ("objective", "scores", "by_hand"),
    [
        (CrossEntropy(), ALONE, [7.0, 8.5]),
        (CrossEntropy(normalisation="token"), ALONE, [7 / 3, 8.5 / 2]),
        (CrossEntropy(prompt_weight=0.5), WITH_PROMPT, [7 + 1.5, 8.5 + 1.0]),
        (CrossEntropy(prompt_weight=0.5, normalisation="token"), WITH_PROMPT, [8.5 / 3.5, 9.5 / 3.0]),
    ],
)
def test_cross_entropy_by_hand(objective: CrossEntropy, scores: Scores, by_hand: list[float]) -> None:
    np.testing.assert_allclose(objective(scores), by_hand, rtol=1e-6)


LOGITS = np.array([[0.0, np.log(3.0), -np.log(3.0)], [np.log(4.0), 0.0, 100.0]], np.float32)
JUDGED = Scores(TOKENS, MASK, logits=LOGITS, rewards=np.array([1.0, 0.0], np.float32))


def test_value_regression_by_hand() -> None:
    """V^ = .5, .75, .25 with reward 1, and .8, .5 (the last token is padding) with reward 0."""
    squared = [(0.25 + 0.0625 + 0.5625) / 3, (0.64 + 0.25) / 2]
    np.testing.assert_allclose(ValueRegression()(JUDGED), squared, rtol=1e-6)
    log = [-(np.log(0.5) + np.log(0.75) + np.log(0.25)) / 3, -(np.log(0.2) + np.log(0.5)) / 2]
    np.testing.assert_allclose(ValueRegression("log")(JUDGED), log, rtol=1e-6)
    both = Scores(*(None if a is None else np.stack([a, a], axis=1) for a in JUDGED))
    np.testing.assert_allclose(ValueRegression()(both), np.stack([squared, squared], axis=1), rtol=1e-6)


def test_value_regression_says_what_it_needs() -> None:
    assert ValueRegression().needs_rewards
    assert not CrossEntropy().needs_rewards
    with pytest.raises(ValueError, match="without logits or rewards"):
        ValueRegression()(ALONE)
    with pytest.raises(ValueError, match=r"objective\.loss: 'hinge' is not one of squared, log"):
        ValueRegression("hinge")  # type: ignore[arg-type]


def test_the_prompt_is_scored_only_if_it_has_weight() -> None:
    assert not CrossEntropy().needs_prompt
    assert CrossEntropy(prompt_weight=0.1).needs_prompt


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt_weight": -1.0}, "objective.prompt_weight: -1.0 is not a number >= 0"),
        ({"prompt_weight": float("nan")}, "objective.prompt_weight: nan is not a number >= 0"),
        (
            {"normalisation": "mean"},
            "objective.normalisation: 'mean' is not one of sequence, token, batch",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="objective") as refused:
        CrossEntropy(**options)
    assert str(refused.value) == line


def test_defaults_stay_as_they_are() -> None:
    """Another default would change what an old command line computes."""
    plain = {"prompt_weight": 0.0, "normalisation": "sequence"}
    defaults: dict[type[Any], dict[str, Any]] = {
        CrossEntropy: plain,
        ValueRegression: {"loss": "squared"},
        DCO: {"n": 16},
        StepwiseDCO: {"n": 4},
        Reweighted: plain | {"favour": "hard", "gamma": 2.0},
        LabelSmoothing: plain | {"smoothing": 0.1},
        ConfidencePenalty: plain | {"weight": 0.1},
        MultiToken: plain | {"k": 4, "ahead_weight": 1.0},
        TruncatedDistillation: {"n": 16, "labels": "tokens"},
        OnPolicyDistillation: {"teacher_smoothing": 0.01},
        TailSFT: plain | {"normalisation": "batch", "filter_fraction": 0.5, "schedule": "static"},
        LossChange: plain | {"temperature": 1.0},
        Paced: plain | {"alpha": 1.0, "beta": 1.0},
        DynamicFineTuning: plain,
        PolicyGradient: {
            "baseline": "mean",
            "normalise": "std",
            "ratio": "token",
            "length": "mean",
            "clip": 0.2,
            "kl_weight": 0.0,
            "kl": "k3",
        },
        RepresentationBonus: {"ridge": 0.01, "weight": 0.01},
        CountBonus: {"weight": 0.01},
    }
    assert {kind: dataclasses.asdict(kind()) for kind in defaults} == defaults
