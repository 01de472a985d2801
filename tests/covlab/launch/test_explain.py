"""Errors of the command line name the valid keys of the user's options."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from covlab.claims.claim import command
from covlab.launch.chosen import Chosen
from covlab.launch.explain import _unknown_key, explain
from covlab.launch.schema import accepted, register_schemas, schema
from experiments import show, train
from experiments.vgb_delay import CLAIM as VGB_DELAY

CONF = Path(str(importlib.resources.files("conf")))
# The command in which a group is chosen, and the group's place in its configuration.
PLACES = {"decoding": "decode", "source": "train_rl"}
OPTIONS = sorted(
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name not in ("experiment", "scale", "launcher", "common", "hydra")
)
EXPERIMENTS = sorted(file.stem for file in CONF.glob("experiment/*.yaml"))
COMMANDS = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "wandb_sweep")
COMMON = ("tracking", "name", "root", "seed", "resume")


@pytest.fixture(autouse=True)
def _schemas() -> None:
    register_schemas()


def class_of(group: str, option: str) -> str:
    """The class that a file of `conf/` names, itself or through another one."""
    for line in yaml.safe_load((CONF / group / f"{option}.yaml").read_text())["defaults"]:
        name = str(line)
        if name.startswith("/schema/"):
            return name.removeprefix("/schema/").partition("@")[0]
        if name != "_self_":
            return class_of(group, name)
    raise AssertionError(f"{group}/{option} names no class")


@pytest.mark.long
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_a_wrong_key_lists_the_keys_of_the_option_that_was_chosen(group: str, option: str) -> None:
    command, key = PLACES.get(group, "train"), f"{group}.no_such_key"
    said = _unknown_key(key, Chosen(command, [f"{group}={option}"]))
    if not set(schema(class_of(group, option))) - {"_target_"}:
        assert said.startswith(f"{key}: no such key; {group} is empty; "), said
        return
    start = f"{key}: no such key; valid are "
    assert said.startswith(start), said
    listed = set(said.removeprefix(start).partition(";")[0].split(", "))
    # Every key is one of this option's own class; what its file states and what has a default are there.
    name = class_of(group, option)
    assert listed <= accepted(name, group)
    assert set(yaml.safe_load((CONF / group / f"{option}.yaml").read_text())) - {"defaults"} <= listed
    assert set(schema(name)) - {"_target_"} <= listed


@pytest.mark.long
@pytest.mark.parametrize("option", EXPERIMENTS)
def test_a_wrong_key_of_an_experiment_lists_that_experiments_keys(option: str) -> None:
    claim, _, scale = option.rpartition("_")
    command, chosen = (claim, f"scale={scale}") if claim in COMMANDS else ("train", f"experiment={option}")
    said = _unknown_key("no_such_key", Chosen(command, [chosen]))
    stated = yaml.safe_load((CONF / "experiment" / f"{option}.yaml").read_text()) or {}
    listed = set(said.partition("valid are ")[2].partition(";")[0].split(", "))
    assert set(stated) - {"defaults"} <= listed
    assert {*COMMON, "seed"} <= listed


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_same_common_keys(command: str, compose_config: Callable[..., Any]) -> None:
    config = compose_config(
        command, "tracking.wandb=disabled", "tracking.progress=false", "name=x", "root=elsewhere", "seed=3",
        "resume=never", "tracking=default",
    )  # fmt: skip
    assert (config.name, config.root, config.seed, config.resume) == ("x", "elsewhere", 3, "never")
    assert config.tracking.wandb == "disabled"
    other = {"evaluate": "evaluation_seed", "decode": "decoding_seed"}.get(command, "seed")
    assert config[other] == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task=dyck", "task.dept=3"], "task.dept: no such key; valid are max_depth, max_enumerated, "),
        (["averaging.decay=0.9"], "averaging.decay: no such key; averaging is null; it has keys with one of "
         "averaging=ema, averaging=uniform"),
        (["seed.x=1"], "seed.x: no such key; seed is 0"),
        (["task.foo.bar=1"], "task.foo: no such key; valid are branching, "),
        (["phases.pretrain.steps=3"], "phases.pretrain: no such key; phases is empty; a leading + adds "
         "to it: +phases.pretrain.steps=..."),
        (["hydra.sweeep=3"], "hydra.sweeep: no such key; valid are "),
        (["model=null"], "model: null is not one of its options "),
        (["task=3"], "task: 3 is not one of its options autoregressive_linear, "),
    ],
)  # fmt: skip
def test_a_wrong_key_is_one_line(
    arguments: list[str], said: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(train.main, *arguments)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


def test_a_claim_that_trains_nothing_lists_its_keys(call: Callable[..., Any]) -> None:
    ended = call(command(VGB_DELAY), "tracking.wnadb=disabled")
    assert ended.err.startswith("error: tracking.wnadb: no such key; valid are entity, figures, interval, ")
    assert ended.err.endswith("; did you mean wandb?\n")
    assert call(show.main, "task=dyck", "task.depth=3").err.startswith("error: task.depth: no such key; ")


def test_below_a_phase_the_keys_are_those_of_the_runs_choice() -> None:
    figure = ("figure1", ["scale=cpu"])
    for key, said in {
        "phases.finetune.task.depht": "phases.finetune.task.depht: no such key; valid are branching, depth, ",
        "phases.finetune.task.depth": "phases.finetune.task.depth: not among what the phase states; a "
        "leading + adds it: +phases.finetune.task.depth=...",
        "phases.finetune.stepps": "phases.finetune.stepps: no such key; valid are averaging, batch_size, ",
        "phases.finetunne.steps": "phases.finetunne: no such key; valid are finetune, pretrain; did you ",
    }.items():
        assert _unknown_key(key, Chosen(*figure)).startswith(said)
    other = Chosen("train", ["task=dyck", "+phases.one={task:{length:8},objective:{_target_:training.DCO}}"])
    assert "max_depth" in _unknown_key("phases.one.task.depth", other)
    said = _unknown_key("phases.one.objective.m", other)
    assert said.startswith("phases.one.objective.m: no such key; valid are ")
    assert "n" in said.partition("valid are ")[2].partition(";")[0].split(", ")


def test_files_of_the_users_own_count(tmp_path: Path, call: Callable[..., Any]) -> None:
    (tmp_path / "task").mkdir()
    own = "defaults:\n  - /schema/tasks.Dyck@_here_\n  - _self_\nlength: 8\n"
    (tmp_path / "task" / "mine.yaml").write_text(own)
    ended = call(train.main, "--config-dir", str(tmp_path), "task=mine", "task.depth=3", "model.wdith=8")
    assert ended.err.startswith("error: task.depth: no such key; valid are length, max_depth, ")


def test_what_is_not_about_a_key_stays_in_one_line() -> None:
    assert explain(ValueError("one\n two"), "train") == "one two"
