"""`config.yaml` of a run: written once, read back, compared key by key before a run continues."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

# The C loader is ten times faster, which matters for a thousand runs; some builds lack it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RunDirectoryError(ValueError):
    """A run directory that cannot be used as requested; it was not changed."""


def plain_config(config: Any, key: str = "config") -> Any:
    """A copy that consists of dicts, lists and scalars, as YAML keeps: tuples become lists, paths strings.

    Raises:
        ValueError: a value of another type; the message states the dotted key.
    """
    if isinstance(config, Mapping):
        return {str(name): plain_config(value, f"{key}.{name}") for name, value in config.items()}
    if hasattr(config, "item") and getattr(config, "ndim", None) == 0:
        config = config.item()
    if config is None or isinstance(config, bool | int | float | str):
        return config
    if isinstance(config, PurePath):
        return str(config)
    if isinstance(config, Sequence) and not isinstance(config, bytes):
        return [plain_config(value, f"{key}[{index}]") for index, value in enumerate(config)]
    raise ValueError(f"{key} is a {type(config).__name__}: a mapping, a list or a scalar is valid")


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Resolved configuration in `config.yaml` of the run directory `path`.

    Raises:
        RunDirectoryError: the file is missing or is not a YAML mapping.
    """
    file = Path(path) / "config.yaml"
    try:
        config = yaml.load(file.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise RunDirectoryError(f"{file}: {error.strerror}: a run directory holds a config.yaml") from None
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):
        raise RunDirectoryError(f"{file}: not a YAML mapping: repair it, or choose another run name")
    return with_new_targets(config)


_MOVED = {"experiments.settings.": "covlab.launch.settings."}
"""Modules of earlier versions whose names stand in the configurations of their runs."""


def with_new_targets(node: Any) -> Any:
    """A configuration with every `_target_` of an earlier version under its present name."""
    if isinstance(node, list):
        return [with_new_targets(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: with_new_targets(value) for key, value in node.items()}
    target = made.get("_target_")
    for old, new in _MOVED.items():
        if isinstance(target, str) and target.startswith(old):
            made["_target_"] = new + target.removeprefix(old)
    return made


def dump_config(config: Mapping[str, Any]) -> bytes:
    """`config` as YAML, with the order of keys kept."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110).encode()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any], volatile: Sequence[str]) -> list[str]:
    """One phrase per dotted key with different values, without keys under a `volatile` prefix."""
    # A round trip through YAML, because `old` was read from YAML.
    new = yaml.load(dump_config(new), Loader=_Loader)
    # Values are compared as text, because NaN != NaN and 1 == True.
    before, now = ({k: repr(v) for k, v in flatten(config).items()} for config in (old, new))
    return [
        f"{key} was {before.get(key, 'absent')}, is now {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and not any(key == prefix or key.startswith(f"{prefix}.") for prefix in volatile)
    ]
