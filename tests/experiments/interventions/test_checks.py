"""The checks on test-time training and truncation, on hand-made measurements."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from oracles.answers import Case, Known, bound, known_answers, two

from experiments.interventions.checks import checks
from experiments.interventions.measure import TITLES, Curves, Measurements, curves_of, gains_by_pair
from metrics import seeds_and_prompts_interval

SPANS = np.array([1, 3])
STEPS = np.array([0, 1, 4])
Value = float | tuple[float, float]


def pair(value: Value) -> np.ndarray:
    return two(*value) if isinstance(value, tuple) else two(value)


def records(mean: np.ndarray) -> np.ndarray:
    """(seeds, 2 records) whose mean over the 1 + 3 steps is `mean`, and over the records is not."""
    return np.stack([mean + 0.03, mean - 0.01], axis=1)


def made(**changes: Any) -> Measurements:
    """Two seeds at H = 4, 8, 32; log2 H is 2, 3, 5, of slope (-4 a - b + 5 c)/14."""
    given: dict[str, Any] = {
        # ln of KL of a step per sequence over test-time training's.
        "kl": {4: 0.0, 8: 0.1, 32: (0.5, 0.001)},
        "large": {4: 0.0, 8: 0.2, 32: (0.4, 0.001)},
        # Cov_N of a step per sequence minus that of others.
        "token_level": {4: 0.0, 8: 0.01, 32: (0.1, 0.001)},
        "truncated": {4: 0.0, 8: 0.02, 32: (0.2, 0.001)},
        "normalised": {4: 0.0, 8: 0.0, 32: (0.05, 0.001)},
        "laws": {4: 0.0, 8: 0.0, 32: 0.0},
        "truncated_laws": {4: 0.0, 8: 0.0, 32: (0.03, 0.001)},
        "base": (0.5, 0.001),
        "decoder": (0.25, 0.001),
        "end": {4: 1.0, 8: 1.5, 32: 1.0},
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    lengths = {}
    for length in (4, 8, 32):
        runs = {}
        for arm in TITLES:
            off = pair(given[arm][length]) if arm in given else 0.0
            cov = records(pair(given["base"]) - off)
            # A KL of 2 nats with a step per sequence, of which the training records have 2 and 2.
            kl = np.full((2, 2), 2.0)
            if arm == "sequence_large":
                kl = 2 * kl
            if arm in ("token_level", "token_level_large"):
                field = "kl" if arm == "token_level" else "large"
                kl = (kl if field == "kl" else 2 * kl) * np.exp(-pair(given[field][length]))[:, None]
            fixed = np.tile([4.0, 2.0, given["end"][length]], (2, 1))
            curves = Curves(SPANS, kl, cov, STEPS, fixed, cov[:, [0, 0, 1]])
            if arm == "token_level":
                # Two held-out pairs.
                gains = np.repeat(pair(given["decoder"])[:, None], 2, axis=1)
                curves = dataclasses.replace(curves, ttt_by_pair=gains)
            runs[arm] = curves
        lengths[length] = runs
    rates = {length: dict.fromkeys(TITLES, 0.1) for length in lengths}
    return Measurements(16.0, (1, 2), (), lengths, rates, given["excess"])


def at(a: Value, b: Value, c: Value) -> dict[int, Value]:
    return {4: a, 8: b, 32: c}


ABOVE = "lower end of the interval > 0"
NONE = at(0.0, 0.0, 0.0)


def longest_and_growth(what: str, field: str, middle: float, right: float) -> dict[str, Known]:
    return {
        f"{what}, H = 32": Known(
            ABOVE,
            Case({}, right, 0.001, True),
            Case({field: at(0.0, 0.0, (right, 0.1))}, right, 0.1, False),
            Case({field: NONE}, 0.0, 0, False),
        ),
        f"{what}, growth for each doubling of H": Known(
            ABOVE,
            Case({}, (5 * right - middle) / 14, 0.005 / 14, True),
            Case({field: at(right, right, (0.0, 0.001))}, -5 * right / 14, 0.005 / 14, False),
            Case({field: at(0.3, 0.3, 0.3)}, 0.0, 0, False),
        ),
    }


COV = "Cov_16 of a step per sequence minus its own"
CHECKS = {
    **longest_and_growth("test-time training: ln of KL of a step per sequence over its own", "kl", 0.1, 0.5),
    **longest_and_growth(f"test-time training: {COV}", "token_level", 0.01, 0.1),
    "test-time training: KL (nats) of the same parameters without its steps minus its own, H = 32": Known(
        ABOVE,
        Case({}, 0.25, 0.001, True),
        Case({"decoder": (0.25, 0.1)}, 0.25, 0.1, False),
        Case({"decoder": 0.0}, 0.0, 0, False),
    ),
    **longest_and_growth("large steps: ln of KL of one per sequence over one per token", "large", 0.2, 0.4),
    **longest_and_growth(f"truncation: {COV}", "truncated", 0.02, 0.2),
    "truncation: Cov_16 of a normalised step minus its own, H = 32": Known(
        ABOVE,
        Case({}, 0.15, 0, True),
        Case({"normalised": at(0.0, 0.0, (0.3, 0.001))}, -0.1, 0, False),
        Case({"normalised": at(0.0, 0.0, (0.2, 0.001))}, 0.0, 0, False),
    ),
    "truncation of the teacher's laws: Cov_16 of the laws minus its own, H = 32": Known(
        ABOVE,
        Case({}, 0.03, 0.001, True),
        Case({"laws": at(0.0, 0.0, 0.05)}, -0.02, 0.001, False),
        Case({"truncated_laws": NONE}, 0.0, 0, False),
    ),
    "a step per sequence: Cov_16, H = 32, least": Known(
        "lower end of the interval >= 0.2",
        Case({}, 0.5, 0.001, True),
        Case({"base": (0.2, 0.001)}, 0.2, 0.001, False),
        Case({"base": 0.2 + 1e-9}, 0.2 + 1e-9, 0, True),
    ),
    "a step per sequence: Cov_16, H = 32, largest": Known(
        "upper end of the interval <= 0.8",
        Case({}, 0.5, 0.001, True),
        Case({"base": (0.8, 0.001)}, 0.8, 0.001, False),
        Case({"base": 0.8 - 1e-9}, 0.8 - 1e-9, 0, True),
    ),
    "a step per sequence: KL after training over KL before, largest of all H": Known(
        "<= 0.5",
        Case({}, 1.5 / 4, None, True),
        Case({"end": at(1.0, 2.5, 1.0)}, 2.5 / 4, None, False),
        Case({"end": at(2.0, 1.0, 1.0)}, 0.5, None, True),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_curves_are_read_from_the_records() -> None:
    """Records of two seeds at steps 0 (an evaluation alone), 2 and 6; a third seed is left out."""
    rows: list[dict[str, float]] = []
    for seed in (7, 8, 9):
        for step in (0, 2, 6):
            row: dict[str, float] = {"seed": seed, "step": step, "eval/kl": 10 * seed + step}
            row |= {"eval/cov/16": seed / 10, "eval/ttt_kl": 3, "eval/ttt_cov/16": step / 8}
            if step:
                row |= {"train/kl": seed * step, "train/cov/16": step / 8}
            rows.append(row)
    pairs = np.array([[1.0, 3.0], [2.0, 4.0]])
    found = curves_of(pd.DataFrame(rows), (8, 7), 16.0, pairs)
    assert found.spans.tolist() == [2, 4]
    assert found.kl.tolist() == [[16, 48], [14, 42]]
    # (2 x 16 + 4 x 48)/6 and (2 x 14 + 4 x 42)/6.
    assert found.mean_kl == pytest.approx([224 / 6, 196 / 6])
    assert found.mean_cov == pytest.approx([(2 * 0.25 + 4 * 0.75) / 6] * 2)
    assert found.steps.tolist() == [0, 2, 6]
    assert found.fixed_kl.tolist() == [[80, 82, 86], [70, 72, 76]]
    assert found.ttt_kl is not None
    assert found.ttt_kl.tolist() == [[3, 3, 3]] * 2
    # .8 and .7 minus the mean of a line from 0 to .75.
    assert found.cov_gain.estimate == pytest.approx(0.75 - 0.375)
    assert found.kl_gain == seeds_and_prompts_interval(pairs)
    plain = curves_of(pd.DataFrame(rows), (8, 7), 16.0)
    for quantity in ("kl_gain", "cov_gain"):
        with pytest.raises(ValueError, match="run: not decoded by test-time training"):
            getattr(plain, quantity)


def test_gains_of_pairs_are_means_over_the_iterates() -> None:
    """Two of three seeds; ln pi_TTT - ln pi is 1, 2 and 6 at steps 0, 1 and 3, times 1 and -1 on two pairs:
    the area below is 1.5 + 8, over 3 steps."""
    sign = np.array([1.0, -1.0])[None, :, None]
    seeds = np.array([1.0, 5.0, 2.0])[:, None, None]
    scores = {
        step: {"log_prob": np.full((3, 2, 1), -7.0), "ttt_log_prob": -7 + value * sign * seeds}
        for step, value in ((3, 6.0), (0, 1.0), (1, 2.0))
    }
    found = gains_by_pair(scores, (2, 0))
    np.testing.assert_allclose(found, np.array([[2.0, -2.0], [1.0, -1.0]]) * 9.5 / 3)
