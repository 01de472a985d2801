"""Config groups from signatures: a YAML file names a class or function, and gets all its fields with their
defaults.

A file of `conf/` says `defaults: [/schema/tasks.LayeredGraph@_here_, _self_]`; `register_schemas` finds every
such reference and stores the node that it stands for, so that defaults are stated once (in the signature),
overrides of unknown fields are refused when the configuration is composed, and `--cfg job` shows every field.
"""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import Any

from hydra.core.config_store import ConfigStore

_REFERENCE = re.compile(r"/schema/([\w.]+)@")


def register_schemas() -> None:
    """Store a node for every `/schema/<dotted name>` that the configuration files mention.

    Raises:
        ImportError, AttributeError: if a dotted name does not exist.
    """
    store = ConfigStore.instance()
    for text in _yaml_texts(importlib.resources.files("conf")):
        for name in _REFERENCE.findall(text):
            store.store(group="schema", name=name, node=schema(name))


def schema(name: str) -> dict[str, Any]:
    """`_target_` and every parameter of the target that has a plain default."""
    module, _, attribute = name.rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    fields: dict[str, Any] = {"_target_": name}
    for parameter in inspect.signature(target).parameters.values():
        if _plain(parameter.default):
            default = parameter.default
            fields[parameter.name] = list(default) if isinstance(default, tuple) else default
    return fields


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(item, str | int | float | bool) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def _yaml_texts(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_texts(entry)
        elif entry.name.endswith(".yaml"):
            yield entry.read_text()


def accepted(target: str) -> set[str]:
    """Names of all the parameters of a target, for checking a node that was merged from several places."""
    module, _, attribute = target.rpartition(".")
    return set(inspect.signature(getattr(importlib.import_module(module), attribute)).parameters)


def check_fields(node: Mapping[str, Any], path: str) -> None:
    """Refuse a field that the node's target does not have.

    Raises:
        ValueError: naming the field and the valid ones.
    """
    if "_target_" not in node:
        return
    valid = accepted(node["_target_"])
    for key in node:
        if key != "_target_" and key not in valid:
            raise ValueError(f"{path}.{key}: no such field; valid are {', '.join(sorted(valid))}")
