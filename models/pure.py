"""`flax.nnx` modules as pure functions of a plain tree of parameters.

`parameters` takes the tree out of a module. `Structure` is the rest of the module, made once per model, and
puts a tree back while a function is traced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

Params = Any
Path = tuple[str | int, ...]


def parameters(module: nnx.Module) -> Params:
    """The values of all `nnx.Param`, as nested dictionaries by attribute names, with lists for lists.

    A list of a module of which only some items have parameters becomes a dictionary from index to item.
    """
    return _nested({path: leaf.get_value() for path, leaf in _leaves(nnx.state(module, nnx.Param))})


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """All of a module but its parameters.

    Attributes:
        graph: static structure.
        paths: of every parameter, in the order of `graph`.
    """

    graph: nnx.GraphDef[Any]
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, make: Callable[[], nnx.Module]) -> Structure:
        """The structure of the module that `make` constructs, without computing parameters."""
        graph, state = nnx.split(nnx.eval_shape(make))
        leaves = _leaves(state)
        return cls(graph, tuple(path for path, _ in leaves))

    def module(self, params: Params) -> Any:
        """The module with `params`, a tree as `parameters` gives it."""
        return nnx.merge(self.graph, [_at(params, path) for path in self.paths])


def _leaves(state: Any) -> list[tuple[Path, Any]]:
    flat: Any = nnx.to_flat_state(state)
    return list(flat)


def _nested(leaves: Mapping[Path, Any]) -> Any:
    if () in leaves:
        return leaves[()]
    keys = dict.fromkeys(path[0] for path in leaves)
    below = {
        key: _nested({path[1:]: leaf for path, leaf in leaves.items() if path[0] == key}) for key in keys
    }
    if set(below) == set(range(len(below))):
        return [below[index] for index in range(len(below))]
    return {str(key): item for key, item in below.items()}


def _at(params: Params, path: Path) -> Any:
    for key in path:
        params = params[key if isinstance(params, list | tuple) else str(key)]
    return params
