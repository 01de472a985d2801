"""Time from the command to the first training step, with an empty and with a full compilation cache.

    python -m benchmarks.startup --cores 2

The real command is timed from outside. In turn with it, a command with marks at the ends of its parts
(`benchmarks.timeline`) measures the parts. The evaluation before the first step belongs to a run and is
included.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common, runs

PARTS = (
    "interpreter", "imports", "configuration", "run directory", "held-out set", "files, mirror, program",
    "step 0", "step 1", "step 10",
)  # fmt: skip
"""Marks in order. `step 0` is the initial state and its evaluation."""


def parts(record: dict[str, Any]) -> dict[str, float]:
    """Seconds of each part, between consecutive marks in the order of PARTS."""
    found, before = {}, 0.0
    for name in PARTS:
        found[name] = record["marks"][name] - before
        before = record["marks"][name]
    return found


def measure(overrides: Sequence[str], folder: Path, cold: bool, repeats: int) -> dict[str, Any]:
    """Summaries of the seconds to the first and tenth step, of CPU seconds to them, of the parts, and of
    compiling before the first step."""
    ran: dict[str, list[float]] = {"first step": [], "tenth step": []}
    told: list[dict[str, Any]] = []

    def cache(name: str) -> Path:
        return folder / (f"cache_{name}" if cold else "cache")

    def command(number: int) -> None:
        run = runs.train(overrides, folder / f"command{number}", "run", cache(f"command{number}"))
        ran["first step"].append(run.seconds_to_step(1))
        ran["tenth step"].append(run.seconds_to_step(10))

    def marked(number: int) -> None:
        target = folder / f"marks{number}.json"
        module = ("benchmarks.timeline", str(target), repr(time.time()))
        runs.train(overrides, folder / f"marked{number}", "run", cache(f"marked{number}"), module)
        told.append(json.loads(target.read_text(encoding="utf-8")))

    if not cold:
        runs.train(overrides, folder / "filling", "run", folder / "cache")
    for number in range(repeats):
        for call in (command, marked) if number % 2 == 0 else (marked, command):
            call(number)
    lists = [parts(record) for record in told]
    compiling = [record["compilation"]["step 1"] for record in told]
    return {
        "seconds_to": {name: common.summary(values) for name, values in ran.items()},
        "cpu_to": {
            f"{name} step": common.summary([record["cpu"][mark] for record in told])
            for name, mark in (("first", "step 1"), ("tenth", "step 10"))
        },
        "parts": {name: common.summary([one[name] for one in lists]) for name in PARTS},
        "before_first_step": {
            kind: common.summary([one[kind] for one in compiling]) for kind in compiling[0]
        },
    }


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("startup", "from the command to the first training step", repeats=5)
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    overrides = [*(common.TINY if options.tiny else ()), *options.overrides]
    if options.tiny:
        overrides += ["tracking.wandb=disabled"]
    # A record after every step, so that steps 1 and 10 are in timings.jsonl; 20 steps, so that the last
    # evaluation comes after step 10.
    overrides += ["steps=20", "log_every=1"]
    results = {}
    for state in ("cold", "warm"):
        with tempfile.TemporaryDirectory() as folder:
            found = results[state] = measure(overrides, Path(folder), state == "cold", options.repeats)
        print(f"{state}: " + ", ".join(f"{s} s to the {name}" for name, s in found["seconds_to"].items()))
        for key in ("cpu_to", "parts", "before_first_step"):
            print(
                f"  {key.replace('_', ' ')}: "
                + ", ".join(f"{name} {s.median:.2f} s" for name, s in found[key].items())
            )
    slower = (
        results["cold"]["seconds_to"]["first step"].median
        / results["warm"]["seconds_to"]["first step"].median
    )
    print(f"cold over warm: {slower:.2f}")
    common.write(options.out, "startup", arguments, cores, results | {"cold_over_warm": slower})


if __name__ == "__main__":
    common.run(main)
