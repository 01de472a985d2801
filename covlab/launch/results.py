"""Results of a command on a run: strict JSON in `evaluations/` of the run directory."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covlab.launch.run_names import COMMON
from covlab.launch.trained import Measured
from tracking import LoadError
from tracking.atomic import atomic_write


def result_file(run: Path, name: str) -> Path:
    """`evaluations/<name>.json` of a run.

    Raises:
        ValueError: `name` is not a plain file name.
    """
    if not re.fullmatch(r"\w[\w.,=+-]*", name):
        raise ValueError(f"out: {name!r} is not a file name of letters, digits and . , = + - _")
    return run / "evaluations" / f"{name.removesuffix('.json')}.json"


def asked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command that say what it asked of its run. Without overrides of the model they are
    those of before there were any, and so is the name that they give to a result."""
    kept = {key: value for key, value in settings.items() if key not in ("run", "out", "hydra", *COMMON)}
    return {key: value for key, value in kept.items() if key != "model_overrides" or value}


def finite(value: float) -> float | None:
    """The number, or None, which is null in JSON, where it is not finite."""
    return value if math.isfinite(value) else None


def plain_intervals(measured: Measured) -> dict[str, Any]:
    """`<class>/<metric>`, without the class for the mixture -> {estimate, low, high}."""
    return {
        f"{group}/{name}" if group else name: {
            key: finite(number) for key, number in dataclasses.asdict(value).items()
        }
        for name, groups in measured.items()
        for group, value in groups.items()
    }


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write the results.

    Raises:
        ValueError: the file cannot be written.
    """
    try:
        atomic_write(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}: choose a run directory that can be written") from None
