"""Checkpoints of several sources joined example by example."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from covlab.readers.base import Checkpoint, Wanted
from covlab.readers.registry import reader_of, readers
from tracking import LoadError
from tracking.metric_names import natural

Examples = Literal["all", "common"]


@dataclasses.dataclass(frozen=True)
class LogProbs:
    """ln pi_m(y_i|x_i) in nats of checkpoint m and example i; `num_bytes` is None unless all are known."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values: Float[np.ndarray, "checkpoints examples"]
    num_bytes: Int[np.ndarray, " examples"] | None


@dataclasses.dataclass(frozen=True)
class Counts:
    """n responses of checkpoint m to example i, c of them right."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    num_samples: Int[np.ndarray, "checkpoints examples"]
    num_correct: Int[np.ndarray, "checkpoints examples"]


@dataclasses.dataclass(frozen=True)
class Joined:
    """What the sources hold: log-probabilities, counts or both, each on its own examples, and notes."""

    log_probs: LogProbs | None
    counts: Counts | None
    notes: tuple[str, ...]


def read_sources(
    sources: Sequence[str], wanted: Wanted, asked: str | None = None, examples: Examples = "all"
) -> Joined:
    """Read every source and join the checkpoints.

    Checkpoints are in natural order of their names, so that step 200 comes before step 1000. The checkpoints
    of one file of several keep the file's order.

    Args:
        sources: files or folders.
        wanted: what is read of them.
        asked: the format; None to recognise it.
        examples: "all" demands equal examples of every checkpoint; "common" uses those that all have.

    Raises:
        ValueError: a source without a reader, unequal examples, checkpoints of one name; one line.
    """
    known: dict[bytes, tuple[bytes, str]] = {}
    checkpoints: list[Checkpoint] = []
    formats = readers()
    for source in sorted(dict.fromkeys(sources), key=natural):
        read = reader_of(Path(source), asked, formats).read(Path(source), wanted)
        # Arrays of several checkpoints have one list of keys.
        alike = len(read) > 1 and read[0].keys is read[1].keys
        checkpoints += read if alike else [_shared(checkpoint, known) for checkpoint in read]
    notes = [note for checkpoint in checkpoints for note in checkpoint.notes]
    of_log_probs = [each for each in checkpoints if each.log_probs is not None]
    of_counts = [each for each in checkpoints if each.num_samples is not None]
    log_probs = _log_probs(_in_order(of_log_probs), examples, notes) if of_log_probs else None
    counts = _counts(_in_order(of_counts), examples, notes) if of_counts else None
    return Joined(log_probs, counts, tuple(notes))


def _shared(checkpoint: Checkpoint, known: dict[bytes, tuple[bytes, str]]) -> Checkpoint:
    """The checkpoint with the keys and labels of `known`, so that all checkpoints share them in memory."""
    pairs = [
        known.setdefault(key, (key, label))
        for key, label in zip(checkpoint.keys, checkpoint.labels, strict=True)
    ]
    return dataclasses.replace(
        checkpoint, keys=[key for key, _ in pairs], labels=[label for _, label in pairs]
    )


def _in_order(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    named = [
        dataclasses.replace(checkpoint, name=name)
        for checkpoint, name in zip(checkpoints, names_of(checkpoints), strict=True)
    ]
    if all(checkpoint.ordered for checkpoint in named):
        return named
    return sorted(named, key=lambda checkpoint: natural(checkpoint.name))


def names_of(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Names without what all paths share; paths instead of names that two checkpoints have.

    Raises:
        ValueError: a name occurs twice even so.
    """
    names = [checkpoint.name for checkpoint in checkpoints]
    twice = {name for name in names if names.count(name) > 1}
    names = [each.source if name in twice else name for each, name in zip(checkpoints, names, strict=True)]
    paths = [name for name in names if os.path.exists(name)]
    short = dict(zip(paths, _without_shared(paths), strict=True))
    names = [short.get(name, name) for name in names]
    for checkpoint, name in zip(checkpoints, names, strict=True):
        if names.count(name) > 1:
            raise LoadError(
                f"{checkpoint.source}: two checkpoints are called {name!r}; valid: different names"
            )
    return names


def _without_shared(paths: Sequence[str]) -> list[str]:
    parts = [list(Path(path).parts) for path in paths]
    if len(set(paths)) < 2:
        return [own[-1] for own in parts]
    while all(len(own) > 1 for own in parts) and len({own[0] for own in parts}) == 1:
        parts = [own[1:] for own in parts]
    while all(len(own) > 1 for own in parts) and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    suffixes = {Path(own[-1]).suffix for own in parts}
    if len(suffixes) == 1 and (suffix := suffixes.pop()) and all(path.endswith(suffix) for path in paths):
        parts = [[*own[:-1], own[-1].removesuffix(suffix)] for own in parts]
    return ["/".join(own) for own in parts]


def _log_probs(checkpoints: Sequence[Checkpoint], examples: Examples, notes: list[str]) -> LogProbs:
    labels, take = _join(checkpoints, examples, notes)
    values = np.stack([take(each, each.log_probs) for each in checkpoints])
    sizes = np.stack([take(each, each.num_bytes) for each in checkpoints])
    known = (sizes > 0).all() and (sizes == sizes[0]).all()
    return LogProbs(tuple(each.name for each in checkpoints), labels, values, sizes[0] if known else None)


def _counts(checkpoints: Sequence[Checkpoint], examples: Examples, notes: list[str]) -> Counts:
    labels, take = _join(checkpoints, examples, notes)
    n, c = (
        np.stack([take(each, getattr(each, field)) for each in checkpoints])
        for field in ("num_samples", "num_correct")
    )
    return Counts(tuple(each.name for each in checkpoints), labels, n, c)


def _join(
    checkpoints: Sequence[Checkpoint], examples: Examples, notes: list[str]
) -> tuple[tuple[str, ...], Callable[[Checkpoint, np.ndarray | None], np.ndarray]]:
    """The labels of the joined examples, and a function that puts a checkpoint's array in their order."""
    first = checkpoints[0]
    if all(each.keys == first.keys for each in checkpoints[1:]):
        # Equal examples in one order, as nearly always: nothing has to be looked up.
        return tuple(first.labels), lambda _, values: _known(values)
    shared = set(first.keys).intersection(*(each.keys for each in checkpoints[1:]))
    every = set(first.keys).union(*(each.keys for each in checkpoints[1:]))
    if missing := len(every) - len(shared):
        lacking = [f"{each.name} has {len(each.keys)}" for each in checkpoints if len(each.keys) < len(every)]
        text = f"{missing} of {len(every)} examples are not in every checkpoint ({_some(lacking)} of them)"
        if examples != "common":
            raise LoadError(
                f"examples: {text}; valid: the same examples, or examples=common for the {len(shared)} that "
                f"all have"
            )
        if not shared:
            raise LoadError(f"examples: {text}: none is in all, so that prompts or templates differ")
        notes.append(f"{text}: left out")
    kept = [(key, label) for key, label in zip(first.keys, first.labels, strict=True) if key in shared]
    order = {key: place for place, (key, _) in enumerate(kept)}

    def take(checkpoint: Checkpoint, values: np.ndarray | None) -> np.ndarray:
        own = _known(values)
        places = np.array([order.get(key, -1) for key in checkpoint.keys])
        joined = np.empty(len(kept), own.dtype)
        joined[places[places >= 0]] = own[places >= 0]
        return joined

    return tuple(label for _, label in kept), take


def _known(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values


def _some(texts: Iterable[str], most: int = 3) -> str:
    given = list(texts)
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")
