"""VGB's checks on Dyck strings, on hand-made measurements: what each reads off them, where a target lies."""

from typing import Any, cast

import pytest
from oracles.answers import Case, Known, columns, known_answers, two

from experiments.vgb_dyck.checks import behind, checks
from experiments.vgb_dyck.measure import Measurements
from experiments.vgb_dyck.sweep import Curve, Grid, Method, Sweep
from experiments.vgb_dyck.trees import Trees

Value = float | tuple[float, float]
Points = tuple[Value, Value, Value, Value]
"""Accuracy and diversity at most 128, then at most 256 queries."""
OUT: dict[str, tuple[Points, ...]] = {
    "VGB": ((0.8, 0.25, 0.9, 0.3), (0.45, 0.7, 0.5, 0.8)),
    "base model": ((0.3, 0.1, 0.4, 0.2), (0.2, 0.1, (0.6, 0.001), 0.1)),
    "action-level rejection": ((0.6, (0.3, 0.002), 0.7, (0.4, 0.001)),),
    "block Best-of-N": ((0.4, 0.5, 0.5, 0.5),),
    "block rejection": ((0.1, 0.1, 0.3, 0.2),),
    "outcome-level rejection": ((0.3, (0.72, 0.001), 0.4, (0.75, 0.002)),),
    "backtracking rejection": ((0.7, (0.2, 0.003), 0.85, (0.32, 0.001)),),
}
IN = {"base model": ((0.5, 0.3, (0.95, 0.002), 0.5), (0.8, 0.3, 0.9, 0.5)), "VGB": ((0.99, 0.9, 0.98, 0.9),)}


def curves(families: dict[str, tuple[Points, ...]]) -> dict[Method, Curve]:
    found = {}
    for family, settings in families.items():
        for i, (a, b, c, d) in enumerate(settings):
            found[Method(family, str(i), cast(Any, None))] = Curve(
                columns(a, c), columns(b, d), columns(9, 9)
            )
    return found


def made(**changes: Any) -> Measurements:
    """Two seeds, two budgets; names of families with `_` replace their points out of distribution."""
    given: dict[str, Any] = {
        "kl": (0.05, 0.001),
        "base_in": IN["base model"],
        # Errors of the values, none first; then steps of the value function's training.
        "action": ((0.05, 0.001), 0.2, (0.4, 0.002)),
        "vgb": (0.01, (0.03, 0.0005), 0.02),
        "learned_action": (0.2, (0.25, 0.002)),
        "learned_vgb": (0.1, (0.05, 0.001)),
    }
    named = {family.replace(" ", "_").replace("-", "_"): family for family in OUT}
    assert changes.keys() <= given.keys() | named.keys()
    out = OUT | {named[key]: value for key, value in changes.items() if key in named}
    given |= changes
    sets = {
        "out_of_distribution": curves(out),
        "in_distribution": curves(IN | {"base model": given["base_in"]}),
    }
    sweep = Sweep(Grid(budgets=(128, 256)), tuple(sets["out_of_distribution"]), sets)
    first = columns(0.9, 0.9, 0.9)
    action, fixed = "action-level rejection", "VGB, fixed steps"
    trees = Trees(
        cast(Any, None),
        (10, 20),
        {action: columns(*given["learned_action"]), fixed: columns(*given["learned_vgb"])},
        {action: columns(*given["action"]), "VGB, first leaf": first, fixed: columns(*given["vgb"])},
        columns(0.1, 0.1),
    )
    return Measurements((1, 2), 0.12, two(*given["kl"]), {}, sweep, trees)


ZERO = ((0.0, 0.0, 0.0, 0.0),)
LAW = "exact laws"


def front(name: str, family: str, early: Case, late: Case) -> dict[str, Known]:
    """The checks on a front: wrong where the rival answers everything, at the edge where it is the margin
    above VGB in both coordinates."""
    target = "upper end of the interval <= 0.12"
    found = {}
    for budget, right in ((128, early), (256, late)):
        far, near = ((x, x, 0.0, 0.0) if budget == 128 else (0.0, 0.0, x, x) for x in (0.9, 0.12))
        # (.9, .9) is .65 above the first point's diversity, .45 above the second's accuracy; then .6 and .4.
        worst = 0.45 if budget == 128 else 0.4
        others = {"block_Best_of_N": ZERO, "block_rejection": ZERO} if "never" in name else {}
        found[f"at most {budget} queries: VGB behind the front of {name}"] = Known(
            target,
            right,
            Case({family: (far,)}, worst, 0, False),
            Case({family: (near,), "VGB": ZERO} | others, 0.12, 0, True),
        )
    return found


CHECKS = {
    "base model: KL to pi_D (nats)": Known(
        "upper end of the interval <= 0.1",
        Case({}, 0.05, 0.001, True),
        Case({"kl": (0.09, 0.001)}, 0.09, 0.001, False),
        Case({"kl": (0.1, 0)}, 0.1, 0, True),
    ),
    "base model: accuracy in distribution minus out of distribution": Known(
        "lower end of the interval > 0.1",
        Case({}, 0.35, 0.001, True),
        Case({"base_in": ((0.9, 0.9, (0.71, 0.002), 0.5), (0.8, 0.3, 0.5, 0.5))}, 0.11, 0.001, False),
        Case({"base_in": ((0.9, 0.9, 0.1, 0.5),), "base_model": ZERO}, 0.1, 0, False),
    ),
    "at most 256 queries: accuracy of VGB minus the base model's, out of distribution": Known(
        "lower end of the interval > 0.1",
        Case({}, 0.3, 0.001, True),
        Case({"VGB": ((0.9, 0.9, (0.71, 0.002), 0.5), (0.8, 0.3, 0.5, 0.5))}, 0.11, 0.001, False),
        Case({"VGB": ((0.9, 0.9, 0.1, 0.5),), "base_model": ZERO}, 0.1, 0, False),
    ),
    # VGB's points are (.8, .25) and (.45, .7), then (.9, .3) and (.5, .8).
    **front(
        "decoders that use values and never go back",
        "action_level_rejection",
        Case({}, 0.05, 0.002, True),
        Case({}, 0.1, 0.001, True),
    ),
    **front(
        "outcome-level rejection",
        "outcome_level_rejection",
        Case({}, 0.02, 0.001, True),
        Case({}, -0.05, 0.002, True),
    ),
    **front(
        "backtracking rejection",
        "backtracking_rejection",
        Case({}, -0.05, 0.003, True),
        Case({}, 0.02, 0.001, True),
    ),
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


def test_the_front_is_all_settings_of_all_rivals() -> None:
    found = made(block_rejection=((0.0, 0.0, 0.0, 0.0), (0.6, 0.6, 0.9, 0.9)))
    rivals = ("action-level rejection", "block Best-of-N", "block rejection")
    # (.9, .9) is .6 above (.9, .3) in diversity and .4 above (.5, .8) in accuracy.
    assert behind(found, "out_of_distribution", rivals, 256) == pytest.approx([0.4, 0.4])
    assert behind(found, "out_of_distribution", rivals[:2], 256) == pytest.approx([0.099, 0.101])
