"""A command's configuration without its command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import version
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from covlab.launch.explain import explain
from covlab.launch.path_arguments import quoted_paths
from covlab.launch.schema import register_schemas
from covlab.launch.search_path import config_loader


class Composed(NamedTuple):
    """The configuration of a command, and the overrides that name its run."""

    config: DictConfig
    overrides: tuple[str, ...]


def compose(
    config_name: str, overrides: Sequence[str] = (), config_dir: str | os.PathLike[str] | None = None
) -> Composed:
    """`conf/<config_name>.yaml` with overrides, as the command with these arguments would compose it.

    Hydra's global state stays as it is, so that a program may use Hydra itself.

    Args:
        config_name: the command's file in `conf/`.
        overrides: overrides in Hydra's grammar; paths may contain what the grammar would interpret.
        config_dir: a further folder of configuration files, as `--config-dir` of the command.

    Raises:
        ValueError: an unknown key, option or folder, or a value that does not fit; one line.
    """
    register_schemas()
    version.setbase("1.3")
    given = quoted_paths(overrides, several=False)
    flags: list[str] = []
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ValueError(f"config_dir: {str(config_dir)!r} is not a folder")
        flags = ["--config-dir", str(folder)]
    try:
        JobRuntime.instance().set("name", config_name)
        config = config_loader(config_dir).load_configuration(
            config_name, given, RunMode.RUN, from_shell=False
        )
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ValueError(explain(error, config_name, [*given, *flags])) from None
    named = tuple(str(text) for text in config.hydra.overrides.task)
    with open_dict(config):
        del config["hydra"]
    return Composed(config, named)
