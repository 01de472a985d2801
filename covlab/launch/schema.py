"""Config groups from signatures: a YAML file names a class or function, and gets all fields with defaults.

A file of `conf/` says `defaults: [/schema/tasks.LayeredGraph@_here_, _self_]`, and so may a file in a folder
of the user's own. `register_schemas` lets Hydra find a node for every such reference. So defaults are stated
once (in the signature), overrides of unknown fields are refused when the configuration is composed, and
`--cfg job` shows every field.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from covlab.launch.documented import documented, first_sentence
from covlab.launch.search_path import OutsideConfigs
from covlab.launch.signatures import Field, Signature, is_plain, read_signature


def register_schemas() -> None:
    """Let Hydra find a node for every `/schema/<dotted name>` that a configuration file mentions, and the
    files of installed packages."""
    Plugins.instance().register(OutsideConfigs)
    store = ConfigStore.instance()
    store.repo.setdefault("schema", _Schemas())
    # Hydra copies its sources for every composition and with them, node by node, the store. That hands out
    # copies only, so that the sources can share it.
    setattr(ConfigStore, "__deepcopy__", _itself)  # noqa: B010


def _itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    return store


class _Schemas(dict[str, ConfigNode]):
    """The store's group `schema`: `<dotted name>.yaml` -> node, made when Hydra first asks for it.

    So a command reads the signatures of the options that were chosen, and no others.
    """

    def __contains__(self, file: object) -> bool:
        name = str(file)
        if not dict.__contains__(self, name) and name.endswith(".yaml"):
            target = name.removesuffix(".yaml")
            node = OmegaConf.create(schema(target))
            for field in free_fields(target):
                # Hydra takes further keys there without a leading +.
                OmegaConf.set_struct(node[field], False)
            self[name] = ConfigNode(name=name, node=node, group="schema", package=None, provider=None)
        return dict.__contains__(self, name)


def schema(name: str) -> dict[str, Any]:
    """`_target_` and every parameter of the target that has a plain default.

    Raises:
        ValueError: there is no such class or function.
    """
    return {"_target_": name} | {
        field.name: {} if field.free else _in_yaml(field.default)
        for field in signature(name).fields
        if field.plain or field.free
    }


def _in_yaml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def free_fields(name: str) -> tuple[str, ...]:
    """Names of the fields that are mappings with any keys, such as `module` of `models.Flax`.

    Raises:
        ValueError: there is no such class or function.
    """
    return tuple(field.name for field in signature(name).fields if field.free)


def signature(name: str) -> Signature:
    """The fields of a class or function, from its source or else by importing it.

    Raises:
        ValueError: there is no such class or function.
    """
    return read_signature(name) or _imported_signature(name)


def _imported_signature(name: str) -> Signature:
    target = _resolve(name, f"/schema/{name}")
    doc = inspect.getdoc(target)
    docs = documented(doc)
    fields = dataclasses.fields(target) if dataclasses.is_dataclass(target) else ()
    free = {field.name for field in fields if field.metadata.get("free")}
    return Signature(
        first_sentence(doc),
        tuple(
            Field(
                parameter.name,
                is_plain(parameter.default),
                parameter.default,
                doc=docs.get(parameter.name, ""),
                free=parameter.name in free,
            )
            for parameter in _parameters(target).values()
        ),
    )


def accepted(target: str, path: str) -> set[str]:
    """Names of a target's parameters, for checking a node that was merged from several places.

    Raises:
        ValueError: the target does not exist or cannot be called.
    """
    return set(_parameters(_resolve(target, path)))


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a function or a constructor, also where a metaclass with a `__call__` hides them, as for
    Flax modules."""
    if inspect.isclass(target) and type(target).__call__ is not type.__call__:
        return {
            name: each
            for name, each in inspect.signature(target.__init__).parameters.items()
            if name != "self"
        }
    return inspect.signature(target).parameters


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
    free = any(each.kind is each.VAR_KEYWORD for each in _parameters(made).values())
    hints = _hints(made)
    for key, value in node.items():
        if key in _OF_HYDRA:
            continue
        if key not in valid and not free:
            raise ValueError(f"{path}.{key}: no such field; valid are {', '.join(sorted(valid))}")
        hint = hints.get(key)
        if wanted := _other_shape(value, hint):
            raise ValueError(f"{path}.{key}: {value!r} is not {wanted}")
        if isinstance(value, Mapping):
            check_fields(value, f"{path}.{key}", hint if inspect.isclass(hint) and hint is not Any else None)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, Mapping):
                check_fields(item, f"{path}.{key}")


_OF_HYDRA = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")


def _resolve(target: Any, path: str) -> Callable[..., Any]:
    """The object with a dotted name; `path` is the node's key, or the reference in a file."""
    module, _, attribute = str(target).rpartition(".")
    place = path if path.startswith("/") else f"{path}._target_"
    try:
        resolved = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        missing = error.name if isinstance(error, ImportError) else module
        if missing and not f"{module}.".startswith(f"{missing}."):
            # The module is there, and something that it imports is not.
            reason = " ".join(str(error).split())
            raise ValueError(f"{place}: {target!r} cannot be imported: {reason}") from None
        raise ValueError(
            f"{place}: there is no {target!r}; valid: module.Name, installed or in the current folder"
        ) from None
    if not callable(resolved):
        raise ValueError(f"{place}: {target!r} is neither a class nor a function")
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
