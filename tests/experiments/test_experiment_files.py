"""The files of `conf/experiment`: whatever one sets arrives in the configuration of its command."""

import importlib.resources
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

FOLDER = Path(str(importlib.resources.files("conf"))) / "experiment"
SCALES = sorted(path.stem for path in FOLDER.glob("*_*.yaml"))


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values that a file sets, with their keys; a list or an empty mapping is one value."""
    if not isinstance(node, dict) or not node:
        yield path, node
        return
    for key, value in node.items():
        if key != "defaults":
            yield from leaves(value, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("name", SCALES)
def test_a_setting_of_a_scale_is_that_of_its_command(
    name: str, compose_config: Callable[..., DictConfig]
) -> None:
    """A group that a command adds after the experiment would replace what the experiment sets."""
    claim, _, scale = name.rpartition("_")
    config = compose_config(claim, f"scale={scale}", f"experiment={name}")
    file: Any = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    stated = dict(leaves(file))
    found = {key: OmegaConf.select(config, key) for key in stated}
    assert {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for key, value in found.items()
    } == stated
