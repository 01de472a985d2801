"""Defaults of signatures, for tests that pin them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Default of every parameter of a function, or of a class's constructor, that has a plain one."""
    found = {each.name: each.default for each in inspect.signature(function).parameters.values()}
    return {
        name: value
        for name, value in found.items()
        # A dataclass shows a factory as a private class of its own.
        if value is not inspect.Parameter.empty and "factory" not in type(value).__name__.lower()
    }
