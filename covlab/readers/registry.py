"""The readers: covlab's own, and those that other packages bring by entry points.

    [project.entry-points."covlab.readers"]
    my_format = "my_lab.my_format:READER"           # an object as `base.Reader` describes it

A reader's module is imported when a source is read; packages that only its format needs, when a file is
opened.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from covlab.readers.base import Reader
from tracking import LoadError

GROUP = "covlab.readers"
OWN = {
    "lm-eval": "lm_eval",
    "inspect": "inspect_logs",
    "verifiers": "verifiers_runs",
    "trl": "trl_completions",
    "monkeys": "monkeys",
    "every-eval-ever": "every_eval_ever",
    "vllm": "vllm_outputs",
    "rows": "rows",
    "arrays": "arrays",
}
"""Format -> module of this package, in the order in which a source is tried."""


def readers() -> dict[str, Reader]:
    """All readers by name, those of other packages first, so that they can take over a format.

    Raises:
        ValueError: an entry point that cannot be loaded or is not a reader.
    """
    known: dict[str, Reader] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            reader = entry.load()
        except (ImportError, AttributeError) as error:
            raise LoadError(f"{GROUP}: {entry.name} = {entry.value!r}: {error}") from None
        if not all(callable(getattr(reader, method, None)) for method in ("recognises", "read")):
            raise LoadError(f"{GROUP}: {entry.name} = {entry.value!r} has no recognises and read")
        known[entry.name] = reader
    for name, module in OWN.items():
        if name not in known:
            known[name] = importlib.import_module(f"covlab.readers.{module}").READER
    return known


def reader_of(source: Path, asked: str | None = None, formats: Mapping[str, Reader] | None = None) -> Reader:
    """The reader that `asked` names, or the first that recognises the source, of `formats` or all readers.

    Raises:
        ValueError: there is no such source, format, or reader for it.
    """
    if not source.exists():
        raise LoadError(f"{source}: no such file or folder")
    known = readers() if formats is None else formats
    if asked is not None:
        if asked not in known:
            raise LoadError(f"format: {asked!r}; valid: one of {', '.join(known)}")
        return known[asked]
    for reader in known.values():
        if reader.recognises(source):
            return reader
    raise LoadError(f"{source}: no reader knows it; valid: files of {', '.join(known)}")
