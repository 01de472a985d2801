"""Verdict of a claim: named checks with their numbers, and whether the claim holds.

A verdict is written once, by the claim that measured it. The report and the ledger read the file.
"""

from __future__ import annotations

import json
import math
import operator
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

import numpy as np

from tracking.atomic import atomic_write

if TYPE_CHECKING:
    from metrics.intervals import Interval

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_PLACES = {"estimate": "", "low": "lower end of the interval ", "high": "upper end of the interval "}
_KINDS = {"checks": "checks", "seeds": "integers", "notes": "sentences"}


class VerdictError(ValueError):
    """An invalid verdict: a field is missing, unknown, or contradicts another."""


@dataclass(frozen=True)
class Check:
    """One measured number against one stated target.

    A number that is not finite becomes None, and the check then has not passed, whatever the caller says.

    Raises:
        VerdictError: an empty name or target, an interval that is not (low, high), or a check without a
            measured number that claims to have passed.
    """

    name: str
    measured: float | None
    interval: tuple[float, float] | None
    target: str
    passed: bool

    def __post_init__(self) -> None:
        for field in ("name", "target"):
            _require_text(f"check.{field}", getattr(self, field))
        if not isinstance(self.passed, (bool, np.bool_)):
            raise VerdictError(f"check.passed of {self.name!r}: {self.passed!r}; valid: true or false")
        passed = bool(self.passed)
        measured, interval = self.measured, self.interval
        if measured is None and passed:
            raise VerdictError(f"check.measured of {self.name!r}: None in a passed check; valid: a number")
        if measured is not None:
            measured = _number(f"check.measured of {self.name!r}", measured)
            if not math.isfinite(measured):
                measured, passed = None, False
        if interval is not None:
            if not isinstance(interval, (list, tuple)) or len(interval) != 2:
                raise VerdictError(f"check.interval of {self.name!r}: {interval!r}; valid: (low, high)")
            low, high = (_number(f"check.interval of {self.name!r}", end) for end in interval)
            interval = (low, high)
            if not all(math.isfinite(end) for end in interval):
                interval, passed = None, False
            elif low > high:
                raise VerdictError(f"check.interval of {self.name!r}: {interval}; valid: low <= high")
        vars(self).update(measured=measured, interval=interval, passed=passed)


def check_interval(
    name: str,
    interval: Interval,
    target_op: str,
    threshold: float,
    on: Literal["estimate", "low", "high"] = "estimate",
) -> Check:
    """The check `interval.<on> <target_op> threshold`, whose target is written out from these values.

    `on="low"` with `>` asks that the whole interval lies above the threshold, `on="high"` with `<` that it
    lies below. The threshold is in the interval's unit.

    Raises:
        VerdictError: an operator other than <, <=, >, >=, an unknown `on`, a threshold that is not finite.
    """
    if on not in _PLACES:
        raise VerdictError(f"on: {on!r}; valid: one of {', '.join(_PLACES)}")
    passed, text = _compare(getattr(interval, on), target_op, threshold)
    return Check(name, interval.estimate, (interval.low, interval.high), _PLACES[on] + text, passed)


def check_value(name: str, measured: float, target_op: str, threshold: float) -> Check:
    """The check `measured <target_op> threshold` for an exact number, which has no interval.

    Raises:
        VerdictError: as `check_interval`.
    """
    passed, text = _compare(measured, target_op, threshold)
    return Check(name, measured, None, text, passed)


def at_most(name: str, measured: Interval | SupportsFloat, limit: float) -> Check:
    """The check that an exact number, or a whole interval, is <= `limit`; errors as `check_interval`."""
    return _check_whole(name, measured, "<=", limit)


def below(name: str, measured: Interval | SupportsFloat, limit: float) -> Check:
    """The check that an exact number, or a whole interval, is < `limit`; errors as `check_interval`."""
    return _check_whole(name, measured, "<", limit)


def at_least(name: str, measured: Interval | SupportsFloat, limit: float) -> Check:
    """The check that an exact number, or a whole interval, is >= `limit`; errors as `check_interval`."""
    return _check_whole(name, measured, ">=", limit)


def above(name: str, measured: Interval | SupportsFloat, limit: float) -> Check:
    """The check that an exact number, or a whole interval, is > `limit`; errors as `check_interval`."""
    return _check_whole(name, measured, ">", limit)


def between(name: str, measured: Interval | SupportsFloat, low: float, high: float) -> tuple[Check, Check]:
    """The two checks that an exact number, or a whole interval, lies in [`low`, `high`]."""
    return at_least(f"{name}, from below", measured, low), at_most(f"{name}, from above", measured, high)


def _check_whole(name: str, measured: Interval | SupportsFloat, target_op: str, limit: float) -> Check:
    if isinstance(measured, SupportsFloat):
        return check_value(name, float(measured), target_op, limit)
    return check_interval(name, measured, target_op, limit, "high" if "<" in target_op else "low")


@dataclass(frozen=True)
class Verdict:
    """The result of one run of a claim, with all that is needed to repeat it.

    Attributes:
        claim: the experiment's module name, for example `figure1`.
        source: paper and section.
        scale: the scale of the run, for example `cpu` or `paper`.
        checks: at least one is needed for the claim to hold.
        seeds: the seeds that the checks were computed on.
        wall_seconds: duration of the whole program, in seconds.
        hardware: result of `hardware()`.
        command: the command line that repeats the run.
        started: ISO 8601 date and time of the start.
        versions: result of `versions()`.
        notes: sentences on choices, limits and surprises.
        title: the claim in a few words; without one, the claim's name is shown.

    Raises:
        VerdictError: a field of the wrong kind.
    """

    claim: str
    source: str
    scale: str
    checks: tuple[Check, ...]
    seeds: tuple[int, ...]
    wall_seconds: float
    hardware: dict[str, Any]
    command: str
    started: str
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        for field in ("claim", "source", "scale", "command"):
            _require_text(field, getattr(self, field))
        if not isinstance(self.title, str):
            raise VerdictError(f"title: {self.title!r}; valid: a text")
        for field, kind in (("checks", Check), ("seeds", Integral), ("notes", str)):
            value = getattr(self, field)
            if not isinstance(value, (list, tuple, range)) or not all(isinstance(v, kind) for v in value):
                raise VerdictError(f"{field}: {value!r}; valid: a sequence of {_KINDS[field]}")
        for field in ("hardware", "versions"):
            if not isinstance(value := getattr(self, field), Mapping):
                raise VerdictError(f"{field}: {value!r}; valid: a mapping from names to values")
            vars(self)[field] = dict(value)
        seconds = _number("wall_seconds", self.wall_seconds)
        if not math.isfinite(seconds) or seconds < 0:
            raise VerdictError(f"wall_seconds: {seconds!r}; valid: a finite number of seconds, at least 0")
        started_at(self.started)
        seeds = tuple(int(seed) for seed in self.seeds)
        vars(self).update(
            checks=tuple(self.checks), seeds=seeds, notes=tuple(self.notes), wall_seconds=seconds
        )

    @property
    def holds(self) -> bool:
        """True if every check passed and there is at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def write(self, path: str | Path) -> Path:
        """Write the verdict as strict JSON (no NaN), atomically; returns the path."""
        record = {"claim": self.claim, "source": self.source, "holds": self.holds} | asdict(self)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        atomic_write(Path(path), text.encode())
        return Path(path)

    @classmethod
    def read(cls, path: str | Path) -> Verdict:
        """Read a verdict that `write` wrote.

        Raises:
            VerdictError: one line with the path, for a file that cannot be read, is not strict JSON, lacks
                a field, has an unknown one, or whose `holds` contradicts its checks.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
            if isinstance(record, dict):
                record.setdefault("title", "")
            _require_fields("verdict", record, {field.name for field in fields(cls)} | {"holds"})
            if not isinstance(record["checks"], list):
                raise VerdictError(f"checks: {record['checks']!r}; valid: a list of checks")
            for check in record["checks"]:
                _require_fields("check", check, {field.name for field in fields(Check)})
            said = record.pop("holds")
            verdict = cls(**record | {"checks": tuple(Check(**check) for check in record["checks"])})
            if said is not verdict.holds:
                raise VerdictError(f"holds: {said!r}; valid: {verdict.holds}, which is what the checks say")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise VerdictError(f"{path}: {reason}") from error
        return verdict


def started_at(started: str) -> datetime:
    """The time of an ISO 8601 text, in UTC where it names no time zone.

    Raises:
        VerdictError: the text is not an ISO 8601 date.
    """
    try:
        moment = datetime.fromisoformat(started)
    except (TypeError, ValueError) as error:
        raise VerdictError(
            f"started: {started!r}; valid: an ISO date such as 2026-01-31T12:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def hardware() -> dict[str, Any]:
    """This machine: `cpu` (model), `cores` (usable by this process), `memory_gib`, `accelerators` (names)."""
    import jax  # reading and showing verdicts must not pay for starting a backend

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = [device for device in jax.devices() if device.platform != "cpu"]
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerators": [device.device_kind for device in devices],
    }


def describe_hardware(machine: Mapping[str, Any]) -> str:
    """The mapping of `hardware()` as one readable line."""
    texts = {"cpu": "{}", "cores": "{} cores", "memory_gib": "{} GiB"}
    parts = [text.format(machine[key]) for key, text in texts.items() if key in machine]
    names = [str(name) for name in machine.get("accelerators") or ()]
    return ", ".join(parts + [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)])


def versions() -> dict[str, str]:
    """Versions of python, jax and covlab; `not installed` for a package that runs from a bare checkout."""
    installed = {"python": platform.python_version()}
    for package in ("jax", "covlab"):
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def _compare(value: float, target_op: str, threshold: float) -> tuple[bool, str]:
    if target_op not in _OPERATORS:
        raise VerdictError(f"target_op: {target_op!r}; valid: one of {', '.join(_OPERATORS)}")
    threshold = _number("threshold", threshold)
    if not math.isfinite(threshold):
        raise VerdictError(f"threshold: {threshold!r}; valid: a finite number")
    shown = str(int(threshold)) if threshold.is_integer() and abs(threshold) < 1e15 else repr(threshold)
    return bool(_OPERATORS[target_op](value, threshold)), f"{target_op} {shown}"


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, Real) or getattr(value, "shape", None) == ()):
        raise VerdictError(f"{field}: {value!r}; valid: a number")
    return float(value)


def _require_text(field: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise VerdictError(f"{field}: {value!r}; valid: a text that is not empty")


def _require_fields(where: str, record: Any, expected: set[str]) -> None:
    valid = f"valid: an object with the fields {', '.join(sorted(expected))}"
    if not isinstance(record, dict):
        raise VerdictError(f"{where}: {record!r}; {valid}")
    for problem, names in (("lacks", expected - record.keys()), ("unknown", record.keys() - expected)):
        if names:
            raise VerdictError(f"{where}: {problem} field(s) {', '.join(sorted(names))}; {valid}")


def _refuse_constant(text: str) -> float:
    raise VerdictError(f"{text} is not strict JSON; valid: a finite number or null")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
