"""Packages of the user's own that bring tasks, models, objectives, configuration files and claims.

An installed package names them by two groups of entry points:

    [project.entry-points."covlab.configs"]
    my_lab = "my_lab.conf"                          # a folder of YAML files, in the layout of conf/

    [project.entry-points."covlab.claims"]
    my_claim = "my_lab.my_claim:CLAIM"              # name of the claim = its package, whose CLAIM it is

A folder that is not installed is named by `--config-dir`. docs/extending.md has an example. Nothing here
imports Hydra or a package of the user's own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from pathlib import Path

CONFIGS = "covlab.configs"
"""Group of entry points whose values are packages with YAML files."""
CLAIMS = "covlab.claims"
"""Group of entry points whose names are claims and whose values are `<package>:CLAIM`."""


@functools.cache
def _entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def config_folders() -> dict[str, Path]:
    """The folders of YAML files of installed packages, by the package's dotted name.

    Raises:
        ValueError: an entry point that names no folder.
    """
    folders = {}
    for entry in _entry_points(CONFIGS):
        folder = _folder(entry.value)
        if folder is None:
            raise ValueError(
                f"{CONFIGS}: {entry.name} = {entry.value!r} is not a folder of an installed package; "
                f"valid: <package>.<folder>, for example my_lab.conf"
            )
        folders[entry.value] = folder
    return folders


def _folder(package: str) -> Path | None:
    """The folder of a dotted name, found without importing anything: a command should not pay for it."""
    top, *below = package.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location).joinpath(*below)
        if folder.is_dir():
            return folder.absolute()
    return None


def claim_modules() -> dict[str, str]:
    """The packages of the claims of installed packages, by the claim's name: `python -m <package>` runs it.

    Raises:
        ValueError: an entry point of another form, or two of one name.
    """
    modules: dict[str, str] = {}
    for entry in _entry_points(CLAIMS):
        if entry.attr != "CLAIM":
            raise ValueError(
                f"{CLAIMS}: {entry.name} = {entry.value!r} does not name a claim; valid: <package>:CLAIM"
            )
        if entry.name in modules:
            raise ValueError(f"{CLAIMS}: {entry.name} is both {modules[entry.name]} and {entry.module}")
        modules[entry.name] = entry.module
    return modules


def packages() -> frozenset[str]:
    """Top-level packages that entry points name; their ValueErrors are messages for the user."""
    entries = (*_entry_points(CONFIGS), *_entry_points(CLAIMS))
    return frozenset(entry.module.partition(".")[0] for entry in entries)
