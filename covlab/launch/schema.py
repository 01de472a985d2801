"""Config groups from signatures: a YAML file names a class or function, and gets all fields with defaults.

A file of `conf/` says `defaults: [/schema/tasks.LayeredGraph@_here_, _self_]`. `register_schemas` stores a
node for every such reference. So defaults are stated once (in the signature), overrides of unknown fields are
refused when the configuration is composed, and `--cfg job` shows every field.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.resources
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, cast

from hydra.core.config_store import ConfigStore

_REFERENCE = re.compile(r"/schema/([\w.]+)@")


def register_schemas() -> None:
    """Store a node for every `/schema/<dotted name>` that the configuration files mention, once a process.

    Raises:
        ImportError, AttributeError: a dotted name that does not exist.
    """
    store = ConfigStore.instance()
    stored = store.repo.get("schema", {})
    names = {
        name
        for text in _yaml_texts(importlib.resources.files("conf"))
        for name in _REFERENCE.findall(text)
        if f"{name}.yaml" not in stored
    }
    for name in sorted(names):
        store.store(group="schema", name=name, node=schema(name))
    # Hydra copies its sources for every composition and with them, node by node, the store. That hands out
    # copies only, so that the sources can share it.
    setattr(ConfigStore, "__deepcopy__", _itself)  # noqa: B010


def _itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    return store


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


def accepted(target: str, path: str) -> set[str]:
    """Names of a target's parameters, for checking a node that was merged from several places.

    Raises:
        ValueError: the target does not exist or cannot be called.
    """
    return set(inspect.signature(_resolve(target, path)).parameters)


def check_fields(node: Mapping[str, Any], path: str, kind: type | None = None) -> None:
    """Refuse, in this node and all below, a target that does not exist or is a class of another kind, an
    unknown field, and a list or mapping in place of a single value or the reverse.

    Raises:
        ValueError: names the field and what is valid.
    """
    if "_target_" not in node:
        return
    target = node["_target_"]
    made = _resolve(target, path)
    if kind is not None and inspect.isclass(made) and not issubclass(made, kind):
        raise ValueError(f"{path}._target_: {target} is not a subclass of {kind.__name__}")
    valid = accepted(target, path)
    hints = _hints(made)
    for key, value in node.items():
        if key in _OF_HYDRA:
            continue
        if key not in valid:
            raise ValueError(f"{path}.{key}: no such field; valid are {', '.join(sorted(valid))}")
        hint = hints.get(key)
        if wanted := _other_shape(value, hint):
            raise ValueError(f"{path}.{key}: {value!r} is not {wanted}")
        if isinstance(value, Mapping):
            check_fields(value, f"{path}.{key}", hint if inspect.isclass(hint) else None)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, Mapping):
                check_fields(item, f"{path}.{key}")


_OF_HYDRA = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")


def _resolve(target: Any, path: str) -> Callable[..., Any]:
    """The object with a dotted name."""
    module, _, attribute = str(target).rpartition(".")
    try:
        resolved = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(f"{path}._target_: there is no {target!r}; valid: module.Name") from None
    if not callable(resolved):
        raise ValueError(f"{path}._target_: {target!r} is neither a class nor a function")
    return cast(Callable[..., Any], resolved)


def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        own = inspect.isclass(target) and not dataclasses.is_dataclass(target)
        return typing.get_type_hints(target.__init__ if own else target)
    except (NameError, TypeError):
        # Names that are imported for type checkers alone.
        return {}


def _other_shape(value: Any, hint: Any) -> str:
    """The shape that a type hint asks for if `value` has another one; "" if it fits or the hint allows any.

    Shapes are those of YAML: mappings, lists, single values. Nodes with a `_target_` may be anything.
    """
    alternatives = typing.get_args(hint) if _is_union(hint) else (hint,)
    shapes = [_shape(typing.get_origin(kind) or kind) for kind in alternatives if kind is not type(None)]
    if value is None or None in shapes or (isinstance(value, Mapping) and "_target_" in value):
        return ""
    return "" if _shape(type(value)) in shapes else " or ".join(filter(None, shapes))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _shape(kind: Any) -> str | None:
    if kind is typing.Literal:
        return "a single value"
    if not isinstance(kind, type):
        return None
    if issubclass(kind, str | int | float):
        return "a single value"
    if issubclass(kind, Mapping) or dataclasses.is_dataclass(kind):
        return "a mapping"
    return "a list" if issubclass(kind, Sequence) else None
