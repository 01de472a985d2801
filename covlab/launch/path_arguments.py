"""Quoting paths on the command line, because Hydra's grammar interprets `=`, brackets and commas."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

PATH_KEYS = ("run", "value", "file", "out", "root", "later")
"""Keys of all commands whose value is a path; default names of runs contain `=`."""
_PATH = re.compile(rf"(\+{{0,2}}(?:{'|'.join(PATH_KEYS)})=)(.*)", re.DOTALL)
_OTHER = re.compile(r"['\"\[{(]|\w+\(")
"""Beginning of a quoted text, a list, a mapping or a Hydra function (`glob(*)`)."""


def quoted_paths(arguments: Sequence[str], several: bool) -> list[str]:
    """The arguments with quotes around the paths that Hydra's grammar would not read as one text.

    Args:
        arguments: the command line without the program.
        several: True if a comma separates the values of a sweep; an existing path is always one value.

    Example:
        >>> quoted_paths(["run=runs/train/seed=1", "steps=3", "run=runs/train/a"], several=False)
        ["run='runs/train/seed=1'", 'steps=3', 'run=runs/train/a']
    """
    return [_quoted(argument, several) for argument in arguments]


def _quoted(argument: str, several: bool) -> str:
    match = _PATH.fullmatch(argument)
    if match is None:
        return argument
    key, value = match.groups()
    if not os.path.exists(value):
        if _OTHER.match(value):
            return argument
        if several and "," in value:
            return key + ",".join(_as_one(part) for part in value.split(","))
    return key + _as_one(value)


def _as_one(path: str) -> str:
    """`path`, in quotes unless Hydra reads it as this text or, if the path does not exist, as a keyword such
    as null."""
    try:
        parsed = OverridesParser.create().parse_override(f"run={path}")
    except HydraException:
        return _in_quotes(path)
    if parsed.is_sweep_override() or (os.path.exists(path) and parsed.value() != path):
        return _in_quotes(path)
    return path


def _in_quotes(text: str) -> str:
    return QuotedString(text=text, quote=Quote.single).with_quotes()
