"""Drawings of class-blind models, and the closed form."""

import math
import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figure1 import class_blind

RNG = np.random.default_rng(7)
KL = RNG.uniform(0.3, 0.9, (4, 5))
PASSES = RNG.uniform(0.8, 1, (4, 5))
CHOSEN = {"tournament": np.array([2, 1, 0, 4]), "min KL": np.argmin(KL, axis=1)}


def labels_of(fig: Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def lines_of(axis: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axis.lines}


@pytest.mark.parametrize(
    ("p", "kl", "passes"),
    [
        (0.9, 0.325, (0.934, 0.957, 0.972)),
        (0.6, 0.551, (0.964, 0.998, 0.9998)),
        (0.5, 0.693, (0.938, 0.996, 0.9998)),
    ],
)
def test_class_blind_theory_gives_the_derived_table(p, kl, passes):
    for n, passed in zip((4, 8, 12), passes, strict=True):
        got = class_blind.class_blind_theory(np.array([p]), n)
        assert got[0][0] == pytest.approx(kl, abs=5e-4)
        assert got[1][0] == pytest.approx(passed, abs=5e-4)


def test_class_blind_comparison_draws_measured_theory_and_start():
    fig = class_blind.class_blind_comparison(KL, PASSES, n=12, chosen=CHOSEN)
    (axis,) = fig.axes
    for line, x, y in zip(axis.lines, KL, PASSES, strict=False):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([x, y]))
    drawn = lines_of(axis)
    theory = drawn["class-blind theory"]
    p = 5 / 12
    assert theory[0, 0] == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p))
    assert theory[0, 1] == pytest.approx(0.9 * (1 - (1 - p) ** 12) + 0.1 * (1 - p**12))
    assert theory[:, 0].min() == pytest.approx(0.325, abs=1e-3)
    np.testing.assert_allclose(drawn["ideal start"][0], [0.875, 0.998], atol=6e-4)
    assert axis.xaxis_inverted()
    assert axis.get_ylabel() == "Pass@12"
    assert "nats" in axis.get_xlabel()
    assert labels_of(fig) == [
        "measured, 4 seed(s)",
        "class-blind theory",
        "ideal start",
        "tournament",
        "min KL",
    ]


def test_log_odds_draw_both_classes_and_the_roc_curve():
    first, second = RNG.normal(0, 1, 60), np.round(RNG.normal(0.7, 1, 40), 1)
    wins = [(b > a) + (a == b) / 2 for a in first for b in second]
    fig = class_blind.log_odds_by_class(
        {"G1": first, "G2": second}, float(np.mean(wins)), (0.5, 0.75), bins=10
    )
    left, right = fig.axes
    for patch in (left.patches[0], left.patches[2]):
        assert patch.get_data()[0].sum() == pytest.approx(1)
    roc = lines_of(right)["ROC"]
    np.testing.assert_array_equal(roc[[0, -1]], [[0, 0], [1, 1]])
    assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(np.mean(wins))
    assert right.texts[0].get_text() == f"AUC = {np.mean(wins):.3f} [0.500, 0.750]"
    assert labels_of(fig) == ["G1", "G2", "ROC", "chance"]


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: class_blind.class_blind_comparison(KL, KL[:, 1:]), "pass_at_n: shape (4, 4); valid: (4, 5)"),
        (lambda: class_blind.class_blind_theory(np.array([0.5, 1.0]), 8), "p: from 0.5 to 1"),
        (lambda: class_blind.log_odds_by_class({"a": np.zeros(3)}, 0.5), "log_odds: 1 classes"),
    ],
)
def test_bad_input_is_named_in_one_line(call, fragment):
    with pytest.raises(ValueError, match=re.escape(fragment)) as caught:
        call()
    assert str(caught.value).startswith(fragment)
    assert "\n" not in str(caught.value)
