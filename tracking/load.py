"""Loading of runs: metrics as data frames, per-example log-probabilities as arrays."""

from __future__ import annotations

import difflib
import fnmatch
import glob
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking.array_log import ARRAYS, ArrayLogError, Entry, entries, read_entry
from tracking.metric_names import natural
from tracking.metrics_file import LEADING_KEYS, Record, read_records
from tracking.run_config import flatten, read_config

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]


class LoadError(ValueError):
    """A run that cannot be loaded; the message states the path."""


def load_run(path: PathLike) -> pd.DataFrame:
    """The metrics of one run, one row per (phase, step, seed) and one column per key.

    Args:
        path: a run directory, or a `metrics.jsonl`. A run in progress and a torn last line are valid.

    Returns:
        `phase`, `step`, `global_step` and `seed` first, then the other keys sorted, with numbers in names in
        numeric order (`eval/cov/4` before `eval/cov/16`); NaN where a line lacks a key.

    Raises:
        LoadError: there is no `metrics.jsonl`.
        MetricsFileError: a line other than the last is corrupt.
    """
    return _frame(_records(Path(path)))


def load_runs(paths: PathLike | Iterable[PathLike], config_keys: Sequence[str] = ()) -> pd.DataFrame:
    """The metrics of several runs in one frame, with the run's name and configuration values in every row.

    Args:
        paths: one path or pattern (`runs/figure1/*`, `runs/**`), or several. Matches of a pattern that are
            not run directories are skipped; a path without wildcards must be a run directory.
        config_keys: dotted keys of `config.yaml`, for example `("task.depth", "model.width")`, one column per
            key. Lists become tuples. The value is None in runs that lack the key.

    Returns:
        `run` (path below the common folder of all runs), the config keys, then the columns of `load_run`.

    Raises:
        LoadError: no run matches, a path is not a run, or a key of `config_keys` is in no run.
        RunDirectoryError: there are `config_keys` and a run's `config.yaml` cannot be read.
        MetricsFileError: a line other than the last is corrupt.
    """
    folders = _run_folders([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    shared = os.path.commonpath([folder.parent for folder in folders])
    configs = [flatten(read_config(folder)) if config_keys else {} for folder in folders]
    known = {key for config in configs for key in config}
    for key in config_keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3) or sorted(known)[:3]
            raise LoadError(
                f"config key {key!r} is in none of {len(folders)} runs: for example {', '.join(near)} is"
            )
    rows: list[dict[str, Any]] = []
    for folder, config in zip(folders, configs, strict=True):
        head = {"run": os.path.relpath(folder, shared)} | {
            key: _hashable(config.get(key)) for key in config_keys
        }
        rows.extend(head | record for record in _records(folder))
    return _frame(rows, ("run", *config_keys))


def load_log_probs(path: PathLike, pattern: str = "*") -> dict[str, dict[str, np.ndarray]]:
    """Per-example arrays of a run with names that match `pattern`.

    Names are `<phase>_held_out`, and `<phase>_<step>` per evaluation. The file is `log_probs/evaluations.npy`
    (format: `tracking.array_log`), or one `.npz` file per name in runs of earlier versions. A run in progress
    and a torn end of the file are valid.

    Returns:
        name -> key -> array, with numbers in names in numeric order (`step_90` before `step_100`).

    Raises:
        LoadError: nothing matches, or a file cannot be read.
    """
    found = dict(each_log_probs(path, pattern))
    if not found:
        raise LoadError(
            f"{Path(path) / 'log_probs'}: no arrays {pattern}: a run keeps those of its evaluations there"
        )
    return found


def each_log_probs(path: PathLike, pattern: str = "*") -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The items of `load_log_probs`, read lazily; none if no name matches.

    Raises:
        LoadError: a file cannot be read.
    """
    folder = Path(path) / "log_probs"
    places: dict[str, Path | Entry] = {
        file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.npz")
    }
    file = folder / ARRAYS.name
    try:
        places |= {entry.name: entry for entry in (entries(file) if file.is_file() else ())}
        for name in sorted(fnmatch.filter(places, pattern), key=natural):
            place = places[name]
            yield name, read_entry(file, place) if isinstance(place, Entry) else _read_npz(place)
    except ArrayLogError as error:
        raise LoadError(str(error)) from None
    except OSError as error:
        raise LoadError(f"{file}: {error.strerror}") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise LoadError(f"{path}: not a readable npz file: {error}") from None


def _records(path: Path) -> list[Record]:
    file = path if path.is_file() else path / "metrics.jsonl"
    try:
        return read_records(file)
    except OSError as error:
        raise LoadError(f"{file}: {error.strerror}: a run directory holds a metrics.jsonl") from None


def _frame(records: Sequence[dict[str, Any]], first: Sequence[str] = ()) -> pd.DataFrame:
    import pandas as pd

    keys = dict.fromkeys(key for record in records for key in record)
    leading = [*first, *LEADING_KEYS]
    columns = leading + sorted(keys.keys() - set(leading), key=natural)
    # pandas is several times slower on a list of dictionaries than on columns.
    return pd.DataFrame({key: [record.get(key) for record in records] for key in columns}, columns=columns)


def matches(pattern: str) -> list[str]:
    """Sorted paths that match a pattern with wildcards.

    The name of an existing folder is literal: `my runs [v1]/*` looks into `my runs [v1]`. Below `**` every
    bracket is a wildcard.
    """
    parts = [part for part in pattern.split(os.sep) if part]
    found = [os.sep if pattern.startswith(os.sep) else ""]
    for index, part in enumerate(parts):
        deep = part == "**"
        below = os.path.join(*parts[index:]) if deep else part
        longer: list[str] = []
        for start in found:
            there = os.path.lexists(os.path.join(start, below))
            own = os.path.join(glob.escape(start), below)
            longer += [os.path.join(start, below)] if there else glob.glob(own, recursive=deep)
        found = longer
        if deep:
            break
    return sorted(set(found))


def _run_folders(paths: Sequence[PathLike]) -> list[Path]:
    folders: dict[Path, None] = {}
    for path in (os.fspath(path) for path in paths):
        if glob.has_magic(path) and not os.path.exists(path):
            found = (Path(match).absolute() for match in matches(path))
            folders |= dict.fromkeys(sorted(match for match in found if (match / "metrics.jsonl").is_file()))
        elif os.path.isfile(os.path.join(path, "metrics.jsonl")):
            folders[Path(path).absolute()] = None
        else:
            raise LoadError(
                f"{path}: no metrics.jsonl there: a run directory, or a pattern that matches some, is valid"
            )
    if not folders:
        raise LoadError(f"no run directory matches {', '.join(map(str, paths)) or 'an empty list'}")
    return list(folders)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
