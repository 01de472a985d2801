"""A section of `select`'s answer: tables, sentences, figures, and the same as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metrics import Interval
from metrics.resampled import Bootstrap
from tasks import stream

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Table:
    """A printed table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclasses.dataclass
class Section:
    """Tables, then sentences; `content` is for the JSON file, `figures` by the ending of their names."""

    tables: list[Table] = dataclasses.field(default_factory=list)
    sentences: list[str] = dataclasses.field(default_factory=list)
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)


def generator(*path: str) -> np.random.Generator:
    """NumPy's generator of the stream (0, "select", *path): equal files give equal answers."""
    import jax

    return np.random.default_rng(np.asarray(jax.random.key_data(stream(0, "select", *path))).tolist())


def plain(interval: Interval) -> dict[str, float]:
    """An interval as JSON."""
    return dataclasses.asdict(interval)


def recommendation(names: Sequence[str], chosen: Bootstrap, rule: str) -> str:
    """One sentence: the checkpoint to take, and how often another would have been taken."""
    name, total = names[chosen.index], chosen.num_resamples
    rivals = chosen.alternatives(CONFIDENCE)
    if len(names) == 1:
        return f"Recommendation: {name}, the only checkpoint."
    if len(rivals) == 1:
        others = total - int(chosen.times[chosen.index])
        times = f"another is taken in {others} of {total} resamples of the examples"
        return f"Recommendation: take {name} ({rule}); {times}."
    shown = [f"{names[i]} ({chosen.times[i]})" for i in rivals[:6]]
    more = f" and {len(rivals) - 6} more" if len(rivals) > 6 else ""
    return (
        f"Recommendation: these examples cannot tell {', '.join(shown)}{more} apart (times taken in "
        f"{total} resamples of the examples); {rule} takes {name}."
    )


def bootstrap_content(names: Sequence[str], chosen: Bootstrap) -> dict[str, Any]:
    """A bootstrap as JSON."""
    return {
        "take": names[chosen.index],
        "told_apart": len(chosen.alternatives(CONFIDENCE)) == 1,
        "resamples": chosen.num_resamples,
        "times_taken": dict(zip(names, chosen.times.tolist(), strict=True)),
    }
