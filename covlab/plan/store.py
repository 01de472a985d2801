"""Quantities of compiled programs on disk, so that a plan that was interrupted goes on where it was.

An entry's name is a digest of the program's text, of the target, of the compilers' versions and settings, and
of the code that reads the compiled text. An entry of anything else is therefore never found. Entries are data
and no programs.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from covlab.plan import costs, hlo
from covlab.plan.costs import Costs, Where
from covlab.plan.target import Target
from tracking.atomic import atomic_write

COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
"""Packages that a compiled program depends on."""
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_CODE = (__file__, costs.__file__, hlo.__file__)


def versions() -> dict[str, str]:
    """Versions of JAX and of the installed compilers."""
    found = {}
    for package in COMPILERS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def key_of(text: str, target: Target, options: Mapping[str, Any]) -> str:
    """Digest of all that the quantities of a program depend on; `options`: those of the configuration."""
    parts: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
    parts |= {
        "target": [dataclasses.asdict(target.chip), target.chip.bytes, target.shape, target.compiler_options],
        "versions": versions(),
        "settings": [os.environ.get(name) for name in _VARIABLES],
        "options": {name: value for name, value in jax.config.values.items() if "optimiz" in name},
        "code": [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in _CODE],
        "program": hashlib.sha256(text.encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Store:
    """Entries of a folder; without one nothing is loaded or saved."""

    folder: Path | None = None

    def load(self, key: str, read: Callable[[Any], Any]) -> Any:
        """`read` of the entry; None if there is none, or one that cannot be read."""
        if self.folder is None:
            return None
        try:
            return read(json.loads(gzip.decompress(self._path(key).read_bytes())))
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None

    def save(self, key: str, content: Any) -> None:
        """Store an entry; a file system that refuses costs the next plan a compilation, and nothing else."""
        if self.folder is None:
            return
        try:
            atomic_write(self._path(key), gzip.compress(json.dumps(content).encode()))
        except OSError:
            return

    def _path(self, key: str) -> Path:
        return Path(str(self.folder)) / f"{key}.json.gz"


def costs_as_json(found: Costs | None) -> Any:
    """Costs as lists and numbers."""
    return (
        None
        if found is None
        else [[list(each) for each in found.instructions], found.unknown, found.estimated]
    )


def costs_of_json(content: Any) -> Costs | None:
    """The costs that `costs_as_json` wrote.

    Raises:
        ValueError: or TypeError, if the content is anything else.
    """
    if content is None:
        return None
    instructions, unknown, estimated = content
    return Costs(tuple(Where(*each) for each in instructions), tuple(unknown), bool(estimated))
