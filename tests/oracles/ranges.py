"""The ends of valid ranges: what a constructor takes, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest


def takes(kind: Callable[..., Any], fields: Mapping[str, Any], changed: frozenset[str] = frozenset()) -> None:
    """It is made with these fields and keeps them; those of `changed` it may keep in another form."""
    made = kind(**fields)
    for name in set(fields) - changed:
        assert getattr(made, name) == fields[name]


def refuses(kind: Callable[..., Any], fields: Mapping[str, Any], message: str) -> None:
    """It answers these fields with one line that begins with `message`."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        kind(**fields)
    assert "\n" not in str(refused.value)
