"""Shared parts of the benchmarks: arguments, timing in turn, medians with intervals, and the record."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

ROOT = Path(__file__).parents[1]

TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8",
    "model.width=16", "model.num_layers=1", "model.num_heads=2", "batch_size=8",
    "evaluation.num_examples=16", "evaluation.table_prompts=0",
)  # fmt: skip
"""Overrides of `--tiny`, with which everything runs but the numbers mean nothing."""


class UsageError(ValueError):
    """An invalid argument, a missing package, or contenders that disagree: one line, exit status 2."""


class Parser(argparse.ArgumentParser):
    """Argument parser with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Print `error: ...` and exit with status 2."""
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)


def positive(text: str) -> int:
    """A positive integer from the command line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return int(text)


def parser(name: str, description: str, repeats: int) -> Parser:
    """Parser of the arguments of all benchmarks."""
    made = Parser(prog=f"python -m benchmarks.{name}", description=description, allow_abbrev=False)
    made.add_argument(
        "overrides", nargs="*", help="key=value: overrides of conf/train.yaml, such as model=gpt_small"
    )
    made.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the JSON record")
    made.add_argument(
        "--repeats", type=positive, default=repeats, help="rounds; the median over them is reported"
    )
    made.add_argument(
        "--cores", type=positive, help="cores to keep to (default: all that this process may use)"
    )
    made.add_argument(
        "--tiny", action="store_true", help="smallest sizes: tests that it runs, the numbers mean nothing"
    )
    return made


def run(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> None:
    """Call `main` with the command line; a `UsageError` prints one line and exits with status 2."""
    try:
        main(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_to(cores: int | None) -> int:
    """Bind this process and its children to the first `cores` cores; returns the number of cores.

    Raises:
        UsageError: there are fewer cores, or the system does not support binding.
    """
    available = available_cores()
    if cores is None or cores == available:
        return available
    if cores > available:
        raise UsageError(f"--cores: {cores} is more than the {available} that this process may use")
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError(f"--cores: this system cannot keep a process to some of its {available} cores")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return cores


@dataclass(frozen=True)
class Summary:
    """Repeated measurements of one quantity.

    Attributes:
        median: median of `values`.
        low, high: order statistics that enclose the true median with probability `confidence` for every
            distribution (the sign test's interval).
        confidence: at least 0.95 from 6 values on; with fewer, the confidence of the extremes.
        values: measured values in order.
    """

    median: float
    low: float
    high: float
    confidence: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def summary(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Median with a distribution-free interval.

    The interval [x_(k), x_(n+1-k)] of the ordered values misses the median with probability 2 P(B < k),
    where B is binomial (n, 1/2). k >= 1 is the largest for which this is at most 1 - confidence.

    >>> summary([3.0, 1.0, 2.0])
    Summary(median=2.0, low=1.0, high=3.0, confidence=0.75, values=(3.0, 1.0, 2.0))

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    ordered = sorted(float(value) for value in values)
    count = len(ordered)
    if not count or not all(map(math.isfinite, ordered)):
        raise ValueError(f"measurements: {list(values)}; valid: at least one, all finite")

    def missed(k: int) -> float:
        return 2 * sum(math.comb(count, i) for i in range(k)) / 2**count

    k = max([1, *(k for k in range(1, (count + 1) // 2 + 1) if missed(k) <= 1 - confidence)])
    covered = max(0.0, 1 - missed(k))
    return Summary(
        float(np.median(ordered)),
        ordered[k - 1],
        ordered[count - k],
        covered,
        tuple(float(v) for v in values),
    )


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Summary:
    """Summary of the ratios of two quantities measured in common rounds."""
    return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def in_turn(contenders: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call every contender once per round, beginning with another one each round, and collect the results.

    >>> in_turn({"a": lambda: 1.0, "b": lambda: 2.0}, 2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(repeats):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(float(contenders[name]()))
    return found


def plain(value: Any) -> Any:
    """`value` as a JSON value: summaries become mappings, numbers are rounded to six digits.

    Raises:
        ValueError: a number that is not finite.
    """
    if isinstance(value, Summary):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"measurement: {number!r}; valid: a finite number")
    return float(f"{number:.6g}")


def versions() -> dict[str, str]:
    """Versions of Python and of the compared packages that are installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("covlab", "jax", "jaxlib", "optax", "numpy", "flax", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(out: Path, name: str, arguments: Sequence[str], cores: int, results: Mapping[str, Any]) -> Path:
    """Write `<out>/<name>.json`: results, machine, versions, and the command that repeats the benchmark."""
    # Starting JAX's backend here would take memory of an accelerator from the processes that are measured.
    from covlab.report.verdict import hardware
    from tracking.atomic import atomic_write

    record = {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *arguments]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware() | {"cores": cores},
        "load_average": list(os.getloadavg()),
        "versions": versions(),
        "results": results,
    }
    path = out / f"{name}.json"
    atomic_write(
        path, (json.dumps(plain(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )
    print(f"{path}")
    return path
