"""Every configuration file composes, instantiates, and refuses what it does not know."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict

from covlab.launch.build import build, make
from covlab.launch.schema import accepted, check_fields, schema
from decoding import Decoder
from models import Flax
from tasks import LayeredGraph
from training import CheckpointPolicy, Objective, Phase, Source

CONF = Path(str(importlib.resources.files("conf")))
# What W&B's agent reads is no configuration of ours.
TOP = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "wandb_sweep")
OPTIONS = sorted((file.parent.name, file.stem) for file in CONF.glob("*/*.yaml"))
GROUPS = (
    "averaging",
    "checkpoint",
    "evaluation",
    "experiment",
    "model",
    "objective",
    "optimizer",
    "source",
    "task",
    "tracking",
)


def fields_of(node: DictConfig) -> set[str]:
    return {str(key) for key in node if key != "_target_"}


@pytest.mark.parametrize("name", TOP)
def test_every_top_level_file_composes(name: str, compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config(name)
    assert OmegaConf.to_container(config, resolve=True)
    with pytest.raises(ConfigCompositionException):
        compose_config(name, "no_such_key=1")


# What a file of conf/experiment overlays: a claim's own configuration, or that of experiments.train.
CLAIMS = {name: claim for _, name in OPTIONS if (claim := name.rpartition("_")[0]) in TOP}
# Claims whose configuration alone is no run: each run takes its model or its task from the claim.
UNTRAINED = {"architectures", "depth", "exploration", "interventions", "optimizers_graph", "state_tracking"}
COMPANIONS = {
    ("evaluation", "brackets"): ("task=dyck",),
    ("model", "linear"): ("task=autoregressive_linear",),
    ("model", "flax"): ("model.module._target_=oracles.flax_modules.GRU",),
}
# What only experiments.train_value takes: without rewards there is nothing to regress on.
OF_VALUES = {("objective", "value_regression"), ("source", "rollouts")}
# And what only reinforcement learning takes.
OF_RL = {
    *(("objective", name) for name in ("grpo", "on_policy_distillation", "reinforce", "rloo")),
    *(("source", name) for name in ("demonstrations", "exploring", "on_policy")),
}
BUILT = [
    (group, name)
    for group, name in OPTIONS
    if group in GROUPS
    and (group, name) not in OF_VALUES | OF_RL
    and not (group == "experiment" and CLAIMS.get(name) in UNTRAINED)
]


@pytest.mark.long
@pytest.mark.parametrize(("group", "option"), BUILT)
def test_every_option_of_a_group_builds_a_run(
    group: str, option: str, compose_config: Callable[..., DictConfig]
) -> None:
    own, chosen = "train", (f"{group}={option}", *COMPANIONS.get((group, option), ()))
    if group == "experiment" and option in CLAIMS:
        own, chosen = CLAIMS[option], (f"scale={option.rpartition('_')[2]}",)
    setup = build(compose_config(own, *chosen))
    assert all(isinstance(phase, Phase) for phase in setup.phases)
    # A typo must be refused in whatever group it is made.
    if group != "experiment":
        with pytest.raises(ConfigCompositionException, match="no_such_field"):
            compose_config(own, *chosen, f"{group}.no_such_field=1")


@pytest.mark.parametrize(("group", "option"), sorted(OF_VALUES | OF_RL))
def test_what_other_training_takes_is_made_from_its_file(
    group: str, option: str, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("train_rl" if (group, option) in OF_RL else "train_value", f"{group}={option}")
    assert isinstance(make(config[group], group), Objective if group == "objective" else Source)


@pytest.mark.long
@pytest.mark.parametrize("option", [name for group, name in OPTIONS if group == "decoding"])
def test_every_decoder_is_made_from_its_file(option: str, compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("decode", f"decoding={option}")
    assert isinstance(make(config.decoding, "decoding"), Decoder)


def test_no_group_is_left_untested() -> None:
    # "scale" overlays a claim, which tests of that claim compose; tests of sweeps compose "launcher"; every
    # command composes "common" and "hydra".
    assert {group for group, _ in OPTIONS} - {
        *GROUPS,
        "decoding",
        "scale",
        "launcher",
        "common",
        "hydra",
    } == set()


def test_schema_states_every_default_of_the_signature() -> None:
    node = schema("training.CheckpointPolicy")
    assert node.pop("_target_") == "training.CheckpointPolicy"
    assert node == dataclasses.asdict(CheckpointPolicy())


def test_schema_leaves_out_parameters_without_a_plain_default() -> None:
    assert "mixture" not in schema("tasks.LayeredGraph")
    assert "steps" not in schema("training.optimizers.adamw")
    assert "steps" in accepted("training.optimizers.adamw", "optimizer")


def test_groups_show_all_fields(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("train")
    assert fields_of(config.task) == {field.name for field in dataclasses.fields(LayeredGraph)}
    assert fields_of(config.checkpoint) == {field.name for field in dataclasses.fields(CheckpointPolicy)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["task._target_=tasks.Nope"],
            "phases.train.task._target_: there is no 'tasks.Nope'; valid: module.",
        ),
        (["task._target_=nowhere.Nope"], "phases.train.task._target_: there is no 'nowhere.Nope'"),
        (["task._target_=Nope"], "phases.train.task._target_: there is no 'Nope'"),
        (["task._target_=null"], "phases.train.task._target_: there is no None"),
        (["task._target_=tasks.base"], "phases.train.task._target_: 'tasks.base' is neither a class nor"),
        (
            ["task._target_=training.CheckpointPolicy"],
            "phases.train.task._target_: training.CheckpointPolicy is not a subclass of Task",
        ),
        (["model._target_=tasks.Dyck"], "model._target_: tasks.Dyck is not a subclass of Model"),
        (
            ["optimizer._target_=training.choose_layout"],
            "phases.train.optimizer.learning_rate: no such field; valid are batch_sizes",
        ),
        (
            ["objective._target_=models.GPT"],
            "phases.train.objective._target_: models.GPT is not a subclass of Objective",
        ),
        (
            ["tracking._target_=models.GPT"],
            "tracking._target_: models.GPT is not a subclass of TrackingSettings",
        ),
        (
            ["checkpoint._target_=models.GPT"],
            "checkpoint._target_: models.GPT is not a subclass of CheckpointPolicy",
        ),
        (
            ["evaluation.schedule._target_=models.GPT"],
            "phases.train.evaluation.schedule._target_: models.GPT is not a subclass of EvaluationSchedule",
        ),
        (
            ["evaluation.extra=[{_target_:metrics.Nope}]"],
            "phases.train.evaluation.extra._target_: there is no 'metrics.Nope'",
        ),
        (["evaluation.schedule=3"], "phases.train.evaluation.schedule: 3 is not a mapping"),
        (["evaluation.coverage_ns=3"], "phases.train.evaluation.coverage_ns: 3 is not a list"),
        (["tracking.tags=3"], "tracking.tags: 3 is not a list"),
        (["task.depth=[1,2]"], "phases.train.task.depth: [1, 2] is not a single value"),
        (["optimizer.learning_rate=[1]"], "phases.train.optimizer.learning_rate: [1] is not a single value"),
        (["model.width={a:1}"], "model.width: {'a': 1} is not a single value"),
        (
            ["+phases.train.task={mixture:[1,2]}"],
            "phases.train.task: {'mixture': [1, 2]} does not fit the run's own: Cannot merge Dict",
        ),
        (["+phases.train.task=3"], "phases.train.task: 3 is not a mapping with a _target_"),
    ],
)
def test_a_wrong_target_or_shape_is_one_line(
    overrides: list[str], message: str, compose_config: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        build(compose_config("train", *overrides))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["a/b", "a[b]", "../x", "", ".a", "a:3", "*", "_a", "a\\b", "x" * 81, "a\nb"]
)
def test_a_phase_that_cannot_name_a_file_is_refused(
    name: str, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("train")
    with open_dict(config):
        config.phases = {name: {"steps": 3}}
    with pytest.raises(ValueError, match=r"^phases: .* is not a phase's name; valid: ") as error:
        build(config)
    assert "\n" not in str(error.value)
    assert repr(name) in str(error.value)


def test_a_phase_has_a_plain_name(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("train")
    with open_dict(config):
        config.phases = {"warm up": {}, "2nd.part=fine-tune": {}}
    assert [phase.name for phase in build(config).phases] == ["warm up", "2nd.part=fine-tune"]


def test_check_fields_names_the_field_and_the_valid_ones() -> None:
    node = {"_target_": "training.CheckpointPolicy", "keeep": 3}
    with pytest.raises(
        ValueError, match=r"checkpoint\.keeep: no such field; valid are budget_mb, every_seconds, keep"
    ):
        check_fields(node, "checkpoint")


def test_an_unknown_field_of_a_phase_is_refused(compose_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError, match=r"phases\.train\.task\.dpeth: no such field; valid are .*depth"):
        build(compose_config("train", "+phases.train.task={dpeth:3}"))
    with pytest.raises(ValueError, match=r"phases\.train\.stepps: no such field; valid are .*steps"):
        build(compose_config("train", "+phases.train.stepps=3"))


FLAX = ("model=flax", "model.module._target_=oracles.flax_modules.GRU")


@pytest.mark.long
def test_fields_of_a_flax_module_need_no_leading_plus(compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("train", *FLAX, "model.module.width=8")
    assert OmegaConf.to_container(config.model.module) == {"_target_": FLAX[1].partition("=")[2], "width": 8}
    model = build(config).model
    assert isinstance(model, Flax)
    assert model.init(jax.random.key(0))["embed"]["embedding"].shape == (model.vocab_size, 8)
    # The rest of the node is as strict as before.
    with pytest.raises(ConfigCompositionException):
        compose_config("train", *FLAX, "model.modul=3")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (FLAX[:1], "model.module: {} names no class; valid: model.module._target_=my_package.MyLM"),
        ((FLAX[0], "model.module.width=3"), "model.module: {'width': 3} names no class; valid: "),
        (
            (FLAX[0], "model.module._target_=oracles.flax_modules.LSTM"),
            "model.module._target_: there is no 'oracles.flax_modules.LSTM'; valid: module.Name",
        ),
        ((FLAX[0], "model.module._target_=tasks.Dyck"), "model.module._target_: 'Dyck' is not a class"),
        ((*FLAX, "model.module.widht=8"), "model.module.widht: no such field; valid are dtype, rngs, "),
        ((*FLAX, "model.module.width=wide"), "model.module: GRU: its initialisation fails at line "),
        ((*FLAX, "model.module.vocab_size=3"), "model.module.vocab_size: is set by the model"),
    ],
)
def test_a_bad_flax_module_is_one_line(
    overrides: tuple[str, ...], line: str, compose_config: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        build(compose_config("train", *overrides))
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
