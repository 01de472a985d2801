"""Which number of a checkpoint predicts a later one, such as the accuracy after reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covlab.evaluated.counts import pass_at_n_of
from covlab.evaluated.log_probs import bits_per_byte
from covlab.evaluated.section import Section, Table, plain
from covlab.readers import tables
from covlab.readers.base import number_or_none
from covlab.readers.joining import Joined
from metrics import name_of_n, tournament_matrices_of
from metrics.divergence import cross_entropy
from metrics.rank_correlation import spearman_interval
from tracking import LoadError


def read_later(file: str) -> dict[str, float]:
    """Checkpoint -> the later number, from a table with the columns checkpoint and value.

    Raises:
        ValueError: other columns, a checkpoint that occurs twice, a value that is not a number.
    """
    path = Path(file)
    if path.suffix not in tables.SUFFIXES or not path.is_file():
        raise LoadError(f"later: {file} is no file in {', '.join(tables.SUFFIXES)}")
    values: dict[str, float] = {}
    for number, record in tables.rows(path):
        where = f"{file}: line {number}"
        if not {"checkpoint", "value"} <= record.keys():
            raise LoadError(f"{where}: columns {', '.join(record)}; valid: checkpoint, value")
        name, value = str(record["checkpoint"]), number_or_none(f"{where}: value", record["value"])
        if name in values or value is None:
            raise LoadError(f"{where}: {name}: {'occurs twice' if name in values else 'has no value'}")
        values[name] = value
    return values


def of_both(
    joined: Joined, later: Mapping[str, float], ns: Sequence[float], pass_ns: Sequence[int] | None
) -> Section:
    """Rank correlations of loss, bits per byte, tournament score and Pass@N with the later number.

    Each is turned so that a good checkpoint has a large number: a predictor that works has a correlation near
    1.

    Source: the screen of arXiv 2610.10478.

    Raises:
        ValueError: checkpoints without a later number, names that differ, fewer than five checkpoints.
    """
    rows: list[list[Any]] = []
    content: dict[str, Any] = {}
    for name, (names, values) in _predictors(joined, ns, pass_ns).items():
        if missing := [each for each in names if each not in later]:
            raise LoadError(f"later: no value of {missing[0]}; there are {', '.join(later)}")
        outcome = np.array([later[each] for each in names])
        found = spearman_interval(values, outcome)
        rows.append([name, found, len(names)])
        content[name] = {**plain(found), "checkpoints": len(names)}
    rows.sort(key=lambda row: -row[1].estimate)
    title = "What predicts the later number: Spearman's rank correlation [95 %]"
    section = Section(
        [Table(title, ["predictor", "correlation", "checkpoints"], rows)], [], {"predictors": content}
    )
    clear = [row[0] for row in rows if row[1].low > 0]
    section.sentences.append(
        f"{', '.join(clear) or 'None'} predict{'s' if len(clear) < 2 else ''} the later number (interval "
        f"above 0)."
    )
    return section


def _predictors(
    joined: Joined, ns: Sequence[float], pass_ns: Sequence[int] | None
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    if (table := joined.log_probs) is not None:
        found["loss (nats/response)"] = table.names, -cross_entropy(table.values, None)
        if (per_byte := bits_per_byte(table)) is not None:
            found["bits/byte"] = table.names, -per_byte
        for n, matrix in zip(ns, tournament_matrices_of(table.values, ns), strict=True):
            found[f"simple tournament, N = {name_of_n(n)}"] = table.names, -matrix.max(axis=1)
    if joined.counts is not None:
        for name, values in pass_at_n_of(joined.counts, pass_ns).items():
            found[name] = joined.counts.names, values
    return found
