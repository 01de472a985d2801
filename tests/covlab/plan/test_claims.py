"""The runs of a claim that a plan covers."""

from __future__ import annotations

import pytest

from covlab.launch.composing import compose
from covlab.plan.claims import first_stage, known_claim


@pytest.mark.parametrize(
    ("name", "labels", "later"),
    [
        ("figure1", ["run"], 0),
        ("figure2", ["H8", "H12", "H16", "H20", "H24"], 0),
    ],
)
def test_every_run_of_the_first_stage_is_planned(name: str, labels: list[str], later: int) -> None:
    claim = known_claim(name)
    arms, left_out = first_stage(claim, compose(name, ["scale=paper"]).config)
    assert list(arms) == labels
    assert len(left_out) == (1 if later else 0)


def test_later_stages_are_named_as_left_out() -> None:
    claim = known_claim("rl_pass_at_k")
    arms, left_out = first_stage(claim, compose("rl_pass_at_k", ["scale=cpu"]).config)
    assert arms
    assert left_out == ["Not planned: 1 later stage, from runs trained before."]
