"""Ends of the valid ranges of the tasks' fields: the last valid value is taken, the next one is refused."""

from __future__ import annotations

from typing import Any

import pytest
from oracles.ranges import refuses, takes

from tasks import AutoregressiveLinear, Dyck, FixedDyck, LayeredGraph, PathStar
from tasks.delay import Delay
from tasks.group_word import GroupWord
from tasks.markov_features import MOST_NUMBERS
from tasks.modular_addition import ModularAddition
from tasks.parity import Parity
from tasks.perturbation import Perturbation
from tasks.sorting import Sorting
from tasks.streams import SEEDS
from tasks.tabular import Tabular
from tasks.text import Text

GRAPH: dict[str, Any] = {"depth": 3, "width": 2, "branching": 1, "uniform_branching": 2, "num_ids": 20}
MIXED = {"G1": 0.5, "G2": 0.5}
GIVEN = {"length": 8, "max_depth": 3, "mixture": {"given": 1.0}}
TAKEN: list[tuple[type[Any], dict[str, Any]]] = [
    (AutoregressiveLinear, {"horizon": 1, "num_symbols": 2, "num_prompts": 1}),
    (AutoregressiveLinear, {"seed": SEEDS - 1, "theta_seed": 0, "bound": 0.5, "norm": 0}),
    (AutoregressiveLinear, {"norm": 1, "dimension": 1}),
    (AutoregressiveLinear, {"family": "position", "dimension": 8}),
    # 2 x 1024 x 2 x 1024 numbers, which are `MOST_NUMBERS`.
    (AutoregressiveLinear, {"horizon": 1024, "num_prompts": 2, "family": "position"}),
    (Delay, {"length": 1, "tilt": 0.5}),
    (Delay, {"length": 80, "tilt": 1.0}),
    (Delay, {"tilt": None}),
    (Dyck, {"num_types": 1, "max_depth": 1, "max_enumerated": 0, "noise": 0.0, "min_length": 1}),
    (Dyck, {"min_length": 1, "max_length": 1}),
    (Dyck, {"min_length": 3, "max_length": 3}),
    (Dyck, {"min_length": 5, "max_length": 5, "noise": 0.99}),
    (Dyck, {"max_length": 7, "prefix_lengths": [0, 6]}),
    (Dyck, {"max_length": 7, "mixture": {"given": 1.0}, "prefix": "( ) ( ) ( )"}),
    (FixedDyck, {"length": 2, "max_depth": 1, "prefix_lengths": (1, 1)}),
    (FixedDyck, {"length": 8, "max_depth": 4, "mixture": {"cap": 1.0}}),
    (FixedDyck, {"length": 8, "max_depth": 9, "mixture": {"drawn": 1.0}}),
    (FixedDyck, GIVEN | {"prefix": "( ( ("}),
    (FixedDyck, GIVEN | {"prefix": "( ) ( ) ( ) ("}),
    (FixedDyck, GIVEN | {"prefix": ""}),
    (GroupWord, {"noise": 0, "min_length": 1, "length": 1, "longer": (2,)}),
    (GroupWord, {"noise": 0.99}),
    (LayeredGraph, GRAPH | {"num_ids": 8}),
    (LayeredGraph, GRAPH | {"num_ids": 9, "subset": "label", "max_enumerated": 0}),
    (LayeredGraph, GRAPH | {"branching": 3, "uniform_branching": 0, "mixture": {"G1": 1}}),
    (LayeredGraph, GRAPH | {"depth": 1, "width": 1, "branching": 0, "num_ids": 3, "mixture": {"chain": 1}}),
    (LayeredGraph, GRAPH | {"mixture": MIXED, "num_ids": 10}),
    (LayeredGraph, GRAPH | {"mixture": {"forks": 1}, "fill": 2}),
    (LayeredGraph, GRAPH | {"mixture": {"first_fork": 1}, "fill": 3}),
    (ModularAddition, {"modulus": 2, "fraction": 0.25}),
    (ModularAddition, {"modulus": 2, "fraction": 0.75, "split_seed": SEEDS - 1}),
    (ModularAddition, {"modulus": 2000}),
    (Parity, {"length": 1, "block": 1}),
    (Parity, {"length": 120, "block": 1}),
    (PathStar, {"arms": 2, "path_length": 2, "num_ids": 3}),
    (Perturbation, {"length": 1}),
    (Perturbation, {"length": 210}),
    (Sorting, {"num_symbols": 2, "longer": []}),
    (Sorting, {"num_symbols": 10_000}),
    (Tabular, {"length": 1, "num_symbols": 26, "num_prompts": 1, "concentration": 1e6, "density": 1.0}),
    (Tabular, {"length": 16, "concentration": 0.5, "density": 0.5}),
    (Text, {"context": 1999, "continuation": 1}),
    (Text, {"held_out": 0.99, "split_seed": SEEDS - 1}),
]
"""Valid settings at an end of a range."""

REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (AutoregressiveLinear, {"seed": SEEDS}, "task.seed: 2147483648"),
    (AutoregressiveLinear, {"norm": -0.01}, "task.norm: -0.01"),
    (AutoregressiveLinear, {"norm": 1.01}, "task.norm: 1.01"),
    (AutoregressiveLinear, {"prompt_probs": (0.5, 0.5, 0, 0)}, "task.prompt_probs: 0"),
    (AutoregressiveLinear, {"horizon": 1025, "num_prompts": 2, "family": "position"}, "task.horizon: 1025"),
    (Delay, {"length": 81}, "task.tilt: 1.0 times"),
    (Dyck, {"max_depth": 0}, "task.max_depth: 0"),
    (Dyck, {"max_enumerated": -1}, "task.max_enumerated: -1"),
    (Dyck, {"noise": -0.01}, "task.noise: -0.01"),
    (Dyck, {"min_length": 0}, "task.min_length: 0"),
    (Dyck, {"max_length": 0}, "task.max_length: 0"),
    (Dyck, {"min_length": 6, "max_length": 6}, "task.min_length: no"),
    (Dyck, {"max_length": 7, "prefix_lengths": (0, 7)}, "task.prefix_lengths: [0, 7]"),
    (Dyck, {"prefix_lengths": (0, 1, 2)}, "task.prefix_lengths: (0, 1, 2)"),
    (Dyck, {"prefix_lengths": 3}, "task.prefix_lengths: 3"),
    (FixedDyck, {"length": 8, "max_depth": 5, "mixture": {"cap": 1.0}}, "task.mixture.cap: 5"),
    (FixedDyck, GIVEN | {"prefix": 3}, "task.prefix: 3"),
    (FixedDyck, {"type_probs": (0.2, 0.3, 0.5)}, "task.type_probs: "),
    (GroupWord, {"noise": -0.01}, "task.noise: -0.01"),
    (GroupWord, {"longer": "99"}, "task.longer: '99'"),
    (GroupWord, {"longer": (True, 40)}, "task.longer: [True, 40]"),
    (GroupWord, {"longer": (40, True)}, "task.longer: [40, True]"),
    (LayeredGraph, GRAPH | {"num_ids": 7}, "task.num_ids: 7"),
    (LayeredGraph, GRAPH | {"num_ids": 8, "subset": "label"}, "task.num_ids: 8"),
    (LayeredGraph, GRAPH | {"width": 1}, "task.width: 1"),
    (LayeredGraph, GRAPH | {"branching": 4}, "task.branching: 4"),
    (LayeredGraph, GRAPH | {"max_enumerated": -1}, "task.max_enumerated: -1"),
    (LayeredGraph, GRAPH | {"subset_seed": -1}, "task.subset_seed: -1"),
    (LayeredGraph, GRAPH | {"subset": "some"}, "task.subset: 'some'"),
    (LayeredGraph, GRAPH | {"given": "some"}, "task.given: 'some'"),
    (LayeredGraph, GRAPH | {"edge_order": "some"}, "task.edge_order: 'some'"),
    (LayeredGraph, GRAPH | {"fill": 1}, "task.fill: 1"),
    (LayeredGraph, GRAPH | {"fill": 4}, "task.fill: 4"),
    (LayeredGraph, GRAPH | {"fill": 2.0}, "task.fill: 2.0"),
    (ModularAddition, {"modulus": 2, "fraction": 0.1}, "task.fraction: 0.1"),
    (ModularAddition, {"fraction": 0.0}, "task.fraction: 0.0"),
    (Parity, {"length": 0}, "task.length: 0"),
    (Parity, {"block": 0}, "task.block: 0"),
    (Parity, {"length": 121, "block": 1}, "task.length: 121"),
    (PathStar, {"arms": 1}, "task.arms: 1"),
    (PathStar, {"path_length": 1}, "task.path_length: 1"),
    (PathStar, {"num_ids": 2, "path_length": 2}, "task.num_ids: 2"),
    (PathStar, {"reversed": 1}, "task.reversed: 1"),
    (Perturbation, {"length": 211}, "task.length: 211 is too long; valid: at most 210"),
    (Sorting, {"num_symbols": 1}, "task.num_symbols: 1"),
    (Sorting, {"num_symbols": 10_001}, "task.num_symbols: 10001"),
    (Tabular, {"num_symbols": 27, "length": 1}, "task.num_symbols: 27"),
    (Tabular, {"length": 17}, "task.length: 17"),
    (Tabular, {"num_prompts": 0}, "task.num_prompts: 0"),
    (Tabular, {"seed": -1}, "task.seed: -1"),
    (Tabular, {"concentration": 1.1e6}, "task.concentration: 1100000.0"),
    (Tabular, {"density": 1.01}, "task.density: 1.01"),
]
"""Settings beyond an end, and the beginning of the message."""


def test_a_class_of_probability_zero_is_none() -> None:
    assert LayeredGraph(**GRAPH, mixture={"G1": 1.0, "G2": 0.0}).groups == ("G1",)


@pytest.mark.long
def test_the_last_valid_values_are_taken() -> None:
    for kind, fields in TAKEN:
        takes(kind, fields, frozenset({"mixture", "prefix_lengths", "longer"}))
    assert MOST_NUMBERS == 2 * 1024 * 2 * 1024


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_the_next_ones_are_refused(kind: type[Any], fields: dict[str, Any], message: str) -> None:
    refuses(kind, fields, message)
