"""Conversion of records for W&B: names without dots, several seeds as median and quantiles."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracking.metric_names import better

_STEP_KEYS = ("phase", "step", "global_step")
_QUANTILES = {"q10": 0.1, "median": 0.5, "q90": 0.9}
MEDIAN = "/median"
BAND = ("/q10", "/q90")
"""Ends of the names of a quantity over several seeds: the median and the ends of its band."""


def wandb_name(name: str) -> str:
    """Name of a metric in W&B, where dots mean nesting: 5.7 becomes 5p7, other dots underscores."""
    return re.sub(r"(?<=\d)\.(?=\d)", "p", name).replace(".", "_")


def best_of(name: str) -> str | None:
    """Best value of a metric: "min", "max", or None if neither.

    >>> best_of("eval/G2/pass/8/median"), best_of("eval/cov/5p7"), best_of("train/gradient_norm")
    ('max', 'min', None)
    """
    return {"higher": "max", "lower": "min", None: None}[better(name)]


def quantile(values: Iterable[float], q: float) -> float:
    """The q-quantile without NaNs, interpolated as in `numpy.quantile`, but correct with infinities."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan
    position = q * (len(ordered) - 1)
    low, high = ordered[int(position)], ordered[min(int(position) + 1, len(ordered) - 1)]
    fraction = position - int(position)
    return low if low == high or fraction == 0 else low + fraction * (high - low)


def over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One record of a step from one per seed: `<key>/median`, `<key>/q10`, `<key>/q90` per numeric key.

    `seeds` is the number of live seeds. `phase`, `step`, `global_step` and text that all seeds share are
    kept. None is omitted; NaN counts as absent.
    """
    merged: dict[str, Any] = {key: records[0][key] for key in _STEP_KEYS if key in records[0]}
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record[key] for record in records if record.get(key) is not None]
        if key == "seed" or key in merged or not values:
            continue
        if all(isinstance(value, int | float) for value in values):
            merged |= {
                f"{wandb_name(key)}/{name}": quantile(map(float, values), q) for name, q in _QUANTILES.items()
            }
        elif all(value == values[0] for value in values):
            merged[wandb_name(key)] = values[0]
    return merged | {"seeds": len(records)}
