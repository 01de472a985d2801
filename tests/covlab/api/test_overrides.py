"""Keyword arguments as overrides, and what a command line would make of them."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from covlab.api.overrides import composed, overrides_of
from models import GPT
from tasks.parity import Parity

CONFIGURATION = OmegaConf.create(
    {"steps": 3, "phases": {}, "task": {"_target_": "tasks.Dyck", "depth": 2, "mixture": {"a": 1.0}}}
)


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({"steps": 3, "name": "a=b,c", "root": Path("x y")}, ["steps=3", "name='a=b,c'", "root='x y'"]),
        ({"task.depth": np.int64(3), "rate": 1e-5}, ["task.depth=3", "rate=1e-05"]),
        ({"name": None, "figures": False, "text": "null"}, ["name=null", "figures=false", "text='null'"]),
        ({"task": "dyck", "ns": (2, 4.6)}, ["task=dyck", "ns=[2,4.6]"]),
        ({"task": {"depth": 3, "mixture": {"a": 0.5}}}, ["task.depth=3", "task.mixture.a=0.5"]),
        (
            {"phases": {"one": {}, "two": {"steps": 2, "task": {"mixture": {"a": 1}}}}},
            ["+phases.one={}", "+phases.two={steps:2,task:{mixture:{a:1}}}"],
        ),
        (
            {"task": Parity(length=4, block=2)},
            ["~task", "+task._target_=tasks.parity.Parity", "+task.length=4", "+task.block=2"],
        ),
    ],
)
def test_keywords_are_overrides(settings: dict[str, Any], overrides: list[str]) -> None:
    assert overrides_of(settings, lambda: CONFIGURATION) == overrides


def test_a_partial_has_the_defaults_of_its_class() -> None:
    given = overrides_of({"model": functools.partial(GPT, width=32)}, dict)
    assert given[:2] == ["~model", "+model._target_=models.GPT"]
    assert {"+model.width=32", f"+model.num_layers={GPT.num_layers}"} < set(given)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "key: <object object at .*> has no form in a configuration"),
        (functools.partial(GPT, 3), "key: .* has positional arguments"),
        (type("Local", (), {}), "key: .* has no Local"),
    ],
)
def test_values_without_a_form_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        overrides_of({"key": value}, lambda: CONFIGURATION)


def test_composed_configurations_hold_the_values(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(
        "defaults: [/schema/tasks.parity.Parity@_here_]\nlength: 6\n"
    )
    values = {"name": "a 'b' \\ ${seed}", "root": "runs/x=1,[2", "evaluation": {"coverage_ns": [2, math.pi]}}
    config, overrides = composed(
        "train", ["task=mine", "steps=5"], {**values, "task": {"block": 3}}, tmp_path
    )
    assert config.task == {"_target_": "tasks.parity.Parity", "length": 6, "block": 3}
    assert (config.steps, config.name, config.root) == (5, "a 'b' \\ 0", "runs/x=1,[2")
    assert config.evaluation.coverage_ns == [2, math.pi]
    assert overrides[:2] == ("task=mine", "steps=5")
    assert "hydra" not in config


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        (["--multirun"], {}, "'--multirun' is not an override; valid: 'key=value'"),
        ([], {"stpes": 3}, "stpes: no such key; valid are .*; did you mean steps"),
        ([], {"task": {"dpeth": 3}}, "task.dpeth: no such key; valid are .*; did you mean depth"),
        ([], {"task": "dick"}, "task: no option dick; valid are autoregressive_linear, .*tabular"),
    ],
)
def test_bad_input_is_one_line(overrides: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        composed("train", overrides, settings, None)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"^config_dir: 'nowhere' is not a folder$"):
        composed("train", (), {}, "nowhere")
