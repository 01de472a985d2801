"""Repeated SIGKILL at moments uniform over a run's wall time, and the fate of every line.

    python -m tests.faults.campaign kills=200 seed=0 folder=/tmp/kills out=kills.json

A run is killed and resumed until it completes; then the next begins. Moment k is uniform over [0, T], drawn
from (seed, k), where T is the wall time of an uninterrupted run; a run that ends before its moment is not
killed. After each kill the next attempt is left alone with probability 1/4: a run that is always killed
before it has come further than the last time would never reach its later stages and its end. The first
attempts find an empty compilation cache, so kills also meet compilation and the writing of the cache. The
same command again continues a campaign that was itself interrupted.

The verdict holds where, for every run: no line that was complete on disk at a kill was missing or different
at the next kill or at the end; the end equals the uninterrupted run byte for byte (metrics,
log-probabilities, tables, configuration, status) and number for number (all parameter checkpoints, the last
full state); and no attempt printed an error, a warning or a traceback.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.processes import complete_lines, finish, kill, run_path, snapshot, start
from tracking import Progress, read_status
from tracking.atomic import atomic_write

LEFT_ALONE = 0.25
"""Probability that an attempt after a kill is not killed."""

_BAD = re.compile(r"Traceback|Warning|[Ee]rror|cannot|differ")


@dataclasses.dataclass
class Attempt:
    """One process: `moment` drawn (None: left alone) and `seconds` lived; `killed`, and where (`stage`);
    `lines` complete on disk at its end, `lost` and `changed` against those that the run had before;
    `problem`, one line or empty."""

    index: int
    run: int
    moment: float | None
    seconds: float
    killed: bool
    stage: str
    lines: int
    lost: int = 0
    changed: int = 0
    problem: str = ""


def campaign(folder: Path, kills: int, seed: int = 0, show: bool = True) -> dict[str, Any]:
    """Kill `kills` times and judge; all files lie below `folder`, which a second call continues."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = _uninterrupted(folder)
    log = folder / "attempts.jsonl"
    attempts = [Attempt(**json.loads(line)) for line in complete_lines_of(log)]
    done = sum(attempt.killed for attempt in attempts)
    progress = Progress(show=show, interval=60.0)
    # A run that an interrupted campaign left half-way is not continued: its lines before are not known.
    run = attempts[-1].run + 1 if attempts else 0
    seen: list[bytes] = []
    while done < kills:
        index = len(attempts)
        moment = _moment(seed, index, whole["seconds"], bool(attempts) and attempts[-1].run == run)
        place = folder / f"run{run:04d}"
        attempt, seen = _attempt(place, folder, index, run, moment, seen, whole["files"])
        attempts.append(attempt)
        with log.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(attempt)) + "\n")
        done += attempt.killed
        if not attempt.killed:
            run, seen = run + 1, []
            if not attempt.problem:
                shutil.rmtree(place)
        progress.update("kills", done, kills, {"runs": float(run), **_totals(attempts)})
    progress.close()
    return result(attempts, seed, whole["seconds"])


def _moment(seed: int, index: int, seconds: float, resumed: bool) -> float | None:
    draw = random.Random(f"{seed}/{index}")
    moment = draw.uniform(0.0, seconds)
    return None if resumed and draw.random() < LEFT_ALONE else moment


def _uninterrupted(folder: Path) -> dict[str, Any]:
    """Wall time and files of a run that nothing disturbs, measured once a campaign, with the cache filled."""
    file = folder / "uninterrupted.json"
    if not file.exists():
        for name in ("first", "uninterrupted"):
            began = time.monotonic()
            status, said = finish(
                folder / name, output=folder / f"{name}.log", cache=folder / "cache_of_these"
            )
            seconds = time.monotonic() - began
            if status != 0:
                raise RuntimeError(f"the uninterrupted run failed with status {status}: {said[-500:]}")
        content = {"seconds": seconds, "files": snapshot(run_path(folder / "uninterrupted"))}
        if content["files"] != snapshot(run_path(folder / "first")):
            raise RuntimeError("two uninterrupted runs differ: nothing can be said about interrupted ones")
        atomic_write(file, json.dumps(content, indent=1).encode())
    content = json.loads(file.read_bytes())
    return dict(content)


def _attempt(
    place: Path,
    folder: Path,
    index: int,
    run: int,
    moment: float | None,
    seen: list[bytes],
    files: dict[str, str],
) -> tuple[Attempt, list[bytes]]:
    output = folder / "attempt.log"
    began = time.monotonic()
    process = start(place, output=output, cache=folder / "cache")
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        pass
    except BaseException:
        kill(process)
        raise
    killed = kill(process)
    seconds = time.monotonic() - began
    path = run_path(place)
    lines = complete_lines(path)
    drawn = None if moment is None else round(moment, 3)
    attempt = Attempt(index, run, drawn, round(seconds, 3), killed, stage(path), len(lines))
    attempt.lost = max(len(seen) - len(lines), 0)
    attempt.changed = sum(old != new for old, new in zip(seen, lines, strict=False))
    said = output.read_text(errors="replace")
    if bad := [line for line in said.splitlines() if _BAD.search(line)]:
        attempt.problem = f"printed: {bad[0][:200]}"
    if not killed:
        if process.returncode != 0:
            attempt.problem = f"status {process.returncode}: {said[-300:]}"
        else:
            found = snapshot(path)
            wrong = sorted(name for name in {*files, *found} if files.get(name) != found.get(name))
            if wrong:
                attempt.problem = f"differs from the uninterrupted run: {', '.join(wrong)[:300]}"
    # What was there and is gone stays due: the end must have it again.
    return attempt, lines if len(lines) >= len(seen) else lines + seen[len(lines) :]


def stage(path: Path) -> str:
    """Stage of the run at the kill, read off the disk."""
    if not (path / "config.yaml").exists():
        return "start-up"
    if any((path / "checkpoints").rglob("*.orbax-checkpoint-tmp*")):
        return "checkpoint write"
    if any(path.rglob(".*.tmp")):
        return "file write"
    status = read_status(path)
    if status is not None and status.state == "complete":
        return "end"
    lines = complete_lines(path)
    return f"phase {json.loads(lines[-1])['phase']}" if lines else "before the first line"


def complete_lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def _totals(attempts: list[Attempt]) -> dict[str, float]:
    return {
        "lost": float(sum(attempt.lost for attempt in attempts)),
        "changed": float(sum(attempt.changed for attempt in attempts)),
        "problems": float(sum(bool(attempt.problem) for attempt in attempts)),
    }


def result(attempts: list[Attempt], seed: int, seconds: float) -> dict[str, Any]:
    """The campaign in one JSON object."""
    struck = [attempt for attempt in attempts if attempt.killed]
    totals = _totals(attempts)
    return {
        "holds": not any(totals.values()),
        "kills": len(struck),
        "completed_runs": sum(not attempt.killed for attempt in attempts),
        "lost_lines": int(totals["lost"]),
        "changed_lines": int(totals["changed"]),
        "problems": [attempt.problem for attempt in attempts if attempt.problem],
        "lines_at_risk": sum(attempt.lines for attempt in struck),
        "kills_by_stage": dict(collections.Counter(attempt.stage for attempt in struck).most_common()),
        "seed": seed,
        "uninterrupted_seconds": round(seconds, 1),
        "wall_seconds": round(sum(attempt.seconds for attempt in attempts), 1),
        "moments": [attempt.moment for attempt in struck],
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def main(arguments: list[str]) -> int:
    """`key=value` arguments: kills, seed, folder, out."""
    options = {"kills": "200", "seed": "0", "folder": "runs/kills", "out": "kills.json"}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in options or not equals:
            print(f"error: {argument!r}: valid are {', '.join(options)}, as key=value", file=sys.stderr)
            return 2
        options[key] = value
    # A campaign that is terminated takes the run that it watches with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found = campaign(Path(options["folder"]).absolute(), int(options["kills"]), int(options["seed"]))
    atomic_write(Path(options["out"]), json.dumps(found, indent=1).encode() + b"\n")
    print(json.dumps({key: value for key, value in found.items() if key != "moments"}, indent=1))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
