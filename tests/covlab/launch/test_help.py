"""The page of every command: all settings explained, three examples, no internals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from covlab.__main__ import _configured
from covlab.launch import help
from covlab.launch.chosen import Chosen
from covlab.launch.commands import command_of, commands
from covlab.launch.documented import yaml_comments
from covlab.launch.schema import register_schemas
from experiments import train

SETTINGS = [name for name, each in commands().items() if each.is_claim or each.config_name]


@pytest.fixture(autouse=True)
def _schemas() -> None:
    register_schemas()


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_and_examples_compose(name: str) -> None:
    command = command_of(name)
    config_name = _configured(command)
    assert config_name is not None
    chosen = Chosen(config_name, [])
    config = chosen.compose()
    docs = help.explanations(config, chosen.files(), command.module)
    sections = help.sections(config, chosen.choices, docs, help.own_keys(command.module))
    settings = [each for section in sections for each in section.settings]
    assert [each.key for each in settings if not each.doc] == []
    assert {each.key.partition(".")[0] for each in settings} >= {
        key for key in config if key != "hydra" and not (config[key] is None and key in chosen.choices)
    }
    lines = help.examples(name, config, chosen.files(), command.module)
    assert len(set(lines)) == 3
    assert all(line.startswith(f"covlab {name} ") for line in lines)


def test_the_page_of_a_command(call: Callable[..., Any]) -> None:
    page = call(train.main, "task=dyck", "--help").out
    assert page.startswith("covlab train [key=value ...]\n")
    lines = [" ".join(line.split()) for line in page.splitlines()]
    assert "steps=2000 default of every phase" in lines
    assert "task.max_depth=3 m, largest depth under pi_D" in lines
    assert "task.edge_order" not in page
    assert any(line.startswith("model=gpt_tiny deltanet, ") for line in lines)
    assert ", flax, gpt_medium, gpt_paper, gpt_small, " in " ".join(lines)
    assert any(line.startswith("--cfg job ") for line in lines)
    for internal in ("hydra/", "Powered", "powered", "schema", "_target_:", "python -m"):
        assert internal not in page


def test_comments_of_a_file_belong_to_keys() -> None:
    text = """\
# What the file is about.
defaults:
  - a: b # an option
  - _self_

one: 1 # at the end
two: "a # b" # behind a quoted sign
# above,
# in two lines
three: {}

# about something else

four:
  five: null # below
six: 6
"""
    assert yaml_comments(text) == {
        "one": "at the end",
        "two": "behind a quoted sign",
        "three": "above, in two lines",
        "four.five": "below",
    }
