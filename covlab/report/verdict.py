"""Verdict of a claim: named checks with their numbers, and whether the claim holds, is refuted or is open.

A verdict is written once, by the claim that measured it. The report and the ledger read the file.
"""

from __future__ import annotations

import json
import math
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

from covlab.cores import usable_cores
from covlab.report.states import OPERATORS, PLACES, POWER, Outcome, State, check_state, needed_seeds
from tracking.atomic import atomic_write

if TYPE_CHECKING:
    from metrics.intervals import Interval

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

    @property
    def state(self) -> State:
        """`passed`; `failed` if the number, or its whole interval, misses the target; else `open`."""
        return check_state(self.passed, self.measured, self.interval, self.target)


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
    if on not in PLACES:
        raise VerdictError(f"on: {on!r}; valid: one of {', '.join(PLACES)}")
    passed, text = _compare(getattr(interval, on), target_op, threshold)
    return Check(name, interval.estimate, (interval.low, interval.high), PLACES[on] + text, passed)


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
        return self.outcome == "holds"

    @property
    def outcome(self) -> Outcome:
        """`holds` if there are checks and all passed, `refuted` if one failed, else `open`."""
        states = [check.state for check in self.checks]
        if "failed" in states:
            return "refuted"
        return "holds" if states and "open" not in states else "open"

    @property
    def refuted_by(self) -> tuple[Check, ...]:
        """The failed checks."""
        return tuple(check for check in self.checks if check.state == "failed")

    @property
    def seeds_to_decide(self) -> int | None:
        """The number of seeds that would decide every open check with probability .8, each by itself.

        None if no check is open, or if one of them could not be decided by any number of seeds
        (`covlab.report.states.needed_seeds`).
        """
        needed = [
            needed_seeds(check.measured, check.interval, check.target, len(self.seeds))
            for check in self.checks
            if check.state == "open"
        ]
        known = [count for count in needed if count is not None]
        return max(known) if needed and len(known) == len(needed) else None

    def write(self, path: str | Path) -> Path:
        """Write the verdict as strict JSON (no NaN), atomically; returns the path."""
        said = {"holds": self.holds, "outcome": self.outcome}
        record = {"claim": self.claim, "source": self.source} | said | asdict(self)
        for check, stored in zip(self.checks, record["checks"], strict=True):
            stored["state"] = check.state
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
            outcome, states = _states_of(record)
            _require_fields("verdict", record, {field.name for field in fields(cls)} | {"holds"})
            if not isinstance(record["checks"], list):
                raise VerdictError(f"checks: {record['checks']!r}; valid: a list of checks")
            for check in record["checks"]:
                _require_fields("check", check, {field.name for field in fields(Check)})
            said = record.pop("holds")
            verdict = cls(**record | {"checks": tuple(Check(**check) for check in record["checks"])})
            if said is not verdict.holds:
                raise VerdictError(f"holds: {said!r}; valid: {verdict.holds}, which is what the checks say")
            if outcome not in (None, verdict.outcome):
                raise VerdictError(
                    f"outcome: {outcome!r}; valid: {verdict.outcome}, which is what the checks say"
                )
            for check, state in zip(verdict.checks, states, strict=True):
                if state not in (None, check.state):
                    raise VerdictError(f"check.state of {check.name!r}: {state!r}; valid: {check.state}")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise VerdictError(f"{path}: {reason}") from error
        return verdict


def open_text(verdict: Verdict) -> str:
    """A sentence on the open checks and the number of seeds that would decide them; empty if none is open."""
    count = sum(check.state == "open" for check in verdict.checks)
    if not count:
        return ""
    checks = f"{count} check{'s are' if count > 1 else ' is'} open"
    needed = verdict.seeds_to_decide
    if needed is None:
        return f"{checks}; more seeds alone may not decide {'them' if count > 1 else 'it'}."
    return (
        f"{checks}; with the present spread {needed} seeds would decide {'each' if count > 1 else 'it'} "
        f"with a probability of {POWER:g}."
    )


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

    devices = [device for device in jax.devices() if device.platform != "cpu"]
    return {
        "cpu": _cpu_model(),
        "cores": len(usable_cores()),
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
    if target_op not in OPERATORS:
        raise VerdictError(f"target_op: {target_op!r}; valid: one of {', '.join(OPERATORS)}")
    threshold = _number("threshold", threshold)
    if not math.isfinite(threshold):
        raise VerdictError(f"threshold: {threshold!r}; valid: a finite number")
    shown = str(int(threshold)) if threshold.is_integer() and abs(threshold) < 1e15 else repr(threshold)
    return bool(OPERATORS[target_op](value, threshold)), f"{target_op} {shown}"


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


def _states_of(record: Any) -> tuple[Any, list[Any]]:
    """Take the outcome and the checks' states out of a record; None where an older file has none."""
    if not isinstance(record, dict):
        return None, []
    checks = record.get("checks")
    checks = checks if isinstance(checks, list) else []
    states = [check.pop("state", None) if isinstance(check, dict) else None for check in checks]
    return record.pop("outcome", None), states


def _refuse_constant(text: str) -> float:
    raise VerdictError(f"{text} is not strict JSON; valid: a finite number or null")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
