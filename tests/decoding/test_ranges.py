"""Ends of the valid ranges of the decoders' fields: the last valid value is taken, the next is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracles.ranges import refuses, takes
from oracles.trees import TreeTask

from decoding import (
    VGB,
    Ancestral,
    BacktrackingRejection,
    BestOfN,
    BlockRejection,
    Corrupted,
    ModelPolicy,
    ModelValues,
    Pessimism,
    Rollouts,
    TaskPolicy,
    TaskValues,
    TestTimeTraining,
    select_diverse,
)
from decoding.analytic_values import Delayed, Overrated
from models import GPT
from tasks.streams import SEEDS

TASK = TreeTask(depth=2, symbols=2, ends=False)
VALUES = {"values": TaskValues(TASK), "task": TASK}
MODEL = {"model": GPT(6, 2, 2, num_layers=1, num_heads=1, width=2), "params": {}}
TAKEN: list[tuple[Any, dict[str, Any]]] = [
    (Ancestral, {"budget": 1}),
    (BacktrackingRejection, {"quota": 0, "stride": 1, "threshold": 1, "greedy": False}),
    (BacktrackingRejection, {"threshold": 0.01}),
    (BlockRejection, {"block_length": 1, "candidates": 1}),
    (BestOfN, {"candidates": 1, "budget": 1}),
    (BestOfN, {"candidates": 16, "budget": 16}),
    (Pessimism, {"candidates": 1, "beta": 0.01, "ceiling": 0.01}),
    (TestTimeTraining, {"learning_rate": 0, "parameters": "all", "radius": 0.01}),
    (VGB, {"steps": 1, "runs": 1, "children": 1, "momentum": 0, "laziness": 0.99}),
    (VGB, {"stop": "first_leaf", "momentum": 1, "laziness": 0}),
    (VGB, {"laziness": 0.01}),
    (Delayed, {"task": TASK, "delay": 1}),
    (Overrated, {"task": TASK, "epsilon": -0.99}),
    (Overrated, {"task": TASK, "epsilon": np.float32(-2)}),
    (Corrupted, VALUES | {"error": 0, "seed": SEEDS - 1}),
    (Corrupted, VALUES | {"error": 0.5, "kind": "action", "action": 1}),
    (Rollouts, {"policy": TaskPolicy(TASK), "task": TASK, "num": 1, "seed": SEEDS - 1}),
    (ModelPolicy, MODEL | {"tokens": (0, 5), "temperature": 0.01}),
    (ModelValues, MODEL | {"temperature": 0.01}),
]
"""Valid settings at an end of a range; numbers of NumPy are not checked where programs pass arrays."""

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (BlockRejection, {"budget": 0}, "budget: 0"),
    (BlockRejection, {"candidates": 0}, "candidates: 0"),
    (BacktrackingRejection, {"budget": 0}, "budget: 0"),
    (BacktrackingRejection, {"threshold": 1.01}, "threshold: 1.01"),
    (BacktrackingRejection, {"greedy": 1}, "greedy: 1"),
    (BestOfN, {"budget": 15}, "budget: 15 queries"),
    (BestOfN, {"budget": 0, "candidates": 0}, "budget: 0"),
    (BestOfN, {"candidates": 0}, "candidates: 0"),
    (Pessimism, {"budget": 0}, "budget: 0"),
    (Pessimism, {"beta": 0}, "beta: 0"),
    (Pessimism, {"ceiling": 0}, "ceiling: 0"),
    (Pessimism, {"fresh": 1}, "fresh: 1"),
    (TestTimeTraining, {"learning_rate": -0.01}, "decoding.learning_rate: -0.01"),
    (TestTimeTraining, {"parameters": "some"}, "decoding.parameters: 'some'"),
    (TestTimeTraining, {"radius": 0}, "decoding.radius: 0"),
    (VGB, {"budget": 0}, "budget: 0"),
    (VGB, {"runs": 0}, "runs: 0"),
    (VGB, {"children": "some"}, "children: 'some'"),
    (VGB, {"momentum": -0.01}, "momentum: -0.01"),
    (VGB, {"momentum": 1.01}, "momentum: 1.01"),
    (VGB, {"laziness": -0.01}, "laziness: -0.01"),
    (Delayed, {"task": TASK, "delay": 0}, "delay: 0"),
    (Overrated, {"task": TASK, "token": 0}, "token: 0"),
    (Overrated, {"task": TASK, "epsilon": -1}, "epsilon: -1"),
    (Overrated, {"task": TASK, "epsilon": -1.0}, "epsilon: -1.0"),
    (Corrupted, VALUES | {"error": -0.01}, "error: -0.01"),
    (Corrupted, VALUES | {"error": 1, "kind": "some"}, "kind: 'some'"),
    (Corrupted, VALUES | {"error": 1, "action": 1}, "action: 1"),
    (Corrupted, VALUES | {"error": 1, "kind": "action"}, "action: None"),
    (Corrupted, VALUES | {"error": 1, "seed": -1}, "seed: -1"),
    (Rollouts, {"policy": TaskPolicy(TASK), "task": TASK, "seed": -1}, "seed: -1"),
    (ModelPolicy, MODEL | {"tokens": ()}, "tokens: ()"),
    (ModelPolicy, MODEL | {"tokens": (1, 6)}, "tokens: [6]"),
    (ModelPolicy, MODEL | {"tokens": (-1, 1)}, "tokens: [-1]"),
    (ModelPolicy, MODEL | {"tokens": (1,), "temperature": 0}, "temperature: 0"),
    (ModelValues, MODEL | {"temperature": 0}, "temperature: 0"),
    (select_diverse, {"features": np.ones((2, 2), "f"), "k": 3}, "k: 3"),
    (select_diverse, {"features": np.ones((2, 2), "f"), "k": 0}, "k: 0"),
    (select_diverse, {"features": np.ones((2, 2), "f"), "k": 1, "ridge": 0}, "ridge: 0"),
]
"""Settings beyond an end, and the beginning of the message."""


def test_the_last_valid_values_are_taken() -> None:
    for kind, fields in TAKEN:
        takes(kind, fields)


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_the_next_ones_are_refused(kind: Any, fields: dict[str, Any], message: str) -> None:
    refuses(kind, fields, message)
