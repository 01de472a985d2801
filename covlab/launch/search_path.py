"""Folders of configuration files besides `conf/`: put into Hydra's search path, and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin

from covlab.launch.outside import config_folders


class OutsideConfigs(SearchPathPlugin):
    """Hydra's search path with the folders of installed packages behind `conf/`.

    A file of `conf/` is found first, so that a package cannot change what a command means.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders.

        Raises:
            ValueError: an entry point that names no folder, or a file of a package that is never read.
        """
        folders = config_folders()
        if folders:
            require_no_shadowed(folders)
        for package, folder in folders.items():
            search_path.append(package, f"file://{folder}")


def config_loader(
    config_dir: str | os.PathLike[str] | None = None, config_path: str = "pkg://conf"
) -> ConfigLoaderImpl:
    """Hydra's loader as its commands make it, with `config_dir` in the place of `--config-dir`."""
    search_path = create_automatic_config_search_path(None, None, config_path)
    if config_dir is not None:
        folder = f"file://{Path(config_dir).absolute()}"
        search_path.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def check_config_dir(arguments: Sequence[str]) -> None:
    """Refuse a `--config-dir` as `require_no_shadowed` does; Hydra itself refuses one that does not exist."""
    folder = get_args_parser().parse_known_intermixed_args(list(arguments))[0].config_dir
    if folder is not None:
        require_no_shadowed({folder: Path(folder)})


def require_no_shadowed(folders: Mapping[str, Path]) -> None:
    """Refuse folders with a file that is never read, because `conf/` or an earlier folder has one like it.

    Equal files are no conflict, so that a copy of `conf/` is allowed.

    Raises:
        ValueError: names the file and the folder that is read instead.
    """
    earlier = {"conf": Path(str(resources.files("conf")))}
    for name, folder in folders.items():
        # Groups are one folder deep; a user's folder may hold much else.
        for file in (*folder.glob("*.yaml"), *folder.glob("*/*.yaml")):
            key = file.relative_to(folder)
            for there, other in earlier.items():
                if (other / key).is_file() and (other / key).read_bytes() != file.read_bytes():
                    raise ValueError(
                        f"{file}: {there} has a {key} too, which is read instead; valid: another name"
                    )
        earlier[name] = folder
