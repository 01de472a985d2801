"""Reading log-probabilities of any program from a file; `experiments.select` documents the format."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from metrics.pass_rates import LOG_PROB_SLACK
from tracking import LoadError

SHAPES = {
    "log_probs": ("models", "examples"),
    "weights": ("examples",),
    "names": ("models",),
    "log_pi": ("examples",),
    "correct": ("examples",),
    "sample_log_probs": ("models", "models", "examples", "samples"),
}
"""Arrays of an .npz file and their axes."""
LOG_PROBABILITIES = ("log_probs", "log_pi", "sample_log_probs")
LARGEST_MEAN_LOSS = 12.5
"""Nats, ln of a vocabulary of about 270,000 tokens: a language model's mean loss per token is below."""


def read_file(path: str | Path) -> dict[str, np.ndarray]:
    """The checked arrays of a file in the format of `SHAPES`.

    Raises:
        ValueError: one line that names the file, the array and what would be valid.
    """
    file = Path(path)
    if not file.is_file():
        raise LoadError(f"file: {file} does not exist; valid: an .npz or .csv file")
    if file.suffix not in (".npz", ".csv"):
        raise LoadError(f"file: {file} is neither .npz nor .csv")
    arrays = _read_npz(file) if file.suffix == ".npz" else _read_csv(file)
    if "log_probs" not in arrays:
        raise LoadError(f"{file}: no array log_probs; there are {', '.join(arrays) or 'none'}")
    sizes: dict[str, int] = {}
    for name in (name for name in SHAPES if name in arrays):
        _check_array(file, name, arrays[name], sizes)
    return arrays


def warning_of_means(log_probs: Float[np.ndarray, "models examples"], num_tied: Sequence[int]) -> str | None:
    """One line if the numbers look like means per token, by which the tournament cannot tell models apart.

    Models differ in a response of T tokens by T times the difference of their means. With means, hardly any
    ratio exp(difference) reaches N, and nearly all models tie at the score 0. Means are therefore suspected
    if at least 3 of 4 models (and at least 3) tie at every N and no loss is above `LARGEST_MEAN_LOSS`. Sums
    over short responses may look alike.

    Args:
        log_probs: log-probabilities of the file.
        num_tied: number of models that tie in the simple tournament, at each N.
    """
    models, tied = len(log_probs), min(num_tied, default=0)
    largest = float(-log_probs[np.isfinite(log_probs)].min(initial=0.0))
    if models < 3 or tied < 0.75 * models or not 0 < largest <= LARGEST_MEAN_LOSS:
        return None
    return (
        f"{tied} of {models} models tie in the tournament, and no loss is above {largest:.3g} nats: if "
        f"log_probs holds means per token, give sums over the response's tokens"
    )


def _check_array(file: Path, name: str, array: np.ndarray, sizes: dict[str, int]) -> None:
    axes = SHAPES[name]
    for axis, size in zip(axes, array.shape, strict=False):
        sizes.setdefault(axis, size)
    valid = tuple(sizes.get(axis, axis) for axis in axes)
    if array.shape != valid or not array.size:
        shown = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
        raise LoadError(f"{file}: {name} has shape {array.shape}; valid: ({shown}), none of them 0")
    if name == "names":
        return
    if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise LoadError(f"{file}: {name} holds {array.dtype}; valid: numbers")
    if np.isnan(array).any():
        where = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
        raise LoadError(f"{file}: {name} is NaN at {where}; valid: numbers")
    if name in LOG_PROBABILITIES and (array > LOG_PROB_SLACK).any():
        raise LoadError(
            f"{file}: {name}: contains {array.max()}; valid: log-probabilities <= 0 (a loss is minus that)"
        )
    if name == "correct" and not np.isin(array, (0, 1)).all():
        raise LoadError(f"{file}: correct holds values from {array.min()} to {array.max()}; valid: 0 and 1")
    if name == "log_pi" and not np.isfinite(array).all():
        raise LoadError(f"{file}: log_pi is infinite; valid: finite, since the examples are drawn from pi_D")


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            unknown = sorted(set(archive.files) - set(SHAPES))
            if unknown:
                raise LoadError(f"{file}: no array may be called {unknown[0]}; valid are {', '.join(SHAPES)}")
            return {name: archive[name] for name in archive.files}
    except LoadError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise LoadError(f"{file}: not a readable npz file: {' '.join(str(error).split())}") from None


def _read_csv(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = [(number, line) for number, line in enumerate(csv.reader(stream), start=1) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LoadError(f"{file}: not a readable csv file: {' '.join(str(error).split())}") from None
    if len(lines) < 2 or len(lines[0][1]) < 2:
        raise LoadError(
            f"{file}: {len(lines)} lines; valid: a header, then one line a model with name and numbers"
        )
    header = lines[0][1]
    if all(_is_log_prob(text) for text in header[1:]):
        raise LoadError(
            f"{file}: the first line holds log-probabilities; valid: a header that names the examples"
        )
    names, rows = [], []
    for number, line in lines[1:]:
        if len(line) != len(header):
            raise LoadError(
                f"{file}: line {number} has {len(line)} columns; valid: {len(header)}, as in the header"
            )
        names.append(line[0])
        row = []
        for text in line[1:]:
            try:
                row.append(float(text))
            except ValueError:
                raise LoadError(f"{file}: line {number}: {text!r} is not a number") from None
        rows.append(row)
    return {"log_probs": np.array(rows), "names": np.array(names)}


def _is_log_prob(text: str) -> bool:
    try:
        return float(text) < 0
    except ValueError:
        return False
