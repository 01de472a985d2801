"""Every number and truth value that a configuration holds, with values that it must not have.

For each field of each option of each group, and for each setting of each claim and command, -1, 0, NaN,
infinity, true and a text are tried on what the program does before it compiles anything. A value is refused
in one line that names field and value, or it is listed here as one that makes sense.
"""

from __future__ import annotations

import functools
import importlib
import importlib.resources
import inspect
import math
import operator
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from oracles.contracts import contract_of

from covlab.claims.running import claims
from covlab.claims.settings import read
from covlab.launch.build import build, make
from covlab.launch.schema import schema
from experiments import compare, decode, evaluate, select, show

CONF = Path(str(importlib.resources.files("conf")))
TRIED = (-1, 0, math.nan, math.inf, True, "a")
Leaf = tuple[str | int, ...]


def option(group: str, name: str) -> dict[str, Any]:
    """The composed configuration of a file of a group."""
    own = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    found: dict[str, Any] = {}
    for default in own.pop("defaults"):
        target, _, place = default.removeprefix("/schema/").partition("@")
        if place:
            found |= schema(target) if place == "_here_" else {place: schema(target)}
        elif target != "_self_":
            found |= option(group, target)
    return found | own


def optional_numbers(node: Mapping[str, Any]) -> set[str]:
    """Parameters of a node's target that are null or a number."""
    module, _, name = str(node.get("_target_", "")).rpartition(".")
    if not module:
        return set()
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    return {
        each.name
        for each in signature.parameters.values()
        if each.default is None and re.search(r"\b(int|float)\b", str(each.annotation))
    }


def leaves(node: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """Paths of the numbers, the truth values, and what may be a number; of a list its first element."""
    optional = optional_numbers(node) if isinstance(node, dict) else set()
    for key, value in node.items() if isinstance(node, dict) else [*enumerate(node)][:1]:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float) or key in optional:
            yield (*path, key)


def accepted(tree: Any, judge: Callable[[Any], Any], paths: Iterable[Leaf]) -> dict[str, list[Any]]:
    """The values tried that `judge` accepts, by field; asserts that all others are refused well."""
    found: dict[str, list[Any]] = {}
    for path in paths:
        names = [str(key) for key in path if isinstance(key, str)]
        place = functools.reduce(operator.getitem, path[:-1], tree)
        before = place[path[-1]]
        for value in TRIED:
            place[path[-1]] = value
            try:
                judge(tree)
            except ValueError as error:
                said = str(error)
                well = names[-1] in said and repr(value) in said and "\n" not in said
                assert well, (path, value, said)
            else:
                found.setdefault(".".join(names), []).append(value)
        place[path[-1]] = before
    return found


def sensible(
    tree: dict[str, Any], zeros: Iterable[str], paths: Iterable[Leaf] | None = None
) -> dict[str, Any]:
    """Expected result of `accepted`: true for a truth value, 0 for the named fields."""
    expected: dict[str, list[Any]] = {}
    for path in leaves(tree) if paths is None else paths:
        name = ".".join(str(key) for key in path if isinstance(key, str))
        value: Any = tree
        for key in path:
            value = value[key]
        if isinstance(value, bool):
            expected[name] = [True]
        elif name in zeros:
            expected[name] = [0]
    return expected


JUDGES: dict[str, Callable[[Any], Any]] = {
    "evaluation": lambda node: make(node, "evaluation").evaluators(),
    "model": lambda node: make(node, "model", vocab_size=8, prompt_length=4, response_length=4),
    "optimizer": lambda node: make(node, "optimizer", steps=10),
}
ZEROS = {
    "averaging": {"decay", "start"},
    "checkpoint": {"every_seconds"},
    "decoding": {"learning_rate", "momentum", "quota"},
    "evaluation": {"eps", "num_samples", "schedule.every", "seed", "table_prompts"},
    "model": {"balance", "init_radius", "outer_layers"},
    "objective": {
        *("ahead_weight", "alpha", "beta", "filter_fraction", "kl_weight", "prompt_weight", "smoothing"),
        "weight",
    },
    "optimizer": {"beta1", "beta2", "damping", "final_fraction", "momentum", "warmup", "weight_decay"},
    "source": {"bonus.weight"},
    "task": {
        *("branching", "uniform_branching", "max_enumerated", "subset_seed", "split_seed", "mixture.G3"),
        *("mixture.cap", "mixture.given", "noise", "prefix_lengths", "norm", "seed", "theta_seed"),
    },
    "tracking": set(),
}
"""By group, the fields of which 0 is a value; -1, NaN, infinity and a text are of none."""
OPTIONS = sorted((each.parent.name, each.stem) for each in CONF.glob("*/*.yaml"))
GROUPED = [(group, name) for group, name in OPTIONS if group in ZEROS]


@pytest.mark.long
@pytest.mark.parametrize(("group", "name"), GROUPED)
def test_every_number_of_every_option_is_checked(group: str, name: str) -> None:
    node = option(group, name)
    judge = JUDGES.get(group, lambda node: make(node, group))
    paths = [*leaves(node)]
    assert accepted(node, judge, paths) == sensible(node, ZEROS[group], paths)


def test_no_group_is_left_out() -> None:
    # `common`, `experiment` and `scale` hold what is checked here; `hydra` and `launcher` are Hydra's own.
    assert {group for group, _ in OPTIONS} - {"common", "experiment", "hydra", "launcher", "scale"} == set(
        ZEROS
    )


def test_what_no_file_of_a_group_states_is_checked() -> None:
    warning = {"_target_": "training.EarlyWarning", "parameter": 4, "threshold": 0.025}
    found = accepted(warning, lambda node: make(node, "early_warning"), leaves(warning))
    assert found == {"threshold": [0]}
    distance = {"_target_": "metrics.bracket_distance.BracketDistance", "threshold": 0.8}
    assert accepted(distance, lambda node: make(node, "evaluation.extra"), leaves(distance)) == {}
    count = {"_target_": "training.CountBonus", "weight": 0.1}
    assert accepted(count, lambda node: make(node, "bonus"), leaves(count)) == {"weight": [0]}


@pytest.mark.long
def test_the_run_s_own_numbers_are_checked(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("train", "task=delay")
    names = ("seed", "seeds", "steps", "batch_size", "dataset_size", "log_every")
    assert accepted(config, build, [(name,) for name in names]) == {"seed": [0], "steps": [0]}
    places = [("devices",), ("data_parallel",)]
    assert accepted(config, lambda own: build(own).layout(own), places) == {}
    config = compose_config("train", "class_proposal={G1: 0.5, G2: 0.5}")
    assert accepted(config, build, [("class_proposal", "G1")]) == {}
    # A phase's own numbers are named with the phase.
    config = compose_config(
        "train", "task=delay", "+phases.first={steps: 3, optimizer: {learning_rate: 0.1}}"
    )
    phase = [("phases", "first", "steps"), ("phases", "first", "optimizer", "learning_rate")]
    assert accepted(config, build, phase) == {"phases.first.steps": [0]}


CLAIMS = claims()
SHARED = {"group", "hydra", "name", "root", "scale", "tracking"}
TRAINED: dict[str, tuple[set[str], set[str]]] = {
    "architectures": ({"tournament", "blindness_examples"}, set()),
    "dco": ({"early", "large"}, set()),
    "depth": ({"recursions", "tested", "n", "fresh_examples"}, set()),
    "early_warning": ({"truth", "candidates", "judged", "rate", "resamples"}, set()),
    "exploration": ({"pool", "ks", "coverage_n"}, set()),
    "figure1": ({"tournament", "blindness_examples"}, set()),
    "figure2": ({"horizons", "n", "branching_examples", "branching_checkpoints"}, set()),
    "forks": ({"k", "branching"}, {"branching"}),
    "interventions": ({"lengths", "n", "damping", "large", "learning_rates"}, {"damping"}),
    "optimizers_graph": (
        {
            *("learning_rates", "tune", "tuning_seeds", "tuning_seed", "place", "place_seeds", "place_seed"),
            *("levels", "compared", "n", "pass_n"),
        },
        {"tuning_seed", "place_seed"},
    ),
    "path_star": ({"factor", "fresh_examples", "fresh_checkpoints"}, set()),
    "pessimism": ({"tabular", "pools"}, {"tabular.seed"}),
    "rl_from_base": ({"starts", "k", "n"}, set()),
    "rl_from_checkpoint": ({"starts", "budgets"}, {"starts"}),
    "rl_pass_at_k": ({"small_k", "large_k"}, set()),
    "state_tracking": ({"solved", "fresh_examples"}, set()),
    "tail_sft": ({"k", "tournament"}, set()),
    "vgb_dyck": ({"sweep", "trees", "margin"}, {"margin", "trees.errors"}),
}
"""Of a claim that trains: its settings that hold numbers, and of which 0 is a value."""


DIRECT: dict[str, set[str]] = {
    name: set(contract_of(name).get("zeros", ["seed"])) for name, claim in CLAIMS.items() if not claim.stages
}
"""Of a claim that trains nothing: the settings of which 0 is a value."""


@pytest.mark.long
@pytest.mark.parametrize("claim", sorted(TRAINED))
def test_the_own_settings_of_a_claim_that_trains(
    claim: str, compose_config: Callable[..., DictConfig]
) -> None:
    own, zeros = TRAINED[claim]
    judge = functools.partial(read, CLAIMS[claim].settings)
    config = compose_config(claim)
    tree: Any = OmegaConf.to_container(config, resolve=True)
    paths = [*leaves({key: tree[key] for key in own})]
    assert paths
    assert accepted(config, judge, paths) == sensible(tree, zeros, paths)


@pytest.mark.long
@pytest.mark.parametrize("claim", sorted(DIRECT))
def test_the_settings_of_a_claim_that_trains_nothing(
    claim: str, compose_config: Callable[..., DictConfig]
) -> None:
    judge = functools.partial(read, CLAIMS[claim].settings)
    zeros = DIRECT[claim]
    config = compose_config(claim)
    tree: Any = OmegaConf.to_container(config, resolve=True)
    paths = [*leaves({key: value for key, value in tree.items() if key not in SHARED})]
    assert paths
    further = contract_of(claim).get("further", {})
    assert accepted(config, judge, paths) == sensible(tree, zeros, paths) | further


def past_checks(command: Callable[[Any], Any], missing: str) -> Callable[[Any], None]:
    """`command` on a configuration whose run or file is missing: that is said only after its numbers."""

    def judge(node: Any) -> None:
        try:
            command(node)
        except ValueError as error:
            if missing not in str(error):
                raise

    return judge


def test_the_numbers_of_the_commands_are_checked(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("decode")
    names = ("num_prompts", "samples", "batch_size", "show", "rollouts", "corruption", "temperature")
    found = accepted(config, past_checks(decode.check, "none is named"), [(name,) for name in names])
    assert found == {"show": [0], "corruption": [0]}

    config = compose_config("compare", "band=[0.1,0.9]")
    own = [("lines",), ("top",), ("band", 0), ("tournament", "n"), ("tournament", "max_runs"), ("progress",)]
    found = accepted(config, compare._check, own)
    assert found == {"band": [0], "tournament.max_runs": [0], "progress": [True]}

    config = compose_config("select", "file=nowhere.npz", "n=[2]", "pass_ns=[1]")
    own = [("n", 0), ("pass_ns", 0), ("a",)]
    assert accepted(config, past_checks(select.select, "does not exist"), own) == {"a": [0]}

    task = make(option("task", "delay"), "task")
    for value in TRIED:
        with pytest.raises(ValueError, match=re.escape(f"num: {value!r} is not an integer >= 1")):
            show.draw_examples(task, value)  # type: ignore[arg-type]


def test_what_evaluate_replaces_is_checked(compose_config: Callable[..., DictConfig]) -> None:
    own = make(option("evaluation", "default"), "evaluation")
    phase = types.SimpleNamespace(name="train")
    run: Any = types.SimpleNamespace(setup=types.SimpleNamespace(phases=[phase], evaluation=[own]))
    lists = ("coverage_ns=[2]", "pass_ns=[1]", "pass_all_ns=[2]", "taus=[0.5]", "eps=[0.1]", "ratio_ns=[8]")
    config = compose_config("evaluate", *lists, "num_examples=8", "batch_size=8")
    paths: list[Leaf] = [(each.partition("=")[0], 0) for each in lists]
    paths += [("num_examples",), ("batch_size",), ("num_samples",)]

    def judge(own: DictConfig) -> None:
        evaluate.settings_of(own, run, "train").evaluators()

    assert accepted(config, judge, paths) == {"num_samples": [0], "eps": [0]}


def test_decode_takes_its_own_defaults_at_any_number_of_samples() -> None:
    assert decode.pass_ns_of(None, 2) == (1,)
    assert decode.pass_ns_of(None, 4) == (1, 4)
    assert decode.pass_ns_of(None, 16) == (1, 4, 16)
    assert decode.pass_ns_of(2, 2) == (2,)
    for wrong in (True, 0, 1.5, "a", [1, math.nan], []):
        with pytest.raises(ValueError, match=r"^pass_ns: "):
            decode.pass_ns_of(wrong, 2)
    with pytest.raises(ValueError, match=r"^pass_ns: \[4\]; valid: integers from 1 to samples = 2$"):
        decode.pass_ns_of([4], 2)
