"""The configuration that a command line chooses, also where some of its overrides are not valid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import OmegaConf

from covlab.launch.run_names import override_key
from covlab.launch.search_path import config_loader

INTERNAL = ("hydra", "common", "schema")
"""Groups that no user chooses from."""


class Chosen:
    """The configuration of a command line, from the overrides that are valid.

    Attributes:
        overrides: the command line's overrides.
        config_name: the command's configuration.
        loader: Hydra's loader.
        choices: group -> option of the last `compose`, "null" for none.
    """

    def __init__(self, config_name: str, arguments: Sequence[str]) -> None:
        parsed = get_args_parser().parse_known_intermixed_args(list(arguments))[0]
        self.overrides: list[str] = list(parsed.overrides)
        self.config_name = parsed.config_name or config_name
        self.loader = config_loader(parsed.config_dir, parsed.config_path or "pkg://conf")
        self.choices: dict[str, str] = {}
        self._valid: list[str] = []

    def options(self, group: str) -> list[str]:
        """The options of a group; empty if there is no such group."""
        return sorted(set(self.loader.get_group_options(group)))

    def compose(self) -> dict[str, Any]:
        """The configuration in plain containers, unresolved; what cannot be composed is left out."""
        overrides = self.overrides
        while True:
            try:
                config = self._compose(overrides)
                self._valid = overrides
                return config
            except Exception as error:
                match = re.search(r"Could not override '([^']+)'|Error merging override (\S+)", str(error))
                wrong = override_key(match.group(1) or match.group(2)) if match else ""
                rest = [text for text in overrides if override_key(text) != wrong]
                if len(rest) < len(overrides):
                    overrides = rest
                elif all(map(self._chooses, overrides)):
                    return self._compose([])
                else:
                    overrides = list(filter(self._chooses, overrides))

    def files(self) -> list[tuple[str, str, str]]:
        """(name, package, text) of every YAML file of the last `compose`, later ones overriding earlier."""
        found = []
        for default in self.loader.compute_defaults_list(self.config_name, self._valid, RunMode.RUN).defaults:
            if default.config_path is not None and (text := self._text(default.config_path)) is not None:
                found.append((default.config_path, default.package or "", text))
        return found

    def _text(self, name: str) -> str | None:
        for source in self.loader.get_sources():
            scheme, path = source.scheme(), source.path
            if scheme == "file":
                file: Traversable = Path(path)
            elif scheme == "pkg" and not path.startswith("hydra"):
                file = resources.files(path.replace("/", "."))
            else:
                continue
            file = file.joinpath(f"{name.removesuffix('.yaml')}.yaml")
            if file.is_file():
                return file.read_text(encoding="utf-8")
        return None

    def _chooses(self, override: str) -> bool:
        return override.startswith("hydra.searchpath=") or bool(self.options(override_key(override)))

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        JobRuntime.instance().set("name", self.config_name)
        config = self.loader.load_configuration(
            self.config_name,
            list(overrides),
            RunMode.RUN,
            from_shell=False,
            validate_sweep_overrides=False,
        )
        self.choices = {
            str(group): "null" if option is None else str(option)
            for group, option in config.hydra.runtime.choices.items()
            if str(group).partition("/")[0].partition("@")[0] not in INTERNAL
        }
        container = OmegaConf.to_container(config, resolve=False)
        assert isinstance(container, dict)
        return {str(key): value for key, value in container.items()}
