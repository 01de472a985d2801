"""Evaluators that the configuration adds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from covlab.launch.build import build
from metrics.bracket_distance import BracketDistance

Compose = Callable[..., DictConfig]


def test_the_configuration_adds_an_evaluator(compose_config: Compose) -> None:
    setup = build(compose_config("train", "task=fixed_dyck", "evaluation=brackets"))
    assert [each.name for each in setup.evaluators] == ["distribution", "sampling", "bracket_distance"]
    assert setup.evaluators[2] == BracketDistance(threshold=0.8)
    own = "evaluation.extra=[{_target_:metrics.bracket_distance.BracketDistance,threshold:0.5}]"
    assert build(compose_config("train", "task=dyck", own)).evaluators[-1] == BracketDistance(threshold=0.5)


NODE = "{_target_:metrics.bracket_distance.BracketDistance}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=layered_graph", "evaluation=brackets"], "needs a task on brackets"),
        (["task=dyck", f"evaluation.extra=[{NODE},{NODE}]"], "two evaluators have the same name"),
        (["task=dyck", "evaluation.extra=[3]"], "evaluation.extra: 3 is no evaluator"),
        (["task=dyck", "evaluation.extra=[{_target_:metrics.nothing.Here}]"], "metrics.nothing"),
        (["task=dyck", "evaluation.extra=[{_target_:builtins.list}]"], "is no evaluator"),
    ],
)
def test_what_is_no_fitting_evaluator_gets_a_line(
    overrides: list[str], message: str, compose_config: Compose
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        build(compose_config("train", *overrides))
    assert "\n" not in str(raised.value)
