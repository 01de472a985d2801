"""Settings in which runs differ, and short names and texts for them."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence
from typing import Any

from covlab.launch.found_runs import Head
from covlab.launch.run_names import VOLATILE
from tracking.metric_names import natural

REPLICATES = ("seed", "seeds")
"""Settings whose values are repetitions of one experiment; a group's band is over these."""
MEASURING = ("evaluation", "log_every")
"""Settings of what is measured and when, which change nothing of the training."""
ABSENT = "absent"


def causes(heads: Sequence[Head]) -> list[str]:
    """The differing keys that can explain a difference in results: neither seeds nor settings that change no
    number of training (names, tracking, checkpoints, devices, evaluations).
    """
    return differing_keys(heads, (*VOLATILE, *MEASURING, *REPLICATES))


def differing_keys(heads: Sequence[Head], ignored: Iterable[str]) -> list[str]:
    """Dotted keys whose values differ between the runs, in the order of the configuration.

    `ignored` names keys, or sections, that are not compared, in the phases neither.
    """
    skipped = tuple(ignored)
    first: dict[str, str] = {}
    differ: set[str] = set()
    counts: collections.Counter[str] = collections.Counter()
    for head in heads:
        for key, value in head.config.items():
            counts[key] += 1
            text = repr(value)
            if first.setdefault(key, text) != text:
                differ.add(key)
    differ |= {key for key, count in counts.items() if count < len(heads)}
    return [key for key in first if key in differ and not _within(key, skipped)]


def together(heads: Sequence[Head], keys: Sequence[str]) -> dict[str, list[str]]:
    """key -> the later keys that always change with it (a larger model has more layers AND a larger width).

    The keys of the result alone distinguish the groups.
    """
    key_of_pattern: dict[tuple[int, ...], str] = {}
    kept: dict[str, list[str]] = {}
    for key in keys:
        seen: dict[str, int] = {}
        pattern = tuple(seen.setdefault(text, len(seen)) for text in texts(heads, key))
        if pattern in key_of_pattern:
            kept[key_of_pattern[pattern]].append(key)
        else:
            key_of_pattern[pattern] = key
            kept[key] = []
    return kept


def texts(heads: Sequence[Head], key: str) -> list[str]:
    """The value of a key in every run's configuration as text; different values have different texts.

    A class or function (`_target_`) is named by the last part of its dotted name, if that tells the runs'
    apart. The key `run` gives the run's name.
    """
    if key == "run":
        return [head.name for head in heads]
    whole = [_text(head.config[key]) if key in head.config else ABSENT for head in heads]
    if not key.endswith("_target_"):
        return whole
    short = {text: text.rpartition(".")[2] for text in whole}
    return [short[text] for text in whole] if len(set(short.values())) == len(short) else whole


def _text(value: Any) -> str:
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def setting_order(text: str) -> tuple[float, list[tuple[int, float, str]]]:
    """Sorting key of a setting's texts: numbers by size, then words."""
    try:
        return float(text), []
    except ValueError:
        return math.inf, natural(text)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """key -> the shortest distinct suffix of its parts; `_target_` keeps the section before it."""
    names = {}
    for key in keys:
        parts = [part for part in key.split(".") if part != "_target_"]
        for size in range(1, len(parts) + 1):
            name = ".".join(parts[-size:])
            alike = [k for k in keys if f".{k.removesuffix('._target_')}".endswith(f".{name}")]
            if alike == [key]:
                break
        names[key] = name
    return names


def _within(key: str, sections: Sequence[str]) -> bool:
    """True if the key, or the field of a phase that it sets, is one of the sections or lies in one."""
    parts = key.split(".", 2)
    names = (key, parts[2]) if parts[0] == "phases" and len(parts) == 3 else (key,)
    return any(name == section or name.startswith(f"{section}.") for name in names for section in sections)
