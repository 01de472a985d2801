"""Test of the test suite by a sample of mutants of the code that computes and judges.

    python -m pip install coverage
    python -m tests.mutations.campaign mutants=300 folder=runs/mutations out=results/faults/mutants.json

First every test file that CI runs is run once under coverage, which says what lines it reaches. Then
mutants are drawn (stratified by group, without replacement) and each is put into a copy of the tree; the test
files that reach its line run in turn, those of its own package first, until one fails. A mutant is caught if
one fails or does not end in time. One that no file reaches has survived. `most` bounds the number of files
that are asked, so that a survivor was perhaps not shown to all that reach it: the share that is caught can
then only be larger. Survivors that compute the same as before for every input are listed with the reason in
`EQUIVALENT`, and do not count.

The same command again continues. Needs a POSIX system: the libraries are loaded once, and each mutant runs in
a fork.
"""

from __future__ import annotations

import ast
import collections
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutations.equivalent import EQUIVALENT
from tests.mutations.sites import Mutant, mutants, statement_lines
from tracking import Progress
from tracking.atomic import atomic_write

ROOT = Path(__file__).parents[2]
GROUPS = {
    "metrics": ("metrics/*.py",),
    "decoding": ("decoding/*.py",),
    "tasks": ("tasks/*.py",),
    "theory": ("theory/*.py", "theory/*/*.py"),
    "objectives": (
        "training/objectives.py",
        "training/coverage_objectives.py",
        "training/regularised.py",
        "training/distillation.py",
        "training/policy_gradient.py",
        "training/exploration.py",
        "training/multi_token.py",
        "training/fine_tuning.py",
        "training/batch_loss.py",
    ),
    "models": ("models/*.py",),
    "checks": ("experiments/**/*.py",),
}
"""What is broken. Of the claims, the functions that make checks."""

_CHECKS = {"check_interval", "check_value", "at_most", "below", "at_least", "above", "between", "Check"}
_LIBRARIES = (
    "hydra",
    "jax",
    "matplotlib.figure",
    "optax",
    "orbax.checkpoint",
    "pandas",
    "pytest",
    "scipy.stats",
)


def sites(root: Path, group: str) -> list[Mutant]:
    """All mutants of a group."""
    inside = _makes_checks if group == "checks" else None
    files = sorted({file for pattern in GROUPS[group] for file in root.glob(pattern)})
    return [m for file in files for m in mutants(str(file.relative_to(root)), file.read_bytes(), inside)]


def _makes_checks(function: ast.AST) -> bool:
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(getattr(func, "attr", getattr(func, "id", "")) in _CHECKS for func in calls)


def sample(root: Path, count: int, seed: int) -> list[tuple[str, Mutant]]:
    """`count` mutants, as many of every group as its share of the square roots of their sizes."""
    pools = {group: sites(root, group) for group in GROUPS}
    whole = sum(len(pool) ** 0.5 for pool in pools.values())
    chosen = []
    for group, pool in pools.items():
        share = min(len(pool), round(count * len(pool) ** 0.5 / whole))
        draw = random.Random(f"{seed} {group}")
        chosen += [(group, mutant) for mutant in draw.sample(pool, share)]
    return chosen


def reach(folder: Path, workers: int, show: bool = True) -> dict[str, Any]:
    """Test file -> its seconds and the lines that it reaches, by file; kept in `folder/reach.json`.

    A test file that fails on the product as it is reaches nothing: it would seem to catch every mutant.
    """
    kept = folder / "reach.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    parts = folder / "reach"
    parts.mkdir(exist_ok=True)
    files = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("tests/**/test_*.py"))
    names = {file: parts / (file.replace("/", ".") + ".json") for file in files}
    missing = [file for file in files if not names[file].exists()]

    def work(worker: int) -> None:
        for file in missing[worker::workers]:
            status = _forked(ROOT, functools.partial(_covered, file, names[file]), 1800, folder / "reach.log")
            if status != 0:
                print(f"{file} ended with {status}: see {folder / 'reach.log'}", file=sys.stderr)
                atomic_write(names[file], json.dumps({"seconds": 0.0, "lines": {}}).encode())

    def done() -> tuple[int, dict[str, float]]:
        return sum(part.exists() for part in names.values()), {}

    _shared(workers, work, "coverage", len(files), done, show)
    found = {file: json.loads(part.read_text()) for file, part in names.items()}
    atomic_write(kept, json.dumps(found).encode())
    return found


def _shared(
    workers: int,
    work: Callable[[int], None],
    name: str,
    total: int,
    done: Callable[[], tuple[int, dict[str, float]]],
    show: bool,
) -> None:
    """Run `work(k)` in a separate process per worker k, with a progress bar."""
    children = []
    for worker in range(workers):
        child = os.fork()
        if child == 0:
            try:
                work(worker)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        children.append(child)
    progress = Progress(show=show, interval=60.0)
    while children:
        children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
        number, info = done()
        progress.update(name, number, total, info)
        time.sleep(1.0)
    progress.close()


def _covered(file: str, part: Path) -> int:
    import coverage  # not locked: this campaign alone needs it
    import pytest

    packages = ["tasks", "models", "decoding", "metrics", "training", "theory", "covlab", "experiments"]
    cover = coverage.Coverage(data_file=None, source=[str(ROOT / package) for package in packages])
    started = time.monotonic()
    cover.start()
    status = pytest.main([*_PYTEST, file])
    cover.stop()
    data = cover.get_data()
    lines = {str(Path(path).relative_to(ROOT)): data.lines(path) for path in data.measured_files()}
    lines = {path: numbers for path, numbers in lines.items() if numbers}
    atomic_write(part, json.dumps({"seconds": time.monotonic() - started, "lines": lines}).encode())
    # 5: every test of the file is slow.
    return 0 if status == 5 else int(status)


_PYTEST = [
    *("-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=line"),
    # The libraries that are loaded before the fork.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]


def _forked(tree: Path, work: Callable[[], int], limit: float, log: Path) -> int | None:
    """The status of `work` in a fork with `tree` as the project; None after more than `limit` seconds."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            os.chdir(tree)
            sys.path.insert(0, str(tree))
            os.environ["PYTHONPATH"] = str(tree)
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
                del sys.modules[name]
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


_OURS = (
    *("tasks", "models", "decoding", "metrics", "training", "tracking"),
    *("theory", "covlab", "experiments", "conf", "tests"),
)


def asked(mutant: Mutant, reached: Mapping[str, Any], most: int) -> list[str]:
    """The test files that reach the mutant: those of its name or package, then others; in both parts those
    that take at most `_QUICK` seconds first, of them those of its name, then by seconds."""
    package, name = mutant.file.split("/")[0], Path(mutant.file).stem
    lines = statement_lines((ROOT / mutant.file).read_bytes(), mutant)
    files = [
        file
        for file, what in reached.items()
        if not set(lines).isdisjoint(what["lines"].get(mutant.file, ()))
    ]

    def order(file: str) -> tuple[bool, bool, bool, float]:
        own, seconds = Path(file).stem.removeprefix("test_"), reached[file]["seconds"]
        foreign = own not in name and name not in own
        return foreign and f"tests/{package}/" not in file, seconds > _QUICK, foreign, seconds

    return sorted(files, key=order)[:most]


_QUICK = 5.0
"""Seconds of a test file that is asked before a slower one, which most faults then never reach."""


def judge(tree: Path, mutant: Mutant, files: Sequence[str], limit: float, log: Path) -> str:
    """`caught`, `caught (time)` or `survived`, with the tree as it was afterwards."""
    place = tree / mutant.file
    source = place.read_bytes()

    def work() -> int:
        import pytest

        return int(pytest.main([*_PYTEST, *files]))

    try:
        place.write_bytes(mutant.applied(source))
        status = _forked(tree, work, limit, log)
    finally:
        place.write_bytes(source)
    if status is None:
        return "caught (time)"
    return "survived" if status in (0, 5) else "caught"


def campaign(
    folder: Path, count: int, seed: int, workers: int, most: int, show: bool = True
) -> dict[str, Any]:
    """Judge `count` mutants; everything lies below `folder`, which a second call continues."""
    folder.mkdir(parents=True, exist_ok=True)
    for library in _LIBRARIES:
        __import__(library)
    reached = reach(folder, workers, show)
    chosen = sample(ROOT, count, seed)
    log = folder / "mutants.jsonl"
    judged = {json.loads(line)["mutant"] for line in log.read_text().splitlines()} if log.exists() else set()
    rest = [(group, mutant) for group, mutant in chosen if mutant.name not in judged]

    def work(worker: int) -> None:
        _work(folder, worker, rest[worker::workers], reached, most, log)

    def done() -> tuple[int, dict[str, float]]:
        lines = log.read_bytes().splitlines() if log.exists() else []
        return len(lines), {"survived": float(sum(b'"survived"' in line for line in lines))}

    _shared(workers, work, "mutants", len(chosen), done, show)
    return _summary(log, chosen)


def _work(
    folder: Path,
    worker: int,
    rest: Sequence[tuple[str, Mutant]],
    reached: Mapping[str, Any],
    most: int,
    log: Path,
) -> None:
    tree = folder / f"tree{worker}"
    shutil.rmtree(tree, ignore_errors=True)
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if not name.startswith("results/"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for group, mutant in rest:
        files = asked(mutant, reached, most)
        started = time.monotonic()
        limit = 60 + 4 * sum(reached[file]["seconds"] for file in files)
        outcome = judge(tree, mutant, files, limit, folder / f"worker{worker}.log") if files else "survived"
        record = {
            "mutant": mutant.name,
            "group": group,
            "kind": mutant.kind,
            "outcome": outcome,
            "files": len(files),
            "seconds": round(time.monotonic() - started, 1),
        }
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")


def _summary(log: Path, chosen: Sequence[tuple[str, Mutant]]) -> dict[str, Any]:
    names = {mutant.name for _, mutant in chosen}
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [record for record in records if record["mutant"] in names]
    groups: dict[str, collections.Counter[str]] = {group: collections.Counter() for group in GROUPS}
    survivors = []
    for record in records:
        outcome = record["outcome"]
        if outcome == "survived":
            outcome = "equivalent" if without_line(record["mutant"]) in EQUIVALENT else "survived"
            if outcome == "survived":
                survivors.append(record["mutant"])
        groups[record["group"]][outcome.split()[0]] += 1
    total = sum(groups.values(), collections.Counter())
    return {
        "mutants": len(records),
        "caught": total["caught"],
        "equivalent": total["equivalent"],
        "survived": total["survived"],
        "share_caught": total["caught"] / max(total["caught"] + total["survived"], 1),
        "groups": {group: dict(counts) for group, counts in groups.items()},
        "survivors": sorted(survivors),
    }


def without_line(name: str) -> str:
    """A mutant's name without its line number, which every edit above it would change."""
    return re.sub(r":\d+ ", " ", name, count=1)


def main() -> int:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    folder, out = Path(given.get("folder", "runs/mutations")).resolve(), given.get("out")
    numbers = {"mutants": 300, "seed": 0, "workers": os.cpu_count() or 1, "most": 12}
    for name in set(given) - {"folder", "out"}:
        if name not in numbers:
            print(
                f"error: {name}: no such setting; valid are folder, out, {', '.join(numbers)}",
                file=sys.stderr,
            )
            return 2
        numbers[name] = int(given[name])
    summary = campaign(folder, numbers["mutants"], numbers["seed"], numbers["workers"], numbers["most"])
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    about = {"commit": commit.stdout.strip(), "seed": numbers["seed"], "most_files": numbers["most"]}
    summary = about | summary
    text = json.dumps(summary, indent=1)
    print(text)
    if out:
        atomic_write(Path(out), (text + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
