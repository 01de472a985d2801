"""The configuration of a claim that trains nothing, stored for Hydra, also without importing the claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hydra.core.config_store import ConfigStore

from covlab.launch.signatures import read_signature, read_value


def store(name: str, defaults: Mapping[str, Any], scales: Mapping[str, Mapping[str, Any]]) -> None:
    """Store the configuration `name`, and `experiment/<name>_<scale>` for each scale.

    Args:
        name: the claim's name.
        defaults: settings and their defaults.
        scales: scale -> settings that differ from their defaults.

    Raises:
        TypeError: a scale changes a setting that does not exist.
    """
    hydra = ConfigStore.instance()
    hydra.store(
        name=name,
        node={
            "defaults": [
                {"common": "keys"},
                {"scale": "cpu"},
                "_self_",
                {"experiment": f"{name}_${{scale}}"},
                {"hydra": "default"},
            ],
            "name": "${scale}",
            "group": name,
        },
    )
    for scale, changes in scales.items():
        unknown = set(changes) - set(defaults)
        if unknown:
            raise TypeError(f"{name}, scale {scale}: no settings {', '.join(sorted(unknown))}")
        node = {key: as_lists(value) for key, value in (*defaults.items(), *changes.items())}
        hydra.store(group="experiment", name=f"{name}_{scale}", node=node, package="_global_")


def store_from_source(name: str, module: str) -> bool:
    """`store` for the claim of a package, from the source of `Settings` and `SCALES` in its `measure.py`;
    False if they cannot be told from it."""
    settings = read_signature(f"{module}.measure.Settings")
    scales = read_value(f"{module}.measure.SCALES")
    if settings is None or scales is None or not all(field.stated for field in settings.fields):
        return False
    store(name, {field.name: field.default for field in settings.fields}, scales)
    return True


def as_lists(value: Any) -> Any:
    """The value with dataclasses as mappings and tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_lists(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: as_lists(each) for key, each in value.items()}
    return [as_lists(each) for each in value] if isinstance(value, tuple | list) else value
