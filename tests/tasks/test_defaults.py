"""Defaults of the tasks and of what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oracles.signatures import defaults

import tasks
from tasks import checks, markov_sums, streams
from tasks.bracket_law import shifted
from tasks.delay import Delay
from tasks.edge_list import edge_list_prompt
from tasks.group_word import GroupWord
from tasks.modular_addition import ModularAddition
from tasks.parity import Parity
from tasks.perturbation import Perturbation
from tasks.sorting import Sorting
from tasks.tabular import Tabular
from tasks.text import Text

BRACKETS = {
    "num_types": 2,
    "max_depth": 3,
    "mixture": (("drawn", 1.0),),
    "prefix_lengths": (0, 0),
    "prefix": "",
    "reward_depth": False,
    "noise": 0.1,
    "max_enumerated": 64,
}
SEQUENCES = {"min_length": 3, "length": 20, "longer": (40,)}


def test_defaults_stay_as_they_are() -> None:
    """Another default would change what an old command line computes."""
    expected: dict[Callable[..., Any], dict[str, Any]] = {
        tasks.AutoregressiveLinear: {
            "horizon": 8,
            "num_symbols": 2,
            "num_prompts": 4,
            "prompt_probs": None,
            "dimension": None,
            "bound": 4.0,
            "family": "random",
            "norm": 1.0,
            "seed": 0,
            "theta_seed": 0,
            "classes": "all",
        },
        Delay: {"length": 8, "tilt": 1.0},
        tasks.Dyck: BRACKETS | {"min_length": 3, "max_length": None},
        tasks.FixedDyck: BRACKETS | {"max_depth": 12, "length": 32, "type_probs": (0.2, 0.8)},
        GroupWord: SEQUENCES | {"group": "s3", "answer": "final", "generators": False, "noise": 0.0},
        tasks.LayeredGraph: {
            "depth": 8,
            "width": 4,
            "branching": 2,
            "uniform_branching": 4,
            "num_ids": 100,
            "mixture": (("G1", 0.9), ("G2", 0.1)),
            "edge_order": "shuffled",
            "separators": True,
            "fill": False,
            "subset": "rank",
            "subset_seed": 0,
            "max_enumerated": 64,
            "given": "prompt",
        },
        ModularAddition: {"modulus": 97, "fraction": 0.5, "split_seed": 0, "commuted": False},
        Parity: {"length": 8, "block": 2},
        tasks.PathStar: {
            "arms": 2,
            "path_length": 5,
            "num_ids": 50,
            "separators": True,
            "reversed": False,
        },
        Perturbation: {"length": 6},
        Sorting: SEQUENCES | {"num_symbols": 16},
        Text: {
            "source": "python_topics",
            "context": 32,
            "continuation": 8,
            "held_out": 0.1,
            "block": 2000,
            "split_seed": 0,
            "digest": "",
        },
        Tabular: {
            "length": 3,
            "num_symbols": 2,
            "num_prompts": 4,
            "seed": 0,
            "concentration": 1.0,
            "rewards": "binary",
            "density": 0.5,
        },
        shifted: {"outside": 0.0},
        edge_list_prompt: {"fill": False},
        markov_sums.coverages: {"bins": 2**16},
        checks.whole: {"low": 0, "high": None, "other": ""},
        checks.wholes: {"low": 0, "at_least": 1},
        checks.reals: {"at_least": 1},
        checks.distribution: {"positive": False},
        checks.probabilities: {"positive": False},
        streams.check_seeds: {"least": 1, "fields": ("seed", "seeds")},
    }
    assert {each: defaults(each) for each in expected} == expected
