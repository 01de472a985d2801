"""Averaging is chosen for all phases or for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from covlab.launch.build import build
from training import Averaging


def test_averaging_is_configured_for_all_phases_or_for_one(compose_config: Callable[..., DictConfig]) -> None:
    assert build(compose_config("train")).phases[0].averaging is None
    everywhere = build(compose_config("train", "averaging=ema", "averaging.decay=0.5"))
    assert everywhere.phases[0].averaging == Averaging("ema", 0.5)
    one = build(compose_config("train", "+phases.a.averaging={start:7}", "+phases.b.steps=3"))
    assert [phase.averaging for phase in one.phases] == [Averaging(start=7), None]
    off = build(compose_config("train", "averaging=uniform", "+phases.a.averaging=null"))
    assert off.phases[0].averaging is None
    with pytest.raises(ValueError, match=r"phases\.a\.averaging\.strat: no such field; valid are decay"):
        build(compose_config("train", "+phases.a.averaging={strat:7}"))
