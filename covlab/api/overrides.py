"""Keyword arguments as overrides of a configuration."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from covlab.launch.composing import Composed, compose
from covlab.launch.schema import schema

PathLike = str | os.PathLike[str]

_PLAIN = re.compile(r"(?!(?:null|true|false|inf|nan)$)[A-Za-z_/][\w./+-]*", re.IGNORECASE)
"""Texts that Hydra's grammar reads as they stand."""


def composed(
    config_name: str, overrides: Sequence[str], settings: Mapping[str, Any], config_dir: PathLike | None
) -> Composed:
    """The configuration of a command with positional overrides, then keywords.

    Raises:
        ValueError: an invalid override or setting; one line.
    """
    for text in overrides:
        if not isinstance(text, str) or text.startswith("-") or not ("=" in text or text.startswith("~")):
            raise ValueError(f"{text!r} is not an override; valid: 'key=value'")
    chosen = [f"{key}={value}" for key, value in settings.items() if _names_option(value)]
    given = overrides_of(settings, lambda: compose(config_name, [*overrides, *chosen], config_dir).config)
    return compose(config_name, [*overrides, *given], config_dir)


def _names_option(value: Any) -> bool:
    """True for a text that may be the option of a group, which decides the fields of the others."""
    return isinstance(value, str) and value.isidentifier()


def overrides_of(settings: Mapping[str, Any], configuration: Callable[[], Any]) -> list[str]:
    """Keyword arguments as overrides in Hydra's grammar.

    `steps=3` becomes `steps=3`, and `**{"task.depth": 3}` becomes `task.depth=3`. A mapping changes the
    fields that it names: `task={"depth": 3}` becomes `task.depth=3`. A class, a `functools.partial` of one,
    or a frozen dataclass replaces the whole group: `task=MyTask(depth=3)` becomes `~task`,
    `+task._target_=my_module.MyTask`, `+task.depth=3`. None is `null`.

    Args:
        settings: key -> value; a key may be dotted.
        configuration: composes the configuration without these settings; called only for mappings.

    Raises:
        ValueError: a value that has no form in a configuration; one line.
    """
    composed = functools.cache(configuration)
    return [text for key, value in settings.items() for text in _overrides(key, value, composed)]


def _overrides(key: str, value: Any, configuration: Callable[[], Any]) -> Iterator[str]:
    node = _node(value, key)
    if node is not None:
        yield f"~{key}"
        for field, content in node.items():
            yield f"+{key}.{field}={literal(content, f'{key}.{field}')}"
    elif isinstance(value, Mapping) and value:
        current = OmegaConf.select(configuration(), key, throw_on_resolution_failure=False)
        if OmegaConf.is_dict(current) and len(current):
            for field, content in value.items():
                yield from _overrides(f"{key}.{field}", content, configuration)
        elif OmegaConf.is_dict(current):
            # An empty mapping, such as `phases`, takes any keys, which Hydra then wants added.
            for field, content in value.items():
                yield f"+{key}.{field}={literal(content, f'{key}.{field}')}"
        else:
            yield f"{_added(key, configuration)}{key}={literal(value, key)}"
    else:
        yield f"{_added(key, configuration)}{key}={literal(value, key)}"


def _added(key: str, configuration: Callable[[], Any]) -> str:
    """`+` for a key below a phase, which states only what differs from the run's settings."""
    if not key.startswith("phases.") or OmegaConf.select(configuration(), key) is not None:
        return ""
    return "+"


def _node(value: Any, key: str) -> Mapping[str, Any] | None:
    """`_target_` and fields of an object that replaces a group; None for any other value."""
    if isinstance(value, Mapping):
        return value if "_target_" in value else None
    if isinstance(value, functools.partial):
        if value.args:
            raise ValueError(f"{key}: {value!r} has positional arguments; valid: keyword arguments only")
        return schema(_name(value.func, key)) | value.keywords
    if inspect.isclass(value):
        return schema(_name(value, key))
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {"_target_": _name(type(value), key)} | fields
    return None


def _name(target: Any, key: str) -> str:
    """The shortest dotted name of a class or function: `tasks.Dyck`, not `tasks.dyck.Dyck`.

    Raises:
        ValueError: it has no name that a configuration could state.
    """
    name = getattr(target, "__qualname__", "<no name>")
    if not name.isidentifier():
        raise ValueError(f"{key}: {target!r} is not at the top of a module; valid: a class of a module")
    parts = str(target.__module__).split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if getattr(sys.modules.get(module), name, None) is target:
            return f"{module}.{name}"
    raise ValueError(f"{key}: {target.__module__} has no {name}; valid: a class of a module")


def literal(value: Any, key: str) -> str:
    """A value in Hydra's grammar.

    Example:
        >>> literal({"G1": 0.5, "path": ["a=b", None]}, "mixture")
        "{G1:0.5,path:['a=b',null]}"

    Raises:
        ValueError: a value of another kind; one line.
    """
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, int) or math.isfinite(value) else f"{value:f}"
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if _PLAIN.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()
    node = _node(value, key)
    if node is not None or isinstance(value, Mapping):
        items = (f"{name}:{literal(item, f'{key}.{name}')}" for name, item in (node or value).items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, Sequence | set | frozenset | range):
        return f"[{','.join(literal(item, key) for item in value)}]"
    raise ValueError(
        f"{key}: {value!r} has no form in a configuration; valid: numbers, texts, lists, mappings"
    )
