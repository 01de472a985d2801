"""Arrays of several checkpoints in the order of training: an `.npz`, or a `.csv` with a line per checkpoint.

An `.npz` holds `log_probs` (models, examples), or the counts `num_samples` and `num_correct` of that shape,
or both; optional are `names` (models,), `keys` (examples,), the examples' names, and `num_bytes` (examples,),
bytes of their responses. A `.csv` has a header that names the examples, then a line per checkpoint: name,
log-probabilities.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from covlab.readers import tables
from covlab.readers.base import Checkpoint, Wanted
from covlab.readers.contents import digest
from metrics.pass_rates import LOG_PROB_SLACK
from tracking import LoadError

MATRICES = ("log_probs", "num_samples", "num_correct")
VECTORS = {"names": 0, "keys": 1, "num_bytes": 1}
"""Other arrays, and the axis of a matrix that they are as long as."""


class Reader:
    """Arrays."""

    name = "arrays"
    summary = "an .npz with log_probs or num_samples and num_correct, or a .csv with a line per checkpoint"

    def recognises(self, source: Path) -> bool:
        """True for `.npz` and `.csv`."""
        return source.suffix in (".npz", ".csv") and source.is_file()

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """A checkpoint for each row of the matrices.

        Raises:
            ValueError: shapes that do not match, an example or checkpoint that occurs twice, a value out of
                range.
        """
        arrays = _npz(source) if source.suffix == ".npz" else _csv(source)
        matrices = {name: arrays[name] for name in MATRICES if name in arrays}
        models, examples = _shape(source, matrices)
        for name, axis in VECTORS.items():
            if name in arrays and arrays[name].shape != ((models, examples)[axis],):
                valid = ("models", "examples")[axis]
                raise LoadError(
                    f"{source}: {name} has shape {arrays[name].shape}; valid: "
                    f"({(models, examples)[axis]},), {valid}"
                )
        names = [str(name) for name in arrays.get("names", np.arange(models))]
        labels = [str(key) for key in arrays.get("keys", np.arange(examples))]
        for field, texts in (("names", names), ("keys", labels)):
            if len(set(texts)) != len(texts):
                twice = next(text for text in texts if texts.count(text) > 1)
                raise LoadError(f"{source}: {field}: {twice!r} occurs twice")
        _check(source, matrices, arrays.get("num_bytes"))
        keys = [digest("id", label) for label in labels]
        return [_checkpoint(source, i, name, keys, labels, arrays) for i, name in enumerate(names)]


READER = Reader()


def _shape(source: Path, matrices: Mapping[str, np.ndarray]) -> tuple[int, int]:
    counts = {"num_samples", "num_correct"}
    if not matrices or (counts & matrices.keys() and not counts <= matrices.keys()):
        raise LoadError(f"{source}: neither log_probs nor both of num_samples and num_correct")
    shapes = {array.shape for array in matrices.values()}
    first = next(iter(shapes))
    if len(shapes) > 1 or len(first) != 2 or 0 in first:
        text = ", ".join(f"{name} {array.shape}" for name, array in matrices.items())
        raise LoadError(f"{source}: {text}; valid: (models, examples) each, none of them 0")
    return first[0], first[1]


def _check(source: Path, matrices: Mapping[str, np.ndarray], num_bytes: np.ndarray | None) -> None:
    if "log_probs" in matrices and (matrices["log_probs"] > LOG_PROB_SLACK).any():
        raise LoadError(
            f"{source}: log_probs: contains {np.nanmax(matrices['log_probs'])}; valid: log-probabilities <= "
            f"0 in nats"
        )
    if "num_samples" in matrices:
        n, c = matrices["num_samples"], matrices["num_correct"]
        if not (np.issubdtype(n.dtype, np.integer) and np.issubdtype(c.dtype, np.integer)):
            raise LoadError(f"{source}: num_samples, num_correct: {n.dtype}, {c.dtype}; valid: whole numbers")
        if (c < 0).any() or (c > n).any():
            raise LoadError(f"{source}: num_correct: not always from 0 to num_samples")
    if num_bytes is not None and not (np.issubdtype(num_bytes.dtype, np.integer) and (num_bytes > 0).all()):
        raise LoadError(f"{source}: num_bytes: valid: whole numbers >= 1")


def _checkpoint(
    source: Path,
    index: int,
    name: str,
    keys: Sequence[bytes],
    labels: Sequence[str],
    arrays: Mapping[str, np.ndarray],
) -> Checkpoint:
    rows = {field: arrays[field][index] for field in MATRICES if field in arrays}
    kept = np.ones(len(keys), bool)
    if "log_probs" in rows:
        kept &= ~np.isnan(rows["log_probs"])
    if "num_samples" in rows:
        kept &= rows["num_samples"] > 0
    if not kept.any():
        raise LoadError(f"{source}: no example of {name} has a value")
    notes: tuple[str, ...] = ()
    if not kept.all():
        notes = (f"{name}: {(~kept).sum()} of {kept.size} examples have no value (NaN, or n = 0)",)
        keys = [key for key, good in zip(keys, kept, strict=True) if good]
        labels = [label for label, good in zip(labels, kept, strict=True) if good]
    num_bytes = arrays["num_bytes"][kept] if "num_bytes" in arrays else np.zeros(kept.sum(), np.int64)
    return Checkpoint(
        name,
        str(source),
        keys,
        labels,
        log_probs=np.asarray(rows["log_probs"][kept], np.float64) if "log_probs" in rows else None,
        num_bytes=num_bytes if "log_probs" in rows else None,
        num_samples=rows["num_samples"][kept] if "num_samples" in rows else None,
        num_correct=rows["num_correct"][kept] if "num_correct" in rows else None,
        notes=notes,
        ordered=True,
    )


def _npz(source: Path) -> dict[str, np.ndarray]:
    valid = (*MATRICES, *VECTORS)
    try:
        with np.load(source, allow_pickle=False) as archive:
            if unknown := sorted(set(archive.files) - set(valid)):
                raise LoadError(
                    f"{source}: no array may be called {unknown[0]}; valid are {', '.join(valid)}"
                )
            arrays = {name: archive[name] for name in archive.files}
    except LoadError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise LoadError(f"{source}: not a readable npz file: {' '.join(str(error).split())}") from None
    for name in MATRICES:
        if name in arrays and not np.issubdtype(arrays[name].dtype, np.number):
            raise LoadError(f"{source}: {name} holds {arrays[name].dtype}; valid: numbers")
    return arrays


def _csv(source: Path) -> dict[str, np.ndarray]:
    names, lines, keys = [], [], tables.columns(source)[1:]
    for number, record in tables.rows(source):
        name, *texts = record.values()
        names.append(name)
        try:
            lines.append([float(text) for text in texts])
        except ValueError:
            raise LoadError(f"{source}: line {number}: not only numbers after the name") from None
    if not lines or not keys:
        raise LoadError(f"{source}: valid: a header that names the examples, then a line per checkpoint")
    return {"log_probs": np.array(lines), "names": np.array(names), "keys": np.array(keys)}
