"""Ends of the valid ranges of the objectives' fields: the last valid value is taken, the next is refused."""

from __future__ import annotations

from typing import Any

import pytest
from oracles.ranges import refuses, takes

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
    StepwiseDCO,
    TailSFT,
    TruncatedDistillation,
    ValueRegression,
)
from training.coverage_objectives import LARGEST_N

TAKEN: list[tuple[type[Any], dict[str, Any]]] = [
    (CrossEntropy, {"prompt_weight": 0, "normalisation": "token"}),
    *((kind, {"n": n}) for kind in (DCO, StepwiseDCO) for n in (1, LARGEST_N)),
    (Reweighted, {"favour": "easy", "gamma": 0.5, "prompt_weight": 0.5}),
    (LabelSmoothing, {"smoothing": 0}),
    (LabelSmoothing, {"smoothing": 0.99}),
    (ConfidencePenalty, {"weight": 0}),
    (MultiToken, {"k": 1, "ahead_weight": 0}),
    (TruncatedDistillation, {"n": 1.01}),
    *((OnPolicyDistillation, {"teacher_smoothing": s}) for s in (1e-6, 0.99)),
    *((TailSFT, {"filter_fraction": f, "schedule": "ramp", "normalisation": "batch"}) for f in (0, 1)),
    (LossChange, {"temperature": 1e-6}),
    (Paced, {"alpha": 0, "beta": 0}),
    (DynamicFineTuning, {"prompt_weight": 0}),
    (ValueRegression, {"loss": "log"}),
    (PolicyGradient, {"clip": 0.01, "kl_weight": 0, "baseline": "leave_one_out"}),
    (PolicyGradient, {"clip": 0.99, "normalise": "sample_std", "ratio": "sequence"}),
    (PolicyGradient, {"clip": None, "normalise": "none", "length": "sum", "kl": "reward"}),
    (RepresentationBonus, {"ridge": 0.5, "weight": 0}),
    (CountBonus, {"weight": 0}),
]
"""Valid settings at an end of a range."""

REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (CrossEntropy, {"prompt_weight": -0.01}, "objective.prompt_weight: -0.01"),
    *((kind, {"n": n}, f"objective.n: {n}") for kind in (DCO, StepwiseDCO) for n in (0.99, 1.1e9)),
    (Reweighted, {"prompt_weight": -1}, "objective.prompt_weight: -1"),
    (Reweighted, {"gamma": 0}, "objective.gamma: 0"),
    (LabelSmoothing, {"smoothing": -0.01}, "objective.smoothing: -0.01"),
    (LabelSmoothing, {"prompt_weight": -1}, "objective.prompt_weight: -1"),
    (MultiToken, {"prompt_weight": -1}, "objective.prompt_weight: -1"),
    (TruncatedDistillation, {"n": 1}, "objective.n: 1"),
    *((OnPolicyDistillation, {"teacher_smoothing": s}, f"objective.teacher_smoothing: {s}") for s in (0, 1)),
    *((TailSFT, {"filter_fraction": f}, f"objective.filter_fraction: {f}") for f in (-0.01, 1.01)),
    (TailSFT, {"schedule": "some"}, "objective.schedule: 'some'"),
    (LossChange, {"temperature": 0}, "objective.temperature: 0"),
    *((Paced, {field: -0.01}, f"objective.{field}: -0.01") for field in ("alpha", "beta")),
    (DynamicFineTuning, {"prompt_weight": -1}, "objective.prompt_weight: -1"),
    *(
        (PolicyGradient, {field: "some"}, f"objective.{field}: 'some'")
        for field in ("baseline", "normalise", "ratio", "length", "kl")
    ),
    (PolicyGradient, {"clip": 0}, "objective.clip: 0"),
    (PolicyGradient, {"kl_weight": -0.01}, "objective.kl_weight: -0.01"),
    (RepresentationBonus, {"ridge": 0}, "bonus.ridge: 0"),
    (RepresentationBonus, {"weight": -0.01}, "bonus.weight: -0.01"),
    (CountBonus, {"weight": -0.01}, "bonus.weight: -0.01"),
]
"""Settings beyond an end, and the beginning of the message."""


def test_the_last_valid_values_are_taken() -> None:
    for kind, fields in TAKEN:
        takes(kind, fields)


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_the_next_ones_are_refused(kind: type[Any], fields: dict[str, Any], message: str) -> None:
    refuses(kind, fields, message)
