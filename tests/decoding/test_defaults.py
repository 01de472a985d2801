"""Defaults of the decoders and of what guides them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from oracles.signatures import defaults

from decoding import (
    VGB,
    ActionRejection,
    Ancestral,
    BacktrackingRejection,
    BeamSearch,
    BestOfN,
    BlockBestOfN,
    BlockRejection,
    Constant,
    Corrupted,
    MajorityVote,
    ModelPolicy,
    ModelValues,
    Nucleus,
    OutcomeRejection,
    ParticleFilter,
    Pessimism,
    Rollouts,
    TestTimeTraining,
    UniformRace,
    base_responses,
    sample_responses,
    select_diverse,
)
from decoding.analytic_values import Delayed, Overrated
from decoding.explore import Explorer

BUDGET = {"budget": 1024}
BLOCKS = BUDGET | {"block_length": 4, "candidates": 4}
EXPECTED: dict[Callable[..., Any], dict[str, Any]] = {
    Ancestral: BUDGET,
    OutcomeRejection: BUDGET,
    ActionRejection: BUDGET,
    BestOfN: BUDGET | {"candidates": 16},
    BlockBestOfN: BLOCKS,
    BlockRejection: BLOCKS,
    BacktrackingRejection: BUDGET | {"quota": 16, "stride": 4, "threshold": 0.5, "greedy": True},
    BeamSearch: BUDGET | {"width": 4},
    MajorityVote: BUDGET | {"candidates": 16, "answer_length": None},
    Nucleus: BUDGET | {"temperature": 1.0, "top_p": 1.0},
    ParticleFilter: BUDGET | {"particles": 16, "scheme": "multinomial", "threshold": None},
    UniformRace: BUDGET | {"candidates": 16, "clock": "uniform", "beta": None},
    Pessimism: BUDGET | {"candidates": 16, "beta": 0.1, "ceiling": None, "fresh": True},
    TestTimeTraining: {"learning_rate": 0.01, "parameters": "last", "radius": None},
    VGB: BUDGET
    | {
        "steps": 256,
        "stop": "fixed",
        "runs": 64,
        "children": "all",
        "momentum": None,
        "laziness": 0.5,
    },
    Delayed: {"delay": 1},
    Overrated: {"token": 1, "epsilon": 0.1},
    Corrupted: {"seed": 0, "kind": "uniform", "action": None},
    Rollouts: {"num": 8, "seed": 0},
    ModelPolicy: {"temperature": 1.0},
    ModelValues: {"temperature": 1.0},
    Constant: {"log_value": math.log(0.5)},
    base_responses: {"restricted": True},
    sample_responses: {"temperature": 1.0},
    select_diverse: {"ridge": 0.01},
}


def test_defaults_stay_as_they_are() -> None:
    """Another default would change what an old command line computes."""
    assert {each: defaults(each) for each in EXPECTED} == EXPECTED


def test_what_a_decoder_asks_for() -> None:
    """Values of inner nodes, and the verifier at leaves."""
    asked = {
        kind: (kind.needs_values, kind.verifies)
        for kind in (*EXPECTED, Explorer)
        if isinstance(kind, type) and issubclass(kind, Explorer)
    }
    both = {
        Explorer,
        ActionRejection,
        BacktrackingRejection,
        BlockBestOfN,
        BlockRejection,
        ParticleFilter,
        VGB,
    }
    verified = {Ancestral, BeamSearch, MajorityVote, Nucleus, OutcomeRejection, UniformRace}
    assert asked == dict.fromkeys(both, (True, True)) | dict.fromkeys(verified, (False, True)) | {
        BestOfN: (True, False),
        Pessimism: (True, False),
    }
    assert not TestTimeTraining.needs_values
