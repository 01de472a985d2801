"""VGB's checks on Dyck strings, on hand-made measurements: what each reads off them, where a target lies."""

from typing import Any, cast

import numpy as np
import pytest
from oracles.answers import T2, Case, Known, columns, known_answers, two

from experiments.vgb_dyck.checks import RIVALS, ahead, checks, fronts, notes, volume
from experiments.vgb_dyck.measure import Measurements
from experiments.vgb_dyck.sweep import WITHOUT_BACKTRACKING, Curve, Grid, Sweep
from experiments.vgb_dyck.trees import Trees

Value = float | tuple[float, float]
Points = tuple[Value, Value, Value, Value]
"""Accuracy and diversity at most 64, then at most 128 queries."""
GRID = Grid(
    budgets=(64, 128),
    block_lengths=(1, 2),
    candidates=(2, 4, 8, 16),
    temperatures=(0.5, 1.0, 2.0, 4.0),
    vgb_temperatures=(1.0,),
)
TOKENS = 8
"""Blocks of length 1 with 16 candidates need 128 queries, and at that budget blocks of length 2 with 8, which
need 32, are the fifth."""
ONLY_128, ONLY_64 = 2, 3
"""Their places among the settings of the block methods."""
OUT: dict[str, tuple[Points, ...]] = {
    "VGB": ((0.6, 0.5, 0.7, 0.6), (0.4, 0.6, 0.5, 0.7)),
    "base model": ((0.3, 0.1, (0.04, 0.0001), 0.1),),
    "action-level rejection": ((0.5, 0.4, 0.6, 0.5), (0.2, 0.6, 0.3, 0.6)),
    "block Best-of-N": (
        (0.3, 0.3, 0.5, 0.5),
        (0.0, 0.0, 0.0, 0.0),
        (0.9, 0.9, 0.4, 0.6),
        (0.2, 0.5, 0.9, 0.9),
    ),
    "block rejection": ((0.5, 0.2, 0.6, 0.3),),
    "outcome-level rejection": ((0.5, 0.5, 0.6, 0.6),),
}
ZERO: Points = (0.0, 0.0, 0.0, 0.0)


def curve(a: Value, b: Value, c: Value, d: Value) -> Curve:
    """Two prompts with equal numbers."""
    return Curve(*(np.repeat(columns(*pair)[:, None], 2, axis=1) for pair in ((a, c), (b, d), (9, 9))))


def made(**changes: Any) -> Measurements:
    """Two seeds, two prompts, two budgets; names of families with `_` replace their points."""
    given: dict[str, Any] = {
        "kl": (0.05, 0.001),
        "inside": (0.95, 0.002),
        # Errors of the values, none first; then steps of the value function's training.
        "action": ((0.05, 0.001), 0.2, (0.4, 0.002)),
        "vgb": (0.01, (0.03, 0.0005), 0.02),
        "learned_action": (0.2, (0.25, 0.002)),
        "learned_vgb": (0.1, (0.05, 0.001)),
    }
    named = {family.replace(" ", "_").replace("-", "_"): family for family in OUT}
    assert changes.keys() <= given.keys() | named.keys()
    out = {family: list(points) for family, points in OUT.items()}
    out |= {named[key]: list(value) for key, value in changes.items() if key in named}
    given |= changes
    curves = {
        method: curve(*(out[method.family].pop(0) if out[method.family] else ZERO))
        for method in GRID.methods(TOKENS)
    }
    sweep = Sweep(GRID, TOKENS, curves, curve(0.1, 0.1, given["inside"], 0.1))
    first = columns(0.9, 0.9, 0.9)
    action, fixed = "action-level rejection", "VGB, fixed steps"
    trees = Trees(
        cast(Any, None),
        (10, 20),
        {action: columns(*given["learned_action"]), fixed: columns(*given["learned_vgb"])},
        {action: columns(*given["action"]), "VGB, first leaf": first, fixed: columns(*given["vgb"])},
        columns(0.1, 0.1),
    )
    value = {name: two(0.1) for name in ("squared_error", "reward")}
    return Measurements((1, 2), 0.03125, two(*given["kl"]), value, sweep, trees)


LAW = "exact laws"


def front(rival: str, early: float, late: float, guided: tuple[float, float]) -> dict[str, Known]:
    """The checks against a rival: wrong where it answers nearly everything, at the edge where VGB is ahead by
    the margin."""
    found = {}
    name = "VGB, first leaf" if rival == "outcome-level rejection" else "VGB"
    field = rival.replace(" ", "_").replace("-", "_")
    for place, (budget, right) in enumerate(((64, early), (128, late))):
        far = ((0.9, 0.9, 0.0, 0.0), (0.0, 0.0, 0.9, 0.9))[place]
        near = ((0.25, 0.375, 0.0, 0.0), (0.0, 0.0, 0.25, 0.375))[place]
        own = ((0.25, 0.5, 0.0, 0.0), (0.0, 0.0, 0.25, 0.5))[place]
        found[f"at most {budget} queries: hypervolume of {name} minus that of {rival}"] = Known(
            "lower end of the interval > 0.03125",
            Case({}, right, 0, True),
            Case({field: (far,)}, guided[place] - 0.81, 0, False),
            Case({field: (near,), "VGB": (own,)}, 0.03125, 0, False),
        )
    return found


# VGB dominates .6 * .5 + .4 * .1 = .34 with 64 queries and .7 * .6 + .5 * .1 = .47 with 128.
GUIDED, PLAIN = (0.34, 0.47), (0.3, 0.42)
CHECKS = {
    "base model: KL to pi_D (nats)": Known(
        "upper end of the interval <= 0.1",
        Case({}, 0.05, 0.001, True),
        Case({"kl": (0.09, 0.001)}, 0.09, 0.001, False),
        Case({"kl": (0.1, 0)}, 0.1, 0, True),
    ),
    "base model: accuracy in distribution": Known(
        "lower end of the interval >= 0.9",
        Case({}, 0.95, 0.002, True),
        Case({"inside": (0.91, 0.001)}, 0.91, 0.001, False),
        Case({"inside": (0.9, 0)}, 0.9, 0, True),
    ),
    "base model: accuracy out of distribution": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.04, 0.0001, True),
        Case({"base_model": ((0.0, 0.0, (0.045, 0.001), 0.0),)}, 0.045, 0.001, False),
        Case({"base_model": ((0.9, 0.9, 0.05, 0.9),)}, 0.05, 0, True),
    ),
    "at most 128 queries: accuracy of VGB, first leaf, minus the base model's, out of distribution": Known(
        "lower end of the interval > 0.1",
        Case({}, 0.66, 0.0001, True),
        Case({"VGB": ((0.9, 0.9, (0.15, 0.002), 0.5), (0.9, 0.9, 0.9, 0.9))}, 0.11, 0.0019, False),
        Case({"VGB": ((0.9, 0.9, 0.1, 0.5),), "base_model": (ZERO,)}, 0.1, 0, False),
    ),
    # .5 * .4 + .2 * .2 = .24, then .6 * .5 + .3 * .1 = .33.
    **front("action-level rejection", 0.1, 0.14, GUIDED),
    # Without the setting for 128: .3 * .3 + .2 * .2 = .13; without the one for 64: .5 * .5 + .4 * .1 = .29.
    **front("block Best-of-N", 0.21, 0.18, GUIDED),
    **front("block rejection", 0.24, 0.29, GUIDED),
    **front("outcome-level rejection", 0.05, 0.06, PLAIN),
    f"{LAW}: action-level rejection's total variation, largest error minus none": Known(
        "lower end of the interval > 0.1",
        Case({}, 0.35, 0.001, True),
        Case({"action": ((0.05, 0.001), 0.9, (0.16, 0.002))}, 0.11, 0.001, False),
        Case({"action": (0.0, 0.9, 0.1)}, 0.1, 0, False),
    ),
    f"{LAW}: VGB's total variation, worst error": Known(
        "upper end of the interval <= 0.05",
        Case({}, 0.03, 0.0005, True),
        Case({"vgb": (0.048, (0.045, 0.001), 0.02)}, 0.045, 0.001, False),
        Case({"vgb": (0.0, 0.0, 0.05)}, 0.05, 0, True),
    ),
    f"{LAW}, learned values: VGB's total variation minus action-level rejection's": Known(
        "upper end of the interval <= 0",
        # The mean of -.1 and -.2, and of 0 and .001 between the seeds.
        Case({}, -0.15, 0.0005, True),
        Case({"learned_vgb": (0.2, (0.23, 0.004))}, -0.01, 0.001, False),
        Case({"learned_vgb": (0.25, 0.25), "learned_action": (0.5, 0.0)}, 0.0, 0, True),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_the_places_of_the_blocks() -> None:
    blocks = [method for method in GRID.methods(TOKENS) if method.family == "block rejection"]
    assert [method.label for method in blocks] == [
        "4 of length 1",
        "8 of length 1",
        "16 of length 1",
        "8 of length 2",
        "16 of length 2",
    ]
    of_64, of_128 = (made().sweep.methods("block rejection", budget) for budget in (64, 128))
    assert [*of_64] == [method for i, method in enumerate(blocks) if i != ONLY_128]
    assert [*of_128] == [method for i, method in enumerate(blocks) if i != ONLY_64]


@pytest.mark.parametrize("budget", [64, 128])
def test_a_rival_has_as_many_settings_as_vgb(budget: int) -> None:
    sizes = {rival: tuple(each.shape for each in fronts(made(), rival, budget)) for rival in RIVALS}
    assert sizes == dict.fromkeys(WITHOUT_BACKTRACKING, ((2, 2, 4, 2),) * 2) | {
        "outcome-level rejection": ((2, 2, 1, 2),) * 2
    }


def test_prompts_and_seeds_widen_an_interval() -> None:
    """VGB's first leaf is better than outcome-level rejection on one of the prompts, or on one of the seeds:
    a resample has either of the two twice with probability 1/4, so that its share has the variance 1/8."""
    for better in (np.s_[1, :], np.s_[:, 1]):
        results = made()
        results.sweep.curves[results.sweep.plain()].accuracy[better] += 0.2
        interval = ahead(results, "outcome-level rejection", 128)
        # The accuracy .7 becomes .8 on average, times the diversity .6.
        assert interval.estimate == pytest.approx(0.8 * 0.6 - 0.36)
        assert interval.estimate - interval.low == pytest.approx(T2 * 0.2 * 0.6 / np.sqrt(8), rel=0.05)


def test_the_notes_have_the_joint_front() -> None:
    results = made()
    # Of all rivals with values at 128 queries: (.6, .5) and (.4, .6), which the others do not exceed.
    assert volume(results, WITHOUT_BACKTRACKING, 128) == pytest.approx(0.34)
    (note,) = [line for line in notes(results) if line.startswith("At most 128 queries: hypervolume")]
    assert "hypervolume 0.47 of VGB; 0.34 of the 3 value-guided rivals' settings together" in note
    (best,) = [line for line in notes(results) if line.startswith("Accuracy out of distribution of the best")]
    assert "base model 0.04, VGB 0.7, action-level rejection 0.6, block Best-of-N 0.5" in best
